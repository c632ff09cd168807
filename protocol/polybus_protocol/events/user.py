"""The events of the user feed: what happens to an account's own orders.

The venue names the owner of each order by an API key.  That is a credential, so it never gets into an
event; `account` is the operator's label, and `MakerOrder.is_own` says the one thing the key was good for.
"""

from typing import ClassVar

import msgspec

from .base import Event


class UserEvent(Event):
    """An event that concerns one account."""

    family: ClassVar[str] = "user"

    account: str | None
    """The operator's label; None where the frame was decoded without one."""
    market: str
    """Condition id."""
    asset: str
    """Outcome token id; in a trade, that of the taker's order."""
    id: str
    """Hash of the order, or id of the trade, which stays the same through all its statuses."""


class Order(UserEvent, tag="order"):
    """An order of the account was placed, matched or cancelled.  It is always the account's own."""

    action: str
    """`PLACEMENT`, `UPDATE` (some of it was matched) or `CANCELLATION`."""
    status: str
    """`LIVE`, `MATCHED`, `DELAYED`, `UNMATCHED`, `CANCELED`, `INVALID`; no closed set."""
    status_detail: str | None
    """What the venue appends to `CANCELED_`: `MARKET_RESOLVED`, or a sentence (nautilus_trader issue 3987)."""
    side: str
    """`BUY` or `SELL`."""
    price: str | None
    """The limit, in dollars per share."""
    original_size: str | None
    """Shares."""
    size_matched: str | None
    """Shares matched so far; None where the venue says nothing, as it does for a killed FOK order."""
    remaining_size: str | None
    """`original_size` less `size_matched`; None unless both are known."""
    outcome: str | None = None
    """Name of the outcome, such as `Yes`."""
    order_type: str | None = None
    """`GTC`, `GTD`, `FOK` or `FAK`."""
    created_time: int | None = None
    """Milliseconds since the epoch."""
    expiration: int | None = None
    """Milliseconds since the epoch; None for an order that does not expire."""
    associate_trades: list[str] = msgspec.field(default_factory=list[str])
    """Ids of the trades it took part in."""
    maker_address: str | None = None
    """The funder's address."""


class MakerOrder(msgspec.Struct, frozen=True, gc=False):
    """A resting order that was matched in a trade."""

    order_id: str
    """Hash of the order."""
    asset: str | None
    """May be the complementary token of the trade's: two buyers are matched by minting."""
    matched_amount: str | None
    """Shares."""
    price: str | None
    """Dollars per share."""
    side: str | None = None
    """`BUY` or `SELL`."""
    outcome: str | None = None
    """Name of the outcome."""
    outcome_index: int | None = None
    """Place of the outcome in the market's list, from 0."""
    fee_rate_bps: str | None = None
    """Basis points."""
    maker_address: str | None = None
    """The maker's address."""
    is_own: bool | None = None
    """Whether it is the account's; None where neither the frame nor we know the account's key."""


class Trade(UserEvent, tag="trade"):
    """An order of the account took part in a match, or that match changed its status.

    Where `trader_side` is `MAKER`, the account's fill is the entry of `maker_orders` that `is_own`: its
    asset, side, price and amount count, not those of the trade.
    """

    status: str
    """`MATCHED`, `MINED`, `CONFIRMED`, `RETRYING` or `FAILED`; only `CONFIRMED` and `FAILED` are final."""
    side: str
    """The taker's side."""
    price: str | None
    """Dollars per share."""
    size: str | None
    """Shares."""
    trader_side: str | None = None
    """The account's role: `TAKER` or `MAKER`."""
    outcome: str | None = None
    """Name of the outcome, such as `Yes`."""
    fee_rate_bps: str | None = None
    """Basis points."""
    taker_order_id: str | None = None
    """Hash of the taker's order."""
    maker_orders: list[MakerOrder] = msgspec.field(default_factory=list[MakerOrder])
    """The resting orders that were matched."""
    maker_address: str | None = None
    """The address that the venue puts beside the trade."""
    transaction_hash: str | None = None
    """None until the trade is sent to the chain."""
    bucket_index: int | None = None
    """A number of the venue's own."""
    match_time: int | None = None
    """Milliseconds since the epoch."""
    last_update: int | None = None
    """Milliseconds since the epoch."""


USER_EVENTS = (Order, Trade)
"""The events that the user feed brings."""
