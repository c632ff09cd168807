"""PolyBolt: every sample frame, its answers and its numbering, what newer frames say, and odd input."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import LocalProtocolError, Unknown, decode, subject_for
from polybus_protocol.events import PriceQuote, PriceSnapshot, PriceUpdate
from polybus_protocol.feeds.credentials import Credentials
from polybus_protocol.feeds.polybolt import (
    ERROR_CODES,
    MAX_REQUEST_BYTES,
    MAX_SUBSCRIPTIONS,
    PolyboltDialect,
    key_for,
)
from polybus_protocol.feeds.polybolt_wire import WireRequest
from polybus_protocol.feeds.reading import Reply, Upstream

from .samples import Samples, heard, mutated, survives, wire

SAMPLES = Samples("polybolt")
CREDENTIALS = Credentials("00000000-0000-4000-8000-000000000000", "<api secret>", "<api passphrase>")
ASSET = "21742633143463906290569050155826241533067272736897614950488156847949938836455"
UPDATE: dict[str, Any] = SAMPLES.frames["price_crypto_update.json"]

DIALECT = PolyboltDialect(CREDENTIALS)
SAID = {
    "auth.json": DIALECT.admission(),
    "ping.json": DIALECT.ping,
    "subscribe_batch.json": DIALECT.opening([f"price.polymarket:{ASSET}", "price.crypto:btcusd"]),
    "subscribe_single.json": DIALECT.subscribe(["price.crypto.twap:btcusd"]),
    "unsubscribe.json": DIALECT.unsubscribe(["price.crypto:btcusd"]),
}

NEVER_SAID = {"challenge.json": "what it is for is not explained"}


def update(channel: str = "price.crypto", **payload: Any) -> dict[str, Any]:
    """A frame with a price."""
    return UPDATE | {"channel": channel, "payload": UPDATE["payload"] | payload}


def read_price(frame: dict[str, Any]) -> PriceUpdate:
    """The one price of a frame."""
    (event,) = decode("polybolt", wire(frame))
    assert isinstance(event, PriceUpdate)
    return event


def test_the_table_is_complete() -> None:
    """Each sample has a row, on the side it belongs to."""
    assert set(SAMPLES.becomes) == SAMPLES.inbound
    assert SAID.keys() | NEVER_SAID.keys() == SAMPLES.outbound


@pytest.mark.parametrize("file", sorted(SAMPLES.inbound))
def test_a_frame_from_the_venue(file: str) -> None:
    """Each sample becomes exactly what the index says."""
    assert heard(PolyboltDialect(), SAMPLES.frames[file]) == SAMPLES.becomes[file]


@pytest.mark.parametrize("file", sorted(SAID))
def test_a_frame_to_the_venue(file: str) -> None:
    """For the same keys, in the same order, we say the same."""
    said = SAID[file]
    assert said is not None
    assert json.loads(said) == SAMPLES.frames[file]


@pytest.mark.parametrize("file", sorted(SAMPLES.outbound))
def test_what_clients_say_is_understood(file: str) -> None:
    """The wire struct holds every form of request, also those we do not make."""
    request = msgspec.convert(SAMPLES.frames[file], WireRequest)
    assert msgspec.to_builtins(request) == SAMPLES.frames[file]


def test_a_provider_is_asked_for() -> None:
    """For prices, not for quotes, which are the venue's own."""
    said = PolyboltDialect(provider="chainlink").opening(
        ["price.equity.twap:aapl", f"price.polymarket:{ASSET}"]
    )
    assert json.loads(said or "")["subscriptions"] == [
        {
            "channel": "price.equity.twap",
            "filter": {"symbol": "aapl", "window_seconds": 60, "provider": "chainlink"},
        },
        {"channel": "price.polymarket", "filter": {"asset_id": ASSET}},
    ]


def test_a_full_batch_fits_a_frame() -> None:
    """With room to spare, so that no connection needs two."""
    keys = [key_for("price.polymarket", f"{number:078}") for number in range(MAX_SUBSCRIPTIONS)]
    assert 0 < len(PolyboltDialect().opening(keys) or "") < MAX_REQUEST_BYTES / 4


@pytest.mark.parametrize("key", ["", "price.crypto", "price.crypto:", ":btcusd"])
def test_a_key_that_is_none(key: str) -> None:
    """It is refused here, in words, and not by a close code there."""
    with pytest.raises(LocalProtocolError, match="`channel:symbol`"):
        PolyboltDialect().subscribe([key])


def test_nothing_to_say() -> None:
    """Without keys or without credentials."""
    dialect = PolyboltDialect()
    assert dialect.admission() is dialect.subscribe([]) is dialect.unsubscribe([]) is None


@pytest.mark.parametrize("code", [*ERROR_CODES, "brand_new", None])
def test_every_refusal_is_told(code: str | None) -> None:
    """To the session as a `Reply`, to people as an `unknown` event with the code in words."""
    frame = {"op": "error", "code": code, "channel": "price.crypto", "rid": "s1"}
    (_, reply), (_, refused) = PolyboltDialect().read(wire(frame))
    assert reply == Reply("error", "s1", "price.crypto", code)
    assert isinstance(refused, Unknown)
    assert refused.kind == "refused"
    assert (code or "no code") in refused.reason
    assert ERROR_CODES.get(code or "", "") in refused.reason


