"""One line per event, for a person who watches: time, type, short ids, what changed."""

from datetime import datetime

from rich.text import Text

from polybus_protocol.events import (
    ActivityTrade,
    AnyEvent,
    BestBidAsk,
    Book,
    Change,
    CommentCreated,
    CommentRemoved,
    ConnectionState,
    Gap,
    GapRollup,
    LastBook,
    LastTradePrice,
    MarketResolved,
    NewMarket,
    Notice,
    Order,
    OrdersMatched,
    PriceChange,
    PriceQuote,
    PriceSnapshot,
    PriceUpdate,
    ReactionCreated,
    ReactionRemoved,
    SportResult,
    TickSizeChange,
    Trade,
    Unknown,
    type_of,
)
from polybus_protocol.subjects import parse_subject, subject_for
from polybus_services.order import Jump
from polybus_services.present import counted, short_id

TYPE_STYLES = {
    "book": "cyan",
    "price_change": "blue",
    "last_trade_price": "magenta",
    "best_bid_ask": "bright_black",
    "tick_size_change": "yellow",
    "new_market": "green",
    "market_resolved": "green",
    "order": "bright_cyan",
    "trade": "bright_magenta",
    "trades": "magenta",
    "orders_matched": "magenta",
    "update": "blue",
    "snapshot": "cyan",
    "quote": "bright_black",
    "comment_created": "green",
    "comment_removed": "green",
    "reaction_created": "bright_black",
    "reaction_removed": "bright_black",
    "sport_result": "bright_green",
    "gap": "bold red",
    "gaps": "yellow",
    "last_book": "cyan",
    "unknown": "yellow",
    "connection": "yellow",
    "notice": "yellow",
}

SHOWN_CHANGES = 3
"""Changes of one frame that fit a line; the rest is counted."""

_TYPE_WIDTH = max(map(len, TYPE_STYLES))


def event_line(event: AnyEvent) -> Text:
    """An event on one line."""
    type_ = type_of(event)
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(_clock(event.received_time), style="dim")
    closes = isinstance(event, Gap) and event.closed_by is not None
    line.append(f"  {type_:{_TYPE_WIDTH}}  ", style="bold green" if closes else TYPE_STYLES.get(type_, ""))
    line.append(one_line(_ids(event)), style="dim")
    opens = isinstance(event, Gap) and not closes
    line.append(f"  {summary(event)}", style="bold red" if opens else "green" if closes else "")
    return line


def jump_line(jump: Jump) -> Text:
    """What did not follow, on one line that is seen."""
    stream = ".".join(map(short_id, jump.stream.split(".")[-2:]))
    after, seen = ("/".join(map(str, place)) for place in (jump.after, jump.seen))
    return Text(f"!! {jump.reason} on {stream}: after {after} came {seen}", style="bold white on red")


def top(price: str | None, size: str | None = None) -> str:
    """One side of the top of a book."""
    return "-" if price is None else price if size is None else f"{price} x {size}"


def summary(event: AnyEvent) -> str:
    """What a person wants to know of an event, besides its type and ids."""
    return one_line(_summary(event))


def one_line(text: str) -> str:
    """What others wrote, for instance in comments, without what would move the cursor or turn the line."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


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
        case Order():
            return _order(event)
        case Trade():
            return _trade(event)
        case ActivityTrade() | OrdersMatched():
            who = event.name or event.pseudonym or short_id(event.proxy_wallet)
            about = f"{event.outcome or '?'}, {event.title or event.slug or short_id(event.market)}"
            return f"{event.side} {event.size} at {event.price} by {who}  {about}"
        case PriceUpdate() | PriceSnapshot() | PriceQuote():
            return _price(event)
        case CommentCreated() | CommentRemoved():
            profile = event.profile
            who = (profile and (profile.name or profile.pseudonym)) or short_id(event.user_address)
            return f"{who}: {event.body or ''}"
        case ReactionCreated() | ReactionRemoved():
            who = short_id(event.user_address)
            return f"{event.icon or event.reaction_type or '?'} on comment {event.comment_id} by {who}"
        case SportResult():
            return _game(event)
        case Gap() | Unknown() | ConnectionState() | Notice() | GapRollup():
            return _own(event)
        case _:
            return _market(event)


def _market(
    event: Book
    | LastBook
    | PriceChange
    | LastTradePrice
    | TickSizeChange
    | BestBidAsk
    | NewMarket
    | MarketResolved,
) -> str:
    match event:
        case LastBook(trust="waiting"):
            return "no book that could be believed"
        case Book(bids=bids, asks=asks) | LastBook(bids=bids, asks=asks):
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


def _own(event: Gap | Unknown | ConnectionState | Notice | GapRollup) -> str:
    match event:
        case Gap(closed_by=str(closed_by)):
            return f"closed by {closed_by}, opened by {event.reason}"
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
        case GapRollup():
            opened, closed = sum(event.opened.values()), sum(event.closed.values())
            return f"{opened} opened, {closed} closed, {event.open} open now"


def _order(event: Order) -> str:
    matched = f", {event.size_matched} matched" if event.size_matched not in (None, "0") else ""
    detail = f": {event.status_detail}" if event.status_detail else ""
    size = f"{event.side} {event.original_size or '?'} at {event.price or '?'}{matched}"
    return f"{event.action.lower()} {size}  {event.status}{detail}  {short_id(event.id)}"


def _trade(event: Trade) -> str:
    """The account's own part, where the venue tells it apart."""
    own = next((order for order in event.maker_orders if order.is_own), None)
    if event.trader_side == "MAKER" and own is not None:
        part = f"{own.side or '?'} {own.matched_amount or '?'} at {own.price or '?'} as maker"
    else:
        part = f"{event.side} {event.size or '?'} at {event.price or '?'}"
        part += f" as {event.trader_side.lower()}" if event.trader_side else ""
    return f"{part}  {event.status}  {short_id(event.id)}"


def _price(event: PriceUpdate | PriceSnapshot | PriceQuote) -> str:
    """A price, where it comes from, and what keeps it from being the price of this moment."""
    if isinstance(event, PriceQuote):
        return f"bid {top(event.best_bid)}  ask {top(event.best_ask)}"
    if isinstance(event, PriceUpdate):
        value, carried = event.value, event.carried_forward
    else:
        last = f", the last {event.points[-1].value}" if event.points else ""
        value, carried = f"{counted(len(event.points), 'price')}{last}", None
    notes = [f"from {event.source}" if event.source else None, f"by {event.feed}"]
    notes.append(f"mean of {event.window_s} s" if event.window_s else None)
    notes.append("carried forward" if carried else None)
    notes.append(f"market {event.market_status}" if event.market_status not in (None, "open") else None)
    return f"{value}  ({', '.join(note for note in notes if note)})"


def _game(event: SportResult) -> str:
    teams = " - ".join(team for team in (event.home_team, event.away_team) if team)
    words = (teams, event.score, event.period, event.elapsed, event.status)
    return "  ".join(word for word in words if word)


def _changes(changes: list[Change]) -> str:
    shown = ", ".join(f"{change.side} {change.price} = {change.size}" for change in changes[:SHOWN_CHANGES])
    more = f", {len(changes) - SHOWN_CHANGES} more" if len(changes) > SHOWN_CHANGES else ""
    best = f"  bid {top(changes[-1].best_bid)}  ask {top(changes[-1].best_ask)}" if changes else ""
    return f"{shown}{more}{best}"
