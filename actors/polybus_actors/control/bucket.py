"""A key-value bucket, watched: what it holds, in full, and then each change, in order.

nats-py's own `kv.watch` is blind for up to 18 s after the server was restarted, because nobody notices that its
consumer is gone.  Here the server says twice a second that it is there.  After a silence, a message that is missing
or a reconnect the watch is over, and whoever wants to go on begins a new one, with all that the bucket holds.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import msgspec
import nats.errors
from anyio.streams.memory import MemoryObjectReceiveStream
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

HEARTBEAT_S = 0.5
"""Seconds of silence after which the server says that it is there."""

SILENCE_S = 1.75
"""Seconds without a word after which the consumer is gone: three heartbeats, and a little for a busy machine."""

INACTIVE_S = 5.0
"""Seconds after which the server forgets a consumer to which nobody listens: reconnects must not pile them up."""

QUEUED = 1024
"""Entries between NATS and the reader; when full, the client waits."""


class Entry(msgspec.Struct, frozen=True):
    """One key, as it is from a revision on."""

    key: str
    revision: int
    """The sequence in the bucket's stream: rises with each change of any key."""
    value: bytes | None
    """None: deleted."""


class WatchOver(Exception):
    """Entries may have been missed; the text says why.  Begin anew."""


class Watch:
    """See `watching`."""

    def __init__(self, client: Client, messages: MemoryObjectReceiveStream[Msg], prefix: str) -> None:
        self._client = client
        self._reconnects = client.stats["reconnects"]
        self._messages = messages
        self._prefix = prefix
        self._delivered = 0
        """Messages so far, by the server's count."""
        self._left = 0
        """Messages that are ready on the server, when it sent the last one."""

    async def all(self, waiting: int) -> list[Entry]:
        """What the bucket holds, each key once or more, the later the newer.

        Args:
            waiting: how many messages stood ready when the consumer was made.

        Raises:
            WatchOver: the connection broke meanwhile.
        """
        self._left, entries = waiting, list[Entry]()
        while self._left:
            if (entry := await self._receive()) is not None:
                entries.append(entry)
        return entries

    async def next(self) -> Entry:
        """The next change.

        Raises:
            WatchOver: there may have been one that we did not hear of.
        """
        while (entry := await self._receive()) is None:
            pass
        return entry

    async def _receive(self) -> Entry | None:
        """The next entry; None if the server only says that it is there."""
        try:
            with anyio.fail_after(SILENCE_S):
                message = await self._messages.receive()
        except TimeoutError:
            raise WatchOver(f"the server has said nothing for {SILENCE_S:g} s") from None
        if self._client.stats["reconnects"] != self._reconnects:
            raise WatchOver("the connection was made anew")
        headers = message.headers or {}
        if "Status" in headers:
            # Nothing is on its way then: what was still to come has been deleted.
            self._left = 0
            told = int(headers.get("Nats-Last-Consumer", self._delivered))
        else:
            told = message.metadata.sequence.consumer - 1
        if told != self._delivered:
            raise WatchOver(f"{told - self._delivered} messages are missing")
        if "Status" in headers:
            return None
        self._delivered += 1
        self._left = message.metadata.num_pending
        is_gone = "KV-Operation" in headers or "Nats-Marker-Reason" in headers
        return Entry(
            message.subject.removeprefix(self._prefix),
            message.metadata.sequence.stream,
            None if is_gone else message.data,
        )


@asynccontextmanager
async def watching(
    client: Client, bucket: str, keys: str, timeout_s: float
) -> AsyncIterator[tuple[list[Entry], Watch]]:
    """Watch keys of a bucket for the length of a block.

    Args:
        client: connected.
        bucket: its name.
        keys: which, wildcards allowed.
        timeout_s: seconds that JetStream may take to answer.

    Returns:
        What the bucket holds, and the watch that tells of changes.

    Raises:
        nats.errors.Error: there is no such bucket, or no JetStream.
        WatchOver: the connection broke while the bucket was read.
    """
    js, prefix = client.jetstream(timeout=timeout_s), f"$KV.{bucket}."
    send, receive = anyio.create_memory_object_stream[Msg](QUEUED)

    async def take(message: Msg) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await send.send(message)

    async with send, receive:
        inbox = client.new_inbox()
        subscription = await client.subscribe(inbox, cb=take)
        try:
            watch = Watch(client, receive, prefix)
            info = await js.add_consumer(
                f"KV_{bucket}",
                ConsumerConfig(
                    name=f"polybus-{secrets.token_hex(8)}",
                    deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                    deliver_subject=inbox,
                    filter_subject=f"{prefix}{keys}",
                    ack_policy=AckPolicy.NONE,
                    idle_heartbeat=HEARTBEAT_S,
                    inactive_threshold=INACTIVE_S,
                    num_replicas=1,
                    mem_storage=True,
                ),
            )
            # Some of them may be under way to us already, and are not counted any more.
            delivered = info.delivered.consumer_seq if info.delivered is not None else 0
            yield await watch.all((info.num_pending or 0) + delivered), watch
        finally:
            with suppress(nats.errors.Error):
                await subscription.unsubscribe()
