"""The user feed: every sample frame, credentials that stay where they belong, and odd input."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import LocalProtocolError, Unknown, decode, encode_event
from polybus_protocol.events import Order, Trade
from polybus_protocol.feeds.credentials import Credentials
from polybus_protocol.feeds.reading import write
from polybus_protocol.feeds.user import ACCOUNT, UserDialect, duplicate_key
from polybus_protocol.feeds.user_wire import WireOpening

from .samples import Samples, heard, mutated, survives, wire

SAMPLES = Samples("user")
CREDENTIALS = Credentials("your-api-key-uuid", "your-api-secret", "your-passphrase")
OWNER = "9180014b-33c8-9240-a14b-bdca11c0a465"
MARKET = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"

ORDER: dict[str, Any] = SAMPLES.frames["order_update.json"]
TRADE: dict[str, Any] = SAMPLES.frames["trade_maker_side.json"]

DIALECT = UserDialect("main", CREDENTIALS)
SAID = {
    "ping.json": DIALECT.ping,
    "subscribe_initial.json": DIALECT.opening([ACCOUNT]),
    "subscribe_initial_markets.json": DIALECT.opening([MARKET]),
    # Another client's way to ask for all markets: we can say it, and rather leave the lists out.
    "subscribe_initial_empty_markets.json": write(WireOpening(CREDENTIALS, [], [], "user")),
    "subscribe_update.json": DIALECT.subscribe([MARKET]),
    "unsubscribe_update.json": DIALECT.unsubscribe([MARKET]),
}


def read_one(frame: dict[str, Any], dialect: UserDialect | None = None) -> Any:
    """The event of a frame, drift apart."""
    (_, event), *_ = (dialect or UserDialect("main")).read(wire(frame))
    return event


def test_the_table_is_complete() -> None:
    """Each sample has a row, on the side it belongs to."""
    assert set(SAMPLES.becomes) == SAMPLES.inbound
    assert set(SAID) == SAMPLES.outbound


@pytest.mark.parametrize("file", sorted(SAMPLES.inbound))
def test_a_frame_from_the_venue(file: str) -> None:
    """Each sample becomes exactly what the index says."""
    assert heard(UserDialect("main"), SAMPLES.frames[file]) == SAMPLES.becomes[file]


@pytest.mark.parametrize("file", sorted(SAMPLES.outbound))
def test_a_frame_to_the_venue(file: str) -> None:
    """For the same keys we say the same."""
    said, sample = SAID[file], SAMPLES.frames[file]
    assert said is not None
    assert (said if isinstance(sample, str) else json.loads(said)) == sample


@pytest.mark.parametrize("file", sorted(SAMPLES.json_frames))
def test_no_key_is_ever_published(file: str) -> None:
    """Neither in an event, nor in what is passed on raw because a field of it is unknown or broken."""
    frame = SAMPLES.frames[file]
    for odd in (frame, frame | {"shiny": 1}, frame | {"status": 7}, frame | {"event_type": "new"}):
        for event in decode("user", wire(odd)):
            assert OWNER not in encode_event(event).decode()
    text = wire(frame)
    for cut in range(0, len(text), 7):
        for event in decode("user", text[:cut]):
            assert OWNER not in encode_event(event).decode()


def test_credentials_are_not_shown() -> None:
    """Whatever prints them prints nothing of them, and what the venue echoes is blotted out."""
    for shown in (repr(CREDENTIALS), str(CREDENTIALS), f"{CREDENTIALS}", str([CREDENTIALS])):
        assert "your" not in shown
    assert CREDENTIALS.__rich_repr__() == []
    (echo,) = decode("user", UserDialect("main", CREDENTIALS).opening([ACCOUNT]))
    assert isinstance(echo, Unknown)
    assert "your" not in echo.raw


def test_without_credentials_there_is_no_opening() -> None:
    """The error names the account, so that a person knows what to configure."""
    with pytest.raises(LocalProtocolError, match="'main' has no credentials"):
        UserDialect("main").opening([ACCOUNT])


@pytest.mark.parametrize(
    ("written", "status", "detail"),
    [
        ("LIVE", "LIVE", None),
        ("ORDER_STATUS_MATCHED", "MATCHED", None),
        ("CANCELED", "CANCELED", None),
        ("CANCELED_", "CANCELED", None),
        ("CANCELED_MARKET_RESOLVED", "CANCELED", "MARKET_RESOLVED"),
        ("CANCELED_not_enough balance", "CANCELED", "not_enough balance"),
        ("BRAND_NEW", "BRAND_NEW", None),
    ],
)
def test_the_status_of_an_order(written: str, status: str, detail: str | None) -> None:
    """The word stands alone, and what follows `CANCELED_` stands beside it."""
    order = read_one(ORDER | {"status": written})
    assert (order.status, order.status_detail) == (status, detail)


@pytest.mark.parametrize(
    "status", ["MATCHED", "MINED", "CONFIRMED", "RETRYING", "FAILED", "MATCHED_NOT_BROADCASTED"]
)
def test_the_status_of_a_trade(status: str) -> None:
    """With or without the prefix of the venue's enums."""
    assert read_one(TRADE | {"status": status}).status == status
    assert read_one(TRADE | {"status": f"TRADE_STATUS_{status}"}).status == status


