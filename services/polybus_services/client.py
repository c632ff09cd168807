"""A client of the gateway on NATS: control requests with typed answers, and events as they come.

    async with ControlClient.connect("nats://127.0.0.1:4222") as client:
        reply = await client.subscribe(assets=["123"], wait="data")
        async with client.listen(*reply.subjects) as messages:
            async for message in messages: ...

Nothing hangs: every step has a deadline of its own, because nats-py has none for several of them.
"""

import contextlib
import secrets
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Protocol, Self, TypeVar

import anyio
import msgspec
import nats.errors
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from nats.aio.client import Client
from nats.aio.msg import Msg

from polybus_actors.publishing.edges import dismiss
from polybus_actors.publishing.login import LoginError, NatsSettings, is_denial, new_client, options
from polybus_protocol.control.replies import (
    BookReply,
    ErrorReply,
    ExplainReply,
    RenewReply,
    StatusReply,
    SubscribeReply,
    SubscriptionsReply,
    UnsubscribeReply,
)
from polybus_protocol.subjects import PREFIX, control_subject
from polybus_services.replay import Events, Recorded, Start, last_of_each, replay

__all__ = ["ClientError", "ControlClient", "NatsUnreachable", "NoGateway", "NotPermitted", "ServiceRefused"]

ANSWER_WITHIN_S = 5.0
"""Seconds a gateway may take to answer, besides what the request itself tells it to wait.  It takes 1 ms; a busy
one that has 10,000 assets to look at takes longer."""

CLOSE_WITHIN_S = 2.0
"""Seconds for a goodbye; nats-py waits for ever for a server that is frozen."""

QUEUED_MESSAGES = 1024
"""Messages between NATS and the reader.  When full, they wait in nats-py, which drops beyond 512 Ki messages of a
subscription and says so (`ControlClient.dropped`)."""


class OnConnection(Protocol):
    """What is called when the connection to NATS comes or goes."""

    def __call__(self, *, connected: bool) -> None:
        """Take note."""


Reply = TypeVar("Reply", bound=msgspec.Struct)


class ClientError(Exception):
    """Base of what can go wrong here; the text is a sentence for a person."""


class NatsUnreachable(ClientError):
    """NATS does not answer, or not to us."""


class NotPermitted(ClientError):
    """NATS does not let us do this."""


class NoGateway(ClientError):
    """NATS is there, but no gateway answers on it."""


