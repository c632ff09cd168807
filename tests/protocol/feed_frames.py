"""What the venue says on the feeds besides the market feed, frame by frame."""

from typing import Any

from .samples import Samples

BTC, ETH, TWAP = "price.crypto:btcusd", "price.crypto:ethusd", "price.crypto.twap:btcusd"
"""Keys of PolyBolt."""

A, B = "0x" + "a1" * 32, "0x" + "b2" * 32
"""Two markets."""

AUTHED = {"op": "authed", "rid": "a1"}

_USER = Samples("user").frames
_RTDS = Samples("rtds").frames
_SPORTS = Samples("sports").frames


def refused(code: str, rid: str = "a1") -> dict[str, Any]:
    """PolyBolt says no."""
    return {"op": "error", "code": code, "rid": rid}


def price(
    count: int, symbol: str = "btcusd", channel: str = "price.crypto", **envelope: Any
) -> dict[str, Any]:
    """A price of PolyBolt, under the venue's number."""
    payload = {"symbol": symbol, "timestamp": 1788973001000 + count, "full_accuracy_value": "64125.5"}
    return {"v": 1, "channel": channel, "seq": count, "ts": 1788973001000, "payload": payload, **envelope}


def order(market: str, id_: str = "0x01", **fields: Any) -> dict[str, Any]:
    """An order of an account."""
    return {**_USER["order_placement.json"], "market": market, "id": id_, **fields}


def fill(market: str, id_: str = "t1", status: str = "MATCHED") -> dict[str, Any]:
    """A trade of an account."""
    return {**_USER["trade_matched.json"], "market": market, "id": id_, "status": status}


def activity(market: str, slug: str = "rain", type_: str = "trades") -> dict[str, Any]:
    """A row of RTDS' activity."""
    frame = _RTDS["activity_trades.json"]
    return {**frame, "type": type_, "payload": {**frame["payload"], "conditionId": market, "eventSlug": slug}}


def rtds_price(symbol: str, topic: str = "crypto_prices", value: float = 1.5) -> dict[str, Any]:
    """A price of RTDS."""
    payload = {"symbol": symbol, "timestamp": 1753314064213, "value": value}
    return {"topic": topic, "type": "update", "timestamp": 1753314064237, "payload": payload}


def game(league: str, id_: int) -> dict[str, Any]:
    """A score."""
    return {**_SPORTS["sport_result_nba.json"], "gameId": id_, "leagueAbbreviation": league}
