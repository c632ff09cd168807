"""Desired state in a JetStream KV bucket: the subscriptions that survive a restart of the gateway.

Keys are `<replica>.<id>`, so that replicas can share the bucket.  What cannot be written at once, since
JetStream is away or is not there at all, is kept and tried again; a subscription works without it, and its
reply says that it is not durable.

The bucket is watched: what another hand puts there is taken up, what it deletes is dropped.  It is not trusted
blindly: an entry that is no sound subscription is left where it is and set aside, and whatever stands under its id
goes on; what vanishes without having been deleted, as when the store of the server was wiped, is written again.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

import anyio
import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from polybus_protocol.control.asking import ASKING
from polybus_protocol.control.interest import Subscription
from polybus_protocol.control.requests import check_subscription
from polybus_protocol.errors import ControlError

from ..publishing.login import words
from .bucket import Entry, WatchOver, watching

logger = logging.getLogger("polybus.store")

WRITE_TIMEOUT_S = 2.0
"""Seconds one write may take; a put takes well under a millisecond on a healthy server."""

RETRY_S = 1.0
"""Seconds until what could not be written or read is tried again."""

_decoder = msgspec.json.Decoder(Subscription)
_encode = msgspec.json.Encoder().encode

_DELETED = {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
"""What stands for a key that was given up; nats-py's own `purge` does not tell its revision."""


