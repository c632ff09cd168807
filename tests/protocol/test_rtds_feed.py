"""RTDS: every sample frame, exact decimals out of JSON numbers, refusals, and odd input."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import LocalProtocolError, Unknown, decode
from polybus_protocol.events import ActivityTrade, PriceSnapshot, PriceUpdate
from polybus_protocol.feeds.prices import plain_symbol
from polybus_protocol.feeds.reading import Word
from polybus_protocol.feeds.rtds import PRICES, RtdsDialect, refusal
from polybus_protocol.feeds.rtds_wire import WireRequest
from polybus_protocol.feeds.values import scaled

from .samples import Samples, heard, mutated, survives, wire

SAMPLES = Samples("rtds")
TRADE = wire(SAMPLES.frames["activity_trades.json"])
WALLET = "0x4ca749dcfa93c87e5ee23e2d21ff4422c7a4c1ee"

DIALECT = RtdsDialect()
SAID = {
    "ping.json": DIALECT.ping,
    "subscribe_activity.json": DIALECT.opening(
        ["activity/trades", 'activity/orders_matched#{"event_slug":"nvda-above-in-january-2026"}']
    ),
    "subscribe_activity_market_slug.json": DIALECT.opening(
        ['activity/orders_matched#{"market_slug":"nvda-above-240-on-january-30-2026"}']
    ),
    "subscribe_comments.json": DIALECT.subscribe(
        ['comments/*#{"parentEntityID":18396,"parentEntityType":"Event"}']
    ),
    "subscribe_comments_gamma_auth.json": RtdsDialect(WALLET).subscribe(["comments/comment_created"]),
    "subscribe_crypto_prices.json": DIALECT.subscribe(["crypto_prices/update#solusdt,btcusdt,ethusdt"]),
    "subscribe_crypto_prices_all.json": DIALECT.subscribe(["crypto_prices/update"]),
    "subscribe_crypto_prices_chainlink.json": DIALECT.subscribe(
        ['crypto_prices_chainlink/*#{"symbol":"eth/usd"}']
    ),
    "subscribe_crypto_prices_json_filter.json": DIALECT.subscribe(
        ['crypto_prices/update#{"symbol":"btcusdt"}']
    ),
    "subscribe_crypto_prices_twap_sixty.json": DIALECT.subscribe(
        ['crypto_prices_twap_sixty/update#{"symbol":"btc/usd"}']
    ),
    "subscribe_equity_prices.json": DIALECT.subscribe(['equity_prices/update#{"symbol":"AAPL"}']),
    "subscribe_rfq.json": DIALECT.subscribe(["rfq/*"]),
    "unsubscribe.json": DIALECT.unsubscribe(["crypto_prices/update"]),
}

NEVER_SAID = {
    "ping_lowercase.json": "an old client's; the venue may not answer it",
    "subscribe_clob_market.json": "retired",
    "subscribe_clob_user.json": "retired",
}
"""What other clients say or said, and why we do not."""


def price(topic: str, **payload: Any) -> bytes:
    """A frame of a price topic."""
    fields = {"symbol": "btcusdt", "timestamp": 1753314064213} | payload
    return wire({"topic": topic, "type": "update", "timestamp": 1753314064237, "payload": fields})


def read_price(frame: bytes) -> PriceUpdate:
    """The one price of a frame."""
    (event,) = decode("rtds", frame)
    assert isinstance(event, PriceUpdate)
    return event


def test_the_table_is_complete() -> None:
    """Each sample has a row, on the side it belongs to."""
    assert set(SAMPLES.becomes) == SAMPLES.inbound
    assert SAID.keys() | NEVER_SAID.keys() == SAMPLES.outbound


@pytest.mark.parametrize("file", sorted(SAMPLES.inbound))
def test_a_frame_from_the_venue(file: str) -> None:
    """Each sample becomes exactly what the index says."""
    assert heard(RtdsDialect(), SAMPLES.frames[file]) == SAMPLES.becomes[file]


@pytest.mark.parametrize("file", sorted(SAID))
def test_a_frame_to_the_venue(file: str) -> None:
    """For the same keys we say the same, to the letter within a filter."""
    said, sample = SAID[file], SAMPLES.frames[file]
    assert said is not None
    assert (said if isinstance(sample, str) else json.loads(said)) == sample


@pytest.mark.parametrize("file", sorted(SAMPLES.outbound - {"ping.json", "ping_lowercase.json"}))
def test_what_clients_say_is_understood(file: str) -> None:
    """The wire struct holds every form of request, also those we do not make."""
    request = msgspec.convert(SAMPLES.frames[file], WireRequest)
    assert msgspec.to_builtins(request) == SAMPLES.frames[file]


@pytest.mark.parametrize("topic", ["clob_market", "clob_user"])
def test_a_retired_topic_is_refused(topic: str) -> None:
    """With the reason and the feed to go to, before anything is said."""
    why = refusal(f"{topic}/*")
    assert why is not None
    assert topic.removeprefix("clob_") in why.rpartition("use the feed")[2]
    with pytest.raises(LocalProtocolError, match="no longer carries CLOB"):
        DIALECT.subscribe(["activity/trades", f"{topic}/*"])


@pytest.mark.parametrize("interest", ["", "activity", "activity/", "/trades", "#", "/#"])
def test_an_interest_that_is_none(interest: str) -> None:
    """It is refused, since one bad topic silences the whole message."""
    assert refusal(interest) is not None
    assert refusal("activity/trades") is refusal("something_new/*") is None


@pytest.mark.parametrize(
    ("file", "keys", "answered"),
    [
        ("activity_trades", ["activity/trades"], ["activity/trades"]),
        ("activity_trades", ["activity/*"], ["activity/*"]),
        ("activity_trades", ["activity/*", "activity/trades"], ["activity/trades", "activity/*"]),
        ("activity_orders_matched", ["activity/trades"], []),
        ("comment_created", ["activity/*"], []),
        ("activity_trades", ["activity/*?event_slug={event_slug}"], ["activity/*?event_slug={event_slug}"]),
        ("activity_trades", ["activity/*?market={market}"], ["activity/*?market={market}"]),
        ("activity_trades", ["activity/trades?market=0x1", "activity/*?event_slug=other"], []),
        ("activity_trades", ["activity/*?symbol=None", "activity/*?event_slug=None"], []),
        ("crypto_prices_update", ["crypto_prices/*?symbol={symbol}"], ["crypto_prices/*?symbol={symbol}"]),
        ("crypto_prices_update", ["crypto_prices/*?symbol=dogeusd", "crypto_prices_chainlink/*"], []),
    ],
)
def test_what_answers_what(file: str, keys: list[str], answered: list[str]) -> None:
    """By topic, by type and by our own filters: all that fit, and no other."""
    ((key, event), *_) = RtdsDialect().read(wire(SAMPLES.frames[f"{file}.json"]))
    assert key is not None
    ids = {name: getattr(event, name, "") for name in ("event_slug", "market", "symbol")}
    wanted = [each.format_map(ids) for each in keys]
    assert RtdsDialect().answers(key, event, wanted) == [each.format_map(ids) for each in answered]


def test_a_topic_is_asked_for_once() -> None:
    """Our own filters are none of the venue's business; the topic goes back with the last that wanted it."""
    dialect = RtdsDialect()
    btc, eth, every = "crypto_prices/*?symbol=btcusd", "crypto_prices/*?symbol=ethusd", "crypto_prices/*"
    topic = {"topic": "crypto_prices", "type": "*"}
    assert json.loads(dialect.opening([btc])) == {"action": "subscribe", "subscriptions": [topic]}
    assert dialect.subscribe([eth, every]) is None
    assert dialect.unsubscribe([btc, every]) is None
    assert json.loads(dialect.unsubscribe([eth]) or "") == {"action": "unsubscribe", "subscriptions": [topic]}
    assert json.loads(dialect.subscribe([eth, btc]) or "") == {
        "action": "subscribe",
        "subscriptions": [topic],
    }


