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

    Sent by the venue once after subscribing, and after every trade that touched the book.  A change with an
    older `source_time` that comes after it is in it already.
    """

    bids: list[Level]
    """Best (highest) price first, unlike on the wire, which lists worst to best."""
    asks: list[Level]
    """Best (lowest) price first."""
    hash: str | None
    """40 hex digits: SHA-1 of the book as the venue writes it (verified on captures)."""
    tick_size: str | None = None
    """Only on the snapshot that answers a subscription."""
    last_trade_price: str | None = None
    """Only on the snapshot that answers a subscription; None if the market never traded."""
    min_order_size: str | None = None
    """Shares; the venue's models allow it, the feed was not seen to send it."""
    neg_risk: bool | None = None
    """Whether the market is one of a set of which one wins; not seen on the feed either."""
    origin: str | None = None
    """`witness` where the book was read over REST because the stream brought none; None from the stream."""


class LastBook(MarketEvent, tag="last_book"):
    """The gateway's own book of one asset as it was after the event of this `epoch` and `seq`.

    Kept one per subject, so that whoever comes late reads it and goes on with the events that follow.  It has no
    place in the sequence of its own subject: `epoch` and `seq` are those of the asset's stream.
    """

    family: ClassVar[str] = "books"

    trust: str
    """What may be believed: `live`, `quiet`, `suspect`, `frozen`; or `waiting`, with no levels."""
    bids: list[Level]
    """Best (highest) price first."""
    asks: list[Level]
    """Best (lowest) price first."""
    hash: str | None = None
    """The venue's hash of this book, where its last event had one."""
    tick_size: str | None = None
    """The price grid's step, in dollars per share; None while it is not known."""


class PriceChange(MarketEvent, tag="price_change"):
    """The levels of one asset that one frame changed: apply them together, in order.

    One with an older `source_time` than what was applied before it, a book or changes, is in it already: leave it out.
    """

    changes: list[Change]
    """In the venue's order."""


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
    """Of the settlement; the venue sends it since 2026."""


class TickSizeChange(MarketEvent, tag="tick_size_change"):
    """The minimum price step changed: the book of the old grid is over, a new epoch follows."""

    old_tick_size: str | None
    """Dollars per share."""
    new_tick_size: str
    """Dollars per share."""
    side: str | None = None
    """Only in an older form of the event."""


class BestBidAsk(MarketEvent, tag="best_bid_ask"):
    """The top of one asset's book moved (the venue sends it when custom features are on)."""

    best_bid: str | None
    """Dollars per share; `0`, or None, when nobody bids."""
    best_ask: str | None
    """Dollars per share; `1`, or None, when nobody asks."""
    spread: str | None = None
    """Dollars per share; None where a side is empty."""


class ParentEvent(msgspec.Struct, frozen=True, gc=False):
    """The venue's event (a group of markets) that a market belongs to."""

    id: str | None = None
    """Numeric id in the venue's catalogue, as text."""
    ticker: str | None = None
    """The venue's short name for it."""
    slug: str | None = None
    """As it stands in the venue's URLs."""
    title: str | None = None
    """The question that its markets have in common."""
    description: str | None = None
    """The rules, in prose."""


class FeeSchedule(msgspec.Struct, frozen=True, gc=False):
    """How fees are computed in a market that charges them."""

    exponent: str | None = None
    """A parameter of the venue's formula."""
    rate: str | None = None
    """A parameter of the venue's formula."""
    taker_only: bool | None = None
    """Whether makers pay nothing."""
    rebate_rate: str | None = None
    """The share that is paid back to makers."""


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
    """What the market is about."""
    slug: str | None = None
    """As it stands in the venue's URLs."""
    description: str | None = None
    """The rules, in prose."""
    outcomes: list[str] = msgspec.field(default_factory=list[str])
    """Their names, such as `Yes` and `No`; empty where the venue leaves them out."""
    event_message: ParentEvent | None = None
    """The venue's event that the market belongs to."""
    tags: list[str] = msgspec.field(default_factory=list[str])
    """The venue's subjects, such as `stocks`."""


class NewMarket(VenueMarketEvent, tag="new_market"):
    """A market was created.  Venue-wide, whatever is subscribed (needs custom features)."""

    active: bool | None = None
    """Seen as false at creation."""
    sports_market_type: str | None = None
    """Of a market about a game."""
    line: str | None = None
    """The handicap or total of a market about a game."""
    game_start_time: str | None = None
    """RFC 3339."""
    order_price_min_tick_size: str | None = None
    """Dollars per share."""
    group_item_title: str | None = None
    """What sets it apart within its event."""
    taker_base_fee: str | None = None
    """As the venue states it, such as `1000`."""
    fees_enabled: bool | None = None
    """Whether trading costs fees."""
    fee_schedule: FeeSchedule | None = None
    """How they are computed."""


class MarketResolved(VenueMarketEvent, tag="market_resolved"):
    """A market was resolved.  Only for subscribed assets, and its delivery was reported as doubtful."""

    winning_asset_id: str | None = None
    """Outcome token id."""
    winning_outcome: str | None = None
    """Its name."""


MARKET_EVENTS = (Book, PriceChange, LastTradePrice, TickSizeChange, BestBidAsk, NewMarket, MarketResolved)
"""The events that the market feed brings."""
