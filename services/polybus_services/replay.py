"""Replay: events out of the record that JetStream keeps, from a place in it onwards, and then live without a seam.

    async with replay(nats_client, "polymarket.v1.market.*.123.>", start=ago(300)) as events:
        async for recorded in events:
            print(recorded.sequence, recorded.event)

Without a name it is an ordered consumer: the server keeps nothing about us, and if messages are lost on the way
it begins anew after the last one seen.  With `durable` the server remembers how far we came: what was asked for next
counts as done, and whoever comes back under the same name goes on there, at least once per event.  The server keeps no
order in what it delivers again: who needs the order looks at `epoch` and `seq`, or takes an ordered consumer.
"""

import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Self

import anyio
import msgspec
import nats.errors
import nats.js.errors
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, ConsumerInfo, DeliverPolicy

from polybus_actors.publishing.streams import PLANS, StreamsSettings, plan_of, stream_name
from polybus_protocol.events import AnyEvent, decode_event
from polybus_protocol.subjects import PREFIX

__all__ = [
    "Events",
    "NotRecorded",
    "Recorded",
    "Start",
    "ago",
    "at",
    "first",
    "last_of_each",
    "last_per_subject",
    "live",
    "replay",
    "since",
    "stream_of",
]

API_TIMEOUT_S = 5.0
"""Seconds JetStream may take to make a consumer."""

HEARTBEAT_S = 0.5
"""Seconds of silence after which the server says that it is there: two missed ones, and the consumer is made anew.
nats-py's own 5 s would leave a reader blind for 10 s after a restart of the server."""

ORDERED_ACK_WAIT_S = 22 * 3600.0
"""As all NATS clients set it for ordered consumers, which acknowledge nothing."""

QUEUED = 1024
"""Messages between NATS and the reader; when full, the server is told to wait."""

FETCHED = 100
"""Messages a durable consumer takes at a time, so at most as many come twice after a crash."""

FETCH_S = 2.0
"""Seconds one such request stands while nothing comes, and so how long a reader may be blind after a reconnect."""

GOODBYE_S = 1.0
"""Seconds for giving back what was fetched and not read."""

RETRY_S = 0.5
"""Seconds until a durable consumer asks again after it got nothing."""


class NotRecorded(Exception):
    """There is no such record; the text says what is missing, and is fit for a person."""


class Start(msgspec.Struct, frozen=True):
    """Where to begin in a stream; see the functions below."""

    policy: DeliverPolicy
    sequence: int | None = None
    time: datetime | None = None


def first() -> Start:
    """With the oldest event that is kept."""
    return Start(DeliverPolicy.ALL)


def at(sequence: int) -> Start:
    """With the event of this sequence of the stream, or the first one after it that matches."""
    return Start(DeliverPolicy.BY_START_SEQUENCE, sequence=sequence)


def since(time: datetime) -> Start:
    """With the first event that was stored at this time or later."""
    return Start(DeliverPolicy.BY_START_TIME, time=time)


def ago(seconds: float) -> Start:
    """With what was stored in the last so many seconds, by our clock."""
    return since(datetime.fromtimestamp(datetime.now(UTC).timestamp() - seconds, UTC))


def last_per_subject() -> Start:
    """With the last event of each subject."""
    return Start(DeliverPolicy.LAST_PER_SUBJECT)


def live() -> Start:
    """With the next event."""
    return Start(DeliverPolicy.NEW)


class Recorded:
    """An event out of the record."""

    def __init__(self, message: Msg) -> None:
        self.message = message

    @property
    def subject(self) -> str:
        """What it was published on."""
        return self.message.subject

    @cached_property
    def event(self) -> AnyEvent:
        """The event itself.

        Raises:
            msgspec.DecodeError: it is none of ours.
        """
        return decode_event(self.message.data)

    @property
    def stream(self) -> str:
        """The stream that keeps it."""
        return self.message.metadata.stream

    @property
    def sequence(self) -> int:
        """Its number in the stream: `at(sequence + 1)` goes on after it."""
        return self.message.metadata.sequence.stream

    @property
    def stored(self) -> datetime:
        """When it was stored, by the server's clock."""
        return self.message.metadata.timestamp

    @property
    def pending(self) -> int:
        """How many events that match were stored, and not yet sent to us, when this one was sent."""
        return self.message.metadata.num_pending