def test_which_keys_an_answer_is_about() -> None:
    """Those of the request with its `rid`, on its channel if it names one."""
    dialect = PolyboltDialect()
    crypto, equity = "price.crypto:btcusd", "price.equity:aapl"
    dialect.opening([crypto, equity])
    assert dialect.asked_by(Reply("error", "s1")) == (crypto, equity)
    assert dialect.asked_by(Reply("subscribed", "s1", "price.equity")) == (equity,)
    assert dialect.asked_by(Reply("error", "s2")) == dialect.asked_by(Reply("authed")) == ()
    for _ in range(1000):
        dialect.subscribe([crypto])
    assert dialect.asked_by(Reply("error", "s1")) == ()
    assert dialect.asked_by(Reply("error", "s1001")) == (crypto,)


def test_the_number_comes_before_the_event() -> None:
    """So that a gap can be told before what follows it; also where the payload cannot be read."""
    (_, upstream), (key, _) = PolyboltDialect().read(wire(UPDATE | {"dropped": 2}))
    assert (upstream, key) == (Upstream("price.crypto", 2, 2), "price.crypto:btcusd")
    for payload in ({}, 7, None, {"symbol": "btcusd"}, {"symbol": "", "value": 1}):
        (_, upstream), (_, event) = PolyboltDialect().read(wire(UPDATE | {"payload": payload}))
        assert upstream == Upstream("price.crypto", 2)
        assert isinstance(event, Unknown)
        assert event.kind == "malformed"


@pytest.mark.parametrize(
    "envelope",
    [
        {"v": 2},
        {"v": None},
        {"v": "1"},
        {"v": 1.5},
        {"seq": -1},
        {"seq": 1.5},
        {"seq": "2"},
        {"seq": None},
        {"seq": True},
        {"dropped": -1},
        {"dropped": "x"},
    ],
    ids=str,
)
def test_an_envelope_that_cannot_be_trusted(envelope: dict[str, Any]) -> None:
    """Another version, or a number that is none, is passed on raw, as a loss."""
    ((key, event),) = PolyboltDialect().read(wire(UPDATE | envelope))
    assert key is None
    assert isinstance(event, Unknown)
    assert event.kind == "malformed"


@pytest.mark.parametrize(
    ("channel", "class_", "window_s", "source"),
    [
        ("price.crypto", "crypto", None, "pyth"),
        ("price.crypto.twap", "crypto_twap", 60, "chainlink"),
        ("price.equity", "equity", None, None),
        ("price.equity.twap", "equity_twap", 60, None),
        ("price.metal", "metal", None, None),
    ],
)
def test_what_a_channel_implies(channel: str, class_: str, window_s: int | None, source: str | None) -> None:
    """Its class, its window and, by the venue's pages, its source; new channels are read all the same."""
    event = read_price(update(channel))
    assert (event.class_, event.window_s, event.source) == (class_, window_s, source)
    assert subject_for(event) == f"polymarket.v1.price.{class_}.btcusd.update"
    assert read_price(update(channel, source="Chainlink")).source == "chainlink"


@pytest.mark.parametrize(
    "channel", ["price", "price.", "price.Crypto", "book.crypto", "price.crypto btc", "x" * 999]
)
def test_a_channel_that_is_no_price(channel: str) -> None:
    """It is passed on raw."""
    (event,) = decode("polybolt", wire(update(channel)))
    assert isinstance(event, Unknown)
    assert event.kind == "event"
    assert len(event.reason) < 200


def test_the_state_of_an_exchange() -> None:
    """`market_status` as stated; one that is not stated is not open."""
    closed = read_price(update("price.equity", market_status="closed", is_carried_forward=True))
    assert (closed.market_status, closed.carried_forward) == ("closed", True)
    assert read_price(update("price.equity")).market_status is None


def test_an_empty_snapshot() -> None:
    """A subscription to a silent symbol is answered as well; the source and the state stand in it."""
    payload = {"symbol": "AAPL", "data": [], "source": "pyth", "market_status": "unknown"}
    (event,) = decode(
        "polybolt", wire(UPDATE | {"channel": "price.equity", "snapshot": True, "payload": payload})
    )
    assert isinstance(event, PriceSnapshot)
    assert (event.symbol, event.points, event.source, event.market_status) == ("aapl", [], "pyth", "unknown")


@pytest.mark.parametrize("written", ["0.1", "25.5", "1e-7", "65001", "64125.25000000", "9" * 40])
def test_a_number_keeps_its_digits(written: str) -> None:
    """The exact value as it stands, and the approximate one where there is no other."""
    assert read_price(update(value=1.5, full_accuracy_value=written)).value == written
    frame = wire(update(full_accuracy_value=None)).replace(b"64125.25", written.encode(), 1)
    (event,) = decode("polybolt", frame)
    assert isinstance(event, PriceUpdate)
    assert event.value == written


def test_a_quote_has_its_own_subject() -> None:
    """It never mixes with the numbered stream of the market feed."""
    (event,) = decode("polybolt", wire(SAMPLES.frames["price_polymarket_snapshot.json"]))
    assert isinstance(event, PriceQuote)
    assert subject_for(event) == f"polymarket.v1.price.polymarket.{ASSET}.quote"


def test_unknown_fields_are_counted_and_shown_once() -> None:
    """Of the envelope, of the payload and of an answer."""
    dialect = PolyboltDialect()
    for _ in range(2):
        dialect.read(wire(update(shiny=1) | {"gloss": 1}))
        dialect.read(wire({"op": "pong", "glint": 1}))
    assert dialect.unknown_fields == {"envelope.gloss": 2, "price.crypto.shiny": 2, "pong.glint": 2}


@given(st.binary() | st.text().map(lambda text: "{" + text) | mutated(SAMPLES.json_frames))
def test_nothing_raises(frame: bytes | str) -> None:
    """Noise and mutated samples alike."""
    survives("polybolt", wire(frame) if isinstance(frame, str) else frame)
