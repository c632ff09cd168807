"""The control actor: the NATS micro service that takes commands.

nats-py's service hands requests to an endpoint one by one, tells the caller the text of any exception, and
cancels what is under way when it stops.  So every handler here only starts a task, and that task gives
exactly one answer: a reply, a refusal, or, for what nobody foresaw, an incident number.  A request that comes too
late by its own word is refused, since whoever asked has given it up; see `polybus_actors.control.answers` for repeated ones.
"""

import logging
import secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

import anyio
import msgspec
import nats.errors
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request
from nats.micro.service import EndpointStats

from polybus_protocol import __version__
from polybus_protocol.contract import error_schema, reply_schema, request_schema
from polybus_protocol.control.replies import ErrorBody, ErrorReply, encode_reply
from polybus_protocol.control.requests import SERVICE, parse_request
from polybus_protocol.errors import ControlError

from ..mailbox import ActorStopped
from ..publishing.login import words
from ..watcher import Watcher
from .answers import Answer, Answers

logger = logging.getLogger("polybus.control")

AT_ONCE = 64
"""Requests of one verb worked on at a time; one more is answered 429, since each may wait for data for a minute.
Those of the other verbs are not held up."""

RETRY_S = 1.0
"""Seconds after which asking again makes sense, as the refusals say."""

READY_TIMEOUT_S = 5.0
"""Seconds NATS may take to hand us our own first request."""

READY_RETRY_S = 0.5
"""Seconds from such a request that came back unanswered to the next."""

type Handler = Callable[[Any], Awaitable[msgspec.Struct]]
"""Takes a validated request, returns the reply or raises `ControlError`."""


