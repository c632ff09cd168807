"""By what a copy of an event is known."""

from collections.abc import Callable

import msgspec
import pytest

from polybus_protocol.errors import LocalProtocolError
from polybus_protocol.events import (
    BestBidAsk,
    Book,
    Change,
    LastTradePrice,
    Level,
    MarketEvent,
    PriceChange,
    TickSizeChange,
)
from polybus_protocol.twins.identity import Recent, identity_of

IDS = ("0xa", "7")
CHANGE = Change("0.5", "10", "BUY", "h1", "0.5", "0.6")
OLD_CHANGE = Change("0.5", "10", "BUY", None, None, None)
KINDS: dict[str, tuple[Callable[[], MarketEvent], dict[str, object], dict[str, object]]] = {
    # what it is, in which fields a copy may differ, which make it another event
    "book": (
        lambda: Book(*IDS, [Level("0.5", "1")], [], "h1", source_time=1),
        {"source_time": 2},
        {"hash": "h2"},
    ),
    "book without a hash": (
        lambda: Book(*IDS, [Level("0.5", "1")], [], None, source_time=1),
        {"neg_risk": True},
        {"source_time": 2, "bids": [], "asks": [Level("0.6", "1")]},
    ),
    "price_change": (
        lambda: PriceChange(*IDS, [CHANGE], source_time=1),
        {"source_time": 2, "changes": [msgspec.structs.replace(CHANGE, best_ask="1")]},
        {
            "changes": [CHANGE, CHANGE],
        },
    ),
    "price_change without a hash": (
        lambda: PriceChange(*IDS, [OLD_CHANGE], source_time=1),
        {},
        {"source_time": 2, "changes": [msgspec.structs.replace(OLD_CHANGE, size="11")]},
    ),
    "trade": (
        lambda: LastTradePrice(*IDS, "0.5", "10", "BUY", transaction_hash="0xt", source_time=1),
        {"source_time": 2, "fee_rate_bps": "0"},
        {"transaction_hash": "0xu"},
    ),
    "trade without a transaction": (
        lambda: LastTradePrice(*IDS, "0.5", "10", "BUY", source_time=1),
        {"fee_rate_bps": "0"},
        {"source_time": 2, "price": "0.6", "size": "11", "side": "SELL"},
    ),
    "best_bid_ask": (
        lambda: BestBidAsk(*IDS, "0.4", None, "0.6", source_time=1),
        {"spread": "0.2"},
        {"source_time": 2, "best_bid": "0.5", "best_ask": "0.5"},
    ),
    "tick_size_change": (
        lambda: TickSizeChange(*IDS, "0.01", "0.001", source_time=1),
        {"old_tick_size": None},
        {"source_time": 2, "new_tick_size": "0.1"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_known_by_its_content(kind: str) -> None:
    """Stamps and what the venue may leave out make no difference; each part of the content does."""
    make, same, other = KINDS[kind]
    identity = identity_of(make())
    stamps = {"received_time": 9, "connection": "gw0-market-2#1", "epoch": 3, "seq": 4}
    for change in ({name: value} for name, value in (stamps | same).items()):
        assert identity_of(msgspec.structs.replace(make(), **change)) == identity, change
    for change in ({name: value} for name, value in other.items()):
        assert identity_of(msgspec.structs.replace(make(), **change)) != identity, change


@pytest.mark.parametrize("change", [{"hash": "h2"}, {"price": "0.4"}, {"side": "SELL"}, {"size": "11"}])
def test_each_part_of_a_changed_level_counts(change: dict[str, str]) -> None:
    """Hash, price, side and size."""
    other = msgspec.structs.replace(CHANGE, **change)
    assert identity_of(PriceChange(*IDS, [other])) != identity_of(PriceChange(*IDS, [CHANGE]))


def test_no_kind_is_taken_for_another() -> None:
    """Though their contents may be equal."""
    identities = {identity_of(make()) for make, _, _ in KINDS.values()}
    assert len(identities) == len(KINDS)


def test_what_has_no_identity_is_the_callers_mistake() -> None:
    """The name of the kind is in the error."""
    with pytest.raises(LocalProtocolError, match="MarketEvent"):
        identity_of(MarketEvent(*IDS))


def test_the_oldest_is_forgotten_and_the_numbers_go_on() -> None:
    """Also after all was forgotten; the first match from a number on is found."""
    recent = Recent(3)
    for identity in ["a", "b", "a", "c"]:
        recent.add((identity,))
    assert (recent.first, recent.end) == (1, 4)
    assert [recent.find((each,), None) for each in "abcd"] == [2, 1, 3, None]
    assert (recent.find(("b",), 2), recent.find(("c",), 2)) == (None, 3)
    assert recent.between(1, 3) == [("b",), ("a",)]
    recent.clear()
    assert (recent.first, recent.end, recent.find(("c",), None)) == (4, 4, None)
    recent.add(("c",))
    assert recent.find(("c",), 4) == 4
