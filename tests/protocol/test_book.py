"""The order book: snapshots and deltas, exact, best first; and when nothing may be believed."""

from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from polybus_protocol.books.book import OrderBook
from polybus_protocol.books.no_book import NoBook
from polybus_protocol.books.side import Asks, BadLevel, Bids
from polybus_protocol.events import (
    Book,
    Change,
    Event,
    Gap,
    LastTradePrice,
    Level,
    PriceChange,
    TickSizeChange,
)

from .conversation import M1, M2, M

TICKS = 20


def price(tick: int) -> str:
    return f"0.{tick:02d}"


def snapshot(bids: dict[int, str], asks: dict[int, str], at: int = 1, asset: str = M1) -> Book:
    """A book by ticks, its levels in whatever order."""
    return Book(
        market=M,
        asset=asset,
        bids=[Level(price(tick), size) for tick, size in bids.items()],
        asks=[Level(price(tick), size) for tick, size in asks.items()],
        hash="h",
        source_time=at,
    )


def change(
    tick: int, size: str, side: str = "BUY", best: tuple[str | None, str | None] = (None, None)
) -> Change:
    return Change(price(tick), size, side, None, *best)


def delta(*changes: Change, at: int = 2) -> PriceChange:
    return PriceChange(market=M, asset=M1, changes=list(changes), source_time=at)


def shown(book: OrderBook) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    return (
        [(level.price, level.size) for level in book.bids()],
        [(level.price, level.size) for level in book.asks()],
    )


SIZES = st.sampled_from(["0", "1", "7.25", "300", "0.00", "12.50"])
SIDES = st.dictionaries(st.integers(1, TICKS), SIZES, max_size=8)
CHANGES = st.lists(
    st.builds(change, st.integers(1, TICKS), SIZES, st.sampled_from(["BUY", "SELL"])), min_size=1, max_size=4
)


@given(SIDES, SIDES, st.lists(CHANGES, max_size=12))
def test_a_book_is_what_the_last_word_on_each_level_says(
    bids: dict[int, str], asks: dict[int, str], deltas: list[list[Change]]
) -> None:
    """Compared with the simplest model there is: a size by side and price, zero for none; best level first."""
    book = OrderBook()
    book.take(snapshot(bids, asks))
    model = {("BUY", price(tick)): size for tick, size in bids.items()}
    model |= {("SELL", price(tick)): size for tick, size in asks.items()}
    for changes in deltas:
        book.take(delta(*changes))
        model |= {(each.side, each.price): each.size for each in changes}

    def side(name: str) -> list[tuple[str, str]]:
        return [(p, size) for (s, p), size in model.items() if s == name and Decimal(size)]

    assert shown(book) == (
        sorted(side("BUY"), key=lambda level: Decimal(level[0]), reverse=True),
        sorted(side("SELL"), key=lambda level: Decimal(level[0])),
    )
    best_bid, best_ask = book.best_bid, book.best_ask
    assert ([best_bid] if best_bid else []) == book.bids(1)
    assert ([best_ask] if best_ask else []) == book.asks(1)


def spellings(value: Decimal) -> list[str]:
    """With and without zeros at either end."""
    long = f"{value:.9f}"
    short = long.rstrip("0").rstrip(".")
    return [long, short, f"00{long}", *([short[1:]] if short.startswith("0.") else [])]


PRICES = st.decimals(0, 1, places=9, allow_nan=False)


@given(PRICES.map(spellings), PRICES)
def test_a_price_is_one_whatever_its_spelling(same: list[str], other: Decimal) -> None:
    """The latest spelling counts, in a snapshot and in a change; a price a billionth off is another."""
    assume(other != Decimal(same[0]))
    for first in same:
        for then in same:
            side = Asks([Level(first, "1"), Level(f"{other:f}", "2"), Level(then, "3")])
            assert side == {then: "3", f"{other:f}": "2"}
            side.add(first, "4")
            assert side == {first: "4", f"{other:f}": "2"}
            assert side.is_best(then) == (Decimal(then) < other)
            side.remove(then)
            assert (side, side.prices, side.best) == ({f"{other:f}": "2"}, [f"{other:f}"], f"{other:f}")