@pytest.mark.parametrize(
    ("original", "matched", "remaining"),
    [
        ("10", "4", "6"),
        ("10", "10", "0"),
        ("10.50", ".5", "10.00"),
        ("0.3", "0.1", "0.2"),
        (
            "123456789012345678901234567890.1",
            "0.000000000000000000000000000001",
            "123456789012345678901234567890.099999999999999999999999999999",
        ),
        ("10", "", None),
        ("", "4", None),
        (10.5, 4, "6.5"),
    ],
)
def test_the_remaining_size_is_exact(original: Any, matched: Any, remaining: str | None) -> None:
    """Whatever the digits, and unknown if one of the two is."""
    order = read_one(ORDER | {"original_size": original, "size_matched": matched})
    assert order.remaining_size == remaining


@pytest.mark.parametrize(
    ("written", "time"),
    [
        ("1782753357", 1782753357000),
        ("1782753357257", 1782753357257),
        (1782753357, 1782753357000),
        ("1782753357.5", 1782753357500),
        ("2026-06-29T17:15:57.257Z", 1782753357257),
        ("0", None),
        ("", None),
        (None, None),
        ("soon", None),
    ],
    ids=repr,
)
def test_times_are_milliseconds(written: Any, time: int | None) -> None:
    """Seconds or milliseconds, text or number, in every field; zero and nothing are no time."""
    fields = dict.fromkeys(("timestamp", "created_at", "expiration", "match_time", "last_update"), written)
    order, trade = read_one(ORDER | fields), read_one(TRADE | fields)
    assert order.source_time == order.created_time == order.expiration == time
    assert trade.source_time == trade.match_time == trade.last_update == time


def test_whose_the_maker_orders_are() -> None:
    """Told by the account's key, in the frame or in our credentials; by neither, we do not know."""
    theirs = TRADE["maker_orders"][0] | {"owner": "somebody-else"}
    trade = TRADE | {"maker_orders": [*TRADE["maker_orders"], theirs, theirs | {"owner": None}]}
    assert [maker.is_own for maker in read_one(trade).maker_orders] == [True, False, None]
    del trade["trade_owner"]
    assert [maker.is_own for maker in read_one(trade).maker_orders] == [None, None, None]
    with_key = UserDialect("main", Credentials(OWNER, "s", "p"))
    assert [maker.is_own for maker in read_one(trade, with_key).maker_orders] == [True, False, None]


def test_what_is_a_duplicate() -> None:
    """A trade by id and status; an order, which stays LIVE from fill to fill, by what has changed as well."""

    def key(frame: dict[str, Any]) -> tuple[str | None, ...]:
        event = read_one(frame)
        assert isinstance(event, Order | Trade)
        return duplicate_key(event)

    later = {"timestamp": "1782753399999"}
    assert key(TRADE) == key(TRADE | later)
    assert key(TRADE) != key(TRADE | {"status": "MINED"})
    assert key(ORDER) == key(ORDER | later)
    assert key(ORDER) != key(ORDER | {"size_matched": "5"})
    assert key(ORDER) != key(TRADE | {"id": ORDER["id"]})


def test_unknown_fields_are_counted_and_shown_once() -> None:
    """Also those within a maker order."""
    dialect = UserDialect("main")
    odd = TRADE | {"shiny": 1, "maker_orders": [TRADE["maker_orders"][0] | {"glint": 1}] * 2}
    frames = [odd, odd | {"id": "another"}]
    kinds = [type(event).__name__ for frame in frames for _, event in dialect.read(wire(frame))]
    assert kinds == ["Trade", "Unknown", "Unknown", "Trade"]
    assert dialect.unknown_fields == {"trade.shiny": 2, "trade.maker_orders.glint": 2}


def test_a_bad_element_harms_no_other() -> None:
    """In an array, each stands for itself."""
    events = decode("user", wire([ORDER, {"event_type": "order"}, 7, {}, TRADE]))
    assert [getattr(event, "kind", type(event).__name__) for event in events] == [
        "Order",
        "malformed",
        "malformed",
        "event",
        "Trade",
    ]


def test_what_answers_what() -> None:
    """An event answers its market, and interest in the whole account; both, where both are wanted."""
    order = read_one(ORDER)
    assert DIALECT.answers(MARKET, order, [ACCOUNT]) == [ACCOUNT]
    assert DIALECT.answers(MARKET, order, [MARKET, "0x1"]) == [MARKET]
    assert DIALECT.answers(MARKET, order, [ACCOUNT, MARKET]) == [MARKET, ACCOUNT]
    assert DIALECT.answers(MARKET, order, ["0x1"]) == []
    assert DIALECT.subscribe([ACCOUNT]) is DIALECT.unsubscribe([]) is None


def test_the_whole_account_instead_of_some_markets() -> None:
    """Without narrowing, the venue is asked for everything once, whatever is wanted or given back."""
    wide = UserDialect("main", CREDENTIALS, narrow=False)
    assert json.loads(wide.opening([MARKET])) == SAMPLES.frames["subscribe_initial.json"]
    assert wide.subscribe([MARKET]) is wide.unsubscribe([MARKET]) is None


def test_a_repetition_is_left_out_and_counted() -> None:
    """Overlapping subscriptions tell each event twice; a new status or a further fill is an event of its own."""
    dialect = UserDialect("main")
    frames = [TRADE, TRADE, ORDER, TRADE | {"status": "MINED"}, ORDER | {"size_matched": "5"}, ORDER, TRADE]
    assert [len(dialect.read(wire(frame))) for frame in frames] == [1, 0, 1, 1, 1, 0, 0]
    assert dialect.repeated == 3


@given(st.binary() | st.text().map(lambda text: "{" + text) | mutated(SAMPLES.json_frames))
def test_nothing_raises(frame: bytes | str) -> None:
    """Noise and mutated samples alike."""
    survives("user", wire(frame) if isinstance(frame, str) else frame)
