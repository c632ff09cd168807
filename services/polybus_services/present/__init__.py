"""How things look to a person at a terminal: tables, panels and one-line summaries, made of what programs get as JSON.

Nothing here asks or decides anything; each function turns values into something that rich can print.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from polybus_protocol.control.replies import StatusReply, SubscribeReply, SubscriptionInfo

STATE_STYLES = {
    "live": "green",
    "running": "green",
    "data": "green",
    "reachable": "green",
    "open": "yellow",
    "dialing": "yellow",
    "waiting": "yellow",
    "draining": "yellow",
    "gap": "red",
    "refused": "red",
    "ready": "green",
    "differs": "yellow",
    "absent": "yellow",
    "unavailable": "red",
    "quiet": "green",
    "suspect": "yellow",
    "frozen": "red",
    "proved": "green",
    "mismatch": "red",
    "ok": "green",
    "warn": "yellow",
    "fail": "red",
    "skipped": "dim",
}

THINGS = {"market": "asset", "user": "market", "rtds": "topic", "polybolt": "symbol", "sports": "league"}
"""What one asks each feed for."""

SHOWN_ROWS = 10
"""Rows of a list that could have thousands; the rest is counted, and --json has them all."""


def short_id(id_: str | None) -> str:
    """An id that a person can tell from others: its beginning and end.

    >>> short_id("71321045679252212594626385532706912750332728571942532289631379312455583992563")
    '713210…992563'
    """
    if id_ is None:
        return "-"
    head = 8 if id_.startswith("0x") else 6
    return id_ if len(id_) <= head + 7 else f"{id_[:head]}…{id_[-6:]}"


def ago(time_ns: int | None, now_ns: int | None = None) -> str:
    """How long ago a time was."""
    if time_ns is None:
        return "never"
    return f"{duration(((now_ns or time.time_ns()) - time_ns) / 1e9)} ago"


def duration(seconds: float) -> str:
    """A length of time in its two largest units.

    >>> duration(0.25), duration(75), duration(7260)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    seconds = max(seconds, 0.0)
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def counted(count: int, thing: str) -> str:
    """So many of a thing.

    >>> counted(1, "gap"), counted(2000, "asset")
    ('1 gap', '2,000 assets')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(word, style=STATE_STYLES.get(word, ""))


def facts(rows: Iterable[tuple[str, RenderableType]]) -> Table:
    """Names and values below each other."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(name, value)
    return grid


def table(*columns: str, numbers: Sequence[str] = ()) -> Table:
    """An empty table; the columns in `numbers` are set flush right."""
    empty = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        empty.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return empty


@contextmanager
def screen(console: Console, *, live: bool = True) -> Iterator[Callable[[RenderableType], None]]:
    """Show one thing after another: in place on a terminal, below each other elsewhere."""
    if not (live and console.is_terminal):
        yield console.print
        return
    with Live(console=console, screen=True, auto_refresh=False) as view:
        yield lambda what: view.update(what, refresh=True)


def settings(shown: Mapping[str, Mapping[str, object]]) -> RenderableType:
    """What `polybus config` shows."""
    grid = table("key", "value", "from")
    section = None
    for key, setting in shown.items():
        if section not in (None, key.rpartition(".")[0]):
            grid.add_section()
        section = key.rpartition(".")[0]
        value, source = setting["value"], str(setting["source"])
        text = "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        style = "dim" if source == "default" else "bold"
        grid.add_row(key, Text(text, style=style), Text(source, style=style))
    remarks = [
        Text.assemble((f"{key}: ", "bold yellow"), (str(setting["remark"]), "yellow"), overflow="fold")
        for key, setting in shown.items()
        if "remark" in setting
    ]
    return Group(grid, *remarks)


def key(asked: str) -> str:
    """What was asked of a feed, short enough for a table; all there is shows as what it is."""
    return "all" if asked == "*" else short_id(asked) if asked.isalnum() else asked


