"""Control requests: what is understood, and what is said to what is not."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.control.replies import REPLIES, ErrorBody, ErrorReply, encode_reply
from polybus_protocol.control.requests import (
    MAX_ASSETS,
    REQUESTS,
    VERBS,
    RenewRequest,
    StatusRequest,
    SubscribeRequest,
    SubscriptionsRequest,
    UnsubscribeRequest,
    parse_request,
)
from polybus_protocol.errors import ControlError
from polybus_protocol.events import MARKET_EVENTS, type_of

ASSET = "7" * 77
MARKET_TYPES = [type_of(event) for event in MARKET_EVENTS]
MARKET = "0x" + "ab" * 32


def refusal(verb: str, payload: bytes) -> ControlError:
    with pytest.raises(ControlError) as caught:
        parse_request(verb, payload)
    return caught.value


GOOD: list[tuple[str, dict[str, Any], msgspec.Struct]] = [
    ("subscribe", {"types": ["new_market"]}, SubscribeRequest(types=["new_market"])),
    (
        "subscribe",
        {
            "feed": "market",
            "assets": [ASSET, "0"],
            "markets": [MARKET, "0x" + "A" * 62],
            "types": MARKET_TYPES,
            "owner": "me, myself",
            "id": "my-id_1",
            "ttl_s": 0.5,
            "deliver": "log",
            "wait": "data",
            "wait_timeout_s": 60,
        },
        SubscribeRequest(
            assets=[ASSET, "0"],
            markets=[MARKET, "0x" + "A" * 62],
            types=MARKET_TYPES,
            owner="me, myself",
            id="my-id_1",
            ttl_s=0.5,
            deliver="log",
            wait="data",
            wait_timeout_s=60.0,
        ),
    ),
    ("subscribe", {"assets": ["1"] * MAX_ASSETS}, SubscribeRequest(assets=["1"] * MAX_ASSETS)),
    ("unsubscribe", {"id": "a"}, UnsubscribeRequest(id="a")),
    ("unsubscribe", {"owner": "a", "id": None}, UnsubscribeRequest(owner="a")),
    ("renew", {"id": "a", "ttl_s": 60}, RenewRequest(id="a", ttl_s=60.0)),
    ("subscriptions", {"owner": "a", "assets": False}, SubscriptionsRequest(owner="a", assets=False)),
    ("status", {}, StatusRequest()),
]


@pytest.mark.parametrize("row", GOOD, ids=lambda row: f"{row[0]} {GOOD.index(row)}")
def test_what_is_understood(row: tuple[str, dict[str, Any], msgspec.Struct]) -> None:
    """A good request is read field by field; what is absent has its default."""
    verb, fields, request = row
    assert parse_request(verb, json.dumps(fields).encode()) == request


@pytest.mark.parametrize("verb", ["subscriptions", "status"])
def test_an_empty_payload_is_an_empty_object(verb: str) -> None:
    """As `nats req` sends it."""
    assert parse_request(verb, b"") == REQUESTS[verb]()


BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    (
        "subscribe",
        {"asset": [ASSET]},
        400,
        "asset",
        "no such field; the fields of 'subscribe' are feed, types,",
    ),
    ("subscribe", {"feed": "weather"}, 422, "feed", "market, user, rtds, polybolt, sports, not 'weather'"),
    (
        "subscribe",
        {},
        422,
        "assets",
        "name the token ids that are wanted; without any, the venue sends `new_market` only",
    ),
    ("subscribe", {"feed": 1}, 400, "feed", "Expected `str`, got `int`"),
    ("subscribe", {"assets": {}}, 400, "assets", "Expected `array`, got `object`"),
    ("subscribe", {"assets": [ASSET, 7]}, 400, "assets", "assets[1]: Expected `str`, got `int`"),
    ("subscribe", {"assets": [MARKET]}, 400, "assets", "looks like a condition id: put it in `markets`"),
    ("subscribe", {"assets": ["7" * 79]}, 400, "assets", "a decimal number of up to 78 digits"),
    ("subscribe", {"assets": [""]}, 400, "assets", "'' is not a token id"),
    ("subscribe", {"assets": ["\u0661"]}, 400, "assets", "is not a token id"),
    ("subscribe", {"assets": ["7\n"]}, 400, "assets", "is not a token id"),
    ("subscribe", {"assets": ["x" * 10_000]}, 400, "assets", "'" + "x" * 80 + "' is not a token id"),
    ("subscribe", {"assets": ["1"] * (MAX_ASSETS + 1)}, 400, "assets", "10001 in one request; split it"),
    ("subscribe", {"markets": [ASSET]}, 400, "markets", "looks like a token id: put it in `assets`"),
    ("subscribe", {"markets": ["0xyz"]}, 400, "markets", "not a condition id, `0x` and hex digits"),
    ("subscribe", {"types": ["books"]}, 400, "types", "'books' is not one of book, price_change,"),
    ("subscribe", {"types": ["gap"]}, 400, "types", "'gap' is not one of"),
    ("subscribe", {"owner": ""}, 400, "owner", "length >= 1"),
    ("subscribe", {"owner": "x" * 129}, 400, "owner", "length <= 128"),
    ("subscribe", {"assets": [ASSET], "id": ""}, 400, "id", "1 to 64 letters, digits, `-` or `_`"),
    ("subscribe", {"assets": [ASSET], "id": "a.b"}, 400, "id", "1 to 64 letters"),
    ("subscribe", {"assets": [ASSET], "id": "a" * 65}, 400, "id", "1 to 64 letters"),
    ("subscribe", {"ttl_s": 0}, 400, "ttl_s", "> 0"),
    ("subscribe", {"ttl_s": -1}, 400, "ttl_s", "> 0"),
    ("subscribe", {"ttl_s": 10**40}, 400, "ttl_s", "<= 31536000"),
    ("subscribe", {"ttl_s": "5"}, 400, "ttl_s", "Expected `float | null`, got `str`"),
    ("subscribe", {"ttl_s": True}, 400, "ttl_s", "got `bool`"),
    (
        "subscribe",
        {"assets": [ASSET], "deliver": "mail"},
        400,
        "deliver",
        "'mail' is not one of subjects, log",
    ),
    (
        "subscribe",
        {"assets": [ASSET], "wait": "long"},
        400,
        "wait",
        "'long' is not one of accepted, sent, data",
    ),
    ("subscribe", {"wait_timeout_s": 61}, 400, "wait_timeout_s", "<= 60"),
    ("unsubscribe", {}, 400, "id", "either the id of a subscription or an owner"),
    ("unsubscribe", {"id": "a", "owner": "b"}, 400, "id", "either the id of a subscription or an owner"),
    ("unsubscribe", {"id": "", "owner": ""}, 400, "id", "either the id of a subscription or an owner"),
    ("unsubscribe", {"id": 7}, 400, "id", "Expected `str | null`, got `int`"),
    ("renew", {}, 400, "id", "either the id of a subscription or an owner"),
    ("renew", {"id": "a", "ttl_s": 0}, 400, "ttl_s", "> 0"),
    ("subscriptions", {"assets": "yes"}, 400, "assets", "Expected `bool`, got `str`"),
    (
        "subscriptions",
        {"token_ids": []},
        400,
        "token_ids",
        "the fields of 'subscriptions' are request_id, deadline, id, owner, assets",
    ),
    ("status", {"verbose": True}, 400, "verbose", "the fields of 'status' are request_id, deadline"),
]


@pytest.mark.parametrize("row", BAD, ids=lambda row: f"{row[0]} {row[3]} {BAD.index(row)}")
def test_what_is_refused(row: tuple[str, dict[str, Any], int, str, str]) -> None:
    """A bad request is refused with a code, the field to blame, and what would be right."""
    verb, fields, code, field, text = row
    error = refusal(verb, json.dumps(fields).encode())
    assert (error.code, error.field) == (code, field)
    assert text in error.message
    assert str(error) == error.message
    assert len(error.message) < 350


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"null", b"7", b"{", b"\xff", b'{"id":"\xff"}', b'{"id":"\\ud800"}', b'{"ttl_s":NaN}', b"{} {}"]
    + [opening * 100_000 for opening in (b"[", b'{"a":')],
    ids=lambda payload: str(payload[:20]),
)
@pytest.mark.parametrize("verb", VERBS)
def test_what_is_no_object(verb: str, payload: bytes) -> None:
    """Anything but a JSON object is refused as such, to any depth."""
    error = refusal(verb, payload)
    assert (error.code, error.field) == (400, None)
    assert "not a JSON object" in error.message


FIELDS = sorted({field for request in REQUESTS.values() for field in request.__struct_fields__})
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.one_of(st.text(max_size=3), st.integers(), st.just(ASSET)), max_size=3),
)


@given(
    st.sampled_from(VERBS),
    st.one_of(
        st.binary(), st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), VALUES).map(json.dumps)
    ),
)
def test_any_payload_is_answered(verb: str, payload: bytes | str) -> None:
    """It is understood or refused, never anything else; a refusal makes a reply."""
    data = payload.encode() if isinstance(payload, str) else payload
    try:
        request = parse_request(verb, data)
    except ControlError as error:
        reply = ErrorReply(ErrorBody(error.code, error.message, error.field, error.retry_after_s))
        assert msgspec.json.decode(encode_reply(reply), type=ErrorReply) == reply
    else:
        assert type(request) is REQUESTS[verb]


def test_every_verb_has_a_request_and_a_reply() -> None:
    """Under the same name."""
    assert tuple(REQUESTS) == tuple(REPLIES) == VERBS