class Events:
    """Events, oldest first; those of several subjects come as they come.  They end when they are closed."""

    def __init__(
        self,
        messages: MemoryObjectReceiveStream[Msg],
        waiting: int,
        undone: dict[int, Msg],
        close: Callable[[], None],
    ) -> None:
        self.waiting = waiting
        """How many events stood ready when the consumer was made."""
        self.close = close
        """Let them end, for whoever knows that there will be no more."""
        self._messages = messages
        self._undone = undone
        self._last: Msg | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Recorded:
        if self._last is not None and self._undone.pop(id(self._last), None) is not None:
            # If this fails, the event comes again: at least once.
            with contextlib.suppress(nats.errors.Error):
                await self._last.ack()
        try:
            self._last = await self._messages.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None
        return Recorded(self._last)


@asynccontextmanager
async def replay(
    client: Client,
    *subjects: str,
    start: Start,
    durable: str | None = None,
    prefix: str = PREFIX,
    streams: str = StreamsSettings().name,
) -> AsyncIterator[Events]:
    """Read events from a place in the record onwards, for the length of a block.

    Args:
        client: connected; may be used for other things as well.
        subjects: which events, wildcards allowed after the family; each is a consumer of its own, since servers before
            2.10 know one filter per consumer.  Only one where there is a `durable`.
        start: where to begin; of a durable consumer that exists already, the server knows better.
        durable: the name under which the server remembers how far we came.
        prefix: of all subjects.
        streams: what the names of the streams begin with.

    Raises:
        NotRecorded: there is no such stream, or JetStream is not there.
        ValueError: a subject that no stream records, or several with a `durable`.
    """
    if durable is not None and len(subjects) != 1:
        raise ValueError("a durable consumer takes one subject")
    wanted = [(stream_of(subject, prefix, streams), subject) for subject in subjects]
    send, receive = anyio.create_memory_object_stream[Msg](QUEUED)
    js, waiting = client.jetstream(timeout=API_TIMEOUT_S), 0
    undone: dict[int, Msg] = {}
    async with send, receive, contextlib.AsyncExitStack() as stack:
        for stream, subject in wanted:
            try:
                if durable is None:
                    waiting += await stack.enter_async_context(
                        _ordered(js, client, stream, subject, start, send)
                    )
                else:
                    reader = _durable(js, client, stream, subject, start, durable, send, undone)
                    waiting += await stack.enter_async_context(reader)
            except nats.js.errors.NotFoundError:
                raise NotRecorded(f"there is no stream {stream}: nothing is recorded of {subject}") from None
            except nats.js.errors.ServiceUnavailableError:
                raise NotRecorded("NATS offers no JetStream here: nothing is recorded") from None
            except nats.errors.TimeoutError:
                raise NotRecorded(
                    f"JetStream does not answer about the stream {stream}: it is away, or may not be asked"
                ) from None
        yield Events(receive, waiting, undone, send.close)


async def last_of_each(
    client: Client, *subjects: str, prefix: str = PREFIX, streams: str = StreamsSettings().name
) -> list[Recorded]:
    """The last event of each subject that matches, as of now; for instance the last book of each asset.

    Raises:
        NotRecorded, ValueError: as `replay`.
    """
    found: dict[str, Recorded] = {}
    for subject in subjects:
        async with replay(
            client, subject, start=last_per_subject(), prefix=prefix, streams=streams
        ) as events:
            if not events.waiting:
                continue
            async for recorded in events:
                found[recorded.subject] = recorded
                if not recorded.pending:
                    break
    return list(found.values())


