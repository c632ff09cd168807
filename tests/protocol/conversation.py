"""A session to talk with: the plumbing once, so that the tests read as conversations."""

import json
from collections import Counter
from collections.abc import Collection
from typing import Any

import msgspec

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.conversation.cargo import Cargo
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.conversation.session import Session
from polybus_protocol.conversation.signals import Signal
from polybus_protocol.door import DIALECTS, decode
from polybus_protocol.events import AnyEvent, Book, Event, Gap, decode_event
from polybus_protocol.feeds.credentials import Credentials
from polybus_protocol.feeds.market import VENUE, MarketDialect
from polybus_protocol.profile import PROFILES, FeedProfile
from polybus_protocol.stream import GapLedger, Publication, Stream
from polybus_protocol.subjects import ids_of, stream_key, subject_for

M, N = "0x" + "a1" * 32, "0x" + "b2" * 32
"""Two markets, with two assets each."""
M1, M2, N1, N2 = ("1" * 30, "2" * 30, "3" * 30, "4" * 30)
FIRST = (M1, N1)
MARKET_OF = {M1: M, M2: M, N1: N, N2: N}

CREDENTIALS = {"apiKey": "key", "secret": "secret", "passphrase": "phrase"}
"""Of the account of each conversation that needs one, as the venue wants them."""

PONG = b"PONG"
"""What the venue says to a ping: a frame, and no data."""

START = 1_750_000_000
"""Seconds since the epoch at which every conversation begins."""


class Conversation:
    """Sessions over the same streams, one after the other, whose clocks move only when a test says so.

    Every publication is checked on its way out: its subject is that of its event, its stamps are those in
    the payload.

    Args:
        remembered: the streams existed before this process.
        settings: of the profile, where they shall differ from the defaults.
    """

    def __init__(self, *, remembered: bool = False, **settings: Any) -> None:
        self.remembered = remembered
        self.profile = FeedProfile(url="ws://venue/ws/market", **settings)
        self.streams: dict[str, Stream] = {}
        self.commons = Commons("market")
        self.directory = MarketDirectory()
        self.checks: Counter[str] = Counter()
        """What the looks at the books found."""
        self.everything: list[AnyEvent] = []
        """All that was published, in order."""
        self.closings: list[AnyEvent] = []
        """The gaps that closed."""
        self.now = 0.0
        self.incarnation = 0
        self.reconnects()

    @property
    def time(self) -> int:
        """Now, in nanoseconds since the epoch."""
        return START * 1_000_000_000 + round(self.now * 1e9)

    def reconnects(self) -> None:
        """Go on with a new session over the same streams."""
        self.incarnation += 1
        dialect = MarketDialect()
        name = f"gw-market-1#{self.incarnation}"
        self.session = Session(
            self.profile, dialect, name, self.commons, self.directory, self.now, checks=self.checks
        )

    # --- what the owner does -----------------------------------------------------------------------

    def wants(self, *keys: str) -> None:
        """Subscribe; a key's stream is made when it is wanted for the first time."""
        for key in keys:
            if key not in self.streams:
                self.streams[key] = (
                    Stream("market", "market", (None, None), remembered=self.remembered)
                    if key == VENUE
                    else AssetStream(None, key, self.profile.budgets, self.checks, remembered=self.remembered)
                )
        wanted = [(key, self.streams[key]) for key in keys]
        self.said(self.session.subscribe(wanted, self.now, self.time))

    def drops(self, *keys: str) -> list[AnyEvent]:
        """Unsubscribe."""
        self.session.unsubscribe(keys)
        return []

    def doubts(self, *keys: str, reason: str = "resync") -> list[AnyEvent]:
        """Ask for fresh snapshots."""
        return self.published(self.session.resync(keys, reason, self.now, self.time))

    def ends(self, reason: str = "the socket closed") -> list[AnyEvent]:
        """Lose the socket."""
        return self.published(self.session.end(reason, self.time))

    # --- what the venue and the clock do -----------------------------------------------------------

    def hears(self, frame: bytes | str | dict[str, Any] | list[Any]) -> list[AnyEvent]:
        """Receive a frame: text as it is, anything else as the JSON the venue would write."""
        return self.published(self.session.receive([written(frame)], self.now, self.time))

    def waits(self, seconds: float, *, hearing: bytes | None = None) -> list[AnyEvent]:
        """Let time pass, meeting every deadline on the way.

        Args:
            seconds: how long.
            hearing: a frame that arrives every five seconds meanwhile.
        """
        until, events = self.now + seconds, list[AnyEvent]()
        frame_at, deadline = self.now + 5, self.session.next_deadline()
        while True:
            soonest = min(until, frame_at if hearing is not None else until, deadline or until)
            self.now = max(self.now, soonest)
            if hearing is not None and self.now >= frame_at:
                frame_at += 5
                events += self.hears(hearing)
                deadline = self.session.next_deadline()
            elif deadline is not None and deadline <= self.now:
                events += self.published(self.session.handle_deadline(self.now, self.time))
                deadline = self.session.next_deadline()
                assert deadline is None or deadline > self.now, "a deadline was left behind"
            elif self.now >= until:
                return events

    def witnesses(self, asset: str, at: int = 1, **fields: Any) -> list[AnyEvent]:
        """Hear over REST what the book is."""
        (event,) = decode("market", json.dumps([book(asset, at) | fields]))
        assert isinstance(event, Book)
        return self.published(self.session.witnessed(asset, event, self.now, self.time))

    # --- what comes of it --------------------------------------------------------------------------

    def says(self) -> list[Any]:
        """What was said to the venue since the last look: words as text, messages as what they mean."""
        return [
            json.loads(message) if message.startswith("{") else message
            for message in self.session.data_to_send()
        ]

    def asks(self) -> list[tuple[str, list[str]]]:
        """The same without words: the operation (`opening` for the first message) and the ids of each message."""
        return [
            (message.get("operation", "opening"), message["assets_ids"])
            for message in self.says()
            if message != "PING"
        ]

    def tells(self) -> list[Signal]:
        """The signals since the last look."""
        return self.session.take_signals()

    def said(self, publications: list[Publication]) -> None:
        """Check what came of asking; the tests that care look at the streams."""
        self.published(publications)

    def published(self, publications: list[Publication]) -> list[AnyEvent]:
        """The events of publications, read back as a consumer would; gaps that close are kept apart."""
        events: list[AnyEvent] = []
        for publication in publications:
            event = decode_event(publication.payload)
            assert publication.subject == subject_for(event)
            assert (publication.epoch, publication.seq) == (event.epoch, event.seq)
            assert event.received_time == self.time
            is_closing = isinstance(event, Gap) and event.closed_by is not None
            self.everything.append(event)
            (self.closings if is_closing else events).append(event)
        return events


