"""The manners of `/ws/market`: what the venue does with a client's messages, and who hears of what.

| state | text | answer |
| --- | --- | --- |
| FRESH | `PING` | close 1008 |
| FRESH | the opening message: `{"type": "market", "assets_ids": [...]}` | books; LIVE |
| FRESH | anything else | `INVALID OPERATION` |
| LIVE | `PING` | `PONG` |
| LIVE | `{"operation": "subscribe" or "unsubscribe", "assets_ids": [...]}` | books of the new assets, or nothing |
| LIVE | anything else, an opening message too | `INVALID OPERATION` |

No subscription is ever acknowledged.  Unknown assets are passed over in silence; when none is known, a bare
`[]` comes back.  Sources: polybus's description of the protocol, which names the thread or capture for each.
"""

import enum
from collections.abc import Iterable, Iterator
from typing import assert_never

import msgspec

from polybus_services.simulator import market_frames as frames
from polybus_services.simulator.exchange import Exchange, Market
from polybus_services.simulator.facts import (
    Cancelled,
    Fact,
    Happening,
    MarketCreated,
    MarketResolved,
    Placed,
    TickChanged,
    Traded,
)
from polybus_services.simulator.feeds import Answer, Close, Frame, Manners, Say

PONG = Say("PONG")
INVALID_OPERATION = Say("INVALID OPERATION")
NO_NEW_ASSETS = Say("NO NEW ASSETS")
NOTHING_KNOWN = Say("[]")

EARLY_PING = Close(1008, "invalid subscription payload")
TOO_MANY_IDS = Close(1009, "message too big")


class MarketLimits(msgspec.Struct, frozen=True):
    """Where the venue stops playing along."""

    ids_per_frame: int = 500
    """More asset ids in one message end the connection with 1009: thousands of ids in one frame were cut off
    after a tenth of a second, a hundred at a time went through (rs-clob-client-v2 #116)."""
    snapshots_per_connection: int | None = 500
    """Assets past this number on one connection get no first book, though their events come (nautilus_trader
    #2915); None for no such limit."""
    words_every_facts: int = 5_000
    """How often those with custom features hear `NO NEW ASSETS`, in facts of the exchange."""


class _Request(msgspec.Struct):
    """Either form of message.  Old clients also send `markets` and `auth`, which this channel ignores."""

    assets_ids: list[str]
    type: str = ""
    operation: str = ""
    initial_dump: bool = True
    custom_feature_enabled: bool | None = None


class State(enum.Enum):
    """How far a client has got."""

    FRESH = enum.auto()
    """Connected; the opening message has not come yet."""
    LIVE = enum.auto()
    """Opened, though perhaps for no asset; changes travel as operations."""


