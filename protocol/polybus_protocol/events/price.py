"""Reference prices, whichever feed they came from: RTDS and PolyBolt meet on one subject."""

from typing import ClassVar

import msgspec

from .base import Event


class PriceEvent(Event):
    """Something about one symbol.  `source_time` is the price's own time."""

    family: ClassVar[str] = "price"

    class_: str = msgspec.field(name="class")
    """`crypto`, `crypto_twap`, `equity`, `equity_twap` or `polymarket`; no closed set."""
    symbol: str
    """One spelling for all feeds: `btcusd` for `btcusdt`, `btc/usd` and `BTCUSD`; equities in lower case."""
    feed: str
    """`rtds` or `polybolt`."""


class PriceUpdate(PriceEvent, tag="update"):
    """A price.  One with the `source_time` of the one before may carry a new `market_status` only."""

    value: str
    """The exact price, in dollars or, from Binance, in USDT: as a decimal also where the wire scales it."""
    source: str | None = None
    """Who made the price (`binance`, `chainlink`, `pyth`, ...), as stated, else as documented; None if neither."""
    venue_symbol: str | None = None
    """The symbol in the venue's spelling."""
    window_s: int | None = None
    """Seconds over which it is an average; None for a price of the moment."""
    carried_forward: bool | None = None
    """Whether an older price is repeated; None where the venue does not say."""
    market_status: str | None = None
    """`open`, `closed` or `unknown`; None means not stated, never open."""
    received_at: int | None = None
    """When the venue got the price, in milliseconds since the epoch."""
    sent_time: int | None = None
    """When the venue sent the frame, in milliseconds since the epoch."""


class PricePoint(msgspec.Struct, frozen=True, gc=False):
    """A past price."""

    time: int | None
    """Milliseconds since the epoch, by the venue's clock."""
    value: str
    """The exact price, as in `PriceUpdate`."""


class PriceSnapshot(PriceEvent, tag="snapshot"):
    """The latest prices at the time of subscribing: up to two minutes of them, maybe none.

    While an exchange is closed, the one price may be an older closing price.
    """

    points: list[PricePoint]
    """In the venue's order, which is oldest first."""
    source: str | None = None
    """As in `PriceUpdate`."""
    venue_symbol: str | None = None
    """The symbol in the venue's spelling."""
    window_s: int | None = None
    """Seconds over which each is an average; None for prices of the moment."""
    market_status: str | None = None
    """`open`, `closed` or `unknown`; None means not stated, never open."""
    sent_time: int | None = None
    """When the venue sent the frame, in milliseconds since the epoch; also the `source_time`."""


class PriceQuote(PriceEvent, tag="quote"):
    """The top of a book of the venue, from PolyBolt's `price.polymarket`; `symbol` is the asset.

    It has its own subject, so that the numbering of the market feed's streams stays one feed's matter.
    """

    market: str
    """Condition id."""
    best_bid: str | None
    """Dollars per share."""
    best_ask: str | None
    """Dollars per share."""
    hash: str | None = None
    """A short one; of what is not documented."""
    snapshot: bool = False
    """Whether it is the answer to a subscription."""
    sent_time: int | None = None
    """When the venue sent the frame, in milliseconds since the epoch."""


PRICE_EVENTS = (PriceUpdate, PriceSnapshot, PriceQuote)
"""What the price topics and channels bring."""
