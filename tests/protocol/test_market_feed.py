"""Odd input on the market feed: it is passed on raw, never raised, and never taken for something else."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polybus_protocol import decode, decode_event, encode_event, parse_subject, subject_for
from polybus_protocol.events import MAX_RAW_CHARS, UNKNOWN_KINDS, Book, Event, Level, PriceChange, Unknown
from polybus_protocol.feeds.market import DRIFT_EVERY, MarketDialect

from .conversation import M1, M, book, new_market, price_change, tick_size_change, trade, written

DEEP = 100_000
"""Levels of nesting: far more than any stack bears."""


def kinds(frame: bytes | str | dict[str, Any] | list[Any]) -> list[str]:
    """What a frame decodes to: event types, and for what could not be read its kind."""
    return [
        event.kind if isinstance(event, Unknown) else type(event).__name__
        for event in decode("market", written(frame))
    ]


def with_prices(*prices: str) -> dict[str, Any]:
    """A snapshot with bids at these prices."""
    return book(M1) | {"bids": [{"price": price, "size": "1"} for price in prices]}


ODD: dict[str, tuple[Any, list[str]]] = {
    # frames that are no JSON
    "nothing": ("", []),
    "blanks": (" \r\n\t", []),
    "a pong": ("PONG", []),
    "a pong with a line end": ("PONG\n", []),
    "another word": ("pong", ["word"]),
    "a number": ("7", ["word"]),
    "null": ("null", ["word"]),
    "a string": ('"book"', ["not_json"]),
    "bytes that are no text": (b"\xff\xfe", ["word"]),
    "a byte order mark": (b"\xef\xbb\xbf" + written(book(M1)), ["not_json"]),
    "a long word": ("x" * 65, ["not_json"]),
    "an opening brace": ("{", ["not_json"]),
    "a truncated element": (written(book(M1))[:-9], ["not_json"]),
    "a truncated array": (written([book(M1), book(M1)])[:-9], ["not_json"]),
    "two frames in one": (written(book(M1)) * 2, ["not_json"]),
    "text after the array": ("[] []", ["not_json"]),
    "invalid UTF-8 in a value that is read": (written(book(M1)).replace(b"1111", b"\xff111"), ["not_json"]),
    "invalid UTF-8 beside its neighbour": (
        b'[{"event_type":"\xff"},' + written(book(M1)) + b"]",
        ["not_json", "Book"],
    ),
    "a lone surrogate": ('{"event_type":"\\ud800"}', ["not_json"]),
    "arrays within arrays": ("[" * DEEP, ["not_json"]),
    "arrays within arrays, closed": ("[" * DEEP + "]" * DEEP, ["not_json"]),
    "objects within objects": ('{"a":' * DEEP, ["not_json"]),
    "depth in a field nobody reads": (
        written(book(M1))[:-1] + b',"x":' + b"[" * DEEP + b"]" * DEEP + b"}",
        ["not_json"],
    ),
    "depth in a price change": (
        b'{"x":' + b"[" * DEEP + b"]" * DEEP + b"," + written(price_change(M1))[1:],
        ["not_json"],
    ),
    # elements that are no events
    "an element that is a number": ("[7]", ["malformed"]),
    "an element that is null": ("[null]", ["malformed"]),
    "an element that is an array": ([[book(M1)]], ["malformed"]),
    "an empty element": ("{}", ["event"]),
    "a number out of range": ("[1e9999]", ["malformed"]),
    "no event_type": ({"market": M, "asset_id": M1}, ["event"]),
    "an event_type that is a number": ({"event_type": 1}, ["malformed"]),
    "an event_type that is null": ({"event_type": None}, ["event"]),
    "an empty event_type": ({"event_type": ""}, ["event"]),
    "an event_type of 10 kB": ({"event_type": "x" * 10_000}, ["event"]),
    "a key that stands twice": (
        '{"event_type":"nothing",' + written(trade(M1)).decode()[1:],
        ["LastTradePrice"],
    ),
    # events with odd fields
    "a missing market": ({k: v for k, v in book(M1).items() if k != "market"}, ["malformed"]),
    "an empty market": (book(M1) | {"market": ""}, ["malformed"]),
    "an empty asset": (book(M1) | {"asset_id": ""}, ["malformed"]),
    "an asset that is a number": (book(M1) | {"asset_id": 7}, ["malformed"]),
    "an asset that is null": (book(M1) | {"asset_id": None}, ["malformed"]),
    "a side that is null": (book(M1) | {"asks": None}, ["Book"]),
    "a side that is missing": ({k: v for k, v in book(M1).items() if k != "asks"}, ["malformed"]),
    "a side under another name": (
        {k.replace("asks", "offers"): v for k, v in book(M1).items()},
        ["malformed"],
    ),
    "sides under their old names": (
        {{"bids": "buys", "asks": "sells"}.get(k, k): v for k, v in book(M1).items()},
        ["Book"],
    ),
    "levels that are pairs": (book(M1) | {"bids": [["0.4", "10"]]}, ["malformed"]),
    "a price that is a number": (book(M1) | {"bids": [{"price": 0.4, "size": "1"}]}, ["malformed"]),
    "a price that is no number": (with_prices("0.4", "much"), ["malformed"]),
    "a lone price that is no number": (with_prices("much"), ["malformed"]),
    "an empty price": (with_prices(""), ["malformed"]),
    "a price that is NaN": (with_prices("0.4", "NaN"), ["malformed"]),
    "a lone price that is NaN": (with_prices("NaN"), ["malformed"]),
    "a price that is a signalling NaN": (with_prices("sNaN", "0.4"), ["malformed"]),
    "an infinite price": (with_prices("Infinity", "0.4"), ["malformed"]),
    "a negative infinite price": (with_prices("-Infinity"), ["malformed"]),
    "a price of 5000 digits": (with_prices("1" * 5000, "0.4"), ["malformed"]),
    "a price with a huge exponent": (with_prices("1e999999999999999999", "0.4"), ["malformed"]),
    "a level without a size": (book(M1) | {"bids": [{"price": "0.4", "size": ""}]}, ["malformed"]),
    "a trade without a price": (trade(M1) | {"price": ""}, ["malformed"]),
    "a change without a size": (
        price_change(M1) | {"price_changes": [{"asset_id": M1, "price": "1", "side": "BUY", "size": ""}]},
        ["malformed"],
    ),
    "a price change without changes": (price_change(M1) | {"price_changes": []}, []),
    "a price change of null": (price_change(M1) | {"price_changes": None}, ["malformed"]),
    "a price change of no form we know": (
        {"event_type": "price_change", "market": M, "asset_id": M1},
        ["malformed"],
    ),
    "a grid without its new step": (tick_size_change(M1) | {"new_tick_size": ""}, ["malformed"]),
    "a market without assets": (new_market(M) | {"assets_ids": None}, ["NewMarket"]),
    "an unknown field": (book(M1) | {"shiny": 1}, ["Book", "field"]),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_input(name: str) -> None:
    """Each odd frame decodes to these events or kinds of `unknown`, and to nothing else."""
    frame, expected = ODD[name]
    assert kinds(frame) == expected


@pytest.mark.parametrize("name", [name for name in ODD if len(written(ODD[name][0])) < MAX_RAW_CHARS // 2])
def test_what_could_not_be_read_is_passed_on_whole(name: str) -> None:
    """The text of it, with a reason for people."""
    frame = written(ODD[name][0])
    for event in decode("market", frame):
        if isinstance(event, Unknown):
            assert event.kind in UNKNOWN_KINDS
            assert event.reason
            assert not event.truncated
            assert event.raw in frame.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("filler", ["x", "\x01", '"', "\\", "\u00e9", "\U0001f600", "\ud800"])
def test_a_long_frame_is_cut_so_that_it_fits_a_payload(filler: str) -> None:
    """Whatever it is made of, what comes of it stays under NATS' default of 1 MiB, and says that it was cut."""
    (event,) = decode("market", "{" + filler * 2**20)
    assert isinstance(event, Unknown)
    assert event.truncated
    assert len(encode_event(event)) < 2**20


