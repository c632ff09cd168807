"""One asset as a person sees it: the ladder of its book, and why it is, or is not, live."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polybus_protocol.books.book import OrderBook
from polybus_protocol.control.replies import BookReply, ExplainReply
from polybus_protocol.events import Level
from polybus_services.local_book import TRUSTED, LocalBook
from polybus_services.present import ago, facts, short_id, state, table

BAR_CELLS = 30
"""Width of the bar of the largest level shown."""

EIGHTHS = " ▏▎▍▌▋▊▉"


class Sight(msgspec.Struct):
    """A book as it is at one moment, with all that `polybus book` tells of it."""

    asset: str
    market: str | None
    trusted: bool
    trust: str
    why: str | None
    proof: str
    epoch: int
    seq: int
    source_time: int | None
    hash: str | None
    tick_size: str | None
    bids: list[Level]
    asks: list[Level]


def sight(book: LocalBook | BookReply, depth: int) -> Sight:
    """What is seen of a book, so many levels of each side."""
    if isinstance(book, OrderBook):
        trusted, (epoch, seq) = book.trusted, book.place or (0, 0)
        bids, asks = book.bids(depth), book.asks(depth)
    else:
        trusted, (epoch, seq) = book.trust in TRUSTED, (book.epoch, book.seq)
        bids, asks = book.bids[:depth], book.asks[:depth]
    return Sight(
        book.asset,
        book.market,
        trusted,
        book.trust,
        book.why,
        book.proof,
        epoch,
        seq,
        book.source_time,
        book.hash,
        book.tick_size,
        bids,
        asks,
    )


def ladder(seen: Sight, now_ns: int | None = None) -> RenderableType:
    """What `polybus book` draws: asks above bids, the best of both in the middle."""
    trust = state(seen.trust)
    if not seen.trusted:
        trust = Text.assemble("not to be believed: " if seen.trust == "waiting" else "", trust)
        trust.append(f": {seen.why}" if seen.why else "", style="yellow")
    changed = None if seen.source_time is None else seen.source_time * 1_000_000
    head = facts(
        [
            ("asset", Text.assemble(short_id(seen.asset), (f"  of market {short_id(seen.market)}", "dim"))),
            ("trust", trust),
            ("by hash", state(seen.proof)),
            (
                "changed",
                Text.assemble(ago(changed, now_ns), (f"  epoch {seen.epoch}, seq {seen.seq}", "dim")),
            ),
        ]
    )
    largest = max((Decimal(level.size) for level in (*seen.bids, *seen.asks)), default=Decimal(1))
    grid = Table.grid(padding=(0, 2))
    for side in ("left", "right", "left"):
        grid.add_column(justify=side, no_wrap=True)
    for level in reversed(seen.asks):
        grid.add_row(*_rung(level, largest, "red"))
    grid.add_row(Text("spread", style="dim"), _spread(seen.bids, seen.asks), "")
    for level in seen.bids:
        grid.add_row(*_rung(level, largest, "green"))
    return Group(head, Text(), grid)


def explanation(reply: ExplainReply) -> RenderableType:
    """What `polybus explain` shows: sentences, then what happened."""
    head = Text.assemble("asset ", (short_id(reply.asset), "bold"), " is ", state(reply.trust))
    parts: list[RenderableType] = [head, *(Text(f"  {words}") for words in reply.words)]
    if reply.history:
        grid = table("when", "what happened")
        for moment in reply.history:
            grid.add_row(_clock(moment.time), Text(moment.what))
        parts.append(grid)
    return Group(*parts)


def _rung(level: Level, largest: Decimal, style: str) -> tuple[Text, Text, Text]:
    eighths = int(Decimal(level.size) / largest * BAR_CELLS * 8)
    bar = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    return Text(level.price, style=style), Text(level.size), Text(bar, style=style)


def _spread(bids: Sequence[Level], asks: Sequence[Level]) -> Text:
    if not bids or not asks:
        return Text("-", style="dim")
    spread = Decimal(asks[0].price) - Decimal(bids[0].price)
    return Text(f"{spread:f}", style="bold" if spread > 0 else "bold red")


def _clock(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns / 1e9).astimezone().strftime("%m-%d %H:%M:%S.%f")[:-3]