class FeedConversation(Conversation):
    """The same over any feed, as a connection holds it: one dialect and one cargo through all sockets.

    Args:
        feed: its name.
        remembered: as above.
        prices: the streams of prices, if another conversation brings them too.
        settings: of the profile.
    """

    def __init__(
        self,
        feed: str,
        *,
        remembered: bool = False,
        prices: dict[str, Stream] | None = None,
        **settings: Any,
    ) -> None:
        self.feed = feed
        self.remembered = remembered
        self.profile = msgspec.structs.replace(PROFILES[feed], **settings)
        self.dialect = DIALECTS[feed].spoken(self.profile, "main", Credentials("key", "secret", "phrase"))
        self.cargo = Cargo(self.dialect, self._open_stream)
        self.prices = {} if prices is None else prices
        self.commons = Commons(feed)
        self.directory = MarketDirectory()
        self.everything, self.closings, self.checks = [], [], Counter()
        self.ledger = GapLedger()
        self.now = 0.0
        self.incarnation = 0
        self.reconnects()

    def _open_stream(self, wanted: Collection[str], event: Event) -> Stream:
        assert wanted
        assert set(wanted) <= set(self.cargo.keys)
        if event.family != "price":
            return self._new_stream(event)
        key = stream_key("price", *ids_of(event))
        if key not in self.prices:
            self.prices[key] = self._new_stream(event)
        return self.prices[key]

    def _new_stream(self, event: Event) -> Stream:
        return Stream(self.feed, event.family, ids_of(event), remembered=self.remembered, ledger=self.ledger)

    def reconnects(self) -> None:
        """Go on with a new session over the same cargo, and ask for all of it."""
        self.incarnation += 1
        name = f"gw-{self.feed}-1#{self.incarnation}"
        session = Session(
            self.profile, self.dialect, name, self.commons, self.directory, self.now, self.cargo
        )
        self.session, self.streams = session, self.cargo.streams
        self.said(session.resume(self.now, self.time))

    def wants(self, *keys: str) -> None:
        """Subscribe, now or with the next socket; the streams come with the first events."""
        self.said(self.session.subscribe([(key, None) for key in keys], self.now, self.time))
        self.cargo.take(dict.fromkeys(keys))

    def drops(self, *keys: str) -> list[AnyEvent]:
        """Unsubscribe; streams that nobody wants any more say so."""
        gaps = [
            gap for stream in self.cargo.leaving(keys) for gap in stream.interrupt("unsubscribed", self.time)
        ]
        self.session.unsubscribe(keys)
        self.cargo.leave(keys)
        return self.published(gaps)


