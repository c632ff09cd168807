"""Proving a book by the venue's hash, with what is known of the market it belongs to.

Three of the hash's inputs are not on the wire with every message, and the price of the last trade is spelled
inconsistently, so a proof tries what they may be.  A match proves the book.  No match means something only
where every input was proved before, and is still known: the last snapshot, which is right by itself, could be proved.
"""

import enum
from collections.abc import Iterable, Iterator
from itertools import chain, islice

from ..events import Book, Event, LastTradePrice, TickSizeChange
from .book import OrderBook, Snapshot
from .book_hash import hash_of_json

MIN_ORDER_SIZES = ("5", "15", "1")
"""Smallest order, in shares, as the venue's markets have it; tried until one is proved (REST `GET /book`)."""

PATIENCE = 8
"""Proofs in a row that may fail before the guessing of what was never proved pauses for `PAUSE` of them."""

PAUSE = 32
"""A market whose inputs we cannot guess costs a full round of guesses only every so many times."""

MOST_PRICES = 12
"""Prices that a snapshot after a trade may have changed and that are tried as that of the trade: six levels, each as
both outcomes say it.  Most trades touch one."""


class Verdict(enum.Enum):
    """What a hash says of a book."""

    PROVED = "proved"
    UNKNOWN = "unknown"
    MISMATCH = "mismatch"


class MarketFacts:
    """What the hashes of both books of a market need and few messages tell."""

    __slots__ = ("_failures", "certain", "last_trades", "min_order_size", "neg_risk", "tick_size")

    def __init__(self) -> None:
        self.tick_size: str | None = None
        self.min_order_size: str | None = None
        self.neg_risk: bool | None = None
        self.last_trades: tuple[str, ...] = ()
        """What the last trade's price may be, the likeliest first; the venue means the market's, not the asset's."""
        self.certain = False
        """Whether all of these were shown to be right, the last time there was a snapshot to show it."""
        self._failures = 0

    def learn(self, event: Event) -> None:
        """Take in what an event of one of the market's assets tells."""
        kind = event.__class__
        if kind is Book:
            assert isinstance(event, Book)
            self.tick_size = event.tick_size or self.tick_size
            self.min_order_size = event.min_order_size or self.min_order_size
            self.neg_risk = self.neg_risk if event.neg_risk is None else event.neg_risk
            if event.tick_size is not None:
                self._trade(event.last_trade_price or "")
                self._failures = 0
        elif kind is LastTradePrice:
            assert isinstance(event, LastTradePrice)
            self._trade(event.price)
        elif kind is TickSizeChange:
            assert isinstance(event, TickSizeChange)
            self.tick_size = event.new_tick_size
            self.certain = False

    def prove(self, market: str, asset: str, book: OrderBook) -> Verdict:
        """Whether a book is what the venue's hash says."""
        if book.hash is None or book.source_time is None or self.tick_size is None:
            return Verdict.UNKNOWN
        if not self.certain and self._failures > PATIENCE and self._failures % PAUSE:
            self._failures += 1
            return Verdict.UNKNOWN
        untried, book.untried = book.untried, None
        of_now = book.hash, book.source_time, *book.hashed_sides()
        if self._holds(market, asset, *of_now) or self._try(market, asset, *of_now):
            return Verdict.PROVED
        if untried is not None:
            # It is right by itself, so it tells whether it is an input that we have wrong.
            self.certain = self._try_snapshot(market, asset, untried)
            if self.certain and (not book.has_changed or self._try(market, asset, *of_now)):
                return Verdict.PROVED
        return Verdict.MISMATCH if self.certain else Verdict.UNKNOWN

    def _holds(self, market: str, asset: str, hash_: str, source_time: int, bids: str, asks: str) -> bool:
        """Whether it is proved by what proved the market's last book; guessing costs as much again."""
        if not self.certain or self.min_order_size is None or self.neg_risk is None:
            return False
        assert self.tick_size is not None
        return hash_ == hash_of_json(
            market,
            asset,
            str(source_time),
            bids,
            asks,
            min_order_size=self.min_order_size,
            tick_size=self.tick_size,
            neg_risk=self.neg_risk,
            last_trade_price=self.last_trades[0] if self.last_trades else "",
        )

    def _try_snapshot(self, market: str, asset: str, snapshot: Snapshot) -> bool:
        """Whether a snapshot, which changes may have followed by now, can be proved."""
        if snapshot.hash is None or snapshot.source_time is None:
            return False
        return self._try(
            market,
            asset,
            snapshot.hash,
            snapshot.source_time,
            *snapshot.hashed_sides(),
            snapshot.changed_prices(),
        )

    def _try(
        self,
        market: str,
        asset: str,
        hash_: str,
        source_time: int,
        bids: str,
        asks: str,
        more_trades: Iterable[str] = (),
    ) -> bool:
        """Whether these levels, worst first, have this hash with anything that the other inputs may be."""
        assert self.tick_size is not None
        time = str(source_time)
        for min_order_size, neg_risk, last_trade in self._guesses(more_trades):
            if hash_ == hash_of_json(
                market,
                asset,
                time,
                bids,
                asks,
                min_order_size=min_order_size,
                tick_size=self.tick_size,
                neg_risk=neg_risk,
                last_trade_price=last_trade,
            ):
                self.min_order_size, self.neg_risk, self.certain = min_order_size, neg_risk, True
                self._trade(last_trade)
                self._failures = 0
                return True
        self._failures += 1
        return False

    def _trade(self, price: str) -> None:
        self.last_trades = (price, *(each for each in self.last_trades if each != price))[:3]

    def _guesses(self, more_trades: Iterable[str]) -> Iterator[tuple[str, bool, str]]:
        sizes = MIN_ORDER_SIZES if self.min_order_size is None else (self.min_order_size,)
        risks = (False, True) if self.neg_risk is None else (self.neg_risk,)
        trades = chain(self.last_trades, islice(more_trades, MOST_PRICES))
        tried = set[str]()
        for price in (spelled for each in trades for spelled in _spellings(each)):
            if price in tried:
                continue
            tried.add(price)
            for size in sizes:
                for risk in risks:
                    yield size, risk, price


def _spellings(price: str) -> tuple[str, ...]:
    """How the venue may have written a price: as told, trimmed, or padded to three decimals."""
    if not price:
        return ("",)
    whole, _, fraction = price.partition(".")
    short = fraction.rstrip("0")
    return price, f"{whole}.{short}" if short else whole, f"{whole}.{short.ljust(3, '0')}"
