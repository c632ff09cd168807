"""Trades of the whole venue, with the wallets that made them (RTDS topic `activity`)."""

from typing import ClassVar

from .base import Event


class ActivityEvent(Event):
    """One row of a settlement.  `source_time` is the trade's, which the venue gives in whole seconds.

    There is no trade id: several fills can share a `transaction_hash`.
    """

    family: ClassVar[str] = "activity"

    event_slug: str | None
    """Slug of the venue's event (a group of markets)."""
    market: str
    """Condition id."""
    asset: str
    """Outcome token id."""
    side: str
    """`BUY` or `SELL`."""
    price: str
    """Dollars per share."""
    size: str
    """Shares."""
    proxy_wallet: str | None = None
    """The trader's address, in mixed case."""
    transaction_hash: str | None = None
    """Of the settlement; several fills can share one."""
    fee: str | None = None
    """On some rows only."""
    outcome: str | None = None
    """Name of the outcome, such as `Yes`."""
    outcome_index: int | None = None
    """None for the venue's 999, which means that it does not know."""
    slug: str | None = None
    """The market's slug."""
    title: str | None = None
    """The market's question."""
    name: str | None = None
    """The name the trader chose."""
    pseudonym: str | None = None
    """The name the venue made up for the trader."""
    bio: str | None = None
    """The trader's words about themselves."""
    profile_image: str | None = None
    """URL of the trader's picture."""
    icon: str | None = None
    """URL of a picture."""
    sent_time: int | None = None
    """When the venue sent the frame, in milliseconds since the epoch: about 2 s after the match."""


class ActivityTrade(ActivityEvent, tag="trades"):
    """One participant's part in a settlement: there is a row for the taker and for each maker."""


class OrdersMatched(ActivityEvent, tag="orders_matched"):
    """A settlement, as its taker saw it: one row per transaction."""


ACTIVITY_EVENTS = (ActivityTrade, OrdersMatched)
"""The events of the topic `activity`."""
