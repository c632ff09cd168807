"""A consumer as any language could have it: bare nats-py and JSON, and a judge of what it receives.

It knows the promise and nothing of the gateway: within an epoch of a stream key `seq` rises by one, a new epoch
begins with a gap, and what was lost on the way to NATS is covered by a gap that says from where to where.  Each payload
is as the contract in `contract/` says, or the test that received it fails.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import anyio
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from .contract import fault, fault_of_event
from .until import until

PREFIX = "polymarket.v1"

FEED_OF = {
    "market": "market",
    "user": "user",
    "activity": "rtds",
    "comments": "rtds",
    "sports": "sports",
}
"""The feed that brings a family, where there is only one; prices name theirs."""

type Place = tuple[int, int]
"""Epoch and `seq`."""


class Refused(Exception):
    """The control service said no.

    Attributes:
        code: of the NATS service error.
        error: the body's `error`.
    """

    def __init__(self, code: int, error: dict[str, Any]) -> None:
        super().__init__(f"{code}: {error}")
        self.code = code
        self.error = error


class StreamRecord:
    """What was received of one stream key, and what is wrong with it."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.events: list[dict[str, Any]] = []
        self.last: Place | None = None
        self.late = 0
        """Events that came after the gap that covers them."""
        self.repeated = 0
        """Events that came again under the id of their message."""
        self.lost: list[tuple[Place, Place]] = []
        """What loss gaps cover: from after the one place to the other."""
        self.faults: list[str] = []
        self.opened: dict[str, Any] | None = None
        """The gap that is open."""
        self.was_away = False
        """The consumer itself was cut off, and may have missed what was published meanwhile."""
        self._ended = False

    @property
    def gaps(self) -> list[dict[str, Any]]:
        """The gaps, in order."""
        return [event for event in self.events if event["type"] == "gap" and event["closed_by"] is None]

    @property
    def reasons(self) -> list[str]:
        """The reasons of the gaps, in order."""
        return [gap["reason"] for gap in self.gaps]

    def count(self, *types: str) -> int:
        """How many events of these types."""
        return sum(event["type"] in types for event in self.events)

    @property
    def is_trusted(self) -> bool:
        """Whether nothing since the last gap that opened is still wrong: it was closed again."""
        if not self.events or self.opened is not None:
            return False
        last = self.events[-1]
        return last["type"] != "gap" or last["closed_by"] is not None

    def take(self, event: dict[str, Any], *, may_repeat: bool = False) -> None:
        """Judge one event and remember it; a repetition is counted, and forgotten."""
        place, last = (event["epoch"], event["seq"]), self.last
        if may_repeat and last is not None and place <= last and event in self.events:
            self.repeated += 1
            return
        self.events.append(event)
        if self.was_away and last is not None and place > last:
            # A jump here is our own loss; that it shows at all is the promise.
            self.was_away, self.last, self.opened = False, place, None
            return
        if event["type"] == "gap" and event["closed_by"] is not None:
            self._take_closing(event, place)
        elif event["type"] == "gap" and event["lost"] is not None:
            self._take_loss(event, place)
        elif last is not None and place <= last:
            if any(after < place <= up_to for after, up_to in self.lost):
                self.late += 1
            else:
                self._blame(place, "came after its successors, and no gap covers it")
            return
        elif last is not None and place[0] == last[0]:
            if place[1] != last[1] + 1:
                self._blame(place, "does not follow")
        elif place[1] != 1:
            self._blame(place, "is not the first of its epoch, and what came before is missing")
        elif last is not None and event["type"] == "gap":
            self.opened = None if event["reason"] == "unsubscribed" else event
            if event["reason"] != "restart" and (event["last_epoch"], event["last_seq"]) != last:
                told = event["last_epoch"], event["last_seq"]
                self._blame(place, f"is a gap that says {told} was the last, which is not so")
        elif last is not None and not self._ended:
            self._blame(place, "begins an epoch without a gap")
        self.last = max(place, last or place)
        self._ended = event.get("reason") == "unsubscribed"

    def _take_closing(self, gap: dict[str, Any], place: Place) -> None:
        if self.last is not None and (place[0], place[1] - 1) != self.last:
            self._blame(place, "closes a gap, and does not follow")
        if self.opened is not None and self.opened["reason"] != gap["reason"]:
            self._blame(
                place, f"closes a gap of the reason {gap['reason']}, and the one that is open has another"
            )
        self.opened = None

    def _take_loss(self, gap: dict[str, Any], place: Place) -> None:
        after = (gap["last_epoch"] or 0, gap["last_seq"] or 0)
        if self.last is not None and self.last < after:
            self._blame(place, f"is a gap that covers what comes after {after}, but that is missing too")
        self.lost.append((after, place))

    def _blame(self, place: Place, what: str) -> None:
        self.faults.append(f"{self.key}: {place} {what} (last: {self.last})")


