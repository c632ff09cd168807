"""What the venue says on the user feed, and what it is told: one struct per form, with the venue's names.

Field tables: docs.polymarket.com user-channel page and its schema.  Decimals and times are `Loose`: an
empty string is no value, and times come in seconds and in milliseconds.
"""

import msgspec
from msgspec import UNSET, UnsetType

from .credentials import Credentials
from .market_wire import Text
from .values import ABSENT, Loose


class WireOrder(msgspec.Struct, gc=False):
    """An order was placed, matched or cancelled."""

    id: Text
    market: Text
    asset_id: Text
    type: Text
    status: Text
    side: Text
    price: Loose = ABSENT
    original_size: Loose = ABSENT
    size_matched: Loose = ABSENT
    associate_trades: list[str] | None = None
    outcome: str | None = None
    order_type: str | None = None
    created_at: Loose = ABSENT
    expiration: Loose = ABSENT
    maker_address: str | None = None
    timestamp: Loose = ABSENT
    event_type: str | None = None
    owner: msgspec.Raw = ABSENT
    """An API key, as is the next one: known, so that they do not count as drift, and never read."""
    order_owner: msgspec.Raw = ABSENT


class WireMakerOrder(msgspec.Struct, gc=False):
    """One entry of `maker_orders`."""

    order_id: Text
    asset_id: str | None = None
    matched_amount: Loose = ABSENT
    price: Loose = ABSENT
    side: str | None = None
    outcome: str | None = None
    outcome_index: Loose = ABSENT
    fee_rate_bps: Loose = ABSENT
    maker_address: str | None = None
    owner: str | None = None
    """An API key: compared with the account's, and not passed on."""


class WireTrade(msgspec.Struct, gc=False):
    """A match, or a new status of one."""

    id: Text
    market: Text
    asset_id: Text
    status: Text
    side: Text
    price: Loose = ABSENT
    size: Loose = ABSENT
    fee_rate_bps: Loose = ABSENT
    outcome: str | None = None
    trader_side: str | None = None
    taker_order_id: str | None = None
    maker_orders: list[WireMakerOrder] | None = None
    maker_address: str | None = None
    transaction_hash: str | None = None
    bucket_index: Loose = ABSENT
    match_time: Loose = ABSENT
    matchtime: Loose = ABSENT
    """The other spelling; both are live."""
    last_update: Loose = ABSENT
    timestamp: Loose = ABSENT
    type: str | None = None
    event_type: str | None = None
    owner: msgspec.Raw = ABSENT
    """An API key, not read."""
    trade_owner: str | None = None
    """The account's API key: compared with those of the maker orders, and not passed on."""


class WireOpening(msgspec.Struct, omit_defaults=True):
    """The first message of a connection.  Without `markets` it asks for all of the account's."""

    auth: Credentials
    markets: list[str] | UnsetType = UNSET
    assets_ids: list[str] | UnsetType = UNSET
    """Ignored by the venue; one adapter sends it empty."""
    type: str | UnsetType = UNSET


class WireOperation(msgspec.Struct):
    """A later message."""

    operation: str
    """`subscribe` or `unsubscribe`."""
    markets: list[str]