class MarketManners(Manners):
    """The venue's side of one connection."""

    def __init__(self, feed: "MarketFeed") -> None:
        self.state = State.FRESH
        self.following: dict[str, None] = {}
        self.custom = False
        self._feed = feed

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame; see the table above."""
        if text == "PING":
            return [EARLY_PING] if self.state is State.FRESH else [PONG]
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.DecodeError:
            return [INVALID_OPERATION]
        if len(request.assets_ids) > self._feed.limits.ids_per_frame:
            return [TOO_MANY_IDS]
        match self.state, request:
            case State.FRESH, _Request(type=kind, operation="") if kind.lower() == "market":
                self.state = State.LIVE
                return self._subscribe(request, now_ms)
            case State.LIVE, _Request(operation="subscribe"):
                return self._subscribe(request, now_ms)
            case State.LIVE, _Request(operation="unsubscribe"):
                self._unsubscribe(request.assets_ids)
                return []
            case _:
                return [INVALID_OPERATION]

    def follows(self, subject: str) -> bool:
        """Assets it asked for; and what concerns a whole market comes only to those who are to have it."""
        return subject in self.following or not self._feed.is_asset(subject)

    def leave(self) -> None:
        """The connection is over."""
        self._unsubscribe(list(self.following))
        self._feed.set_custom(self, enabled=False)

    def _subscribe(self, request: _Request, now_ms: int) -> list[Answer]:
        # The flag is taken even from a message whose assets are all followed already.
        if request.custom_feature_enabled is not None:
            self.custom = request.custom_feature_enabled
            self._feed.set_custom(self, enabled=self.custom)
        known = [asset for asset in dict.fromkeys(request.assets_ids) if self._feed.has(asset)]
        added = [asset for asset in known if asset not in self.following]
        for asset in added:
            self.following[asset] = None
            self._feed.follow(self, asset)
        if not request.initial_dump:
            return []
        limit = self._feed.limits.snapshots_per_connection
        if limit is not None:
            # How many of the new ones still fit: the excess is followed, but never gets its first book.
            added = added[: max(limit - (len(self.following) - len(added)), 0)]
        if added:
            return [self._feed.snapshot(added, now_ms)]
        return [NOTHING_KNOWN] if request.assets_ids and not known else []

    def _unsubscribe(self, assets: Iterable[str]) -> None:
        for asset in assets:
            if asset in self.following:
                del self.following[asset]
                self._feed.unfollow(self, asset)


Publication = tuple[Frame | Say, Iterable[MarketManners]]
"""What is said, and to whom."""


class MarketFeed:
    """Facts of the exchange as market frames, and who follows what."""

    name = "market"
    paths: tuple[str, ...] = ("/ws/market",)
    arrays = True

    def __init__(self, exchange: Exchange, limits: MarketLimits) -> None:
        self.limits = limits
        self._exchange = exchange
        # Dicts where sets would do: the order of delivery must not hang on hashes.
        self._followers: dict[str, dict[MarketManners, None]] = {}
        self._custom: dict[MarketManners, None] = {}
        self._facts = 0

    def greet(self, connection: str = "", now_ms: int = 0) -> MarketManners:  # noqa: ARG002 - it is not needed here
        """A client connected."""
        return MarketManners(self)

    def has(self, asset: str) -> bool:
        """Whether the asset can be followed: it exists, and its market is not decided."""
        found = self._exchange.assets.get(asset)
        return found is not None and not found[0].resolved

    def is_asset(self, subject: str) -> bool:
        """Whether this names an asset, and not a market."""
        return subject in self._exchange.assets

    def follow(self, manners: MarketManners, asset: str) -> None:
        """Publish to this client what happens to the asset."""
        self._followers.setdefault(asset, {})[manners] = None

    def unfollow(self, manners: MarketManners, asset: str) -> None:
        """Publish no more to it."""
        del self._followers[asset][manners]

    def set_custom(self, manners: MarketManners, *, enabled: bool) -> None:
        """Whether this client has the extra events."""
        if enabled:
            self._custom[manners] = None
        else:
            self._custom.pop(manners, None)

    def snapshot(self, assets: list[str], now_ms: int) -> Frame:
        """The books of these assets as they are now."""
        return frames.snapshot([self._exchange.assets[asset] for asset in assets], now_ms)

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say a fact of the exchange.  Nothing is written for which there is no reader."""
        if isinstance(happening, Fact):
            yield from self._publish_fact(happening)

    def _publish_fact(self, fact: Fact) -> Iterator[Publication]:
        match fact:
            case Placed() | Cancelled():
                yield from self._level_changed(fact)
            case Traded():
                yield from self._traded(fact)
            case TickChanged():
                yield from self._tick_changed(fact)
            case MarketCreated():
                # To all who asked for the extra events, whatever assets they follow.
                if self._custom:
                    yield frames.new_market(fact), self._custom
            case MarketResolved():
                if readers := self._with_custom(self._of_either(fact.market)):
                    yield frames.market_resolved(fact), readers
            case _:
                assert_never(fact)
        self._facts += 1
        if self._facts % self.limits.words_every_facts == 0 and self._custom:
            yield NO_NEW_ASSETS, self._custom

    def _level_changed(self, fact: Placed | Cancelled) -> Iterator[Publication]:
        if readers := self._of_either(fact.market):
            yield frames.price_change(fact), readers
        if fact.top_moved:
            yield from self._tops(fact.market, fact.now_ms)

    def _traded(self, fact: Traded) -> Iterator[Publication]:
        """The books come before the trade that made them, as on the venue."""
        yield from self._books(fact.market, fact.now_ms)
        if readers := self._of(fact.market, fact.outcome):
            yield frames.last_trade_price(fact), readers
        if fact.top_moved:
            yield from self._tops(fact.market, fact.now_ms)

    def _tick_changed(self, fact: TickChanged) -> Iterator[Publication]:
        for outcome in (0, 1):
            if readers := self._of(fact.market, outcome):
                yield frames.tick_size_change(fact, outcome), readers
        yield from self._books(fact.market, fact.now_ms)

    def _books(self, market: Market, now_ms: int) -> Iterator[Publication]:
        for outcome in (0, 1):
            if readers := self._of(market, outcome):
                yield frames.book(market, outcome, now_ms), readers

    def _tops(self, market: Market, now_ms: int) -> Iterator[Publication]:
        for outcome in (0, 1):
            if self._custom and (readers := self._with_custom(self._of(market, outcome))):
                yield frames.best_bid_ask(market, outcome, now_ms), readers

    def _of(self, market: Market, outcome: int) -> dict[MarketManners, None]:
        return self._followers.get(market.listing.assets[outcome]) or {}

    def _of_either(self, market: Market) -> dict[MarketManners, None]:
        return self._of(market, 0) | self._of(market, 1)

    def _with_custom(self, readers: Iterable[MarketManners]) -> list[MarketManners]:
        return [manners for manners in readers if manners.custom]