class Control:
    """See the module.

    Args:
        prefix: of all subjects.
        replica: the gateway's name.
        handlers: by verb.
        watcher: told of each command.
    """

    def __init__(self, prefix: str, replica: str, handlers: Mapping[str, Handler], watcher: Watcher) -> None:
        self._prefix = prefix
        self._replica = replica
        self._handlers = handlers
        self._watcher = watcher
        self._answers = Answers()
        self._under_way: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._spent_ns: Counter[str] = Counter()
        self._draining = False
        self._idle = anyio.Event()

    async def serve(self, client: Client, ready: Callable[[], None]) -> None:
        """Answer over one client until cancelled."""
        service = await add_service(
            client,
            name=SERVICE,
            version=__version__,
            description="Polymarket's real-time feeds on NATS",
            metadata={"replica": self._replica, "prefix": self._prefix},
            stats_handler=self._correct,
        )
        async with anyio.create_task_group() as tasks:
            group = service.add_group(name=f"{self._prefix}.control")
            for verb in self._handlers:
                await group.add_endpoint(
                    name=verb, handler=self._taking(verb, tasks), metadata=_describe(verb)
                )
            await _answers_itself(client, f"$SRV.PING.{SERVICE}.{service.id}")
            ready()
            await anyio.sleep_forever()

    def refuse(self) -> None:
        """From here on every new request is answered 503."""
        self._draining = True

    async def drain(self, timeout_s: float) -> None:
        """Wait for the answers to the requests that were taken."""
        with anyio.move_on_after(timeout_s):
            while self._under_way.total():
                await self._idle.wait()

    def _correct(self, stats: EndpointStats) -> None:
        """What nats-py counts is the starting of tasks; what they took, and refused, is known here."""
        stats.num_errors = self._refused[stats.name]
        stats.processing_time = self._spent_ns[stats.name]
        stats.average_processing_time = stats.processing_time // max(stats.num_requests, 1)

    def _taking(self, verb: str, tasks: TaskGroup) -> Callable[[Request], Awaitable[None]]:
        async def take(request: Request) -> None:
            try:
                tasks.start_soon(self._answer, verb, request)
            except RuntimeError:
                # The group is over while nats-py still hands out requests: the client is being closed.
                logger.debug("a %s request came too late", verb)

        return take

    async def _answer(self, verb: str, request: Request) -> None:
        self._under_way[verb] += 1
        begun = time.perf_counter_ns()
        try:
            with self._watcher.command(verb, request.headers) as command:
                payload, refusal = await self._work(verb, request.data)
                command.ended(None if refusal is None else refusal.code)
            self._refused[verb] += refusal is not None
            if not request._msg.reply:  # noqa: SLF001  nats-py has no public way to ask
                return
            try:
                await self._send(request, payload, refusal, command.reply_headers)
            except nats.errors.MaxPayloadError:
                refusal = ControlError(
                    422,
                    f"the answer, of {len(payload)} bytes, is larger than NATS takes: ask for less at a time",
                )
                await self._send(request, _body(refusal), refusal, command.reply_headers)
        except (nats.errors.Error, OSError, ValueError) as error:
            logger.warning("the answer to a %s request could not be sent: %s", verb, words(error))
        finally:
            self._spent_ns[verb] += time.perf_counter_ns() - begun
            self._under_way[verb] -= 1
            if not self._under_way.total():
                self._idle.set()
                self._idle = anyio.Event()

    async def _send(
        self, request: Request, payload: bytes, refusal: ControlError | None, headers: dict[str, str] | None
    ) -> None:
        if refusal is None:
            await request.respond(payload, headers)
        else:
            # A header holds one line of plain text; the body has the message as it is.
            message = refusal.message.encode("ascii", "replace").decode()
            await request.respond_error(str(refusal.code), message, payload, headers)

    async def _work(self, verb: str, data: bytes) -> Answer:
        """Do what is asked, unless it was done already."""
        try:
            request = parse_request(verb, data)
            return await self._answers.once(verb, request, lambda: self._do(verb, request))
        except ControlError as refusal:
            return _body(refusal), refusal

    async def _do(self, verb: str, request: Any) -> Answer:
        try:
            self._check(verb, request)
            return encode_reply(await self._handlers[verb](request)), None
        except ControlError as error:
            refusal = error
        except ActorStopped:
            refusal = ControlError(503, "this gateway is shutting down", retry_after_s=RETRY_S)
        except Exception:
            incident = secrets.token_hex(4)
            logger.exception("a %s request failed: incident %s", verb, incident)
            refusal = ControlError(500, f"the gateway failed to answer: incident {incident} in its log")
        return _body(refusal), refusal

    def _check(self, verb: str, request: Any) -> None:
        """See whether we may begin with it.

        Raises:
            ControlError: 503 while draining, 429 when there is too much to do, 408 when it is too late.
        """
        if self._draining:
            raise ControlError(503, "this gateway is shutting down", retry_after_s=RETRY_S)
        if self._under_way[verb] > AT_ONCE:
            raise ControlError(429, f"{AT_ONCE} requests of this kind are under way", retry_after_s=RETRY_S)
        if request.deadline is not None and (late_ns := time.time_ns() - request.deadline) > 0:
            late = f"{late_ns / 1e9:.3f} s ago by this gateway's clock"
            raise ControlError(408, f"the deadline was {late}, so nothing was done", field="deadline")


async def _answers_itself(client: Client, subject: str) -> None:
    """Make a round trip behind the subscriptions: once it is answered, the server knows of them.

    An answer may stay out when the connection breaks meanwhile; nats-py subscribes anew then, and so we ask again.
    """
    while True:
        try:
            await client.request(subject, timeout=READY_TIMEOUT_S)
        except (nats.errors.TimeoutError, nats.errors.NoRespondersError) as error:
            logger.warning(
                "NATS did not hand us our own request on %s (%s); asking again", subject, words(error)
            )
            await anyio.sleep(READY_RETRY_S)
        else:
            return


def _body(refusal: ControlError) -> bytes:
    body = ErrorBody(refusal.code, refusal.message, refusal.field, refusal.retry_after_s)
    return encode_reply(ErrorReply(body))


@cache
def _describe(verb: str) -> dict[str, str]:
    """The endpoint's metadata: what it takes, answers and refuses with, as JSON Schema."""
    schemas = {
        "schema.request": request_schema(verb),
        "schema.response": reply_schema(verb),
        "schema.error": error_schema(),
    }
    said = {name: encode_reply(schema).decode() for name, schema in schemas.items()}
    return {"content-type": "application/json", **said}
