"""One side of one market's book: its orders, its levels and their text on the wire.

A binary market has one book seen from two sides: a bid at p on one token is an ask at 1 - p on the other,
with the same size.  So each level is kept once and written twice, and the two texts lie in the same order,
because what is worst for one token is worst for the other.

Prices are ints of 1e-4 dollars, sizes ints of 1e-6 shares: the finest steps the venue uses.
"""

from bisect import bisect_left
from functools import cache

import msgspec

from polybus_services.simulator.facts import Side

PRICE_ONE = 10_000
"""One dollar, what a winning share pays.  The venue's finest tick is 0.0001."""

SIZE_ONE = 1_000_000
"""One share.  Shares and dollars have six decimals on the chain."""


@cache  # at most PRICE_ONE + 1 entries
def price_text(price: int) -> str:
    """A price as the venue writes it, without trailing zeros: "0.5", "0.001"; "0" and "1" at the ends."""
    return decimal_text(price, 4)


def size_text(size: int) -> str:
    """A size as the venue writes it, without trailing zeros: "30", "16.3"."""
    return decimal_text(size, 6)


def decimal_text(value: int, places: int) -> str:
    """A scaled int as a plain decimal, without trailing zeros."""
    whole, fraction = divmod(value, 10**places)
    return f"{whole}.{fraction:0{places}d}".rstrip("0") if fraction else str(whole)


class Order(msgspec.Struct, gc=False):
    """A limit order, on the first token's book."""

    id: int
    price: int
    """As the first token sees it."""
    remaining: int
    size: int
    """As it was placed."""
    outcome: int
    """0 or 1: the token it was placed for; `side` is as that token sees it."""
    side: Side
    placed_ms: int

    def sees(self, price: int) -> int:
        """A price of the first token, as this order's own token sees it."""
        return price if self.outcome == 0 else PRICE_ONE - price


class Ladder:
    """The bids or the asks of a market, as seen from its first token.

    `direction` is 1 for bids and -1 for asks: price * direction rises from the worst level to the best.
    """

    def __init__(self, direction: int) -> None:
        self.direction = direction
        self.sizes: list[int] = []
        """Total size of each level, worst to best."""
        self.texts: tuple[list[str], list[str]] = ([], [])
        """Each level's JSON, worst to best, as the first and as the second token show it."""
        self._keys: list[int] = []
        self._orders: dict[int, dict[int, Order]] = {}
        # Orders of a price in the order they came, which is the order they are filled in.

    def __len__(self) -> int:
        return len(self._keys)

    def prices(self) -> list[int]:
        """The first token's prices, worst to best."""
        return [key * self.direction for key in self._keys]

    def best(self) -> int | None:
        """The best price; None for an empty side."""
        return self._keys[-1] * self.direction if self._keys else None

    def has(self, price: int) -> bool:
        """Whether anything rests at a price."""
        return price in self._orders

    def size_at(self, price: int) -> int:
        """The total size resting at a price; 0 where there is no level."""
        return self.sizes[bisect_left(self._keys, price * self.direction)] if price in self._orders else 0

    def price_at(self, index: int) -> int:
        """The price of the level at `index`, counted from the worst."""
        return self._keys[index] * self.direction

    def orders_at(self, price: int) -> list[Order]:
        """The orders of a level, oldest first."""
        return list(self._orders.get(price, {}).values())

    def add(self, order: Order) -> None:
        """Let an order rest behind those of its price."""
        key = order.price * self.direction
        index = bisect_left(self._keys, key)
        if order.price not in self._orders:
            self._keys.insert(index, key)
            self.sizes.insert(index, 0)
            for texts in self.texts:
                texts.insert(index, "")
            self._orders[order.price] = {}
        self._orders[order.price][order.id] = order
        self._resize(index, order.price, order.remaining)

    def take(self, order: Order, size: int) -> None:
        """Take `size` away from a resting order, and the order with its last share."""
        order.remaining -= size
        if not order.remaining:
            del self._orders[order.price][order.id]
        self._resize(bisect_left(self._keys, order.price * self.direction), order.price, -size)

    def _resize(self, index: int, price: int, change: int) -> None:
        size = self.sizes[index] + change
        if size:
            self.sizes[index] = size
            text = size_text(size)
            self.texts[0][index] = f'{{"price":"{price_text(price)}","size":"{text}"}}'
            self.texts[1][index] = f'{{"price":"{price_text(PRICE_ONE - price)}","size":"{text}"}}'
            return
        del self._keys[index], self.sizes[index], self._orders[price]
        for texts in self.texts:
            del texts[index]
