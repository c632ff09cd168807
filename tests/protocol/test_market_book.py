"""REST's books: read like those of the feed, one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.events import Book, Level
from polybus_protocol.feeds.market_book import read_rest_books

GOOD = (
    '{"market":"0xab","asset_id":"7","timestamp":"1775740020016","hash":"6ce3","bids":[{"price":".40","size":"3"},'
    '{"price":"0.48","size":"30"}],"asks":[{"price":"0.9","size":"1"},{"price":"0.52","size":"5"}],'
    '"min_order_size":"5","tick_size":"0.01","neg_risk":true,"last_trade_price":""}'
)


def test_a_book() -> None:
    """Best level first, whatever the order; strings as they came; the empty string is no value."""
    books, strange = read_rest_books(f"[{GOOD}]".encode())
    assert strange == []
    assert books == [
        Book(
            "0xab",
            "7",
            [Level("0.48", "30"), Level(".40", "3")],
            [Level("0.52", "5"), Level("0.9", "1")],
            "6ce3",
            "0.01",
            None,
            "5",
            True,
            source_time=1775740020016,
        )
    ]


@pytest.mark.parametrize(
    "odd",
    [
        "7",
        "null",
        "{}",
        GOOD.replace('"bids"', '"offers"'),
        GOOD.replace(".40", "Infinity"),
        GOOD.replace('"7"', '""'),
        GOOD.replace('"3"', "3"),
    ],
)
def test_one_odd_book_spoils_nothing(odd: str) -> None:
    """It is told of, raw, beside its neighbours."""
    books, strange = read_rest_books(f"[{GOOD},{odd},{GOOD}]".encode())
    assert [book.asset for book in books] == ["7", "7"]
    assert [(each.kind, each.raw) for each in strange] == [("malformed", odd)]


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_is_answered(answer: bytes) -> None:
    """Nothing is raised, and what is no array of books is told of."""
    books, strange = read_rest_books(answer)
    assert books == []
    assert strange or answer.split() == [b"[]"] or answer.strip().startswith(b"[")