def subscribed(reply: SubscribeReply) -> RenderableType:
    """What `polybus subscribe` shows."""
    verb = "stands" if reply.created else "stood already"
    rows: list[tuple[str, RenderableType]] = [
        ("state", state(reply.state)),
        ("feed", reply.feed),
        *([("assets", str(reply.assets))] if reply.feed == "market" else []),
        ("owner", reply.owner),
        ("lasts", "until dropped" if reply.expires is None else _left(reply.expires)),
    ]
    if not reply.durable:
        rows.append(("durable", Text("no: a restart of the gateway forgets it", style="yellow")))
    rows.append(("listen on", Group(*_cut(reply.subjects))))
    parts: list[RenderableType] = [Text(f"subscription {reply.id} {verb}", style="bold"), facts(rows)]
    if reply.missing:
        grid = table("missing", "why")
        for missing in reply.missing[:SHOWN_ROWS]:
            grid.add_row(key(missing.asset), Text(missing.reason, style="yellow"))
        parts.append(grid)
        if len(reply.missing) > SHOWN_ROWS:
            parts.append(Text(f"and {len(reply.missing) - SHOWN_ROWS} more (--json has all)", style="dim"))
    return Group(*parts)


def subscriptions(listed: Sequence[SubscriptionInfo], *, with_assets: bool) -> RenderableType:
    """What `polybus subscriptions` shows."""
    if not listed:
        return Text("no subscriptions")
    numbers = ("live", "events")
    columns = ["id", "owner", "feed", "types", "live", "events", "last event", "lasts"]
    grid = table(*columns, numbers=numbers)
    for column in grid.columns[:2]:
        column.no_wrap = True
    for one in listed:
        whole = one.live_count == one.asset_count
        grid.add_row(
            one.id,
            one.owner,
            one.feed if one.account is None else f"{one.feed} {one.account}",
            ", ".join(one.types) or "all",
            Text(f"{one.live_count}/{one.asset_count}", style="green" if whole else "yellow"),
            f"{one.events_received:,}",
            ago(one.last_event_time),
            "until dropped" if one.expires is None else duration(one.expires / 1e9 - time.time()),
        )
    if not with_assets:
        return grid
    parts: list[RenderableType] = [grid]
    for one in listed:
        thing = THINGS[one.feed]
        assets = table(thing, "market", "state", "connection", "events", "last event", numbers=("events",))
        for asset in one.assets:
            assets.add_row(
                key(asset.asset),
                short_id(asset.market) if one.feed == "market" else "-",
                Text(asset.reason, style="yellow") if asset.reason else state(asset.state),
                asset.connection or "-",
                f"{asset.events_received:,}",
                ago(asset.last_event_time),
            )
        parts += [Text(f"{thing}s of {one.id}", style="bold"), assets]
    return Group(*parts)


def status(reply: StatusReply) -> RenderableType:
    """What `polybus status` shows."""
    now = time.time_ns()
    nats = reply.nats
    connected = Text("connected", style="green") if nats.connected else Text("away", style="red")
    head: list[tuple[str, RenderableType]] = [
        ("gateway", Text.assemble(reply.replica, " ", state(reply.state), f", version {reply.version}")),
        ("up", duration((now - reply.started) / 1e9)),
        ("NATS", Text.assemble(connected, f" {nats.url}", f", server {nats.server}" if nats.server else "")),
        ("subscriptions", _subscription_totals(reply)),
        ("assets", trust(reply.trust)),
    ]
    return Group(
        facts(head),
        connections(reply, now),
        streams(reply),
        *(
            Text(f"the entry {id_} of the bucket is set aside: {why}", style="yellow")
            for id_, why in reply.quarantined.items()
        ),
        _counts(reply, now),
        Text() if reply.running else Text("the background work is not running", style="red"),
    )


def connections(reply: StatusReply, now: int) -> RenderableType:
    """The gateway's connections to the venue, one a row, and where they go."""
    if not reply.connections:
        return Text("\nno connections: nobody has subscribed to anything\n", style="dim")
    numbers = ("#", "live", "frames", "errors")
    columns = ["connection", "feed", "#", "state", "login", "live", "frames", "errors", "last data"]
    grid = table(*columns, numbers=numbers)
    for one in reply.connections:
        shown = state(one.state)
        if one.reason:
            shown.append(f": {one.reason}")
        grid.add_row(
            one.id,
            one.feed,
            str(one.incarnation),
            shown,
            LOGIN[one.authenticated],
            f"{one.live_assets}/{one.assets}",
            f"{one.frames:,}",
            f"{one.errors:,}",
            ago(one.last_data_time, now),
        )
    urls = {one.feed: one.url for one in reply.connections}
    return Group(grid, facts((f"feed {feed}", Text(url)) for feed, url in urls.items()))


