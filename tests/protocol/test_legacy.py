"""The terms of the manager that polybus replaced."""

import json
from typing import Any

import msgspec
import pytest

from polybus_protocol.control.asking import keys_of, subjects_of
from polybus_protocol.control.requests import SubscribeRequest, parse_request
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
    assert request(types=[old, "best_bid_ask"], assets=[ASSET]).types == [new, "best_bid_ask"]


@pytest.mark.parametrize(("old", "new"), [("notification", "subjects"), ("log", "log")])
def test_callback_types(old: str, new: str) -> None:
    """A notification is a message on a subject; a log line is one still."""
    assert request(callback_type=old, token_ids=[ASSET]).deliver == new


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
    rest = {} if new == "assets" else {"assets": [ASSET]}
    assert getattr(request(**{old: value}, **rest), new) == value


def test_one_value_is_a_list_of_one() -> None:
    """For each field that holds a list, under either name."""
    assert request(token_ids=ASSET, market_ids=MARKET, types="book") == request(
        assets=[ASSET], markets=[MARKET], types=["book"]
    )


EVERY_OLD_REQUEST: dict[tuple[str, str], tuple[str, list[str], list[str]]] = {
    ("user", "order"): ("user", [MARKET], [f"user.main.{MARKET}.order"]),
    ("user", "trade"): ("user", [MARKET], [f"user.main.{MARKET}.trade"]),
    ("market", "price_change"): ("market", [ASSET], [f"market.*.{ASSET}.price_change"]),
    ("market", "agg_orderbook"): ("market", [ASSET], [f"market.*.{ASSET}.book"]),
    ("market", "last_trade_price"): ("market", [ASSET], [f"market.*.{ASSET}.last_trade_price"]),
    ("market", "tick_size_change"): ("market", [ASSET], [f"market.*.{ASSET}.tick_size_change"]),
    ("market", "market_created"): ("market", [ASSET], ["market.*._.new_market", "market._._.gap"]),
    ("market", "market_resolved"): ("market", [ASSET], ["market.*._.market_resolved"]),
    ("activity", "trades"): ("rtds", [f"activity/trades?market={MARKET}"], [f"activity.*.{MARKET}.trades"]),
    ("activity", "orders_matched"): (
        "rtds",
        [f"activity/orders_matched?market={MARKET}"],
        [f"activity.*.{MARKET}.orders_matched"],
    ),
    ("crypto_prices", "update"): ("rtds", ["crypto_prices/*"], ["price.crypto.*.update"]),
}
"""All channels and event types there were, and what they lead to: feed, keys and subjects, gaps apart."""


@pytest.mark.parametrize("named", ["channel and type", "type only"])
@pytest.mark.parametrize(("channel", "event_type"), EVERY_OLD_REQUEST)
def test_every_request_of_old(channel: str, event_type: str, named: str) -> None:
    """From the fields it had to the keys that are asked of the venue, and the subjects to listen on."""
    feed, keys, subjects = EVERY_OLD_REQUEST[channel, event_type]
    fields: dict[str, Any] = {"event_type": event_type, "callback_type": "notification"}
    if named == "channel and type":
        fields["channel"] = channel
    if channel != "crypto_prices":
        fields["market_ids"] = [MARKET]
    if channel == "market":
        fields["token_ids"] = [ASSET]
    wish = request(**fields)
    if feed == "user":
        wish = msgspec.structs.replace(wish, account="main")  # as the gateway does that has one account

    assert (wish.feed, keys_of(wish)) == (feed, keys)
    heads = {subject.rpartition(".")[0] for subject in subjects}
    gaps = {f"{head}.gap" for head in heads if "._" not in head}
    assert set(subjects_of(wish, "p")) == {f"p.{subject}" for subject in {*subjects, *gaps}}


@pytest.mark.parametrize(
    ("channel", "type_", "keys"),
    [("user", "trade", [f"asset={ASSET}"]), ("activity", "trades", [f"activity/trades?asset={ASSET}"])],
)
def test_a_token_filter_on_other_channels(channel: str, type_: str, keys: list[str]) -> None:
    """It lets through the events of that token, as it did; no subject names it, so one listens to all."""
    wish = request(channel=channel, event_type=type_, token_ids=[ASSET])
    assert keys_of(wish) == keys
    assert all(ASSET not in subject for subject in subjects_of(wish, "p"))


def test_a_token_filter_on_prices() -> None:
    """A price is of no token: 400, under today's name of the field."""
    with pytest.raises(ControlError, match="only the topic `activity`") as caught:
        request(channel="crypto_prices", token_ids=[ASSET])
    assert (caught.value.code, caught.value.field) == (400, "assets")


def test_a_type_of_another_channel() -> None:
    """It is refused, not silently dropped."""
    for fields in (
        {"channel": "activity", "event_type": "update"},
        {"channel": "user", "event_type": "book"},
    ):
        with pytest.raises(ControlError) as caught:
            request(**fields)
        assert (caught.value.code, caught.value.field) == (400, "types")


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
