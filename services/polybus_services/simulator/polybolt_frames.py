"""PolyBolt's data as the venue writes it.

Each frame lacks its head (`v`, `channel`, `seq`, `dropped`), which counts per connection: `polybolt_feed.py` puts
it before the rest.
"""

from collections.abc import Mapping

import msgspec

from polybus_services.simulator.exchange import Market
from polybus_services.simulator.facts import Price, PriceMoved, Side
from polybus_services.simulator.feeds import Entry, Frame
from polybus_services.simulator.ladder import decimal_text, price_text
from polybus_services.simulator.prices import PRICE_PLACES, PriceSeries
from polybus_services.simulator.rtds_frames import approximate, averages

QUOTES = "price.polymarket"

PRICE_CHANNELS = {
    "price.crypto": ("crypto", None),
    "price.crypto.twap": ("crypto", 60),
    "price.equity": ("equity", None),
    "price.equity.twap": ("equity", 60),
}
"""Channel -> the class of its symbols and, for an average, over how many seconds; no other window exists."""

SHORT_HASH = 8
"""Digits of the hash in `price.polymarket`; of what it is one is not documented, here of the book."""


class ChannelFrame(Frame):
    """A frame of a channel, still without its head."""

    __slots__ = ("channel",)

    def __init__(
        self, channel: str, ts: int, payload: Mapping[str, object], subject: str, kind: str, *, snapshot: bool
    ) -> None:
        mark = '"snapshot":true,' if snapshot else ""
        inside = f'"ts":{ts},{mark}"payload":{msgspec.json.encode(payload).decode()}'
        super().__init__((Entry(subject, kind, inside),), "{", "}")
        self.channel = channel


def price_update(channel: str, moved: PriceMoved, source: str) -> ChannelFrame:
    """A price, by the source that this reader gets it from."""
    series, (class_, window_s) = moved.series, PRICE_CHANNELS[channel]
    value = series.average(window_s) if window_s else series.last.value
    payload = {
        "symbol": series.symbol,
        "source": source,
        **_point(class_, Price(series.last.time_ms, value)),
        **_window(window_s),
    }
    if class_ == "equity":
        payload |= _status(series)
        if window_s is None:
            payload |= {"received_at": moved.now_ms, "is_carried_forward": moved.carried_forward}
    return ChannelFrame(
        channel, moved.now_ms, payload, _subject(channel, series.symbol), "update", snapshot=False
    )


def price_snapshot(
    channel: str, symbol: str, series: PriceSeries | None, source: str, now_ms: int
) -> ChannelFrame:
    """Up to two minutes of a symbol; nothing of one that does not exist."""
    class_, window_s = PRICE_CHANNELS[channel]
    prices = list(series.history) if series else []
    points = averages(prices, window_s) if window_s else prices
    payload = {
        "symbol": symbol,
        "source": source,
        "data": [_point(class_, point) for point in points],
        **_window(window_s),
        **(_status(series) if series and class_ == "equity" else {}),
    }
    return ChannelFrame(channel, now_ms, payload, _subject(channel, symbol), "snapshot", snapshot=True)


def quote(market: Market, outcome: int, now_ms: int, *, snapshot: bool) -> ChannelFrame:
    """The top of a token's book; a side that is empty is an empty string."""
    asset = market.listing.assets[outcome]
    bid, ask = market.best(outcome, Side.BUY), market.best(outcome, Side.SELL)
    payload = {
        "market": market.listing.market,
        "asset_id": asset,
        "best_bid": "" if bid is None else price_text(bid),
        "best_ask": "" if ask is None else price_text(ask),
        "hash": market.book_hash(outcome, str(now_ms))[:SHORT_HASH],
        "timestamp": now_ms,
    }
    return ChannelFrame(QUOTES, now_ms, payload, f"polymarket/{asset}", "quote", snapshot=snapshot)


def _point(class_: str, price: Price) -> dict[str, object]:
    exact = decimal_text(price.value, PRICE_PLACES)
    if class_ == "crypto":
        # All eight places, as in the samples; equities are written without trailing zeros.
        whole, fraction = divmod(price.value, 10**PRICE_PLACES)
        exact = f"{whole}.{fraction:0{PRICE_PLACES}d}"
    return {
        "timestamp": price.time_ms,
        "value": msgspec.Raw(approximate(price.value).encode()),
        "full_accuracy_value": exact,
    }


def _window(window_s: int | None) -> dict[str, object]:
    return {} if window_s is None else {"window_seconds": window_s}


def _status(series: PriceSeries) -> dict[str, object]:
    return {"market_status": "open" if series.open else "closed"}


def _subject(channel: str, symbol: str) -> str:
    class_, window_s = PRICE_CHANNELS[channel]
    return f"{class_}_twap/{symbol}" if window_s else f"{class_}/{symbol}"
