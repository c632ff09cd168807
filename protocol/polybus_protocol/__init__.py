"""Polymarket's real-time protocol without I/O: frames in, canonical events out, and the contract on NATS.

For those who only want to parse, four functions are enough:

- `decode(feed, frame)` turns one text frame from the venue into a list of canonical events.
- `decode_event(payload)` turns a NATS payload back into one.
- `subject_for(event)` and `parse_subject(subject)` are each other's inverse.

Everything that can be decided without I/O is decided in this package; nothing in it reads a clock,
opens a socket or starts a task.

Public are the names in `__all__`, and those of `polybus_protocol.contract`; all other modules are internal.
"""

from .door import decode
from .errors import ControlError, LocalProtocolError, PolybusError, SubjectError
from .events import (
    AnyEvent,
    BestBidAsk,
    Book,
    Change,
    ConnectionState,
    Event,
    Gap,
    LastTradePrice,
    Level,
    MarketResolved,
    NewMarket,
    Notice,
    PriceChange,
    TickSizeChange,
    Unknown,
    decode_event,
    encode_event,
    type_of,
)
from .subjects import PREFIX, Subject, asset_pattern, market_pattern, parse_subject, subject_for

__version__ = "0.1.0"

__all__ = [
    "PREFIX",
    "AnyEvent",
    "BestBidAsk",
    "Book",
    "Change",
    "ConnectionState",
    "ControlError",
    "Event",
    "Gap",
    "LastTradePrice",
    "Level",
    "LocalProtocolError",
    "MarketResolved",
    "NewMarket",
    "Notice",
    "PolybusError",
    "PriceChange",
    "Subject",
    "SubjectError",
    "TickSizeChange",
    "Unknown",
    "asset_pattern",
    "decode",
    "decode_event",
    "encode_event",
    "market_pattern",
    "parse_subject",
    "subject_for",
    "type_of",
]