def test_a_new_socket_is_asked_for_everything_again() -> None:
    """What was asked of the one before counts no longer."""
    dialect = RtdsDialect()
    dialect.opening(["activity/*"])
    dialect.subscribe(["activity/*?market=0x1"])
    assert json.loads(dialect.opening(["activity/*"]))["subscriptions"]
    assert json.loads(dialect.unsubscribe(["activity/*"]) or "")["action"] == "unsubscribe"


@pytest.mark.parametrize("word", [b"", b"PONG", b"pong"])
def test_pongs(word: bytes) -> None:
    """The empty frame is the pong the venue sends, and never reaches the JSON parser."""
    assert DIALECT.words[word] is Word.KEEPALIVE
    assert decode("rtds", word) == []


@pytest.mark.parametrize(
    "written", ["0.1", "25.5", "1e-7", "65001", "0.48", "1E+2", "-0.0", "0.30000000000000004", "9" * 40]
)
def test_a_number_keeps_its_digits(written: str) -> None:
    """A JSON number reaches the consumer as the venue wrote it, as does one within a string."""
    for value in (written, f'"{written}"'):
        frame = price("crypto_prices", value="here").replace(b'"here"', value.encode())
        assert read_price(frame).value == written
        (trade,) = decode(
            "rtds",
            TRADE.replace(b":0.48", b":" + value.encode()).replace(
                b'"size":25.5', b'"size":' + value.encode()
            ),
        )
        assert isinstance(trade, ActivityTrade)
        assert trade.price == trade.size == written