class ServiceRefused(ClientError):
    """The gateway said no.

    Attributes:
        code: with the meaning HTTP gives it.
        message: why, and what to do.
        field: the field of the request that is to blame, or None.
        retry_after_s: seconds after which asking again makes sense, or None.
    """

    def __init__(
        self, code: int, message: str, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s


class ControlClient:
    """One connection to NATS; made by `connect`."""

    def __init__(self, nats_client: Client, config: NatsSettings, prefix: str) -> None:
        self._nats = nats_client
        self._config = config
        self._prefix = prefix
        self._readers: list[MemoryObjectSendStream[Msg] | Events] = []
        self.connected = False
        """Whether NATS has ever let us in."""
        self.dropped = 0
        """Messages that nats-py dropped because `listen` was read too slowly."""
        self._denials: list[str] = []
        """What our permissions did not allow, in the server's words; the last few."""
        self._asking: set[tuple[str, anyio.CancelScope]] = set()
        """The requests under way, with their subjects: one that is denied gets no answer."""

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        where: NatsSettings | str,
        *,
        prefix: str = PREFIX,
        name: str = "polybus-client",
        on_connection: OnConnection | None = None,
    ) -> AsyncIterator[Self]:
        """Connect for the length of a block.

        Args:
            where: a URL, or all about the login as well.
            prefix: first tokens of the gateway's subjects.
            name: what the server lists us as, unless `where` has a name.
            on_connection: called with `connected=False` when NATS goes away, with True when it is back.

        Raises:
            NatsUnreachable: no server answers within its `connect_timeout_s`, or it refuses us.
        """
        config = NatsSettings(url=where) if isinstance(where, str) else where
        try:
            told = options(config, name)
        except LoginError as error:
            raise NatsUnreachable(str(error)) from None
        nats_client = new_client(config)
        client = cls(nats_client, config, prefix)
        failures: list[Exception] = []
        attempt = anyio.move_on_after(config.connect_timeout_s)

        async def note(error: Exception) -> None:
            if isinstance(error, nats.errors.SlowConsumerError):
                client.dropped += 1
            elif is_denial(str(error)):
                client._heard_denial(str(error))
            elif not client.connected:
                failures.append(error)
                # Each server has been tried: nats-py would try them all again, 60 times.
                if len(failures) >= len(config.servers):
                    attempt.cancel()

        try:
            with attempt, contextlib.suppress(nats.errors.Error):
                await nats_client.connect(
                    error_cb=note,
                    connect_timeout=config.connect_timeout_s,  # type: ignore[arg-type]  # a float works
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=0.5,  # type: ignore[arg-type]
                    ping_interval=5,
                    **client._callbacks(on_connection),
                    **told,
                )
                client.connected = True
            if not client.connected:
                raise NatsUnreachable(_why_unreachable(config, failures))
            yield client
        finally:
            client.connected = False  # leaving is not being left
            await dismiss(nats_client, CLOSE_WITHIN_S)

    def _callbacks(self, on_connection: OnConnection | None) -> dict[str, Any]:
        async def went_away() -> None:
            if on_connection is not None and self.connected:
                on_connection(connected=False)

        async def came_back() -> None:
            if on_connection is not None:
                on_connection(connected=True)

        async def closed() -> None:
            for reader in self._readers:
                reader.close()

        return {"disconnected_cb": went_away, "reconnected_cb": came_back, "closed_cb": closed}

    async def subscribe(self, **fields: object) -> SubscribeReply:
        """Add interest; the fields are those of `polybus_protocol.control.requests.SubscribeRequest`."""
        wait_s = fields.get("wait_timeout_s", 10.0) if fields.get("wait", "accepted") != "accepted" else 0.0
        assert isinstance(wait_s, int | float)
        return await self._request("subscribe", fields, SubscribeReply, ANSWER_WITHIN_S + wait_s)

    async def unsubscribe(self, **fields: object) -> UnsubscribeReply:
        """Drop one subscription by `id`, or all of an `owner`."""
        return await self._request("unsubscribe", fields, UnsubscribeReply)

    async def renew(self, **fields: object) -> RenewReply:
        """Prolong the lease of one subscription by `id`, or of all of an `owner`."""
        return await self._request("renew", fields, RenewReply)

    async def subscriptions(self, **fields: object) -> SubscriptionsReply:
        """The subscriptions there are: all, an `owner`'s, or one by `id`."""
        return await self._request("subscriptions", fields, SubscriptionsReply)

    async def status(self, within_s: float = ANSWER_WITHIN_S) -> StatusReply:
        """How the gateway is doing."""
        return await self._request("status", {}, StatusReply, within_s)

    async def book(
        self, asset: str, depth: int | None = None, within_s: float = ANSWER_WITHIN_S
    ) -> BookReply:
        """The book of an asset as it is right now: so many levels of each side, or all."""
        return await self._request("book", {"asset": asset, "depth": depth}, BookReply, within_s)

    async def explain(self, asset: str) -> ExplainReply:
        """Why an asset is, or is not, live."""
        return await self._request("explain", {"asset": asset}, ExplainReply)

    @property
    def nats(self) -> Client:
        """The connection itself, for what is not here."""
        return self._nats

    async def _request(
        self, verb: str, fields: dict[str, object], reply_type: type[Reply], within_s: float = ANSWER_WITHIN_S
    ) -> Reply:
        """Ask the gateway.

        Raises:
            ServiceRefused: it said no.
            NotPermitted: the login may not ask this.
            NoGateway: there is none, or it did not answer in time.
            NatsUnreachable: the connection to NATS broke.
        """
        subject = control_subject(verb, self._prefix)
        given = {name: value for name, value in fields.items() if value is not None}
        # A request that is still on its way when we give up must not be carried out behind our back.
        timely = {"request_id": secrets.token_hex(8), "deadline": time.time_ns() + int(within_s * 1e9)}
        payload = msgspec.json.encode(timely | given)
        try:
            answer = await self.ask(subject, payload, within_s)
        except nats.errors.NoRespondersError:
            raise NoGateway(
                f"no gateway answers on {subject} at {self._config.shown_url}: start one with `polybus run`, "
                "or see whether the prefix is right"
            ) from None
        except nats.errors.TimeoutError:
            raise NoGateway(
                f"the gateway did not answer {verb} within {within_s:g} s; the request may still be carried out"
            ) from None
        except nats.errors.Error as error:
            raise NatsUnreachable(_why_unreachable(self._config, [error])) from None
        _raise_refusal(answer)
        try:
            return msgspec.json.decode(answer.data, type=reply_type)
        except msgspec.DecodeError as error:
            raise NoGateway(f"what answers on {subject} is not a gateway of this version: {error}") from None

    @asynccontextmanager
    async def replay(self, *subjects: str, start: Start, streams: str) -> AsyncIterator[Events]:
        """Events out of the record, and then live: `polybus_services.replay.replay` over this connection.

        They end as those of `listen` do.

        Raises:
            NotRecorded: there is no such stream, or JetStream is not there.
            ValueError: a subject that no stream records.
        """
        async with replay(self._nats, *subjects, start=start, prefix=self._prefix, streams=streams) as events:
            self._readers.append(events)
            try:
                yield events
            finally:
                self._readers.remove(events)

    async def last_of_each(self, *subjects: str, streams: str) -> list[Recorded]:
        """The last event of each subject in the record: `polybus_services.replay.last_of_each`."""
        return await last_of_each(self._nats, *subjects, prefix=self._prefix, streams=streams)

    @asynccontextmanager
    async def listen(self, *subjects: str) -> AsyncIterator[MemoryObjectReceiveStream[Msg]]:
        """The messages on these subjects, wildcards allowed, from when the block is entered.

        They end when NATS closes the connection for good, for instance because the password was changed.

        Raises:
            NotPermitted: the login may not listen to one of them.
            NatsUnreachable: the server does not take the subscription.
        """
        send, receive = anyio.create_memory_object_stream[Msg](QUEUED_MESSAGES)

        async def take(message: Msg) -> None:
            with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await send.send(message)

        self._readers.append(send)
        with send, receive:
            try:
                subscriptions = [await self._nats.subscribe(subject, cb=take) for subject in subjects]
                # Two round trips, as nats-py sends the first ping before what is pending: the server has taken the
                # subscriptions, or denied them, once it has answered both.
                await self._nats.flush()
                await self._nats.flush()
                for subject in subjects:
                    if any(_is_about(subject, said) for said in self._denials):
                        raise self._not_permitted(subject)
            except (nats.errors.Error, ValueError) as error:
                raise NatsUnreachable(_why_unreachable(self._config, [error])) from None
            try:
                yield receive
            finally:
                self._readers.remove(send)
                for subscription in subscriptions:
                    with contextlib.suppress(nats.errors.Error):
                        await subscription.unsubscribe()

    async def ask(self, subject: str, payload: bytes, within_s: float) -> Msg:
        """Send a request, and wait so many seconds for its answer.

        Raises:
            NotPermitted: the login may not ask this.
            nats.errors.NoRespondersError: nobody listens there.
            nats.errors.TimeoutError: no answer came.
        """
        with anyio.CancelScope() as scope:
            asking = subject, scope
            self._asking.add(asking)
            try:
                return await self._nats.request(subject, payload, timeout=within_s)
            finally:
                self._asking.remove(asking)
        raise self._not_permitted(subject)

    def _heard_denial(self, said: str) -> None:
        self._denials = [*self._denials[-9:], said]
        for subject, scope in self._asking:
            if _is_about(subject, said):
                scope.cancel()

    def _not_permitted(self, subject: str) -> NotPermitted:
        where = self._config.shown_url
        return NotPermitted(
            f"NATS at {where} does not permit this login to use {subject}: see its permissions"
        )


