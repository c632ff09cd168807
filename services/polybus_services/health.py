"""What a gateway answers to those who look after it: three probes, each about one thing, and metrics.

`/live` is about this process alone, and never about NATS or the venue, or an outage of theirs would restart every
gateway at once.  `/startup` is passed once.  `/ready` is about data.  Whoever asks a process whose event loop stands
still gets no answer at all, which a probe's time limit turns into a no.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.abc

from polybus_actors.facts import readiness, waiting_keys
from polybus_actors.gateway import Gateway

from .config import HttpConfig
from .http import Request, Response, serve_http
from .pulse import Pulse

logger = logging.getLogger("polybus.health")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of what Prometheus reads."""

CLIENTS = 32
"""Connections served at a time: a kubelet and two scrapers need four.  One more is hung up on."""


class CannotListen(Exception):
    """The address of `[http]` cannot be had; the text says which and why."""


class Health:
    """See the module.

    Args:
        config: the section `[http]`.
        gateway: whose health it is.
        pulse: of the event loop.
        scrape: gives the metrics, as Prometheus reads them.
    """

    def __init__(
        self, config: HttpConfig, gateway: Gateway, pulse: Pulse, scrape: Callable[[], bytes]
    ) -> None:
        self._started = False
        self._config = config
        self._gateway = gateway
        self._pulse = pulse
        self._scrape = scrape
        self._answers: dict[str, Callable[[], Response]] = {
            "/live": self._live,
            "/startup": self._startup,
            "/ready": self._ready,
            "/metrics": self._metrics,
        }
        self._clients = 0

    def startup_done(self) -> None:
        """Commands are answered from now on."""
        self._started = True

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Answer for the length of a block; yields the URL.

        Raises:
            CannotListen: somebody else does already, or it is not our address.
        """
        host, port = self._config.host, self._config.port
        try:
            listener = await anyio.create_tcp_listener(local_host=host, local_port=port or 0)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise CannotListen(f"http: cannot listen on {host}:{port}: {reason}") from None
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._serve)
            bound = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610  not that of an ORM
            yield f"http://{f'[{host}]' if ':' in host else host}:{bound}"
            tasks.cancel_scope.cancel()

    async def _serve(self, stream: anyio.abc.SocketStream) -> None:
        if self._clients >= CLIENTS:
            await anyio.aclose_forcefully(stream)
            return
        self._clients += 1
        try:
            await serve_http(stream, self.answer)
        finally:
            self._clients -= 1

    async def answer(self, request: Request) -> Response:
        """Answer one request; whatever goes wrong in here is no concern of the gateway's."""
        answer = self._answers.get(request.path)
        if answer is None:
            return Response(404, {"error": f"there are {', '.join(self._answers)}"})
        if request.method != "GET":
            return Response(405, {"error": "GET is what can be done here"}, [("Allow", "GET")])
        try:
            return answer()
        except Exception:
            logger.exception("%s could not be answered", request.path)
            return Response(500, {"error": "this is a fault in polybus; its log has more"})

    def _live(self) -> Response:
        age_s = self._pulse.age_s
        live = age_s < self._config.live_within_s
        return _verdict(
            {
                "live": live,
                "because": [] if live else ["the event loop has not turned"],
                "turned_s_ago": round(age_s, 3),
            },
            passed=live,
        )

    def _startup(self) -> Response:
        because = [] if self._started else ["it has not reached NATS, or not taken up what was wanted, yet"]
        return _verdict({"started": self._started, "because": because}, passed=self._started)

    def _ready(self) -> Response:
        found = readiness(self._gateway, waiting_keys(self._gateway), self._config.ready_share)
        return _verdict(found, passed=found.ready)

    def _metrics(self) -> Response:
        return Response(200, self._scrape(), content_type=CONTENT_TYPE)


def _verdict(body: object, *, passed: bool) -> Response:
    return Response(200 if passed else 503, body)
