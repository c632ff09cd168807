"""What a consumer knows from nothing but the events it received."""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from polybus_protocol.control.replies import StatusReply
from polybus_protocol.events import (
    AnyEvent,
    BestBidAsk,
    Book,
    Gap,
    LastTradePrice,
    MarketResolved,
    PriceChange,
    Unknown,
)
from polybus_services.demo.around import Around, FeedRow, Watcher, feed_of
from polybus_services.order import Follower, Jump

RATE_OVER_S = 1.0
"""Seconds over which events are counted for a rate."""

TICK = "tick_size_change"
"""The reason of gaps that mark no loss: the venue changed the price grid, and a fresh book follows."""


class MarketRow(msgspec.Struct):
    """One market as it looks now, by its first outcome."""

    market: str
    asset: str
    best_bid: str | None = None
    best_ask: str | None = None
    last_trade: str | None = None
    events: int = 0
    """Of both outcomes."""
    events_per_s: float = 0.0
    trust: str = "waiting"
    """`waiting` for the first book, `live`, `gap` until the next book, or `resolved`."""


class Snapshot(msgspec.Struct, tag="snapshot"):
    """The whole picture at one moment."""

    seconds: float
    """Since the subscription."""
    processes: dict[str, dict[str, object]]
    """What runs where: name to `pid` and `url`."""
    feeds: list[FeedRow]
    markets: list[MarketRow]
    around: Around
    events_received: int
    events_per_s: float
    gaps: int
    jumps: int
    status: StatusReply | None
    """What the gateway says of itself; None if it has not answered."""


class Picture:
    """Takes in events, in order; tells how things stand.

    Args:
        markets: condition ids to the token ids of their outcomes; others are only counted.
        now: seconds on any steady clock.
        feeds: those that are expected; others are added when they come.
    """

    def __init__(
        self, markets: Mapping[str, Iterable[str]], now: float, feeds: Iterable[str] = ("market",)
    ) -> None:
        self.follower = Follower()
        self.feeds = {feed: FeedRow(feed) for feed in feeds}
        self.unknown = 0
        """Events of the venue that the gateway could not read, and passed on as they were."""
        self.around = Watcher()
        self.jumps: list[Jump] = []
        """The first few, to be told."""
        self.gaps = Counter[tuple[str, str]]()
        """By feed and reason."""
        self.rows: dict[str, MarketRow] = {}
        self._rows_by_asset: dict[str, MarketRow] = {}
        self._trust: dict[str, str] = {}
        for market, assets in markets.items():
            first, *_ = both = list(assets)
            row = self.rows[market] = MarketRow(market, first)
            self._rows_by_asset |= dict.fromkeys(both, row)
        self._counted_at = now
        self._counted: dict[str, int] = {}
        self.events_per_s = 0.0

    def see(self, subject: str, event: AnyEvent) -> None:
        """Take in the next event."""
        jump = self.follower.see(subject, event)
        if jump is not None and len(self.jumps) < 10:
            self.jumps.append(jump)
        feed = feed_of(event)
        if feed is None:
            return
        row_of_feed = self.feeds.setdefault(feed, FeedRow(feed))
        if isinstance(event, Unknown):
            self.unknown += 1
            return
        if isinstance(event, Gap):
            opens = event.closed_by is None
            row_of_feed.gaps += opens
            self.gaps[feed, event.reason] += opens
        else:
            row_of_feed.events += 1
        if feed == "market":
            self._see_market(event)
        else:
            self.around.see(event)

    def _see_market(self, event: AnyEvent) -> None:
        if isinstance(event, MarketResolved) and event.market in self.rows:
            self.rows[event.market].events += 1
            self._trust |= dict.fromkeys(event.assets_ids, "resolved")
        about: str | None = getattr(event, "asset", None)
        row = self._rows_by_asset.get(about or "")
        if row is None or about is None:
            return
        self._note_trust(about, event)
        row.events += not isinstance(event, Gap)
        if about == row.asset:
            _note_prices(row, event)

    def _note_trust(self, asset: str, event: AnyEvent) -> None:
        if self._trust.get(asset) == "resolved":
            return
        if isinstance(event, Gap):
            self._trust[asset] = "gap" if event.closed_by is None else "live"
        elif isinstance(event, Book):
            self._trust[asset] = "live"

    def count(self, now: float) -> None:
        """Bring the rates and trust states up to date.

        Args:
            now: on the clock of the constructor.
        """
        trust: dict[str, set[str]] = {}
        for asset, row in self._rows_by_asset.items():
            trust.setdefault(row.market, set()).add(self._trust.get(asset, "waiting"))
        for row in self.rows.values():
            # A market is as good as the worse of its outcomes.
            row.trust = next(
                state for state in ("gap", "waiting", "resolved", "live") if state in trust[row.market]
            )
        passed = now - self._counted_at
        if passed < RATE_OVER_S:
            return
        counted: list[tuple[str, MarketRow | FeedRow]] = [*self.rows.items(), *self.feeds.items()]
        for name, one in counted:
            one.events_per_s = round((one.events - self._counted.get(name, 0)) / passed, 1)
            self._counted[name] = one.events
        self.events_per_s = round((self.events - self._counted.get("", 0)) / passed, 1)
        self._counted[""] = self.events
        self.around.count(passed)
        self._counted_at = now

    @property
    def events(self) -> int:
        """Events received, gaps and what could not be read apart."""
        return sum(row.events for row in self.feeds.values())

    def lossy_gaps(self, feed: str | None = None) -> int:
        """Gaps of a feed, or of all, that may stand for lost events."""
        return sum(
            count for (of, reason), count in self.gaps.items() if reason != TICK and feed in (None, of)
        )


def _note_prices(row: MarketRow, event: AnyEvent) -> None:
    match event:
        case Book(bids=bids, asks=asks):
            row.best_bid = bids[0].price if bids else None
            row.best_ask = asks[0].price if asks else None
            row.last_trade = event.last_trade_price or row.last_trade
        case PriceChange(changes=[*_, change]):
            row.best_bid, row.best_ask = change.best_bid, change.best_ask
        case BestBidAsk():
            row.best_bid, row.best_ask = event.best_bid, event.best_ask
        case LastTradePrice():
            row.last_trade = event.price
        case _:
            pass