@pytest.mark.parametrize(
    "value", ['"much"', "true", "{}", "[]", '"NaN"', '"Infinity"', "null", '""', '"0x10"']
)
def test_what_is_no_number_is_no_price(value: str) -> None:
    """It is passed on raw, as a loss."""
    (event,) = decode("rtds", TRADE.replace(b"0.48", value.encode()))
    assert isinstance(event, Unknown)
    assert event.kind == "malformed"


@pytest.mark.parametrize("topic", sorted(PRICES))
def test_the_exact_price_counts(topic: str) -> None:
    """`full_accuracy_value` over `value`; scaled where the topic scales it."""
    scale = 10**18 if PRICES[topic].digits else 1
    event = read_price(price(topic, value=65000.9, full_accuracy_value=str(65001 * scale)))
    assert event.value == "65001"
    assert read_price(price(topic, value=1.25, full_accuracy_value="")).value == "1.25"
    assert read_price(price(topic, value=1.25)).value == "1.25"


@pytest.mark.parametrize(
    ("integer", "price"),
    [
        ("65001000000000000000000", "65001"),
        ("3456780000000000000000", "3456.78"),
        ("1", "0.000000000000000001"),
        ("0", "0"),
        ("-1500000000000000000", "-1.5"),
        ("123456789012345678901234567890", "123456789012.34567890123456789"),
        ("65001.5", "65001.5"),
    ],
)
def test_scaling_is_exact(integer: str, price: str) -> None:
    """No digit is lost, none is added; what has a point is no scaled integer."""
    assert scaled(integer, 18) == price


@pytest.mark.parametrize(
    ("symbol", "class_", "plain"),
    [
        ("btcusdt", "crypto", "btcusd"),
        ("btc/usd", "crypto", "btcusd"),
        ("BTCUSD", "crypto", "btcusd"),
        ("BTC-USD", "crypto_twap", "btcusd"),
        ("usdcusdt", "crypto", "usdcusd"),
        ("usdt/usd", "crypto", "usdtusd"),
        ("AAPL", "equity", "aapl"),
        ("BRK.B", "equity", "brk.b"),
    ],
)
def test_one_spelling_of_a_symbol(symbol: str, class_: str, plain: str) -> None:
    """Prices of the same thing meet on one subject."""
    assert plain_symbol(symbol, class_) == plain


