"""How the demo looks: a live view on a terminal, lines elsewhere, JSON for programs."""

import sys
from collections import Counter
from itertools import zip_longest
from typing import Protocol

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from polybus_services import present
from polybus_services.demo.around import Around, PriceRow
from polybus_services.demo.picture import MarketRow, Snapshot
from polybus_services.demo.reckoning import Summary

PANEL_LINES = 3
"""Lines of each of the small panels; so, all of them fit a terminal of 24 lines."""

LEAST_MARKETS = 3
"""Rows of the market table before any panel may have room; with many lines it takes what is left over."""


class Output(Protocol):
    """Where the demo is shown."""

    every_s: float
    """How often it wants a snapshot."""

    def progress(self, text: str) -> None:
        """Something has begun."""

    def show(self, snapshot: Snapshot) -> None:
        """How things stand."""

    def finish(self, summary: Summary | None) -> None:
        """The end; without a summary where it came too early for one."""


class JsonOutput:
    """A snapshot a second and a summary, one JSON object a line."""

    every_s = 1.0

    def progress(self, text: str) -> None:
        """Nothing that a program needs."""

    def show(self, snapshot: Snapshot) -> None:
        """One line."""
        self._write(snapshot)

    def finish(self, summary: Summary | None) -> None:
        """The last line."""
        if summary is not None:
            self._write(summary)

    def _write(self, value: msgspec.Struct) -> None:
        sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
        sys.stdout.flush()


class PlainOutput:
    """A line every few seconds, for logs and pipes."""

    every_s = 2.0

    def __init__(self, console: Console) -> None:
        self._console = console

    def progress(self, text: str) -> None:
        """One line."""
        self._console.print(text, soft_wrap=True)

    def show(self, snapshot: Snapshot) -> None:
        """One line."""
        live = sum(row.trust == "live" for row in snapshot.markets)
        feeds = ", ".join(f"{row.feed} {row.events:,}" for row in snapshot.feeds)
        self._console.print(
            f"{snapshot.seconds:6.1f} s  {snapshot.events_received:,} events received "
            f"({snapshot.events_per_s:,.0f}/s; {feeds}), {live}/{len(snapshot.markets)} markets live, "
            f"{snapshot.gaps} gaps, {snapshot.jumps} jumps",
            soft_wrap=True,
        )

    def finish(self, summary: Summary | None) -> None:
        """The summary as a table."""
        if summary is not None:
            self._console.print(summary_view(summary))


