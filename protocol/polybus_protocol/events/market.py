"""The events of the market feed."""

from typing import ClassVar

import msgspec

from .base import Event


class Level(msgspec.Struct, frozen=True, gc=False):
    """One price level of a book."""

    price: str
    """Dollars per share, above 0 and below 1; not canonical (`.5`, `0.5` and `0.50` all occur)."""
    size: str
    """Shares resting at this price, in total."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """One changed level within a `price_change`."""

    price: str
    """The level that changed.  It says nothing about the top of the book: see `best_bid`, `best_ask`."""
    size: str
    """The new total at that level, not a difference; zero removes the level."""
    side: str
    """`BUY` is the bid side, `SELL` the ask side."""
    hash: str | None
    """Hash of this asset's book after the change (verified; the venue's page calls it the order's)."""
    best_bid: str | None
    """Top of the book after the change; `0`, or None, when nobody bids."""
    best_ask: str | None
    """Top of the book after the change; `1`, or None, when nobody asks."""


class MarketEvent(Event):
    """An event of the market feed that concerns one asset."""

    family: ClassVar[str] = "market"

    market: str
    """Condition id: `0x` and hex digits (64 as a rule, 62 since the V2 contracts)."""
    asset: str
    """Outcome token id, a decimal number of up to 78 digits; always text."""


class Book(MarketEvent, tag="book"):
    """A full snapshot of one asset's book: replace the local book by it.

    Sent by the venue once after subscribing, and after every trade that touched the book.
    """

    bids: list[Level]
    """Best (highest) price first, unlike on the wire, which lists worst to best."""
    asks: list[Level]
    """Best (lowest) price first."""
    hash: str | None
    tick_size: str | None = None
    """Only on the snapshot that answers a subscription."""
    last_trade_price: str | None = None
    """Only on the snapshot that answers a subscription; None if the market never traded."""
    min_order_size: str | None = None
    neg_risk: bool | None = None


class PriceChange(MarketEvent, tag="price_change"):
    """The levels of one asset that one frame changed: apply them together, in order."""

    changes: list[Change]


class LastTradePrice(MarketEvent, tag="last_trade_price"):
    """A trade printed: the taker's leg of one settlement transaction."""

    price: str
    """Price of the level touched, in dollars per share."""
    size: str
    """Shares."""
    side: str
    """The taker's side, `BUY` or `SELL`."""
    fee_rate_bps: str | None = None
    """Basis points; a left-over field that is `0` on the markets that were measured."""
    transaction_hash: str | None = None


class TickSizeChange(MarketEvent, tag="tick_size_change"):
    """The minimum price step changed: the book of the old grid is over, a new epoch follows."""

    old_tick_size: str | None
    new_tick_size: str
    side: str | None = None
    """Only in an older form of the event."""


class BestBidAsk(MarketEvent, tag="best_bid_ask"):
    """The top of one asset's book moved (the venue sends it when custom features are on)."""

    best_bid: str | None
    best_ask: str | None
    spread: str | None = None


class ParentEvent(msgspec.Struct, frozen=True, gc=False):
    """The venue's event (a group of markets) that a market belongs to."""

    id: str | None = None
    ticker: str | None = None
    slug: str | None = None
    title: str | None = None
    description: str | None = None


class FeeSchedule(msgspec.Struct, frozen=True, gc=False):
    """How fees are computed in a market that charges them."""

    exponent: str | None = None
    rate: str | None = None
    taker_only: bool | None = None
    rebate_rate: str | None = None


class VenueMarketEvent(Event):
    """An event of the market feed that concerns a whole market, both its assets."""

    family: ClassVar[str] = "market"

    market: str
    """Condition id."""
    assets_ids: list[str]
    """The outcome tokens, in the order of `outcomes`."""
    id: str | None = None
    """Numeric id in the venue's catalogue, as text."""
    question: str | None = None
    slug: str | None = None
    description: str | None = None
    outcomes: list[str] = msgspec.field(default_factory=list[str])
    event_message: ParentEvent | None = None
    tags: list[str] = msgspec.field(default_factory=list[str])


class NewMarket(VenueMarketEvent, tag="new_market"):
    """A market was created.  Venue-wide, whatever is subscribed (needs custom features)."""

    active: bool | None = None
    """Seen as false at creation."""
    sports_market_type: str | None = None
    line: str | None = None
    game_start_time: str | None = None
    """RFC 3339."""
    order_price_min_tick_size: str | None = None
    group_item_title: str | None = None
    taker_base_fee: str | None = None
    fees_enabled: bool | None = None
    fee_schedule: FeeSchedule | None = None


class MarketResolved(VenueMarketEvent, tag="market_resolved"):
    """A market was resolved.  Only for subscribed assets, and its delivery was reported as doubtful."""

    winning_asset_id: str | None = None
    winning_outcome: str | None = None


MARKET_EVENTS = (Book, PriceChange, LastTradePrice, TickSizeChange, BestBidAsk, NewMarket, MarketResolved)
"""The events that the market feed brings."""