def streams(reply: StatusReply) -> RenderableType:
    """The streams that record the events, one a row, and below what is wrong with them."""
    numbers = ("events", "size", "acks", "missed")
    grid = table("record", "state", "delivery", "events", "size", "acks", "missed", numbers=numbers)
    problems = []
    for stream in reply.streams:
        families = stream.families
        modes = dict.fromkeys(
            one.mode if one.mode == one.wanted else f"{one.mode} instead of {one.wanted}" for one in families
        )
        grid.add_row(
            stream.name,
            state(stream.state),
            ", ".join(modes),
            f"{stream.messages:,}",
            f"{stream.bytes / 1e6:,.1f} MB",
            f"{sum(one.acks for one in families):,}",
            f"{sum(one.missed for one in families):,}",
        )
        silent = [f"{one.family}: {one.reason}" for one in families if one.reason]
        problems += [f"{stream.name}: {problem}" for problem in stream.problems or silent]
    return Group(grid, *(Text(problem, style="yellow") for problem in dict.fromkeys(problems)))


LOGIN: Mapping[bool | None, Text] = {
    None: Text("-", style="dim"),
    True: Text("ok", style="green"),
    False: Text("no", style="yellow"),
}
"""Whether a connection is authenticated, where its feed wants that."""


def trust(counts: Mapping[str, int]) -> Text:
    """How many assets of the market feed may be believed, and how many not."""
    shown = [Text.assemble(f"{count:,} ", state(word)) for word, count in counts.items()]
    return Text(", ").join(shown) if shown else Text("none", style="dim")


def _subscription_totals(reply: StatusReply) -> str:
    totals = reply.subscriptions
    by_type = ", ".join(
        f"{'all types' if type_ == '*' else type_} {n}" for type_, n in totals.by_type.items()
    )
    kept = "" if reply.durable else "; they do not survive a restart"
    return f"{totals.total}{f' ({by_type})' if by_type else ''}{kept}"


def _counts(reply: StatusReply, now: int) -> RenderableType:
    """Events by type on the left, everything that should be zero on a good day in the middle, checks on the right."""
    events = table("event", "published", numbers=("published",))
    for type_, count in sorted(reply.events_by_type.items(), key=lambda item: -item[1]):
        events.add_row(type_, f"{count:,}")
    events.add_section()
    events.add_row("total", f"{reply.total_events:,}", style="bold")
    nats = reply.nats
    troubles = {
        "gaps": reply.gaps,
        "connection errors": reply.connection_errors,
        "reconnects": reply.reconnects,
        "actor restarts": reply.restarts,
        "backlog for NATS": nats.backlog,
        "feeds held back": nats.held,
        "dropped before NATS": nats.dropped,
        "too large for NATS": nats.too_large,
        "unconfirmed by NATS": nats.uncertain,
        "not recorded": nats.unrecorded,
        "NATS reconnects": nats.reconnects,
        "denied by NATS": nats.denied,
        "entries set aside": len(reply.quarantined),
        **{_UNKNOWN.get(kind, f"unknown: {kind}"): count for kind, count in reply.unknown.items()},
        **{f"unknown field {name}": count for name, count in reply.unknown_fields.items()},
    }
    others = table("", "", numbers=())
    others.show_header = False
    others.columns[1].justify = "right"
    for name, value in {
        "frames": reply.frames,
        "duplicates": reply.duplicates,
        "unwanted": reply.unwanted,
    }.items():
        others.add_row(name, f"{value:,}")
    for name, value in troubles.items():
        others.add_row(name, Text(f"{value:,}", style="yellow" if value else "dim"))
    if reply.last_reconnect_time is not None:
        others.add_row("last reconnect", ago(reply.last_reconnect_time, now))
    checks = table("check, or what was tried", "times", numbers=("times",))
    for name, count in sorted(reply.checks.items()):
        checks.add_row(name.replace("_", " "), f"{count:,}")
    side_by_side = Table.grid(padding=(0, 4))
    side_by_side.add_row(events, others, *([checks] if reply.checks else []))
    return side_by_side


_UNKNOWN = {
    "event": "unknown events",
    "field": "events with a new field",
    "word": "unknown words",
    "refused": "refusals by the venue",
    "malformed": "malformed events",
    "not_json": "frames that are no JSON",
    "binary": "binary frames",
}
"""The kinds of what is passed on as `unknown`."""


def _left(expires_ns: int) -> str:
    return f"{duration((expires_ns - time.time_ns()) / 1e9)} more unless renewed"


def _cut(lines: Sequence[str]) -> list[Text]:
    shown = [Text(line, overflow="fold") for line in lines[:SHOWN_ROWS]]
    if len(lines) > SHOWN_ROWS:
        shown.append(Text(f"and {len(lines) - SHOWN_ROWS} more (--json has all)", style="dim"))
    return shown
