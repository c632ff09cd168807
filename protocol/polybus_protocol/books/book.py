"""The order book of one asset: levels from snapshots and deltas, exact, best first.

The gateway keeps one per asset to check the stream against itself, and a consumer can keep the same one:
feed it the asset's events in order, `gap` included, and it is `None`-like, that is not `is_live`, exactly
while nothing may be believed.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import starmap
from math import inf
from typing import Never

import msgspec

from ..events import Book, Event, Gap, Level, PriceChange, TickSizeChange
from .side import Asks, BadLevel, Bids, has_shares, mirror


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The last snapshot of a book, and what it took the place of, until somebody has tried to prove it."""

    hash: str | None
    source_time: int | None
    bids: dict[str, str]
    """Price -> size, in any order: in order, of twenty thousand assets just asked for, they take twice the memory."""
    asks: dict[str, str]
    told: list[str]
    """Prices at which it was not the book that was there before; none if there was none."""

    def hashed_sides(self) -> tuple[str, str]:
        """See `OrderBook`."""
        bids, asks = Bids(starmap(Level, self.bids.items())), Asks(starmap(Level, self.asks.items()))
        return bids.text(falling=False), asks.text(falling=True)

    def changed_prices(self) -> Iterator[str]:
        """Prices whose levels it changed, as somebody on either outcome would say them."""
        for price in self.told:
            yield price
            yield f"{1 - Decimal(price):f}".rstrip("0")


class OrderBook:
    """See the module.

    Prices and sizes keep the venue's spelling, because its hash is over that.
    """

    __slots__ = (
        "ask_side",
        "bid_side",
        "has_changed",
        "hash",
        "is_live",
        "is_unchecked",
        "is_untold",
        "source_time",
        "stale",
        "top_misses",
        "untried",
    )

    def __init__(self) -> None:
        self.is_live = False
        """Whether a snapshot of this epoch is here."""
        self.has_changed = False
        """Whether it has taken in changes since its last snapshot."""
        self.is_unchecked = False
        """Whether it is another one than was checked last: whoever checks it takes that down."""
        self.is_untold = True
        """The same, of who tells it."""
        self.source_time: int | None = None
        """Milliseconds since the epoch by the venue's clock, of the last event that changed the book."""
        self.hash: str | None = None
        """What the venue says the hash of this very book is, at `source_time`."""
        self.top_misses = 0
        """Updates in a row after which our best prices were not those the venue told with them."""
        self.stale = 0
        """Changes left out because they were older than the snapshot."""
        self.untried: Snapshot | None = None
        """The last snapshot, until somebody has tried to prove it; see `proof`."""
        self.bid_side = Bids()
        self.ask_side = Asks()

    def take(self, event: Event) -> None:
        """Take in an event of the asset's stream; what does not concern the book changes nothing.

        Raises:
            BadLevel: a level cannot be read; the book is empty then, until the next snapshot.
        """
        kind = event.__class__
        if kind is PriceChange:
            self.follow(event)  # type: ignore[arg-type]  # looked at a line above
        elif kind is Book:
            try:
                self._replace(event)  # type: ignore[arg-type]
            except BadLevel:
                self.clear()
                raise
        elif kind is TickSizeChange or (isinstance(event, Gap) and event.closed_by is None):
            self.clear()

    def follow(self, event: PriceChange) -> None:
        """Take in changes: what `take` does with nearly all that comes, without asking what it is.

        Raises:
            BadLevel: see `take`.
        """
        time, changes = event.source_time, event.changes
        if not self.is_live or not changes:
            return
        if time is not None and (taken := self.source_time) is not None and time < taken:
            # What the snapshot already holds must not undo it (undocumented; the cautious reading).
            self.stale += len(changes)
            return
        bids, asks = self.bid_side, self.ask_side
        try:
            for change in changes:
                side, price, size = change.side, change.price, change.size
                levels = bids if side == "BUY" else asks if side == "SELL" else _no_side(side)
                if 0 < float(size) < inf:  # what `has_shares` asks, which only what is odd is handed to
                    if price in levels:
                        levels[price] = size
                    else:
                        levels.add(price, size)
                elif not has_shares(size):
                    levels.remove(price)
            # Which book an entry describes when there are several is not known, so only the last one counts.
            # What is not told cannot be wrong, and 0 and 1 mean that there is none.
            last = changes[-1]
            bid, ask = last.best_bid, last.best_ask
            if (bid is None or bid == bids.best or bids.is_best(bid)) and (
                ask is None or ask == asks.best or asks.is_best(ask)
            ):
                self.top_misses = 0
            else:
                self.top_misses += 1
        except ValueError:
            self.clear()
            for change in changes:
                has_shares(change.size)
            raise
        self.has_changed = self.is_unchecked = self.is_untold = True
        self.source_time = time
        self.hash = last.hash

    def clear(self) -> None:
        """Nothing is known any more."""
        self.is_live = False
        self.is_unchecked = self.is_untold = True
        self.hash = self.source_time = self.untried = None
        self.top_misses = 0
        self.bid_side, self.ask_side = Bids(), Asks()

    def bids(self, depth: int | None = None) -> list[Level]:
        """The bids, best (highest) first.

        Args:
            depth: how many at most; all if None.
        """
        return self.bid_side.levels(falling=True)[:depth]

    def asks(self, depth: int | None = None) -> list[Level]:
        """The asks, best (lowest) first; see `bids`."""
        return self.ask_side.levels(falling=False)[:depth]

    @property
    def best_bid(self) -> Level | None:
        """The highest bid."""
        return self.bid_side.best_level

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        return self.ask_side.best_level

    @property
    def is_crossed(self) -> bool:
        """Whether somebody bids as much as, or more than, somebody else asks.

        Between the messages of one trade that is normal for a moment (poly-websockets issue 25).
        """
        bids, asks = self.bid_side, self.ask_side
        return bool(bids and asks) and float(bids.best) >= float(asks.best)

    def mirrors(self, other: "OrderBook") -> bool:
        """Whether the other is the book of the market's other outcome: a bid at p here is an ask at 1 - p there."""
        return mirror(self.bid_side, other.ask_side) and mirror(other.bid_side, self.ask_side)

    def hashed_sides(self) -> tuple[str, str]:
        """Bids and asks as the venue's hash wants them, worst first."""
        return self.bid_side.text(falling=False), self.ask_side.text(falling=True)

    def equals(self, book: Book) -> bool:
        """Whether a snapshot holds just these levels."""
        return self.bid_side.same_as(Bids(book.bids)) and self.ask_side.same_as(Asks(book.asks))

    def _replace(self, book: Book) -> None:
        told: list[str] = []
        if self.bid_side or self.ask_side:
            told = self.bid_side.become(book.bids) + self.ask_side.become(book.asks)
        else:
            self.bid_side, self.ask_side = Bids(book.bids), Asks(book.asks)
        self.is_live = self.is_unchecked = self.is_untold = True
        self.has_changed = False
        self.top_misses = 0
        self.hash, self.source_time = book.hash, book.source_time
        self.untried = Snapshot(book.hash, book.source_time, dict(self.bid_side), dict(self.ask_side), told)


def _no_side(side: str) -> Never:
    raise BadLevel(f"{side[:40]!r} is no side: BUY or SELL")