class Consumer:
    """Everything below a prefix, and a mouth to ask the control service."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.streams: dict[str, StreamRecord] = {}
        self._by_asset: dict[str, list[StreamRecord]] = {}
        self.system: list[dict[str, Any]] = []
        """What connections went through."""
        self.notices: list[dict[str, Any]] = []
        """What else the gateway said of itself."""
        self.unknown: list[dict[str, Any]] = []
        self.last_books: dict[str, dict[str, Any]] = {}
        """By asset."""
        self.received = 0
        self.has_been_away = False
        """Its own connection was lost once, and perhaps events with it."""
        self.payloads: list[str] = []
        """All payloads, as they came."""
        self.breaches: list[str] = []
        """What was not as the contract says."""
        self._news = anyio.Event()

    async def take(self, message: Msg) -> None:
        """Take one message in."""
        key = message.subject.rpartition(".")[0]
        _, _, family = key.removeprefix(self.prefix).partition(".")
        if family.startswith("control"):
            return
        event = json.loads(message.data)
        self.payloads.append(message.data.decode())
        self.received += 1
        if breach := fault_of_event(message.subject, self.prefix, event):
            self.breaches.append(breach)
        if family.startswith("system"):
            (self.system if event["type"] == "connection" else self.notices).append(event)
        elif family.startswith("books"):
            self.last_books[event["asset"]] = event
        elif family.startswith("unknown"):
            self.unknown.append(event | {"subject": message.subject})
        else:
            may_repeat = "Nats-Msg-Id" in (message.headers or {})
            self._stream(key).take(event, may_repeat=may_repeat)
        self.tell()

    def _stream(self, key: str) -> StreamRecord:
        """What was received of a stream, from now on if it is the first that is heard of it."""
        if key not in self.streams:
            self.streams[key] = record = StreamRecord(key)
            *_, market, asset = key.split(".")
            if market != "_":
                self._by_asset.setdefault(asset, []).append(record)
        return self.streams[key]

    def tell(self) -> None:
        """Let whoever waits look again."""
        self._news.set()
        self._news = anyio.Event()

    async def until(self, is_so: Callable[[], bool], within_s: float = 30.0) -> None:
        """Wait until something is so, looking after each message.

        Raises:
            TimeoutError: it is not, in time.
        """
        with anyio.fail_after(within_s):
            while not is_so():
                await self._news.wait()

    def of(self, asset: str) -> StreamRecord:
        """What was received of an asset, under its market."""
        found = self._by_asset.get(asset, [])
        assert len(found) <= 1, [record.key for record in found]
        return found[0] if found else StreamRecord(asset)

    def check(self) -> None:
        """Nothing that was received breaks the promise."""
        faults = [fault for record in self.streams.values() for fault in record.faults]
        assert not faults, "\n".join(faults[:20])

    def counts(self, feed: str = "market") -> Counter[tuple[str, str]]:
        """Events received of a feed per stream and type, gaps apart; what came late counts.

        A stream is called as the simulator's ledger calls it: an asset or a market on the market feed, on the
        others the ids with slashes between.
        """
        return Counter((stream, event["type"]) for stream, event in self._told(feed))

    def events(self, feed: str, stream: str) -> list[dict[str, Any]]:
        """Events received of a feed on one stream, in order, gaps apart; see `counts` for its name."""
        return [event for name, event in self._told(feed) if name == stream]

    def _told(self, feed: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for key, record in self.streams.items():
            family = key.removeprefix(f"{self.prefix}.").partition(".")[0]
            stream = self.stream_of(key)
            for event in record.events:
                # What was read over REST, the feed has not said.
                if event.get("origin") == "witness":
                    continue
                if event["type"] != "gap" and feed == (
                    event["feed"] if family == "price" else FEED_OF[family]
                ):
                    yield stream, event

    def stream_of(self, key: str) -> str:
        """What the simulator's ledger calls the stream of a stream key."""
        family, *ids = map(unquote, key.removeprefix(f"{self.prefix}.").split("."))
        return "/".join(ids) if family != "market" else ids[0] if ids[1] == "_" else ids[1]

    async def flush(self) -> None:
        """Wait until all that the server has for us is taken in."""
        await self.client.flush()
        await until(lambda: not any(one.pending_msgs for one in self.client._subs.values()), 5)

    async def ask(self, verb: str, /, within_s: float = 20.0, **fields: Any) -> Any:
        """One request, as JSON; the decoded reply.

        Raises:
            Refused: the service said no.
        """
        return await self.ask_raw(verb, json.dumps(fields).encode(), within_s)

    async def ask_raw(self, verb: str, payload: bytes, within_s: float = 20.0) -> Any:
        """One request, with whatever payload."""
        subject = f"{self.prefix}.control.{verb}"
        reply = await self.client.request(subject, payload, timeout=within_s)
        code = (reply.headers or {}).get("Nats-Service-Error-Code")
        body = json.loads(reply.data)
        if code is not None:
            assert str(body["error"]["code"]) == code
            assert fault("error", body) is None
            raise Refused(int(code), body["error"])
        breach = fault(f"replies/{verb}", body)
        assert breach is None, breach
        return body

    async def until_status(self, is_so: Callable[[Any], bool], within_s: float = 30.0) -> Any:
        """Ask for the status until something is so; that status."""
        with anyio.fail_after(within_s):
            while True:
                with anyio.move_on_after(1):
                    try:
                        status = await self.ask("status", within_s=1)
                    except (nats.errors.Error, Refused):
                        pass
                    else:
                        if is_so(status):
                            return status
                # Not at once, or the questions would hold up what they ask about; news cut the wait short.
                with anyio.move_on_after(0.05):
                    await self._news.wait()


@asynccontextmanager
async def consuming(*urls: str, prefix: str = PREFIX) -> AsyncIterator[Consumer]:
    """A consumer for the length of a block, which reconnects as often as it must, to whichever server is there."""
    client = Client()
    consumer = Consumer(client, prefix)

    async def was_away() -> None:
        consumer.has_been_away = True
        for record in consumer.streams.values():
            record.was_away = True

    async def ignore(_error: Exception) -> None:
        pass

    await client.connect(
        [*urls],
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,  # type: ignore[arg-type]  # a float works
        error_cb=ignore,
        disconnected_cb=was_away,
    )
    try:
        await client.subscribe(f"{prefix}.>", cb=consumer.take)
        await client.flush()
        yield consumer
        assert not consumer.breaches, "\n".join(consumer.breaches[:20])
    finally:
        with anyio.move_on_after(2, shield=True):
            await client.close()