@pytest.mark.parametrize(
    "stamp",
    [None, "", "x", "12 o'clock", "-5", 0, "0", "9" * 40, 10**30, "1" * 5000],
    ids=lambda stamp: repr(stamp)[:40],
)
def test_a_time_that_is_none_is_no_reason_to_lose_the_event(stamp: object) -> None:
    """It is null then."""
    (event,) = decode("market", json.dumps(book(M1) | {"timestamp": stamp}))
    assert isinstance(event, Book)
    assert event.source_time is None


def test_a_time_may_be_a_number() -> None:
    """As it was in some captures."""
    (event,) = decode("market", json.dumps(book(M1) | {"timestamp": 1750000000001}))
    assert event.source_time == 1750000000001


@given(st.permutations([".5", "0.49", "0.490001", "0.4", "1e-3", "0.999", "0.1000000000000000000000000001"]))
def test_best_level_first_to_the_last_digit(prices: list[str]) -> None:
    """Prices are ordered as decimals, not as floats nor as text, and kept as they were written."""
    ordered = sorted(prices, key=Decimal)
    sides = [{"price": price, "size": "1"} for price in prices]
    (event,) = decode("market", json.dumps(book(M1) | {"bids": sides, "asks": sides}))
    assert isinstance(event, Book)
    assert event.asks == [Level(price, "1") for price in ordered]
    assert event.bids == event.asks[::-1]