def opened(*keys: str, **settings: Any) -> Conversation:
    """A conversation in which these keys are carried and the opening message is out of the way."""
    talk = Conversation(**settings)
    talk.wants(*keys)
    talk.says()
    return talk


def live(*keys: str, **settings: Any) -> Conversation:
    """A conversation in which all these keys have had their snapshot."""
    talk = opened(*keys, **settings)
    talk.hears([book(key) for key in keys if key != VENUE])
    talk.tells()
    return talk


def written(frame: bytes | str | dict[str, Any] | list[Any]) -> bytes:
    """A frame as it comes from the socket."""
    if isinstance(frame, bytes):
        return frame
    return (frame if isinstance(frame, str) else json.dumps(frame, separators=(",", ":"))).encode()


def book(asset: str, at: int = 1) -> dict[str, Any]:
    """A snapshot: a bid of the market's first asset, which is an ask of its second."""
    bids, asks = (
        ([{"price": "0.4", "size": "10"}], []) if asset in FIRST else ([], [{"price": "0.6", "size": "10"}])
    )
    stamps = {"timestamp": str(START * 1000 + at), "hash": f"{at:040x}"}
    return {
        "market": MARKET_OF[asset],
        "asset_id": asset,
        "bids": bids,
        "asks": asks,
        **stamps,
        "event_type": "book",
    }


def price_change(*assets: str, at: int = 1) -> dict[str, Any]:
    """Changed levels of assets of one market."""
    changes = [
        {"asset_id": asset, "size": "7", "hash": f"{at:040x}"}
        | ({"price": "0.4", "side": "BUY"} if asset in FIRST else {"price": "0.6", "side": "SELL"})
        for asset in assets
    ]
    stamp = str(START * 1000 + at)
    market = MARKET_OF[assets[0]]
    return {"market": market, "price_changes": changes, "timestamp": stamp, "event_type": "price_change"}


def trade(asset: str) -> dict[str, Any]:
    """A trade printed, in the form without a transaction hash."""
    what = {"price": "0.4", "size": "3", "side": "BUY", "timestamp": str(START * 1000)}
    return {"market": MARKET_OF[asset], "asset_id": asset, **what, "event_type": "last_trade_price"}


def tick_size_change(asset: str) -> dict[str, Any]:
    """A finer price grid."""
    sizes = {"old_tick_size": "0.01", "new_tick_size": "0.001"}
    return {"event_type": "tick_size_change", "market": MARKET_OF[asset], "asset_id": asset, **sizes}


def new_market(market: str, at: int = 1) -> dict[str, Any]:
    """A market was created."""
    return {
        "event_type": "new_market",
        "market": market,
        "assets_ids": ["7" * 30],
        "timestamp": str(START * 1000 + at),
    }


def outline(events: list[AnyEvent]) -> list[str]:
    """What happened, without the particulars: a gap by its reason, anything else by its type."""
    return [f"gap: {event.reason}" if isinstance(event, Gap) else type(event).__name__ for event in events]


def gaps_of(events: list[AnyEvent]) -> list[str]:
    """The subjects of the gaps, with their reasons."""
    return [
        f"{subject_for(event).removeprefix('polymarket.v1.')}: {event.reason}"
        for event in events
        if isinstance(event, Gap)
    ]