def _is_about(subject: str, denial: str) -> bool:
    return f'"{subject.lower()}"' in denial  # which nats-py tells in lower case


def _raise_refusal(answer: Msg) -> None:
    headers = answer.headers or {}
    if "Nats-Service-Error-Code" not in headers:
        return
    try:
        error = msgspec.json.decode(answer.data, type=ErrorReply).error
    except msgspec.DecodeError:  # the code and text in the headers are all there is
        code = headers["Nats-Service-Error-Code"]
        raise ServiceRefused(
            int(code) if code.isdigit() else 500, headers.get("Nats-Service-Error", "")
        ) from None
    raise ServiceRefused(error.code, error.message, error.field, error.retry_after_s)


def _why_unreachable(config: NatsSettings, failures: list[Exception]) -> str:
    where = config.shown_url
    if not failures:
        return f"NATS at {where} does not answer within {config.connect_timeout_s:g} s"
    error = failures[-1]
    text = str(error).removeprefix("nats: ").strip("'")
    match error:
        case nats.errors.AuthorizationError():
            return f"NATS at {where} refuses the login"
        case ConnectionRefusedError():
            return f"NATS at {where} cannot be reached: nothing listens there"
        case ssl.SSLError():
            return f"NATS at {where} cannot be reached: TLS failed ({error.reason or 'no reason given'})"
        case OSError(strerror=str(reason)):
            return f"NATS at {where} cannot be reached: {reason}"
        case _ if "uthorization" in text:
            return f"NATS at {where} refuses the login ({text})"
        case _:
            return f"NATS at {where} cannot be used: {text or type(error).__name__}"