def test_a_snapshot() -> None:
    """Each point with its own exact value and time; an empty one is one too."""
    points = [
        {"timestamp": 1, "value": 1.5},
        {"timestamp": 1753314062000, "full_accuracy_value": "2" + "0" * 18},
    ]
    (event,) = decode(
        "rtds", price("crypto_prices_chainlink", data=points).replace(b'"update"', b'"subscribe"')
    )
    assert isinstance(event, PriceSnapshot)
    assert [(point.time, point.value) for point in event.points] == [(1000, "1.5"), (1753314062000, "2")]
    (event,) = decode("rtds", price("equity_prices", data=[]).replace(b'"update"', b'"subscribe"'))
    assert isinstance(event, PriceSnapshot)
    assert event.points == []


@pytest.mark.parametrize(
    ("frame", "kind", "words"),
    [
        ({"statusCode": 400, "body": {"message": "no CLOB"}}, "refused", "status 400: no CLOB"),
        ({"statusCode": 503}, "refused", "status 503"),
        ({"message": "Invalid request body"}, "refused", "Invalid request body"),
        ({"error": "x" * 5000}, "refused", "x" * 100),
        ({"body": 7, "message": ["odd"]}, "event", "no topic"),
        ({}, "event", "no topic"),
        ({"topic": "activity", "type": "new"}, "event", "'activity/new'"),
        ({"topic": "activity", "type": "trades"}, "malformed", "object"),
        ({"topic": "clob_market", "type": "new", "payload": {}}, "event", "retired"),
        ({"topic": "clob_market", "type": "price_change"}, "malformed", "object"),
        ({"topic": "clob_market", "type": "agg_orderbook", "payload": {}}, "event", "retired"),
        ({"topic": "clob_user", "type": "order", "payload": {"owner": "key"}}, "event", "retired"),
    ],
    ids=str,
)
def test_what_is_passed_on_raw(frame: dict[str, Any], kind: str, words: str) -> None:
    """With the reason in words, and never a key."""
    (event,) = decode("rtds", wire(frame))
    assert isinstance(event, Unknown)
    assert event.kind == kind
    assert words in event.reason
    assert '"owner":"key"' not in event.raw


def test_unknown_fields_are_counted_and_shown_once() -> None:
    """Of the envelope, of the payload and of what is within it."""
    dialect = RtdsDialect()
    frame = SAMPLES.frames["comment_created.json"]
    payload = frame["payload"] | {"shiny": 1, "profile": frame["payload"]["profile"] | {"glint": 1}}
    kinds = [
        type(event).__name__
        for _ in range(2)
        for _, event in dialect.read(wire(frame | {"payload": payload, "gloss": 1}))
    ]
    assert kinds == ["CommentCreated", *["Unknown"] * 3, "CommentCreated"]
    comment = "comments/comment_created"
    assert dialect.unknown_fields == {
        "envelope.gloss": 2,
        f"{comment}.shiny": 2,
        f"{comment}.profile.glint": 2,
    }


def test_a_bad_element_harms_no_other() -> None:
    """In an array, each stands for itself."""
    events = decode("rtds", b"[" + TRADE + b',7,{"topic":"new"},' + TRADE + b"]")
    kinds = [getattr(event, "kind", type(event).__name__) for event in events]
    assert kinds == ["ActivityTrade", "malformed", "event", "ActivityTrade"]


@given(st.binary() | st.text().map(lambda text: "{" + text) | mutated(SAMPLES.json_frames))
def test_nothing_raises(frame: bytes | str) -> None:
    """Noise and mutated samples alike."""
    survives("rtds", wire(frame) if isinstance(frame, str) else frame)