class Store:
    """The gateway's part of the bucket.

    Args:
        bucket: its name; created if absent.
        replica: the gateway's name.
    """

    def __init__(self, bucket: str, replica: str) -> None:
        self.quarantined: dict[str, str] = {}
        """Entries that are not used, by id, with what is wrong with them."""
        self.on_news: Callable[[], Awaitable[None]] = _nothing
        """Called when there is something for `news` to tell."""
        self._bucket = bucket
        self._replica = replica
        self._client: Client | None = None
        self._js: JetStreamContext | None = None
        self._created: datetime | None = None
        """When the bucket was, that `_revisions` are of."""
        self._revisions: dict[str, int] = {}
        """The newest that is known, by id: what is older is an echo."""
        self._kept: dict[str, Subscription] = {}
        """What the bucket holds, or is about to."""
        self._pending: dict[str, Subscription | None] = {}
        self._refused: set[str] = set()
        """Ids that the bucket does not take, as told in the log."""
        self._news: dict[str, Subscription | None] = {}
        self._has_pending = anyio.Event()
        self._written = anyio.Event()

    @property
    def is_durable(self) -> bool:
        """Whether what is saved now survives a restart."""
        return self._js is not None and not self._pending

    async def load(self, client: Client) -> list[Subscription]:
        """Read the subscriptions of this replica, oldest first.  Without JetStream there are none."""
        try:
            with anyio.fail_after(2 * WRITE_TIMEOUT_S):
                await self._open(client)
                async with watching(client, self._bucket, f"{self._replica}.>", WRITE_TIMEOUT_S) as (
                    entries,
                    _,
                ):
                    self._take_all(entries)
        except (nats.errors.Error, TimeoutError, WatchOver) as error:
            logger.warning(
                "subscriptions will not survive a restart: JetStream is not available (%s)",
                words(error),
            )
        found = [subscription for subscription in self.news().values() if subscription is not None]
        return sorted(found, key=lambda subscription: subscription.created)

    def news(self) -> dict[str, Subscription | None]:
        """What others have changed since this was last asked, by id; None for what they have deleted."""
        news, self._news = self._news, {}
        return news

    async def save(self, subscription: Subscription) -> bool:
        """Keep a subscription.

        Returns:
            Whether it is written; if not, it will be tried again.
        """
        self._kept[subscription.id] = subscription
        return await self._change(subscription.id, subscription)

    async def forget(self, id_: str) -> bool:
        """Keep a subscription no longer; see `save` for what is returned."""
        self._kept.pop(id_, None)
        return await self._change(id_, None)

    async def run(self, client: Client) -> None:
        """Write what is to be kept, and follow what others change, until cancelled."""
        if self._client is not client:
            self._js = None  # it speaks through a client that is gone
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._write, client)
            tasks.start_soon(self._follow, client)

    # --- ours --------------------------------------------------------------------------------------

    async def _change(self, id_: str, subscription: Subscription | None) -> bool:
        # Whatever another hand has just written, ours is newer.
        self._news.pop(id_, None)
        self._pending[id_] = subscription
        self._refused.discard(id_)
        self._has_pending.set()
        with anyio.move_on_after(WRITE_TIMEOUT_S if self._js is not None else 0):
            while id_ in self._pending and id_ not in self._refused:
                await self._written.wait()
        return id_ not in self._pending

    async def _write(self, client: Client) -> None:
        while True:
            while self._pending:
                await self._write_pending(client)
                if self._pending:
                    await anyio.sleep(RETRY_S)
            await self._has_pending.wait()
            self._has_pending = anyio.Event()

    async def _write_pending(self, client: Client) -> None:
        try:
            with anyio.fail_after(WRITE_TIMEOUT_S):
                js = self._js or await self._open(client)
                for id_, subscription in list(self._pending.items()):
                    await self._write_one(js, id_, subscription)
        except (nats.errors.Error, TimeoutError) as error:
            self._js = None
            logger.debug("the bucket %s cannot be written: %s", self._bucket, words(error))
        self._written.set()
        self._written = anyio.Event()

    async def _write_one(self, js: JetStreamContext, id_: str, subscription: Subscription | None) -> None:
        payload, headers = (b"", _DELETED) if subscription is None else (_encode(subscription), None)
        try:
            ack = await js.publish(f"$KV.{self._bucket}.{self._replica}.{id_}", payload, headers=headers)
        except (nats.errors.MaxPayloadError, nats.js.errors.APIError) as error:
            # It concerns this one, and must not hold up the others.
            if id_ not in self._refused:
                self._refused.add(id_)
                logger.error(
                    "the bucket %s does not take the subscription %s, which will not survive a restart: %s",
                    self._bucket,
                    id_,
                    words(error),
                )
            return
        self._refused.discard(id_)
        self.quarantined.pop(id_, None)
        self._revisions[id_] = max(ack.seq, self._revisions.get(id_, 0))
        if self._pending.get(id_, ...) is subscription:
            del self._pending[id_]

    async def _open(self, client: Client) -> JetStreamContext:
        """Find the bucket, or make it; and see whether it is the one that we know."""
        js = client.jetstream(timeout=WRITE_TIMEOUT_S)
        stream = f"KV_{self._bucket}"
        try:
            info = await js.stream_info(stream)
        except nats.js.errors.NotFoundError:
            await js.create_key_value(bucket=self._bucket, history=1)
            info = await js.stream_info(stream)
        newest = max(self._revisions.values(), default=0)
        if self._created is not None and (info.created != self._created or info.state.last_seq < newest):
            logger.warning(
                "the bucket %s is not as it was (the server lost its store, or somebody deleted it): the %d "
                "subscriptions that stand are written again",
                self._bucket,
                len(self._kept),
            )
            self._revisions.clear()
            self.quarantined.clear()
            self._write_again(self._kept)
        self._created = info.created
        self._client, self._js = client, js
        return js

    def _write_again(self, kept: dict[str, Subscription]) -> None:
        self._pending = {**kept, **self._pending}
        self._has_pending.set()

    # --- others' -----------------------------------------------------------------------------------

    async def _follow(self, client: Client) -> None:
        while True:
            try:
                with anyio.fail_after(2 * WRITE_TIMEOUT_S):
                    await self._open(client)
            except (nats.errors.Error, TimeoutError) as error:
                self._js = None
                logger.debug("the bucket %s cannot be read: %s", self._bucket, words(error))
            else:
                await self._follow_until_over(client)
            await anyio.sleep(RETRY_S)

    async def _follow_until_over(self, client: Client) -> None:
        try:
            keys = f"{self._replica}.>"
            async with watching(client, self._bucket, keys, WRITE_TIMEOUT_S) as (entries, watch):
                self._take_all(entries)
                while True:
                    if self._news:
                        await self.on_news()
                    self._take(await watch.next())
        except (nats.errors.Error, WatchOver) as error:
            logger.debug("the bucket %s is watched anew: %s", self._bucket, words(error))

    def _take_all(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._take(entry)
        found = {self._id_of(entry) for entry in entries}
        lacking = {
            id_: subscription
            for id_, subscription in self._kept.items()
            if id_ not in found and id_ not in self._pending
        }
        if lacking:
            logger.warning(
                "%d subscriptions have vanished from the bucket %s, and are written again; "
                "to drop one, unsubscribe it or delete its key",
                len(lacking),
                self._bucket,
            )
            self._write_again(lacking)

    def _take(self, entry: Entry) -> None:
        """Take note of an entry, unless it is an echo, or about to be written over."""
        id_ = self._id_of(entry)
        if entry.revision <= self._revisions.get(id_, 0):
            return
        self._revisions[id_] = entry.revision
        if id_ in self._pending:
            return
        try:
            subscription = None if entry.value is None else _read(id_, entry.value)
        except (msgspec.DecodeError, ControlError, UnicodeError, RecursionError) as error:
            self.quarantined[id_] = str(error)
            logger.error(
                "the entry %s of the bucket %s is set aside, and left as it is: %s",
                entry.key,
                self._bucket,
                error,
            )
            return
        self.quarantined.pop(id_, None)
        if subscription == self._kept.get(id_):
            return
        if subscription is None:
            del self._kept[id_]
        else:
            self._kept[id_] = subscription
        self._news[id_] = subscription

    def _id_of(self, entry: Entry) -> str:
        return entry.key.removeprefix(f"{self._replica}.")


def _read(id_: str, value: bytes) -> Subscription:
    """An entry, if it is what a request could have led to.

    Raises:
        msgspec.DecodeError: it is no subscription.
        ControlError: it is none that could be asked for.
    """
    subscription = _decoder.decode(value)
    asking = ASKING.get(subscription.feed)
    # Where the gateway chooses who asks, the account is no part of what was wished.
    is_chosen = asking is not None and "account" not in asking.fields
    wished = msgspec.structs.replace(subscription, account=None) if is_chosen else subscription
    check_subscription(wished, subscription.id, subscription.deliver)
    if subscription.id != id_:
        raise ControlError(400, f"its id is {subscription.id!r}, and its key says {id_[:80]!r}", field="id")
    return subscription


async def _nothing() -> None:
    pass
