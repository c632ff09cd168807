"""One line per event, for a person who watches: time, type, short ids, what changed."""

from datetime import datetime

import msgspec
from rich.text import Text

from polybus_protocol.events import (
    AnyEvent,
    BestBidAsk,
    Book,
    Change,
    ConnectionState,
    Event,
    Gap,
    LastTradePrice,
    MarketResolved,
    NewMarket,
    Notice,
    PriceChange,
    TickSizeChange,
    Unknown,
    type_of,
)
from polybus_protocol.subjects import parse_subject, subject_for
from polybus_services.order import Jump
from polybus_services.present import short_id

TYPE_STYLES = {
    "book": "cyan",
    "price_change": "blue",
    "last_trade_price": "magenta",
    "best_bid_ask": "bright_black",
    "tick_size_change": "yellow",
    "new_market": "green",
    "market_resolved": "green",
    "gap": "bold red",
    "unknown": "yellow",
    "connection": "yellow",
    "notice": "yellow",
}

SHOWN_CHANGES = 3
"""Changes of one frame that fit a line; the rest is counted."""

_COMMON = frozenset(Event.__struct_fields__) | {"type", "market", "asset"}
"""Fields that every event has, or that the ids show."""

_TYPE_WIDTH = max(map(len, TYPE_STYLES))


def event_line(event: AnyEvent) -> Text:
    """An event on one line."""
    type_ = type_of(event)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(_clock(event.received_time), style="dim")
    line.append(f"  {type_:{_TYPE_WIDTH}}  ", style=TYPE_STYLES.get(type_, ""))
    line.append(_ids(event), style="dim")
    line.append(f"  {_summary(event)}", style="bold red" if isinstance(event, Gap) else "")
    return line


def jump_line(jump: Jump) -> Text:
    """What did not follow, on one line that is seen."""
    stream = ".".join(map(short_id, jump.stream.split(".")[-2:]))
    after, seen = ("/".join(map(str, place)) for place in (jump.after, jump.seen))
    return Text(f"!! {jump.reason} on {stream}: after {after} came {seen}", style="bold white on red")


def top(price: str | None, size: str | None = None) -> str:
    """One side of the top of a book."""
    return "-" if price is None else price if size is None else f"{price} x {size}"


def _clock(time_ns: int) -> str:
    if time_ns == 0:
        return " " * 12
    return datetime.fromtimestamp(time_ns / 1e9).astimezone().strftime("%H:%M:%S.%f")[:-3]


def _ids(event: AnyEvent) -> str:
    if isinstance(event, Unknown):
        return event.feed
    return " ".join(short_id(id_) for id_ in parse_subject(subject_for(event)).ids if id_ is not None)


def _summary(event: AnyEvent) -> str:
    match event:
        case Book(bids=bids, asks=asks):
            bid = top(bids[0].price, bids[0].size) if bids else "-"
            ask = top(asks[0].price, asks[0].size) if asks else "-"
            return f"bid {bid}  ask {ask}  ({len(bids)} + {len(asks)} levels)"
        case PriceChange(changes=changes):
            return _changes(changes)
        case LastTradePrice():
            return f"{event.side} {event.size} at {event.price}"
        case TickSizeChange():
            return f"{event.old_tick_size or '?'} -> {event.new_tick_size}"
        case BestBidAsk():
            return f"bid {top(event.best_bid)}  ask {top(event.best_ask)}"
        case NewMarket():
            return event.question or event.slug or ""
        case MarketResolved():
            return f"{event.question or ''} -> {event.winning_outcome or '?'}"
        case Gap():
            before = "" if event.last_seq is None else f" after {event.last_epoch}/{event.last_seq}"
            lost = "" if event.lost is None else f", {event.lost} lost"
            detail = f": {event.detail}" if event.detail else ""
            return f"{event.reason}{before}{lost}{detail}"
        case Unknown():
            return f"{event.kind}: {event.reason}"
        case ConnectionState():
            reason = f": {event.reason}" if event.reason else ""
            return f"{event.id} #{event.incarnation} {event.state}{reason}"
        case Notice():
            return f"{event.level}: {event.text}"
        case _:
            return _fields(event)


def _fields(event: Event) -> str:
    """What an event has of its own, for those that need no better words."""
    fields: dict[str, object] = msgspec.to_builtins(event)
    told = (f"{name} {value}" for name, value in fields.items() if name not in _COMMON and value is not None)
    return ", ".join(told)


def _changes(changes: list[Change]) -> str:
    shown = ", ".join(f"{change.side} {change.price} = {change.size}" for change in changes[:SHOWN_CHANGES])
    more = f", {len(changes) - SHOWN_CHANGES} more" if len(changes) > SHOWN_CHANGES else ""
    best = f"  bid {top(changes[-1].best_bid)}  ask {top(changes[-1].best_ask)}" if changes else ""
    return f"{shown}{more}{best}"
