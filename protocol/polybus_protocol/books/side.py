"""One side of an order book: what rests at each price, and the prices in order.

The hot path waits for memory more than for anything it computes, since hundreds of books do not fit the processor's
caches.  So a side is a dict itself, of the very texts that the venue sent, and a change of a level that is there
already, which most are, touches nothing else.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from math import inf, nan
from typing import ClassVar

from ..events import Level
from .book_hash import levels_json

BILLIONTH = 9
"""Digits after the point that a price may have: the finest tick on record has four (changelog of the venue)."""

_PRICE = re.compile(rf"(?=\.?[0-9])[0-9]{{0,3}}(\.[0-9]{{0,{BILLIONTH}}})?")
"""Twelve digits at most, so that `float` tells any two prices apart, and knows any spelling of one: `.5` and `0.50`."""

KNOWN_PRICES = 20_000
"""Spellings of prices remembered, about 2 MB: all prices of the 0.0001 grid, twice.  When full, it starts over."""

HALF_BILLIONTH = 0.5e-9
"""Dollars.  What is off by less is rounding."""


class BadLevel(ValueError):
    """A level whose price, size or side cannot be read."""


class _Prices(dict[str, tuple[float, str]]):
    """Price as spelled -> its value in dollars, and the one text that all books share; learned when first asked for."""

    def __missing__(self, price: str) -> tuple[float, str]:
        if _PRICE.fullmatch(price) is None:
            raise BadLevel(
                f"{price[:40]!r} is no price: up to three digits, and up to {BILLIONTH} after the point"
            )
        if len(self) >= KNOWN_PRICES:
            self.clear()
        self[price] = entry = float(price), price
        return entry


_PRICES = _Prices()


class Side(dict[str, str]):
    """Price -> size, in shares, both as the venue spells them, because its hash is over that; no size is nothing.

    One price has one level, whatever its spelling: the latest counts.

    Args:
        levels: in any order.

    Raises:
        BadLevel: one of them cannot be read.
    """

    __slots__ = ("best", "dollars", "prices")

    END: ClassVar[int]
    """Where the best price is among the rising ones."""
    NOBODY: ClassVar[str]
    """The best price where there are no levels, as the venue tells it."""

    def __init__(self, levels: Iterable[Level] = ()) -> None:
        super().__init__()
        self._fill(levels)

    def _fill(self, levels: Iterable[Level]) -> None:
        sizes: dict[str, str] = {}
        prices: dict[float, str] = {}
        for level in levels:
            if has_shares(level.size):
                value, price = _PRICES[level.price]
                sizes[price], prices[value] = level.size, price
        self.update(sizes)
        self.dollars = sorted(prices)
        """What the prices come to, from the lowest up."""
        self.prices = [prices[value] for value in self.dollars]
        """The keys, in the same order."""
        self.best = self.prices[self.END] if prices else self.NOBODY
        """The best price, or `NOBODY`."""
        if len(prices) < len(sizes):  # spelled in two ways
            for price in sizes.keys() - self.prices:
                del self[price]

    def become(self, levels: Sequence[Level]) -> list[str]:
        """Hold these levels and no others; where nearly all are there already, sooner than a new side would be made.

        Args:
            levels: see the class.

        Returns:
            The prices at which something changed.

        Raises:
            BadLevel: one of them cannot be read; what is held then is of no use.
        """
        told = {level.price: level.size for level in levels}
        if told == self:
            return []
        news = [price for price, size in told.items() if self.get(price) != size]
        for price in news:
            if has_shares(told[price]):
                self.add(price, told[price])
            else:
                self.remove(price)
        gone = self.keys() - told.keys()
        for price in gone:
            self.remove(price)
        if len(self) != len(told):  # some are nothing, or spelled in two ways
            self.clear()
            self._fill(levels)
        return [*news, *gone]

    def add(self, price: str, size: str) -> None:
        """Set a level that may not be there yet, or be spelled in another way.

        Args:
            price: see the class.
            size: more than nothing.

        Raises:
            BadLevel: it is no price.
        """
        value, price = _PRICES[price]
        dollars, prices = self.dollars, self.prices
        at = bisect_left(dollars, value)
        if at == len(dollars) or dollars[at] != value:
            dollars.insert(at, value)
            prices.insert(at, price)
        elif prices[at] != price:
            del self[prices[at]]
            prices[at] = price
        self[price] = size
        self.best = prices[self.END]

    def remove(self, price: str) -> None:
        """Take a level away, if it is there.

        Raises:
            BadLevel: it is no price.
        """
        value = _PRICES[price][0]
        dollars, prices = self.dollars, self.prices
        at = bisect_left(dollars, value)
        if at < len(dollars) and dollars[at] == value:
            del self[prices[at]], dollars[at], prices[at]
            self.best = prices[self.END] if prices else self.NOBODY

    def is_best(self, price: str) -> bool:
        """Whether this is the best price, however it is spelled.

        Raises:
            BadLevel: it is no price.
        """
        return _PRICES[price][0] == float(self.best)

    def text(self, *, falling: bool) -> str:
        """The levels inside the hashed text, see `book_hash.levels_json`."""
        prices = self.prices[::-1] if falling else self.prices
        return levels_json(zip(prices, map(self.__getitem__, prices), strict=True))

    def levels(self, *, falling: bool) -> list[Level]:
        """The levels from the lowest price up, or from the highest down."""
        return [Level(price, self[price]) for price in (reversed(self.prices) if falling else self.prices)]

    @property
    def best_level(self) -> Level | None:
        """The level with the best price; None if there are none."""
        return Level(self.best, self[self.best]) if self else None

    def same_as(self, other: "Side") -> bool:
        """Whether the other has these levels, however they are spelled."""
        return self.dollars == other.dollars and all(
            plain(self[ours]) == plain(other[theirs])
            for ours, theirs in zip(self.prices, other.prices, strict=True)
        )


class Bids(Side):
    """What is bid; the highest price is the best."""

    __slots__ = ()
    END = -1
    NOBODY = "0"


class Asks(Side):
    """What is asked; the lowest price is the best."""

    __slots__ = ()
    END = 0
    NOBODY = "1"


def mirror(bids: Bids, asks: Asks) -> bool:
    """Whether for each bid at p there is an ask at 1 - p, and for each ask a bid, of the same size."""
    return (
        len(bids) == len(asks)
        and all(
            abs(bid + ask - 1) < HALF_BILLIONTH
            for bid, ask in zip(bids.dollars, reversed(asks.dollars), strict=True)
        )
        and all(
            bids[bid] == asks[ask] or plain(bids[bid]) == plain(asks[ask])
            for bid, ask in zip(bids.prices, reversed(asks.prices), strict=True)
        )
    )


def has_shares(size: str) -> bool:
    """Whether a size is more than nothing.

    Raises:
        BadLevel: it is no size.
    """
    try:
        shares = float(size)
    except ValueError:
        shares = nan
    if 0 <= shares < inf:
        return shares > 0
    raise BadLevel(f"{size[:40]!r} is no size: a number of shares, 0 or more")


def plain(size: str) -> str:
    """A size as every spelling of it comes down to."""
    whole, _, fraction = size.partition(".")
    return f"{whole.lstrip('0')}.{fraction.rstrip('0')}"
