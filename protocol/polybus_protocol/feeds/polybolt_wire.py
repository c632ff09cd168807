"""What the venue says on PolyBolt, and what it is told: one struct per form, with the venue's names.

Field tables: docs.polymarket.com polybolt and live-data pages, and what the released `polymarket-client`
0.14.0 relies on.  The payloads are those of `polybus_protocol.feeds.prices`, but for a quote's.
"""

import msgspec
from msgspec import UNSET, UnsetType

from .credentials import Credentials
from .market_wire import Text
from .values import ABSENT, Loose


class WireHead(msgspec.Struct, gc=False):
    """Just enough of an element to tell an answer, which has an `op`, from data, which has a `channel`."""

    op: str | None = None
    channel: str | None = None


class WireReply(msgspec.Struct, gc=False):
    """An answer to one of our messages."""

    op: Text
    channel: str | None = None
    rid: Loose = ABSENT
    """Ours; "any string"."""
    code: str | None = None
    nonce: str | None = None


class WireData(msgspec.Struct, gc=False):
    """What is around every payload."""

    channel: Text
    v: Loose = ABSENT
    seq: Loose = ABSENT
    ts: Loose = ABSENT
    snapshot: bool | None = None
    dropped: Loose = ABSENT
    payload: msgspec.Raw = msgspec.Raw(b"null")


class WireQuote(msgspec.Struct, gc=False):
    """The payload of `price.polymarket`; a snapshot has the same form."""

    market: Text
    asset_id: Text
    best_bid: Loose = ABSENT
    best_ask: Loose = ABSENT
    hash: str | None = None
    timestamp: Loose = ABSENT
    source: str | None = None


class WireFilter(msgspec.Struct, omit_defaults=True):
    """What of a channel is wanted."""

    symbol: str | UnsetType = UNSET
    window_seconds: int | UnsetType = UNSET
    asset_id: str | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    """`chainlink` or `pyth`: a preference only; the payload's `source` tells what came of it."""


class WireSubscription(msgspec.Struct):
    """One entry of a request for several."""

    channel: str
    filter: WireFilter


class WireRequest(msgspec.Struct, omit_defaults=True):
    """What the venue is told.  A subscription names either a channel and a filter, or several of those."""

    op: str
    rid: str | UnsetType = UNSET
    auth: Credentials | UnsetType = UNSET
    channel: str | UnsetType = UNSET
    filter: WireFilter | UnsetType = UNSET
    subscriptions: list[WireSubscription] | UnsetType = UNSET