SPELLED = st.builds(str.format, st.sampled_from(["0.{}", ".{}", "0.{}0"]), st.integers(1, 6))
LEVELS = st.lists(st.builds(Level, SPELLED, SIZES), max_size=8)


@given(LEVELS, LEVELS)
def test_a_side_becomes_another(before: list[Level], after: list[Level]) -> None:
    """As if it were made anew, however prices are spelled; and it says at which of them something changed."""
    for kind in (Bids, Asks):
        side, anew = kind(before), kind(after)
        old, new = ({Decimal(price): size for price, size in each.items()} for each in (side, anew))
        told = {Decimal(price) for price in side.become(after)}
        assert (side, side.prices, side.dollars, side.best) == (anew, anew.prices, anew.dollars, anew.best)
        assert {price for price in old.keys() | new if old.get(price) != new.get(price)} <= told


@given(PRICES, st.integers(-5, 5).filter(bool))
def test_prices_a_billionth_apart_are_two(value: Decimal, billionths: int) -> None:
    """And stand in their order."""
    one, other = sorted([value, value + billionths * Decimal("1e-9")])
    assume(one >= 0)
    side = Bids([Level(f"{other:f}", "1"), Level(f"{one:f}", "2")])
    assert side.prices == [f"{one:f}", f"{other:f}"]
    assert not side.is_best(f"{one:f}")


@pytest.mark.parametrize(
    "text", ["", ".", "-0.5", "1e-2", "0.5.", "0,5", "\u0660.5", "0.0000000001", "1234", "nan", " 0.5"]
)
def test_what_is_no_price(text: str) -> None:
    """Is an error that names it."""
    for reads in (
        lambda: Bids([Level(text, "1")]),
        lambda: Bids().add(text, "1"),
        lambda: Bids().is_best(text),
    ):
        with pytest.raises(BadLevel, match="is no price"):
            reads()


@pytest.mark.parametrize(
    "bad",
    [
        Change("x", "1", "BUY", None, None, None),
        Change("0.5", "x", "BUY", None, None, None),
        Change("0.5", "-1", "BUY", None, None, None),
        Change("0.5", "nan", "BUY", None, None, None),
        Change("0.5", "inf", "BUY", None, None, None),
        Change("0.5", "1", "buy", None, None, None),
        Change("0.5", "1", "BUY", None, "x", None),
    ],
    ids=["price", "size", "negative size", "size that is nothing", "endless size", "side", "best bid"],
)
def test_a_level_nobody_can_read_empties_the_book(bad: Change) -> None:
    """Half a delta is worse than none."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {60: "10"}))
    with pytest.raises(BadLevel, match=r"is no (price|size|side)"):
        book.take(delta(change(41, "5"), bad))
    assert not book.is_live
    assert shown(book) == ([], [])


def test_a_delta_before_the_snapshot_touches_nothing() -> None:
    """Also after a gap, and after the price grid has changed: the old grid's levels never meet the new one's."""
    book = OrderBook()
    book.take(delta(change(40, "1")))
    assert (book.is_live, shown(book)) == (False, ([], []))
    for ending in (
        Gap("market", "resync", market=M, asset=M1),
        TickSizeChange(market=M, asset=M1, old_tick_size="0.01", new_tick_size="0.001"),
    ):
        book.take(snapshot({40: "10"}, {}))
        assert book.is_live
        book.take(ending)
        book.take(delta(change(41, "1")))
        assert (book.is_live, shown(book)) == (False, ([], []))


def test_a_gap_that_closes_and_a_trade_change_nothing() -> None:
    """The one comes right before the snapshot, the other says nothing of the levels."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {}))
    assert book.is_unchecked
    book.is_unchecked = book.is_untold = False
    book.take(Gap("market", "resync", closed_by="snapshot", market=M, asset=M1))
    book.take(LastTradePrice(market=M, asset=M1, price="0.4", size="1", side="BUY"))
    assert (book.is_live, book.is_unchecked, book.is_untold) == (True, False, False)
    book.take(delta(change(40, "3")))
    assert (book.is_unchecked, book.is_untold) == (True, True)


