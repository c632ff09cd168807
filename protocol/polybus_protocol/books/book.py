"""The order book of one asset: levels from snapshots and deltas, exact, best first.

The gateway keeps one per asset to check the stream against itself, and a consumer can keep the same one:
feed it the asset's events in order, `gap` included, and it is `None`-like, that is not `is_live`, exactly
while nothing may be believed.
"""

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from typing import Never

import msgspec

from ..events import Book, Event, Gap, Level, PriceChange, TickSizeChange
from .book_hash import level_head

_PRICE = re.compile(r"([0-9]{0,3})(?:\.([0-9]{0,9}))?")

BILLIONTH = 9
"""Digits after the point that a price may have: the finest tick on record has four (changelog of the venue)."""

ONE = 10**BILLIONTH
"""The `price_key` of a dollar, which no share costs."""

KNOWN_PRICES = 20_000
"""Spellings of prices remembered, about 3 MB: all prices of the 0.0001 grid, twice.  When full, it starts over."""

_read_levels = msgspec.json.Decoder(list[Level]).decode
_read_level = msgspec.json.Decoder(Level).decode


class BadLevel(ValueError):
    """A level whose price, size or side cannot be read."""


class _Prices(dict[str, tuple[int, str]]):
    """Price as spelled -> `price_key`, and how the text of a level at that price begins; learned when first asked for."""

    def __missing__(self, price: str) -> tuple[int, str]:
        match = _PRICE.fullmatch(price)
        if match is None or not any(match.groups()):
            raise BadLevel(
                f"{price[:40]!r} is no price: up to three digits, and up to {BILLIONTH} after the point"
            )
        if len(self) >= KNOWN_PRICES:
            self.clear()
        whole, fraction = match.groups()
        key = int(whole or 0) * ONE + int((fraction or "").ljust(BILLIONTH, "0"))
        # All levels of the price share the number, wherever they are.
        self[price] = entry = key, level_head(price)
        return entry


_PRICES = _Prices()


def price_key(price: str) -> int:
    """A price as a whole number of billionths of a dollar: exact, and the same for `.5`, `0.5` and `0.50`.

    Raises:
        BadLevel: it is no price.
    """
    return _PRICES[price][0]


class Side:
    """The levels of one side: each as the text that both JSON and the venue's hash want, and their prices in order.

    One text a level is all that is kept of it, so that a change touches as little memory as can be: with hundreds
    of books the hot path waits for memory more than for anything it computes.
    """

    __slots__ = ("keys", "texts")

    def __init__(self) -> None:
        self.keys: list[int] = []
        """By `price_key`, rising."""
        self.texts: dict[int, str] = {}
        """By the same, the level as `book_hash` writes it."""

    def replace(self, levels: Iterable[Level]) -> None:
        """Forget what there was, and hold these.

        Raises:
            BadLevel: one of them cannot be read.
        """
        texts: dict[int, str] = {}
        for level in levels:
            key, head = _PRICES[level.price]
            if _is_some(level.size):
                texts[key] = f'{head}{level.size}"}}'
        self.texts, self.keys = texts, sorted(texts)

    def text(self, *, falling: bool) -> str:
        """The levels inside the hashed text, see `book_hash.levels_json`."""
        texts = self.texts
        return ",".join([texts[key] for key in (reversed(self.keys) if falling else self.keys)])

    def levels(self, *, falling: bool) -> list[Level]:
        """The levels from the lowest price up, or from the highest down."""
        return _read_levels(f"[{self.text(falling=falling)}]")

    def level(self, at: int) -> Level | None:
        """One level: 0 is that with the lowest price, -1 that with the highest; None if there are none."""
        return _read_level(self.texts[self.keys[at]]) if self.keys else None


class Snapshot(msgspec.Struct, frozen=True, gc=False):
    """The last snapshot of a book, and what it took the place of.

    It is kept as text, until somebody has tried to prove it: as levels, of twenty thousand assets that have just been
    asked for, it would take more memory than the books do.
    """

    hash: str | None
    source_time: int | None
    bids: str
    """As the hash wants them: worst first."""
    asks: str
    bids_before: dict[int, str]
    """The texts of what there was before it, by `price_key`."""
    asks_before: dict[int, str]

    def changed_prices(self) -> Iterator[str]:
        """Prices whose levels it changed, as somebody on either outcome would say them; none if there were none."""
        if not self.bids_before and not self.asks_before:
            return
        for before, levels in ((self.bids_before, self.bids), (self.asks_before, self.asks)):
            after = Side()
            after.replace(_read_levels(f"[{levels}]"))
            for key in before.keys() | after.texts.keys():
                if before.get(key) != (text := after.texts.get(key)):
                    yield _read_level(text or before[key]).price
                    yield f"{ONE - key:0{BILLIONTH + 1}d}"[:-BILLIONTH] + (
                        f".{ONE - key:0{BILLIONTH}d}".rstrip("0")
                    )


