"""Desired state in a JetStream KV bucket: the subscriptions that survive a restart of the gateway.

Keys are `<replica>.<id>`, so that replicas can share the bucket.  What cannot be written at once, since
JetStream is away or is not there at all, is kept and tried again; a subscription works without it, and its
reply says that it is not durable.
"""

import logging
from collections.abc import Awaitable, Callable

import anyio
import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.kv import KeyValue

from polybus_protocol.interest import Subscription

from .login import words

logger = logging.getLogger("polybus.store")

WRITE_TIMEOUT_S = 2.0
"""Seconds one write may take; a put takes well under a millisecond on a healthy server."""

RETRY_S = 1.0
"""Seconds until what could not be written is tried again."""

_decoder = msgspec.json.Decoder(Subscription)
_encode = msgspec.json.Encoder().encode


class Store:
    """The gateway's part of the bucket.

    Args:
        bucket: its name; created if absent.
        replica: the gateway's name.
    """

    def __init__(self, bucket: str, replica: str) -> None:
        self._bucket = bucket
        self._replica = replica
        self._client: Client | None = None
        self._kv: KeyValue | None = None
        self._pending: dict[str, Subscription | None] = {}
        self._has_pending = anyio.Event()
        self._written = anyio.Event()
        self._is_loaded = False
        self.on_found: Callable[[list[Subscription]], Awaitable[None]] = _nothing
        """Told what the bucket holds, if that could not be read at the start."""

    @property
    def is_durable(self) -> bool:
        """Whether what is saved now survives a restart."""
        return self._kv is not None and not self._pending

    async def load(self, client: Client) -> list[Subscription]:
        """Read the subscriptions of this replica; an entry that cannot be read is reported and left alone.

        Without JetStream there are none.
        """
        try:
            with anyio.fail_after(2 * WRITE_TIMEOUT_S):
                found = await self._read_all(client, await self._open(client))
                self._is_loaded = True
                return found
        except (nats.errors.Error, TimeoutError) as error:
            logger.warning(
                "subscriptions will not survive a restart: JetStream is not available (%s)",
                words(error),
            )
            return []

    async def save(self, subscription: Subscription) -> bool:
        """Keep a subscription.

        Returns:
            Whether it is written; if not, it will be tried again.
        """
        return await self._change(subscription.id, subscription)

    async def forget(self, id_: str) -> bool:
        """Keep a subscription no longer; see `save` for what is returned."""
        return await self._change(id_, None)

    async def run(self, client: Client) -> None:
        """Write, and at first read, what could not be, again and again, until cancelled."""
        if self._client is not client:
            self._kv = None  # it speaks through a client that is gone
            if self._is_loaded:
                await self._write_pending(client)
        while True:
            while self._pending or not self._is_loaded:
                if not self._is_loaded:
                    await self._load_late(client)
                await self._write_pending(client)
                if self._pending or not self._is_loaded:
                    await anyio.sleep(RETRY_S)
            await self._has_pending.wait()
            self._has_pending = anyio.Event()

    async def _load_late(self, client: Client) -> None:
        try:
            with anyio.fail_after(WRITE_TIMEOUT_S):
                found = await self._read_all(client, self._kv or await self._open(client))
        except (nats.errors.Error, TimeoutError) as error:
            self._kv = None
            logger.debug("the bucket %s cannot be read: %s", self._bucket, words(error))
            return
        self._is_loaded = True
        # What was changed meanwhile is as it was changed, and about to be written.
        missed = [subscription for subscription in found if subscription.id not in self._pending]
        if missed:
            logger.warning("JetStream is back: %d subscriptions of earlier are taken up", len(missed))
            await self.on_found(missed)

    async def _change(self, id_: str, subscription: Subscription | None) -> bool:
        self._pending[id_] = subscription
        self._has_pending.set()
        with anyio.move_on_after(WRITE_TIMEOUT_S if self._kv is not None else 0):
            while id_ in self._pending:
                await self._written.wait()
        return id_ not in self._pending

    async def _write_pending(self, client: Client) -> None:
        try:
            with anyio.fail_after(WRITE_TIMEOUT_S):
                kv = self._kv or await self._open(client)
                for id_, subscription in list(self._pending.items()):
                    key = f"{self._replica}.{id_}"
                    if subscription is None:
                        await kv.purge(key)
                    else:
                        await kv.put(key, _encode(subscription))
                    if self._pending.get(id_) is subscription:
                        del self._pending[id_]
        except (nats.errors.Error, TimeoutError) as error:
            self._kv = None
            logger.debug("the bucket %s cannot be written: %s", self._bucket, words(error))
        self._written.set()
        self._written = anyio.Event()

    async def _open(self, client: Client) -> KeyValue:
        js = client.jetstream(timeout=WRITE_TIMEOUT_S)
        self._client = client
        try:
            self._kv = await js.key_value(self._bucket)
        except nats.js.errors.BucketNotFoundError:
            self._kv = await js.create_key_value(bucket=self._bucket, history=1)
        return self._kv

    async def _read_all(self, client: Client, kv: KeyValue) -> list[Subscription]:
        # Not `kv.watch`: its sign that all has been seen may overtake what is still on its way.
        bucket = f"$KV.{self._bucket}."
        info = await client.jetstream(timeout=WRITE_TIMEOUT_S).stream_info(
            f"KV_{self._bucket}", subjects_filter=f"{bucket}{self._replica}.>"
        )
        subscriptions = []
        for subject in info.state.subjects or {}:
            key = subject.removeprefix(bucket)
            try:
                entry = await kv.get(key)
                subscriptions.append(_decoder.decode(entry.value or b""))
            except nats.js.errors.KeyNotFoundError:
                continue  # what is left of one that was given up
            except msgspec.DecodeError as error:
                logger.error("the entry %s of the bucket %s is ignored: %s", key, self._bucket, error)
        return sorted(subscriptions, key=lambda subscription: subscription.created)


async def _nothing(_subscriptions: list[Subscription]) -> None:
    pass
