"""Proving a book by the venue's hash: vectors of captured frames, and what a mismatch may mean."""

import json
from pathlib import Path
from typing import Any

import pytest

from polybus_protocol.books.book import OrderBook
from polybus_protocol.books.book_hash import book_hash
from polybus_protocol.books.proof import PATIENCE, PAUSE, MarketFacts, Verdict
from polybus_protocol.events import Book, Change, LastTradePrice, Level, PriceChange, TickSizeChange

from .conversation import M1, M

# One more vector is of a book that no stream brought, with its levels in no order.
VECTORS: list[dict[str, Any]] = [
    vector
    for vector in json.loads((Path(__file__).parent / "data" / "hash_vectors.json").read_text())["vectors"]
    if not vector["name"].startswith("sdk_")
]


def best_first(levels: list[dict[str, str]]) -> list[Level]:
    return [Level(**level) for level in reversed(levels)]


def as_told(vector: dict[str, Any], **fields: Any) -> Book:
    """A vector as the snapshot that answers a subscription tells it: without what is not on the wire."""
    return Book(
        market=vector["market"],
        asset=vector["asset_id"],
        bids=best_first(vector["bids"]),
        asks=best_first(vector["asks"]),
        hash=vector["expected_sha1"],
        tick_size=vector["tick_size"],
        source_time=int(vector["timestamp"]),
        **fields,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
@pytest.mark.parametrize("spelling", ["as told", "trimmed"])
def test_captured_books_are_proved(vector: dict[str, Any], spelling: str) -> None:
    """With nothing but what the wire tells: size of orders and kind of market are found, and the price's spelling."""
    told = vector["last_trade_price"]
    if spelling == "trimmed":
        told = told.rstrip("0") if "." in told else told
    event = as_told(vector, last_trade_price=told or None)
    facts, book = MarketFacts(), OrderBook()
    facts.learn(event)
    book.take(event)
    assert facts.prove(vector["market"], vector["asset_id"], book) is Verdict.PROVED
    assert (facts.min_order_size, facts.neg_risk) == (vector["min_order_size"], vector["neg_risk"])


class Venue:
    """A venue of one asset, which hashes as the real one does."""

    def __init__(self, min_order_size: str = "5") -> None:
        self.min_order_size = min_order_size
        self.last_trade = "0.500"
        self.tick_size = "0.01"
        self.bids = {"0.4": "10", "0.41": "3"}
        self.time = 1000

    def hash(self) -> str:
        self.time += 1
        return book_hash(
            M,
            M1,
            str(self.time),
            sorted(self.bids.items()),
            [],
            min_order_size=self.min_order_size,
            tick_size=self.tick_size,
            neg_risk=True,
            last_trade_price=self.last_trade,
        )

    def snapshot(self, *, answer: bool = True) -> Book:
        """The answer to a subscription, or what follows a trade."""
        hash_ = self.hash()
        return Book(
            market=M,
            asset=M1,
            bids=[Level(*level) for level in sorted(self.bids.items(), reverse=True)],
            asks=[],
            hash=hash_,
            tick_size=self.tick_size if answer else None,
            last_trade_price=self.last_trade if answer else None,
            source_time=self.time,
        )

    def moves(self, price: str, size: str) -> PriceChange:
        self.bids[price] = size
        hash_ = self.hash()
        return PriceChange(
            market=M, asset=M1, changes=[Change(price, size, "BUY", hash_, None, None)], source_time=self.time
        )

    def trades(self, price: str, told: str) -> LastTradePrice:
        self.last_trade = price
        return LastTradePrice(market=M, asset=M1, price=told, size="1", side="BUY")


class Follower:
    """A book, and what is known of its market."""

    def __init__(self) -> None:
        self.facts, self.book = MarketFacts(), OrderBook()

    def take(self, event: Book | PriceChange | LastTradePrice | TickSizeChange) -> Verdict:
        """Take in an event; what the hash says now."""
        self.facts.learn(event)
        self.book.take(event)
        return self.prove()

    def prove(self) -> Verdict:
        return self.facts.prove(M, M1, self.book)


def test_a_lost_delta_is_a_mismatch() -> None:
    """Once all inputs were proved and no trade has passed since, nothing else can explain it."""
    venue, ours = Venue(), Follower()
    assert ours.take(venue.snapshot()) is Verdict.PROVED
    assert ours.take(venue.moves("0.42", "7")) is Verdict.PROVED
    venue.moves("0.39", "1")
    assert ours.take(venue.moves("0.42", "8")) is Verdict.MISMATCH
    assert ours.take(venue.moves("0.39", "2")) is Verdict.PROVED, "the lost level was told again"


def test_a_trade_makes_it_uncertain_until_the_next_proof() -> None:
    """The new price may be used before it is told: no match means nothing then."""
    venue, ours = Venue(), Follower()
    ours.take(venue.snapshot())
    told = venue.trades("0.490", "0.49")
    assert ours.take(venue.snapshot(answer=False)) is Verdict.UNKNOWN
    assert ours.take(told) is Verdict.PROVED, "as soon as it is told, however it is spelled"
    venue.moves("0.39", "1")
    assert ours.take(venue.moves("0.42", "8")) is Verdict.MISMATCH


def test_the_price_before_the_last_one_may_still_count() -> None:
    """A delta that was hashed before the trade, and arrives after it."""
    venue, ours = Venue(), Follower()
    ours.take(venue.snapshot())
    late = venue.moves("0.42", "7")
    ours.take(venue.trades("0.490", "0.49"))
    assert ours.take(late) is Verdict.PROVED


def test_without_what_it_takes_nothing_is_known() -> None:
    """No hash, no tick size: neither right nor wrong."""
    ours = Follower()
    assert ours.take(Venue().snapshot(answer=False)) is Verdict.UNKNOWN
    ours.take(Venue().snapshot())
    assert ours.take(
        PriceChange(market=M, asset=M1, changes=[Change("0.4", "1", "BUY", None, None, None)])
    ) is (Verdict.UNKNOWN)


def test_what_was_never_proved_is_never_a_mismatch() -> None:
    """A market whose inputs we cannot guess stays unknown, however often it is tried; REST can still tell them."""
    facts, book = MarketFacts(), OrderBook()
    event = Venue(min_order_size="100").snapshot()
    facts.learn(event)
    book.take(event)
    for _ in range(PATIENCE * 3):
        assert facts.prove(event.market, event.asset, book) is Verdict.UNKNOWN
    facts.min_order_size = "100"
    verdicts = [facts.prove(event.market, event.asset, book) for _ in range(PAUSE)]
    assert verdicts.index(Verdict.PROVED) < PAUSE, "guessing pauses, and goes on"