class LiveOutput:
    """A view that is drawn over and over in place, and stays as it was last when the summary follows."""

    every_s = 0.25

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def progress(self, text: str) -> None:
        """A dim line; while the view is up it appears above it."""
        self._console.print(Text(text, style="dim"))

    def show(self, snapshot: Snapshot) -> None:
        """Draw the view."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, vertical_overflow="crop")
            self._live.start()
        self._live.update(live_view(snapshot, self._console.height), refresh=True)

    def finish(self, summary: Summary | None) -> None:
        """Give the terminal back, and print the summary."""
        if self._live is not None:
            self._live.stop()
        if summary is not None:
            self._console.print(summary_view(summary))


def live_view(snapshot: Snapshot, height: int) -> RenderableType:
    """The whole view.  What does not fit so many lines would flicker, so the least important is left out."""
    feeds, around = _feeds(snapshot), snapshot.around
    panels: dict[str, RenderableType] = {
        "user": _side_by_side(_panel("orders and trades", _user(around)), _panel("prices", _prices(around))),
        "around": _side_by_side(
            _panel(_activity_title(around), _activity(around)), _panel("games", _games(around))
        ),
        "processes": _panel("polybus demo", _processes(snapshot)),
    }
    lines = {"user": PANEL_LINES + 2, "around": PANEL_LINES + 2, "processes": len(snapshot.processes) + 2}
    # The totals, the hint, the header of the markets, and the line below the last one, where the cursor waits.
    left = height - 4 - len(snapshot.feeds) - 1 - LEAST_MARKETS
    shown = set[str]()
    for name, count in lines.items():
        if count <= left:
            shown.add(name)
            left -= count
    markets = _markets(snapshot.markets, LEAST_MARKETS + max(left, 0))
    parts: list[RenderableType] = [
        *([panels["processes"]] if "processes" in shown else []),
        _totals(snapshot),
        feeds,
        markets,
        *(panels[name] for name in ("user", "around") if name in shown),
        _hint(snapshot),
    ]
    return Group(*parts)


def summary_view(summary: Summary) -> RenderableType:
    """The closing summary: a row per feed, and in words whether it all agrees."""
    columns = ("frames sent", "frames received", "events sent", "events published", "events received", "gaps")
    grid = present.table("feed", *columns, numbers=columns)
    for row in summary.feeds:
        grid.add_row(
            row.feed,
            *(f"{count:,}" for count in (row.frames_sent, row.frames_received, row.events_sent)),
            *(f"{count:,}" for count in (row.events_published, row.events_received, row.gaps)),
        )
    grid.add_section()
    totals = (summary.frames_sent, summary.frames_received, summary.events_sent)
    more = (summary.events_published, summary.events_received, summary.gaps)
    grid.add_row("all", *(f"{count:,}" for count in (*totals, *more)), style="bold")
    notes = [
        ("gaps published", f"{summary.gaps_published:,}"),
        ("jumps that no gap explains", f"{summary.jumps:,}"),
    ]
    if summary.answers:
        notes.append(("acknowledged by the simulator", f"{present.counted(summary.answers, 'request')}"))
    if summary.repeated:
        notes.append(("sent again over other connections", f"{summary.repeated:,} events, published once"))
    if summary.unknown:
        notes.append(("unknown to the gateway", f"{summary.unknown:,} events, passed on as they came"))
    style = "bold green" if summary.agree else "bold red"
    title = f"after {present.duration(summary.seconds)}"
    body = Group(grid, present.facts(notes))
    return Group(
        Panel(body, title=title, title_align="left", expand=False), Text(summary.verdict, style=style)
    )


def _totals(snapshot: Snapshot) -> Text:
    return Text.assemble(
        f"{snapshot.seconds:.0f} s   ",
        (f"{snapshot.events_received:,} events received, {snapshot.events_per_s:,.0f}/s", "bold"),
        "   ",
        (present.counted(snapshot.gaps, "gap"), "yellow" if snapshot.gaps else "dim"),
        "   ",
        (present.counted(snapshot.jumps, "jump"), "bold red" if snapshot.jumps else "dim"),
        overflow="ellipsis",
        no_wrap=True,
    )


def _hint(snapshot: Snapshot) -> Text:
    admin = snapshot.processes["simulator"]["admin"]
    return Text(
        f"break something: curl -X PUT {admin}/faults/drop    Ctrl-C: stop",
        style="dim",
        overflow="ellipsis",
        no_wrap=True,
    )


def _processes(snapshot: Snapshot) -> RenderableType:
    grid = _grid()
    for name, process in snapshot.processes.items():
        grid.add_row(
            Text(name, style="dim"), Text(f"{process['url']}   pid {process['pid']}", overflow="ellipsis")
        )
    return grid


def _feeds(snapshot: Snapshot) -> RenderableType:
    """A row per feed: how its connections are, and what came."""
    numbers = ("live", "frames", "events", "events/s", "gaps")
    grid = _rows("feed", "connection", "login", *numbers, numbers=numbers)
    status = snapshot.status
    for row in snapshot.feeds:
        found = [one for one in (status.connections if status else []) if one.feed == row.feed]
        states = Counter(one.state for one in found)
        said = Text(" ").join(
            [present.state(word) if len(found) == 1 else Text(f"{n} {word}") for word, n in states.items()]
        )
        why = next((one.reason for one in found if one.reason), None)
        grid.add_row(
            row.feed,
            Text.assemble(said or "-", f": {why}" if why else "", overflow="ellipsis", no_wrap=True),
            present.LOGIN[next((one.authenticated for one in found), None)],
            f"{sum(one.live_assets for one in found)}/{sum(one.assets for one in found)}",
            f"{sum(one.frames for one in found):,}",
            f"{row.events:,}",
            f"{row.events_per_s:.1f}",
            Text(f"{row.gaps:,}", style="yellow" if row.gaps else "dim"),
        )
    return grid


def _markets(markets: list[MarketRow], lines: int) -> RenderableType:
    """The market table; its last line counts the markets that have no room."""
    numbers = ("bid", "ask", "last", "events", "events/s")
    grid = _rows("market", *numbers, "state", numbers=numbers)
    rows = lines if len(markets) <= lines else lines - 1
    for row in markets[:rows]:
        grid.add_row(
            present.short_id(row.market),
            _price(row.best_bid, nobody="0"),
            _price(row.best_ask, nobody="1"),
            row.last_trade or "-",
            f"{row.events:,}",
            f"{row.events_per_s:.1f}",
            present.state(row.trust),
        )
    if len(markets) > rows:
        return Group(grid, Text(f"and {len(markets) - rows} markets more", style="dim"))
    return grid


def _user(around: Around) -> RenderableType:
    return _lines(
        [Text.assemble((f"{one.type} ", "bold"), one.text) for one in around.user[-PANEL_LINES:]],
        "nothing yet",
    )


def _prices(around: Around) -> RenderableType:
    """Those of each feed and class in turn, so that of many something shows."""
    by_class: dict[tuple[str, str], list[PriceRow]] = {}
    for row in around.prices:
        by_class.setdefault((row.feed, row.class_), []).append(row)
    turns = zip_longest(*by_class.values())
    shown = [row for turn in turns for row in turn if row is not None][:PANEL_LINES]
    return _lines(
        [
            Text.assemble(
                (f"{row.symbol} ", "bold"),
                f"{row.value or '-'}  {row.source or '?'}, {row.feed} {row.class_}",
            )
            for row in shown
        ],
        "nothing yet",
    )


def _activity_title(around: Around) -> str:
    return f"activity {around.activity_per_s:.1f}/s, and comments"


def _activity(around: Around) -> RenderableType:
    told = [one for one in (around.last_activity, around.comment) if one is not None]
    return _lines([Text.assemble((f"{one.type} ", "bold"), one.text) for one in told], "nothing yet")


def _games(around: Around) -> RenderableType:
    games = around.games[-PANEL_LINES:]
    return _lines([Text.assemble((f"{one.league} ", "bold"), one.text) for one in games], "nothing yet")


def _lines(lines: list[Text], nothing: str) -> RenderableType:
    """Each on one line; what is too long is cut."""
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return Group(*lines) if lines else Text(nothing, style="dim")


def _rows(*columns: str, numbers: tuple[str, ...]) -> Table:
    """A table without lines: each row takes one line of the terminal, whatever is in it."""
    grid = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column in numbers
        grid.add_column(column, justify="right" if right else "left", no_wrap=True, overflow="ellipsis")
    return grid


def _grid() -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    return grid


def _panel(title: str, body: RenderableType) -> Panel:
    return Panel(body, title=title, title_align="left", height=None)


def _side_by_side(left: Panel, right: Panel) -> Table:
    left.height = right.height = PANEL_LINES + 2
    both = Table.grid(expand=True)
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(left, right)
    return both


def _price(price: str | None, *, nobody: str) -> str:
    return "-" if price is None or price == nobody else price
