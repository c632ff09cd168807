"""How the demo looks: a live view on a terminal, lines elsewhere, JSON for programs."""

import sys
import time
from typing import Protocol

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from polybus_services import present
from polybus_services.demo.picture import MarketRow, Snapshot
from polybus_services.demo.reckoning import Summary

CONNECTIONS = 3
"""Connections in the live view."""

OTHER_LINES = 16 + CONNECTIONS
"""Lines of the live view besides its markets and processes; what does not fit a terminal would flicker."""


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
        self._console.print(
            f"{snapshot.seconds:6.1f} s  {snapshot.events_received:,} events received "
            f"({snapshot.events_per_s:,.0f}/s), {live}/{len(snapshot.markets)} markets live, "
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
        rows = max(self._console.height - OTHER_LINES - len(snapshot.processes), 3)
        self._live.update(live_view(snapshot, rows), refresh=True)

    def finish(self, summary: Summary | None) -> None:
        """Give the terminal back, and print the summary."""
        if self._live is not None:
            self._live.stop()
        if summary is not None:
            self._console.print(summary_view(summary))


def live_view(snapshot: Snapshot, rows: int) -> RenderableType:
    """The whole view, with at most `rows` markets."""
    header = present.facts(
        (name, f"{process['url']}   pid {process['pid']}") for name, process in snapshot.processes.items()
    )
    totals = Text.assemble(
        f"{snapshot.seconds:.0f} s   ",
        (f"{snapshot.events_received:,} events received, {snapshot.events_per_s:,.0f}/s", "bold"),
        "   ",
        (f"{snapshot.gaps} gaps", "yellow" if snapshot.gaps else "dim"),
        "   ",
        (f"{snapshot.jumps} jumps", "bold red" if snapshot.jumps else "dim"),
    )
    parts: list[RenderableType] = [
        Panel(header, title="polybus demo", title_align="left", expand=False),
        totals,
        _markets(snapshot.markets, rows),
    ]
    status = snapshot.status
    if status is not None:
        parts.append(present.connections(status, time.time_ns(), most=CONNECTIONS))
        live = sum(connection.live_assets for connection in status.connections)
        wanted = sum(connection.assets for connection in status.connections)
        parts.append(Text(f"{status.subscriptions.total} subscription: {live} of {wanted} assets live"))
    admin = snapshot.processes["simulator"]["admin"]
    parts.append(
        Text(
            f"break something: curl -X PUT {admin}/faults/drop      Ctrl-C: stop, count, compare", style="dim"
        )
    )
    return Group(*parts)


def summary_view(summary: Summary) -> RenderableType:
    """The closing summary."""
    words = f"   and {summary.words} words such as PONG" if summary.words else ""
    repeated = f"   and {summary.repeated} again over other connections" if summary.repeated else ""
    grid = present.facts(
        (
            ("frames sent by the simulator", f"{summary.frames_sent:,}"),
            ("frames received by the gateway", f"{summary.frames_received - summary.words:,}{words}"),
            ("events sent by the simulator", f"{summary.events_sent - summary.repeated:,}{repeated}"),
            ("events published by the gateway", f"{summary.events_published:,}"),
            ("events received by the consumer", f"{summary.events_received:,}"),
            ("gaps published and received", f"{summary.gaps_published:,} and {summary.gaps:,}"),
            ("jumps that no gap explains", f"{summary.jumps:,}"),
        )
    )
    style = "bold green" if summary.agree else "bold red"
    title = f"after {present.duration(summary.seconds)}"
    return Group(
        Panel(grid, title=title, title_align="left", expand=False), Text(summary.verdict, style=style)
    )


def _markets(markets: list[MarketRow], rows: int) -> RenderableType:
    numbers = ("bid", "ask", "last", "events", "events/s")
    grid = present.table("market", *numbers, "state", numbers=numbers)
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


def _price(price: str | None, *, nobody: str) -> str:
    return "-" if price is None or price == nobody else price