def test_what_the_snapshot_holds_already_does_not_undo_it() -> None:
    """An older delta is left out and counted; one of the same millisecond is taken."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {}, at=100))
    book.take(delta(change(40, "3"), at=99))
    assert (shown(book)[0], book.stale) == ([("0.40", "10")], 1)
    book.take(delta(change(40, "4"), at=100))
    assert shown(book)[0] == [("0.40", "4")]


@pytest.mark.parametrize(
    ("told", "misses"),
    [
        (("0.41", "0.60"), 0),
        (("0.410", ".6"), 0),
        ((None, None), 0),
        (("0.40", "0.60"), 1),
        (("0.41", "0.61"), 1),
        (("0", "0.60"), 1),
        (("0.41", "1"), 1),
    ],
)
def test_our_best_prices_against_the_venues(told: tuple[str | None, str | None], misses: int) -> None:
    """However they are spelled; what is not told cannot be wrong."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {60: "10"}))
    book.take(delta(change(41, "1", best=told)))
    assert book.top_misses == misses


def test_an_empty_side_is_told_as_zero_or_one() -> None:
    """Nobody bids: 0.  Nobody asks: 1.  And agreement ends a row of misses."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {60: "10"}))
    book.take(delta(change(40, "0", best=("0.4", "0.6"))))
    book.take(delta(change(60, "0", "SELL", best=("0.4", "1"))))
    assert book.top_misses == 2
    book.take(delta(change(60, "0", "SELL", best=("0", "1"))))
    assert book.top_misses == 0


def test_only_the_last_of_several_changes_tells_the_top() -> None:
    """Which book the others describe is not known."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {60: "10"}))
    book.take(delta(change(41, "1", best=("0.99", "0.6")), change(42, "1", best=("0.42", "0.6"))))
    assert book.top_misses == 0


@given(SIDES, SIDES)
def test_the_other_outcome_is_the_mirror_image(bids: dict[int, str], asks: dict[int, str]) -> None:
    """A bid at p is an ask at 1 - p of the other outcome, of the same size; one level off, and it is not."""
    ours, theirs = OrderBook(), OrderBook()
    ours.take(snapshot(bids, asks))
    mirrored = (
        {100 - tick: size for tick, size in asks.items()},
        {100 - tick: size for tick, size in bids.items()},
    )
    theirs.take(snapshot(*mirrored, asset=M2))
    assert ours.mirrors(theirs)
    assert theirs.mirrors(ours)
    theirs.take(delta(change(99, "5")))
    assert not ours.mirrors(theirs)
    assert not theirs.mirrors(ours)


def test_crossed_and_equal() -> None:
    """A bid at an ask's price crosses; a book equals a snapshot of the same levels, however their sizes are spelled."""
    book = OrderBook()
    book.take(snapshot({40: "10"}, {60: "5.50"}))
    assert not book.is_crossed
    assert book.equals(snapshot({40: "10.0"}, {60: "5.5"}))
    assert not book.equals(snapshot({40: "10"}, {61: "5.5"}))
    book.take(delta(change(60, "1")))
    assert book.is_crossed


@pytest.mark.parametrize(
    ("said", "is_confirmed"),
    [
        ([], False),
        ([snapshot({1: "1"}, {2: "1"}, at=5)], True),
        ([snapshot({}, {}, at=4)], False),
        ([snapshot({}, {}, at=4), delta(change(1, "not a size"), at=5)], True),
        ([snapshot({}, {}, at=4), delta(change(1, "1"), at=6)], True),
        ([snapshot({}, {}, at=5), LastTradePrice(M, M1, "0.5", "1", "BUY")], True),
        ([snapshot({}, {}, at=5), TickSizeChange(M, M1, "0.01", "0.001")], False),
        ([snapshot({}, {}, at=5), Gap("market", "resync")], False),
    ],
)
def test_where_no_book_is_kept(said: list[Event], is_confirmed: bool) -> None:
    """There are no levels, and it is never live; but whether the venue knows of something later is told."""
    book = NoBook()
    for event in said:
        book.take(event)
    assert not book.is_live
    assert shown(book) == ([], [])
    assert book.equals(snapshot({7: "7"}, {}, at=5)) is is_confirmed
