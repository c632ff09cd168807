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

import msgspec

from .activity import ACTIVITY_EVENTS, ActivityEvent, ActivityTrade, OrdersMatched
from .base import Event, type_of
from .comments import (
    COMMENTS_EVENTS,
    CommentCreated,
    CommentRemoved,
    CommentsEvent,
    Profile,
    ReactionCreated,
    ReactionRemoved,
)
from .market import (
    MARKET_EVENTS,
    BestBidAsk,
    Book,
    Change,
    FeeSchedule,
    LastBook,
    LastTradePrice,
    Level,
    MarketEvent,
    MarketResolved,
    NewMarket,
    ParentEvent,
    PriceChange,
    TickSizeChange,
    VenueMarketEvent,
)
from .price import PRICE_EVENTS, PriceEvent, PricePoint, PriceQuote, PriceSnapshot, PriceUpdate
from .sports import SPORTS_EVENTS, EventState, SportResult
from .system import (
    CLOSED_BY,
    GAP_REASONS,
    LOSSY_KINDS,
    MAX_RAW_CHARS,
    UNKNOWN_KINDS,
    ConnectionState,
    Gap,
    GapRollup,
    Notice,
    Unknown,
)
from .user import USER_EVENTS, MakerOrder, Order, Trade, UserEvent

__all__ = [
    "ACTIVITY_EVENTS",
    "CLOSED_BY",
    "COMMENTS_EVENTS",
    "GAP_REASONS",
    "LOSSY_KINDS",
    "MARKET_EVENTS",
    "MAX_RAW_CHARS",
    "PRICE_EVENTS",
    "SPORTS_EVENTS",
    "UNKNOWN_KINDS",
    "USER_EVENTS",
    "ActivityEvent",
    "ActivityTrade",
    "AnyEvent",
    "BestBidAsk",
    "Book",
    "Change",
    "CommentCreated",
    "CommentRemoved",
    "CommentsEvent",
    "ConnectionState",
    "Event",
    "EventState",
    "FeeSchedule",
    "Gap",
    "GapRollup",
    "LastBook",
    "LastTradePrice",
    "Level",
    "MakerOrder",
    "MarketEvent",
    "MarketResolved",
    "NewMarket",
    "Notice",
    "Order",
    "OrdersMatched",
    "ParentEvent",
    "PriceChange",
    "PriceEvent",
    "PricePoint",
    "PriceQuote",
    "PriceSnapshot",
    "PriceUpdate",
    "Profile",
    "ReactionCreated",
    "ReactionRemoved",
    "SportResult",
    "TickSizeChange",
    "Trade",
    "Unknown",
    "UserEvent",
    "VenueMarketEvent",
    "decode_event",
    "encode_event",
    "type_of",
]

AnyEvent = (
    Book
    | PriceChange
    | LastTradePrice
    | TickSizeChange
    | BestBidAsk
    | NewMarket
    | MarketResolved
    | LastBook
    | Order
    | Trade
    | ActivityTrade
    | OrdersMatched
    | PriceUpdate
    | PriceSnapshot
    | PriceQuote
    | CommentCreated
    | CommentRemoved
    | ReactionCreated
    | ReactionRemoved
    | SportResult
    | Gap
    | Unknown
    | ConnectionState
    | GapRollup
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
