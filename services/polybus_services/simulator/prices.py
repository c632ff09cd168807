"""Reference prices: a walk per symbol, a step a second, and exchanges that open and close.

There is one price per symbol, whichever feed and source tells it, so that what two feeds say can be compared.
"""

import random
from collections import deque
from collections.abc import Iterator
from itertools import islice

from polybus_services.simulator.facts import Price, PriceMoved

PRICE_PLACES = 8
"""Prices are ints of 1e-8 dollars: what PolyBolt's samples show."""

HISTORY_S = 120
"""PolyBolt's snapshots hold up to two minutes, at a price a second."""

CRYPTO = {
    "btc": 64_123_50000000,
    "eth": 3_456_78000000,
    "sol": 189_55000000,
    "xrp": 2_41370000,
    "doge": 19482000,
    "bnb": 712_30000000,
    "hype": 38_12500000,
    "zec": 51_87000000,
}
"""The eight pairs that the Chainlink topic was seen to deliver, and where their walks begin."""

EQUITIES = {"aapl": 198_45230000, "nvda": 238_10400000, "tsla": 331_02750000, "xauusd": 2_175_30120000}

STEP_SHARE = 0.0002
"""Standard deviation of a step, as a share of the price."""

CLOSING_CHANCE = 1 / 300
"""Per second and exchange; a simulated day lasts minutes, so that a short run sees the change."""


class PriceSeries:
    """One symbol's prices."""

    def __init__(self, class_: str, base: str, value: int, now_ms: int) -> None:
        self.class_ = class_
        """`crypto` or `equity`."""
        self.base = base
        """Without the currency: `btc`; for equities the whole symbol."""
        self.open = True
        """Whether its exchange is; crypto never closes."""
        self.history = deque([Price(now_ms, value)], maxlen=HISTORY_S)

    @property
    def symbol(self) -> str:
        """As PolyBolt spells it: `btcusd`, `aapl`."""
        return f"{self.base}usd" if self.class_ == "crypto" else self.base

    @property
    def last(self) -> Price:
        """The newest price."""
        return self.history[-1]

    def average(self, window_s: int) -> int:
        """The mean of the last so many seconds, or of what there is."""
        count = min(window_s, len(self.history))
        return sum(price.value for price in islice(reversed(self.history), count)) // count

    def move(self, value: int, now_ms: int) -> None:
        """The next price.  Its time is after the last one's, however fast seconds are made to pass."""
        self.history.append(Price(max(now_ms, self.last.time_ms + 1), max(value, 1)))


class Prices:
    """All symbols.

    Args:
        seed: of the walks.
        now_ms: when they begin; a minute of history is there already.
    """

    def __init__(self, seed: int, now_ms: int) -> None:
        self._random = random.Random(f"prices {seed}")
        begin_ms = now_ms - 60_000
        self.series = {
            (class_, series.symbol): series
            for class_, values in (("crypto", CRYPTO), ("equity", EQUITIES))
            for base, value in values.items()
            for series in [PriceSeries(class_, base, value, begin_ms)]
        }
        """By class and PolyBolt's symbol."""
        for second in range(1, 60):
            for series in self.series.values():
                self._walk(series, begin_ms + second * 1_000)

    def tick(self, now_ms: int) -> Iterator[PriceMoved]:
        """Let a second pass."""
        for series in self.series.values():
            if series.class_ == "equity" and self._random.random() < CLOSING_CHANCE:
                series.open = not series.open
                yield PriceMoved(series, now_ms, carried_forward=True)
            elif series.open:
                self._walk(series, now_ms)
                yield PriceMoved(series, now_ms)

    def _walk(self, series: PriceSeries, now_ms: int) -> None:
        last = series.last.value
        series.move(last + int(last * self._random.gauss(0.0, STEP_SHARE)), now_ms)
