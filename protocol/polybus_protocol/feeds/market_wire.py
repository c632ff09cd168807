"""What the venue says on the market feed: one struct per form of event, with the venue's own names.

Field tables: docs.polymarket.com market-channel page; forms that only captures show are marked.
Every field that has ever been missing is optional, and unknown ones are ignored, since the venue
adds fields without notice; `polybus_protocol.feeds.market` counts those.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from ..events import FeeSchedule, Level, ParentEvent
from .reading import LATEST_MS

Text = Annotated[str, Meta(min_length=1)]
"""What an event means nothing without: here the empty string, the venue's "no value", is an error.

Whether a price is a decimal is looked at only where prices are put in order, in a book: a pattern on
these fields would triple the time it takes to decode a `price_change`.
"""


Time = Annotated[int, Meta(gt=0, lt=LATEST_MS)]
"""Milliseconds since the epoch, which the venue writes as text: for decoders that turn such text into numbers."""


class WireBook(msgspec.Struct, gc=False):
    """A snapshot.  Levels stand worst to best on both sides in every capture; never rely on it.

    They are read as ours at once, so whoever makes a book of it looks whether they say anything.
    """

    market: Text
    asset_id: Text
    timestamp: str | int | None = None
    hash: str | None = None
    bids: list[Level] | UnsetType | None = UNSET
    asks: list[Level] | UnsetType | None = UNSET
    tick_size: str | None = None
    last_trade_price: str | None = None
    min_order_size: str | None = None
    neg_risk: bool | None = None
    event_type: str | None = None
    """Reported as missing on some initial snapshots."""
    buys: list[Level] | UnsetType | None = UNSET
    """Very old name of `bids`."""
    sells: list[Level] | UnsetType | None = UNSET


class WireChange(msgspec.Struct, gc=False):
    """One entry of `price_changes`."""

    asset_id: Text
    price: Text
    size: Text
    side: Text
    hash: str | None = None
    best_bid: str | None = None
    best_ask: str | None = None


class WirePriceChange(msgspec.Struct, gc=False):
    """Changed levels, as a rule mirrored entries for both assets of the market."""

    market: Text
    price_changes: list[WireChange]
    timestamp: str | int | None = None
    event_type: str | None = None


class HotPriceChange(msgspec.Struct, gc=False):
    """The same for the hot path, where the time is read as a number at once; what departs from it is read with more care."""

    market: Text
    price_changes: list[WireChange]
    timestamp: Time | None = None


class WireOldChange(msgspec.Struct, gc=False):
    """One entry of `changes`, the form in use until 2025-09-15."""

    price: Text
    size: Text
    side: Text


class WireOldPriceChange(msgspec.Struct, gc=False):
    """The two forms of `price_change` before 2025-09-15: with `changes`, and flat."""

    market: Text
    asset_id: Text
    timestamp: str | int | None = None
    hash: str | None = None
    changes: list[WireOldChange] | None = None
    price: str | None = None
    size: str | None = None
    side: str | None = None
    event_type: str | None = None


class WireLastTradePrice(msgspec.Struct, gc=False):
    """A trade printed."""

    market: Text
    asset_id: Text
    price: Text
    size: Text
    side: Text
    fee_rate_bps: str | None = None
    timestamp: str | int | None = None
    event_type: str | None = None
    transaction_hash: str | None = None


class WireTickSizeChange(msgspec.Struct, gc=False):
    """The price grid changed.  Its steps are no closed set: 0.0025 came in July 2026."""

    market: Text
    asset_id: Text
    new_tick_size: Text
    old_tick_size: str | None = None
    timestamp: str | int | None = None
    side: str | None = None
    event_type: str | None = None


class WireBestBidAsk(msgspec.Struct, gc=False):
    """The top of a book moved."""

    market: Text
    asset_id: Text
    best_bid: str | None = None
    best_ask: str | None = None
    spread: str | None = None
    timestamp: str | int | None = None
    event_type: str | None = None


class WireMarket(msgspec.Struct, gc=False):
    """`new_market` and `market_resolved`: the same fields, most of them optional."""

    market: Text
    id: str | None = None
    question: str | None = None
    slug: str | None = None
    description: str | None = None
    condition_id: str | None = None
    assets_ids: list[str] | None = None
    clob_token_ids: list[str] | None = None
    outcomes: list[str] | None = None
    event_message: ParentEvent | None = None
    timestamp: str | int | None = None
    event_type: str | None = None
    tags: list[str] | None = None
    active: bool | None = None
    sports_market_type: str | None = None
    line: str | None = None
    game_start_time: str | None = None
    order_price_min_tick_size: str | None = None
    group_item_title: str | None = None
    taker_base_fee: str | None = None
    fees_enabled: bool | None = None
    fee_schedule: FeeSchedule | None = None
    winning_asset_id: str | None = None
    winning_outcome: str | None = None