def stream_of(subject: str, prefix: str = PREFIX, streams: str = StreamsSettings().name) -> str:
    """The name of the stream that records a subject.

    Raises:
        ValueError: none does.
    """
    family = subject.removeprefix(f"{prefix}.").partition(".")[0] if subject.startswith(f"{prefix}.") else ""
    plan = plan_of(family)
    if plan is None:
        families = ", ".join(family for plan in PLANS for family in plan.families)
        raise ValueError(f"{subject!r} is not recorded: after {prefix} there must be one of {families}")
    return stream_name(streams, plan)


@asynccontextmanager
async def _ordered(
    js: JetStreamContext,
    client: Client,
    stream: str,
    subject: str,
    start: Start,
    send: MemoryObjectSendStream[Msg],
) -> AsyncIterator[int]:
    """Have messages delivered in order; how many stand ready."""

    async def take(message: Msg) -> None:
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await send.send(message)

    config = _config(subject, start)
    config.ack_policy, config.ack_wait, config.max_deliver = AckPolicy.NONE, ORDERED_ACK_WAIT_S, 1
    config.flow_control, config.idle_heartbeat = True, HEARTBEAT_S
    config.num_replicas, config.mem_storage = 1, True
    config.deliver_subject = client.new_inbox()
    info = await js.add_consumer(stream, config=config)
    subscription = await js.subscribe_bind(
        stream, config, info.name, cb=take, ordered_consumer=True, manual_ack=True
    )
    # nats-py begins anew after the last message seen, and if none was, with the first of the whole stream.
    inside = subscription._sub._jsi  # noqa: SLF001  there is no public way
    if inside is not None:
        inside._sseq = max(inside._sseq, _before_first(info))  # noqa: SLF001
    try:
        yield _waiting(info)
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


@asynccontextmanager
async def _durable(
    js: JetStreamContext,
    client: Client,
    stream: str,
    subject: str,
    start: Start,
    name: str,
    send: MemoryObjectSendStream[Msg],
    undone: dict[int, Msg],
) -> AsyncIterator[int]:
    """Fetch what the server has not had acknowledged under this name; how many stand ready."""
    left, ended = 0, anyio.Event()

    async def take(message: Msg) -> None:
        nonlocal left
        if not message.reply:  # the request is over, or nobody takes it
            ended.set()
            return
        undone[id(message)] = message
        left -= 1
        if not left:
            ended.set()
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await send.send(message)

    async def ask() -> None:
        # Not `fetch`, which hands nothing out before it has all, or its time is over.
        nonlocal left, ended
        request = json.dumps({"batch": FETCHED, "expires": int(FETCH_S * 1e9)}).encode()
        while not client.is_closed:
            left, ended = FETCHED, anyio.Event()
            with contextlib.suppress(nats.errors.Error):
                await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", request, inbox)
            with anyio.move_on_after(FETCH_S + RETRY_S):
                await ended.wait()
            if left == FETCHED:
                await anyio.sleep(RETRY_S)  # or it would go round and round where there is no stream any more
        send.close()

    config = _config(subject, start)
    config.ack_policy, config.max_ack_pending = AckPolicy.EXPLICIT, 10 * FETCHED
    config.durable_name = name
    try:
        info = await js.consumer_info(stream, name)
    except nats.js.errors.NotFoundError:
        info = await js.add_consumer(stream, config=config)
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox, cb=take)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        try:
            yield _waiting(info)
        finally:
            tasks.cancel_scope.cancel()
    # Given back, or whoever comes next would wait for them until their time is over.
    with anyio.move_on_after(GOODBYE_S, shield=True), contextlib.suppress(nats.errors.Error):
        await subscription.unsubscribe()
        for message in undone.values():
            await message.nak()


def _config(subject: str, start: Start) -> ConsumerConfig:
    return ConsumerConfig(
        deliver_policy=start.policy,
        opt_start_seq=start.sequence,
        opt_start_time=start.time,
        filter_subject=subject,
    )


def _before_first(info: ConsumerInfo) -> int:
    return info.delivered.stream_seq if info.delivered is not None else 0


def _waiting(info: ConsumerInfo) -> int:
    return (info.num_pending or 0) + (info.num_ack_pending or 0)
