"""Reference prices, as RTDS and PolyBolt both say them: one reader, since they meet on one subject.

The payloads differ in spelling (`window_s` and `window_seconds`) and in one thing of weight: on some RTDS
topics `full_accuracy_value` is an integer scaled by 10^18, everywhere else a plain decimal.
"""

import msgspec

from ..events import PricePoint, PriceSnapshot, PriceUpdate
from .market_wire import Text
from .reading import present
from .values import ABSENT, Loose, decimal, moment, number, required, scaled

E18_DIGITS = 18
"""Digits after the point where RTDS writes an exact price as an integer."""


class WirePoint(msgspec.Struct, gc=False):
    """One price of a snapshot."""

    value: Loose = ABSENT
    full_accuracy_value: Loose = ABSENT
    timestamp: Loose = ABSENT


class WirePrice(msgspec.Struct, gc=False):
    """The payload of an update, or, where it has `data`, of a snapshot."""

    symbol: Text
    value: Loose = ABSENT
    """Approximate: used only where there is nothing better."""
    full_accuracy_value: Loose = ABSENT
    timestamp: Loose = ABSENT
    data: list[WirePoint] | None = None
    source: str | None = None
    window_s: Loose = ABSENT
    window_seconds: Loose = ABSENT
    received_at: Loose = ABSENT
    is_carried_forward: bool | None = None
    market_status: str | None = None


class Series(msgspec.Struct, frozen=True):
    """What a topic or a channel says about its prices by its name."""

    feed: str
    class_: str
    source: str | None = None
    """Who makes them, by the venue's pages, where a payload does not say."""
    window_s: int | None = None
    """Seconds of the average, where a payload does not say."""
    digits: int = 0
    """Digits after the point of an integer `full_accuracy_value`."""


def plain_symbol(symbol: str, class_: str) -> str:
    """One spelling of a symbol for all feeds.

    Crypto prices come as `btcusdt` (Binance), `btc/usd` (Chainlink) and `btcusd` (PolyBolt); the subject is
    the same, and the event's `source` tells them apart.  Equities only differ in letter case.

    >>> plain_symbol("BTC/USD", "crypto"), plain_symbol("solusdt", "crypto"), plain_symbol("AAPL", "equity")
    ('btcusd', 'solusd', 'aapl')
    """
    plain = symbol.lower()
    if not class_.startswith("crypto"):
        return plain
    plain = plain.replace("/", "").replace("-", "")
    return plain.removesuffix("t") if plain.endswith("usdt") and plain != "usdt" else plain


def price_event(wire: WirePrice, series: Series, sent: int | None) -> PriceUpdate | PriceSnapshot:
    """The canonical event of a payload.

    Args:
        wire: the payload.
        series: what its topic or channel implies.
        sent: when the venue sent the frame, in milliseconds since the epoch.

    Raises:
        msgspec.ValidationError: a price is missing, or is no decimal.
    """
    source = present((wire.source or "").lower()) or series.source
    window_s = number(wire.window_s) or number(wire.window_seconds) or series.window_s
    symbol = plain_symbol(wire.symbol, series.class_)
    if wire.data is not None:
        points = [PricePoint(moment(point.timestamp), _value(point, series)) for point in wire.data]
        return PriceSnapshot(
            series.class_,
            symbol,
            series.feed,
            points,
            source,
            wire.symbol,
            window_s,
            present(wire.market_status),
            sent,
            source_time=sent,
        )
    return PriceUpdate(
        series.class_,
        symbol,
        series.feed,
        _value(wire, series),
        source,
        wire.symbol,
        window_s,
        wire.is_carried_forward,
        present(wire.market_status),
        moment(wire.received_at),
        sent,
        source_time=moment(wire.timestamp),
    )


def _value(wire: WirePrice | WirePoint, series: Series) -> str:
    exact = decimal(wire.full_accuracy_value)
    if exact is None:
        return required(decimal(wire.value), "value")
    return scaled(exact, series.digits) if series.digits else exact