class OrderBook:
    """See the module.

    Prices and sizes keep the venue's spelling, because its hash is over that.
    """

    __slots__ = (
        "ask_side",
        "bid_side",
        "hash",
        "is_live",
        "snapshot_version",
        "source_time",
        "stale",
        "top_misses",
        "untried",
        "version",
    )

    def __init__(self) -> None:
        self.is_live = False
        """Whether a snapshot of this epoch is here."""
        self.version = 0
        """Rises with each change."""
        self.snapshot_version = 0
        """The version that its last snapshot made."""
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
        self.bid_side = Side()
        self.ask_side = Side()

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
        bids, asks, prices = self.bid_side, self.ask_side, _PRICES
        try:
            for change in changes:
                side, size = change.side, change.size
                levels = bids if side == "BUY" else asks if side == "SELL" else _no_side(side)
                key, head = prices[change.price]
                if _is_some(size):
                    if key not in levels.texts:
                        insort(levels.keys, key)
                    levels.texts[key] = f'{head}{size}"}}'
                elif levels.texts.pop(key, None) is not None:
                    del levels.keys[bisect_left(levels.keys, key)]
            # Which book an entry describes when there are several is not known, so only the last one counts.
            # What is not told cannot be wrong, and 0 and 1 mean that there is none.
            last = changes[-1]
            if (
                (best := last.best_bid) is None or prices[best][0] == (bids.keys[-1] if bids.keys else 0)
            ) and (
                (best := last.best_ask) is None or prices[best][0] == (asks.keys[0] if asks.keys else ONE)
            ):
                self.top_misses = 0
            else:
                self.top_misses += 1
        except BadLevel:
            self.clear()
            raise
        self.version += 1
        self.source_time = time
        self.hash = last.hash

    def clear(self) -> None:
        """Nothing is known any more."""
        self.is_live = False
        self.version += 1
        self.hash = self.source_time = self.untried = None
        self.top_misses = 0
        self.bid_side, self.ask_side = Side(), Side()

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
        return self.bid_side.level(-1)

    @property
    def best_ask(self) -> Level | None:
        """The lowest ask."""
        return self.ask_side.level(0)

    @property
    def has_changed(self) -> bool:
        """Whether it has taken in changes since its last snapshot."""
        return self.version > self.snapshot_version

    @property
    def is_crossed(self) -> bool:
        """Whether somebody bids as much as, or more than, somebody else asks.

        Between the messages of one trade that is normal for a moment (poly-websockets issue 25).
        """
        bids, asks = self.bid_side.keys, self.ask_side.keys
        return bool(bids and asks) and bids[-1] >= asks[0]

    def mirrors(self, other: "OrderBook") -> bool:
        """Whether the other is the book of the market's other outcome: a bid at p here is an ask at 1 - p there."""
        return _mirror(self.bid_side, other.ask_side) and _mirror(other.bid_side, self.ask_side)

    def hashed_sides(self) -> tuple[str, str]:
        """Bids and asks as the venue's hash wants them, worst first."""
        return self.bid_side.text(falling=False), self.ask_side.text(falling=True)

    def equals(self, book: Book) -> bool:
        """Whether a snapshot holds just these levels."""
        other = OrderBook()
        other.take(book)
        return _sizes(self.bid_side) == _sizes(other.bid_side) and _sizes(self.ask_side) == _sizes(
            other.ask_side
        )

    def _replace(self, book: Book) -> None:
        before = self.bid_side.texts, self.ask_side.texts
        self.bid_side.replace(book.bids)
        self.ask_side.replace(book.asks)
        self.is_live = True
        self.version += 1
        self.snapshot_version = self.version
        self.top_misses = 0
        self.hash, self.source_time = book.hash, book.source_time
        self.untried = Snapshot(book.hash, book.source_time, *self.hashed_sides(), *before)


def _no_side(side: str) -> Never:
    raise BadLevel(f"{side[:40]!r} is no side: BUY or SELL")


def _is_some(size: str) -> bool:
    """Whether a size is more than nothing."""
    # Digits, at most one point: half as long as a regular expression takes, on the hot path.
    digits = size.replace(".", "", 1)
    if not (digits.isdecimal() and digits.isascii()):
        raise BadLevel(f"{size[:40]!r} is no size: digits, and a point")
    return size[0] > "0" or digits.strip("0") != ""


def _plain(size: str) -> str:
    """A size as every spelling of it comes down to."""
    whole, _, fraction = size.partition(".")
    return f"{whole.lstrip('0')}.{fraction.rstrip('0')}"


def _sizes(side: Side) -> dict[int, str]:
    return {key: _plain(level.size) for key, level in zip(side.keys, side.levels(falling=False), strict=True)}


def _mirror(bids: Side, asks: Side) -> bool:
    if [ONE - key for key in reversed(asks.keys)] != bids.keys:
        return False
    pairs = zip(bids.levels(falling=False), asks.levels(falling=True), strict=True)
    return all(bid.size == ask.size or _plain(bid.size) == _plain(ask.size) for bid, ask in pairs)
