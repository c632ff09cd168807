"""Snapshots of books: the venue's form, on the market feed and from its REST API, made into ours."""

from math import isfinite, nan

import msgspec
from msgspec import UNSET

from ..events import Book, Level, Unknown
from .market_wire import WireBook
from .reading import UNREADABLE, milliseconds, present, unknown

FEED = "market"


def book_of(wire: WireBook) -> Book:
    """One book, best level first.

    Raises:
        msgspec.ValidationError: a side is missing, or a level of one has no price or no size.
    """
    bids = wire.buys if wire.bids is UNSET else wire.bids
    asks = wire.sells if wire.asks is UNSET else wire.asks
    if bids is UNSET or asks is UNSET:
        # Else a renamed field, as `buys` once was, would publish an empty book.
        raise msgspec.ValidationError("a book without `bids` or without `asks`")
    return Book(
        wire.market,
        wire.asset_id,
        _levels(bids, best_is_highest=True),
        _levels(asks, best_is_highest=False),
        present(wire.hash),
        present(wire.tick_size),
        present(wire.last_trade_price),
        present(wire.min_order_size),
        wire.neg_risk,
        source_time=milliseconds(wire.timestamp),
    )


def _levels(levels: list[Level] | None, *, best_is_highest: bool) -> list[Level]:
    if not levels:
        return []
    try:
        prices = [float(level.price) for level in levels if level.size]
    except ValueError:
        prices = [nan]
    if not isfinite(sum(prices)):
        raise msgspec.ValidationError("a book with a price that is no decimal")
    if len(prices) < len(levels):
        raise msgspec.ValidationError("a book with a level without a size")
    order = sorted(range(len(prices)), key=prices.__getitem__, reverse=best_is_highest)
    return [levels[at] for at in order]


_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_read_wire = msgspec.json.Decoder(WireBook).decode


def read_rest_books(answer: bytes) -> tuple[list[Book], list[Unknown]]:
    """Read what REST `POST /books` answers with status 200: the books, and what could not be read of it.

    The venue leaves out whom it has no book of, without a word.  Never raises for anything it may say.
    """
    books, strange = list[Book](), list[Unknown]()
    try:
        elements = _read_array(answer)
    except UNREADABLE as error:
        return [], [unknown(FEED, "malformed", f"the answer is no array of books: {error}", answer)]
    for element in elements:
        try:
            books.append(book_of(_read_wire(element)))
        except UNREADABLE as error:
            strange.append(unknown(FEED, "malformed", f"the book cannot be read: {error}", element))
    return books, strange
