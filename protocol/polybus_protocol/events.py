"""Canonical events: what polybus publishes, one struct per event type.

Wire structs (`polybus_protocol.feeds`) say what the venue says; these say what a consumer can rely on.
The rules that hold for every field:

- A decimal is a string, exactly as the venue wrote it; no number is ever a float on its way through.
- An empty string from the venue, which means "no value", is `None` here and `null` in the payload.
- `source_time` is in milliseconds since the epoch by the venue's clock, or `None` where it gave none.
- `received_time` is in nanoseconds since the epoch, taken when the bytes left our socket.

The stamps (`received_time`, `connection`, `epoch`, `seq`) are put on by the stream that publishes the
event; one that `polybus_protocol.decode` has just read carries their defaults.
"""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, kw_only=True, tag_field="type", gc=False):
    """The fields every published event has; `type` is the tag."""

    source_time: int | None = None
    """Milliseconds since the epoch by the venue's clock; None where the venue gives no time."""
    received_time: int = 0
    """Nanoseconds since the epoch, when the bytes left the socket; 0 before publishing."""
    connection: str | None = None
    """Connection id and incarnation, as `gw0-market-1#3`; None for what no socket brought."""
    epoch: int = 0
    """Names an unbroken stretch of the stream; only ever rises, also over restarts of the gateway."""
    seq: int = 0
    """Rises by one within an epoch of a stream, from 1; 0 before publishing."""

    family: ClassVar[str] = ""
    """The first token of the subject after the prefix."""


def type_of(event: Event | type[Event]) -> str:
    """The event's type as it stands in the payload's `type` and in the subject's last token."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag


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
    outcomes: list[str] = []
    event_message: ParentEvent | None = None
    tags: list[str] = []


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


class Gap(Event, tag="gap"):
    """Events may be missing here: trust ends, until the next `book` where the stream has books.

    A gap is the first event (`seq` 1) of a new epoch, in order with the data, and `last_epoch` and
    `last_seq` name the last event before it.  The one exception is loss between us and NATS
    (`reason` `backlog_overflow` and `nats_connection_lost`): there the gap stands in the place, and
    carries the `seq`, of the last event that may be lost, and `lost` says how many those are.
    """

    family: ClassVar[str] = "market"

    feed: str
    market: str | None
    asset: str | None
    reason: str
    """One of `GAP_REASONS`."""
    detail: str | None = None
    """A sentence for people."""
    last_epoch: int | None = None
    """Epoch of the last event before the gap; None if there was none, or none is remembered."""
    last_seq: int | None = None
    last_received_time: int | None = None
    """Nanoseconds since the epoch."""
    lost: int | None = None
    """How many events are affected, where that is known."""


GAP_REASONS = {
    "connection_lost": "the connection that carried the stream ended",
    "resync": "a fresh snapshot was asked for",
    "silent": "nothing arrived for longer than the asset's silence budget, so a snapshot was asked for",
    "undecodable_frame": "a frame arrived that may have concerned the stream and could not be read",
    "tick_size_change": "the price grid changed: levels of the old grid no longer count",
    "moved": "the stream moved to another connection",
    "restart": "the gateway started again and does not know what it missed",
    "unsubscribed": "nobody wants the stream any more",
    "shutdown": "the gateway stopped",
    "backlog_overflow": "NATS was away or slow for longer than the backlog can bridge",
    "nats_connection_lost": "events were handed to NATS and never confirmed",
}
"""Why trust in a stream ends."""


class Unknown(Event, tag="unknown"):
    """Something arrived that we have no reader for; it is passed on raw."""

    family: ClassVar[str] = "unknown"

    feed: str
    kind: str
    """One of `UNKNOWN_KINDS`."""
    reason: str
    """A sentence for people."""
    raw: str
    """The element, or the whole frame where it could not be split; bytes that are no UTF-8 are escaped."""
    truncated: bool = False
    """True where `raw` was cut at `MAX_RAW_CHARS`."""


UNKNOWN_KINDS = {
    "event": "a kind of event that this version does not know",
    "field": "a known event with a field that this version does not know (sent once per field)",
    "word": "a plain-text frame that this version does not know",
    "refused": "the venue refused our last message",
    "malformed": "a known event whose fields could not be read: a loss",
    "not_json": "a frame that is no JSON: a loss",
    "binary": "a binary frame, which no feed is known to send",
}
"""What an `Unknown` can be; the last ones but `binary` mean that data was lost."""

LOSSY_KINDS = frozenset({"malformed", "not_json"})
"""The kinds that stand for an event we should have been able to read."""

MAX_RAW_CHARS = 160 * 1024
"""Longest `raw`, in characters: if JSON escapes each with six bytes, it still fits NATS' default 1 MiB payload."""


class ConnectionState(Event, tag="connection"):
    """A connection changed its state (on the `system` subject)."""

    family: ClassVar[str] = "system"

    replica: str
    id: str
    incarnation: int
    feed: str
    url: str
    state: str
    """`dialing`, `open`, `live`, `closed`, `waiting` or `refused`."""
    reason: str | None = None
    assets: int = 0
    retry_in_s: float | None = None


class Notice(Event, tag="notice"):
    """Something an operator should know (on the `system` subject)."""

    family: ClassVar[str] = "system"

    replica: str
    level: str
    """`info`, `warning` or `error`."""
    text: str


MARKET_EVENTS = (Book, PriceChange, LastTradePrice, TickSizeChange, BestBidAsk, NewMarket, MarketResolved)
"""The events that the market feed brings."""

AnyEvent = (
    Book
    | PriceChange
    | LastTradePrice
    | TickSizeChange
    | BestBidAsk
    | NewMarket
    | MarketResolved
    | Gap
    | Unknown
    | ConnectionState
    | Notice
)
"""Every event polybus publishes."""

_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
encode_event = msgspec.json.Encoder().encode
"""Turn an event into its NATS payload."""


def decode_event(payload: bytes | str) -> AnyEvent:
    """Turn a NATS payload back into an event.

    Fields that this version does not know are ignored.

    Raises:
        msgspec.DecodeError: the payload is not JSON (`msgspec.ValidationError`: not one of our events).
    """
    return _decoder.decode(payload)
