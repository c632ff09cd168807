"""The control actor: the NATS micro service that takes commands.

nats-py's service hands requests to an endpoint one by one, tells the caller the text of any exception, and
cancels what is under way when it stops.  So every handler here only starts a task, and that task gives
exactly one answer: a reply, a refusal, or, for what nobody foresaw, an incident number.
"""

import logging
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import anyio
import msgspec
import nats.errors
from anyio.abc import TaskGroup
from nats.aio.client import Client
from nats.micro import add_service
from nats.micro.request import Request

from polybus_protocol import __version__
from polybus_protocol.control import REQUESTS, SERVICE, parse_request
from polybus_protocol.errors import ControlError
from polybus_protocol.replies import REPLIES, ErrorBody, ErrorReply, encode_reply

from .login import words
from .mailbox import ActorStopped
from .watcher import Watcher

logger = logging.getLogger("polybus.control")

AT_ONCE = 64
"""Requests of one verb worked on at a time; one more is answered 429, since each may wait for data for a minute.
Those of the other verbs are not held up."""

RETRY_S = 1.0
"""Seconds after which asking again makes sense, as the refusals say."""

READY_TIMEOUT_S = 5.0
"""Seconds NATS may take to hand us our own first request."""

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
        self._under_way: Counter[str] = Counter()
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
        )
        async with anyio.create_task_group() as tasks:
            group = service.add_group(name=f"{self._prefix}.control")
            for verb in self._handlers:
                await group.add_endpoint(
                    name=verb, handler=self._taking(verb, tasks), metadata=_describe(verb)
                )
            # A round trip behind the subscriptions: once it is answered, the server knows of them.
            await client.request(f"$SRV.PING.{SERVICE}.{service.id}", timeout=READY_TIMEOUT_S)
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
        try:
            with self._watcher.command(verb, request.headers) as command:
                payload, refusal = await self._work(verb, request.data)
                command.ended(None if refusal is None else refusal.code)
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

    async def _work(self, verb: str, data: bytes) -> tuple[bytes, ControlError | None]:
        """Do what is asked; the reply's payload, and the refusal if it is one."""
        try:
            if self._draining:
                raise ControlError(503, "this gateway is shutting down", retry_after_s=RETRY_S)
            if self._under_way[verb] > AT_ONCE:
                raise ControlError(
                    429, f"{AT_ONCE} requests of this kind are under way", retry_after_s=RETRY_S
                )
            return encode_reply(await self._handlers[verb](parse_request(verb, data))), None
        except ControlError as error:
            refusal = error
        except ActorStopped:
            refusal = ControlError(503, "this gateway is shutting down", retry_after_s=RETRY_S)
        except Exception:
            incident = secrets.token_hex(4)
            logger.exception("a %s request failed: incident %s", verb, incident)
            refusal = ControlError(500, f"the gateway failed to answer: incident {incident} in its log")
        return _body(refusal), refusal


def _body(refusal: ControlError) -> bytes:
    body = ErrorBody(refusal.code, refusal.message, refusal.field, refusal.retry_after_s)
    return encode_reply(ErrorReply(body))


def _describe(verb: str) -> dict[str, str]:
    """The endpoint's metadata: what it takes and gives, as JSON Schema."""
    (request, reply), definitions = msgspec.json.schema_components(
        [REQUESTS[verb], REPLIES[verb]], ref_template="#/$defs/{name}"
    )
    return {
        "content-type": "application/json",
        "schema.request": encode_reply(request | {"$defs": definitions}).decode(),
        "schema.response": encode_reply(reply | {"$defs": definitions}).decode(),
    }