def test_decimals_are_kept_to_the_letter() -> None:
    """Also those that no canonical writer would write."""
    change = {
        "asset_id": M1,
        "price": ".50",
        "size": "0010.000",
        "side": "BUY",
        "best_bid": "0.5",
        "best_ask": "1",
    }
    (event,) = decode("market", written(price_change(M1) | {"price_changes": [change]}))
    assert isinstance(event, PriceChange)
    (read,) = event.changes
    assert (read.price, read.size, read.best_bid, read.best_ask) == (".50", "0010.000", "0.5", "1")


def test_a_new_field_is_told_once_and_counted() -> None:
    """Whichever way the frame is decoded: on the short way it shows soon enough."""
    dialect = MarketDialect()
    drifted = written(price_change(M1)).replace(b'"timestamp"', b'"shiny":1,"timestamp"')
    told = [
        event
        for _ in range(3 * DRIFT_EVERY)
        for _, event in dialect.read(drifted)
        if isinstance(event, Unknown)
    ]
    assert [(event.kind, event.raw) for event in told] == [("field", drifted.decode())]
    assert dialect.unknown_fields == {"price_change.shiny": 3}


def check(events: list[Event]) -> None:
    """What holds for all that decoding ever yields."""
    for event in events:
        payload = encode_event(event)
        assert decode_event(payload) == event
        assert parse_subject(subject_for(event)).family == event.family
        if isinstance(event, Book):
            prices = [Decimal(level.price) for level in event.bids]
            assert prices == sorted(prices, reverse=True)


@given(st.one_of(st.binary(), st.text(st.characters(), max_size=200), st.text('[]{}":,0 \\ud8', max_size=60)))
@example("\ud800{")
@example(b"\xc0\x80")
def test_any_text_or_bytes_decode(frame: bytes | str) -> None:
    """Decoding never raises, and yields events that can be published and read back."""
    check(decode("market", frame))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["NaN", "-1", "0.5", "Infinity", "", M1, M, "book", "price_change"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
SAMPLES: list[Any] = [
    book(M1),
    with_prices("0.1", "0.3", "0.2"),
    price_change(M1, M1),
    trade(M1),
    tick_size_change(M1),
    new_market(M)
    | {"event_message": {"id": "1", "slug": ""}, "fee_schedule": {"rate": "0.1"}, "tags": ["a"]},
    {
        "event_type": "best_bid_ask",
        "market": M,
        "asset_id": M1,
        "best_bid": "0.1",
        "best_ask": "",
        "spread": "",
    },
    {
        "event_type": "price_change",
        "market": M,
        "asset_id": M1,
        "changes": [{"price": "1", "size": "1", "side": "BUY"}],
    },
    [book(M1), price_change(M1)],
]


def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with one spot, at any depth, replaced, removed or added."""
    if isinstance(value, dict | list) and value and draw(st.integers(0, 4)):
        spots: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
        spot = draw(st.sampled_from(spots))
        changed = value.copy()
        match draw(st.sampled_from(["within", "within", "within", "remove", "add"])):
            case "within":
                changed[spot] = mutated(draw, value[spot])
            case "remove":
                del changed[spot]
            case _ if isinstance(changed, dict):
                changed[draw(st.sampled_from([*spots, "shiny"]))] = draw(JSON)
            case _:
                changed.append(draw(JSON))
        return changed
    return draw(JSON)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A sample frame with one to three spots changed."""
    value = draw(st.sampled_from(SAMPLES))
    for _ in range(draw(st.integers(1, 3))):
        value = mutated(draw, value)
    return written(json.dumps(value, separators=(",", ":")))


@given(mutations())
def test_any_mutation_of_a_sample_decodes(frame: bytes) -> None:
    """A frame that is JSON but not what we expect: likewise, and never as more events than elements allow."""
    check(decode("market", frame))


@given(st.sampled_from(SAMPLES), st.data())
def test_any_damage_to_a_sample_decodes(sample: Any, data: st.DataObject) -> None:
    """A frame with bytes cut off or replaced: likewise."""
    frame = bytearray(written(sample))
    at = data.draw(st.integers(0, len(frame) - 1))
    if data.draw(st.booleans()):
        del frame[at:]
    else:
        frame[at] = data.draw(st.integers(0, 255))
    check(decode("market", bytes(frame)))
