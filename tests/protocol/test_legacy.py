"""The terms of the manager that polybus replaced."""

import json
from typing import Any

import pytest

from polybus_protocol.control import SubscribeRequest, parse_request
from polybus_protocol.errors import ControlError
from polybus_protocol.legacy import FIELDS, modernise

ASSET = "7" * 77
MARKET = "0x" + "ab" * 32


def request(**fields: Any) -> SubscribeRequest:
    parsed = parse_request("subscribe", json.dumps(fields).encode())
    assert isinstance(parsed, SubscribeRequest)
    return parsed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("price_change", "price_change"),
        ("agg_orderbook", "book"),
        ("orderbook_update", "book"),
        ("last_trade_price", "last_trade_price"),
        ("tick_size_change", "tick_size_change"),
        ("market_created", "new_market"),
        ("market_resolved", "market_resolved"),
    ],
)
def test_event_types(old: str, new: str) -> None:
    """Every event type it had on the market channel, in its own terms and among today's."""
    assert request(event_type=old, channel="market", token_ids=[ASSET]) == SubscribeRequest(
        types=[new], assets=[ASSET]
    )
    assert request(types=[old, "best_bid_ask"]).types == [new, "best_bid_ask"]


@pytest.mark.parametrize(("old", "new"), [("notification", "subjects"), ("log", "log")])
def test_callback_types(old: str, new: str) -> None:
    """A notification is a message on a subject; a log line is one still."""
    assert request(callback_type=old).deliver == new


def test_a_whole_request_of_old() -> None:
    """As the old manager was asked, absent filters as null."""
    old = {
        "event_type": "agg_orderbook",
        "channel": "market",
        "market_ids": [MARKET],
        "token_ids": None,
        "callback_type": "notification",
    }
    assert request(**old) == SubscribeRequest(types=["book"], markets=[MARKET])


@pytest.mark.parametrize(("old", "new"), FIELDS.items())
def test_field_names(old: str, new: str) -> None:
    """Each old name leads to today's field."""
    values: dict[str, Any] = {"types": ["book"], "assets": [ASSET], "markets": [MARKET], "deliver": "log"}
    value = values.get(new, "market")
    assert getattr(request(**{old: value}), new) == value


def test_one_value_is_a_list_of_one() -> None:
    """For each field that holds a list, under either name."""
    assert request(token_ids=ASSET, market_ids=MARKET, types="book") == request(
        assets=[ASSET], markets=[MARKET], types=["book"]
    )


@pytest.mark.parametrize("channel", ["user", "activity", "crypto_prices"])
def test_channels_this_version_does_not_serve(channel: str) -> None:
    """They are valid requests that this gateway cannot serve: 422, under today's name of the field."""
    with pytest.raises(ControlError, match=f"not '{channel}'") as caught:
        request(channel=channel, event_type="order")
    assert (caught.value.code, caught.value.field) == (422, "feed")


@pytest.mark.parametrize(
    "fields", [{"channel": "market", "feed": "market"}, {"types": [], "event_type": "book"}]
)
def test_no_field_under_two_names(fields: dict[str, Any]) -> None:
    """It would be anybody's guess which one is meant: 400, naming the second."""
    with pytest.raises(ControlError, match="twice, under two names") as caught:
        request(**fields)
    assert (caught.value.code, caught.value.field) == (400, list(fields)[1])


def test_todays_terms_are_left_as_they_are() -> None:
    """So a modern request passes through unchanged."""
    modern = {
        "feed": "market",
        "assets": [ASSET],
        "types": ["book"],
        "deliver": "log",
        "owner": "me",
        "ttl_s": 5,
    }
    assert modernise(modern) == modern


@pytest.mark.parametrize(
    "fields", [{"event_type": 7}, {"types": [7]}, {"callback_type": []}, {"channel": {}}]
)
def test_values_of_another_kind_are_left_to_the_check(fields: dict[str, Any]) -> None:
    """Which names today's field."""
    with pytest.raises(ControlError) as caught:
        request(**fields)
    assert (caught.value.code, caught.value.field) == (400, FIELDS.get(next(iter(fields)), "types"))
