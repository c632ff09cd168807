"""How `polybus top` looks: what wants attention first, then feeds, trust, events and NATS."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from polybus_services.present import counted, duration, facts, state, table, trust
from polybus_services.vitals import FeedVitals, Unanswered, Vitals

SHOWN_TYPES = 8
"""Types of events, the most frequent first: the screen is small."""


def top(vitals: Vitals | Unanswered) -> RenderableType:
    """One screen."""
    if isinstance(vitals, Unanswered):
        return Text(f"no answer: {vitals.error}", style="red")
    nats = Text("connected", style="green") if vitals.nats_connected else Text("away", style="red")
    head = facts(
        [
            (
                "gateway",
                Text.assemble(
                    vitals.replica,
                    " ",
                    state(vitals.state),
                    f", version {vitals.version}, up {duration(vitals.up_s)}, "
                    f"answers in {vitals.answered_in_s * 1e3:,.0f} ms",
                ),
            ),
            (
                "events",
                f"{rate(vitals.events_per_s)} a second, {rate(vitals.published_per_s)} messages to NATS",
            ),
            ("of these", _types(vitals)),
            ("gaps", f"{counted(vitals.gaps, 'gap')}, {rate(vitals.gaps_per_min)} a minute now"),
            ("assets", trust(vitals.trust)),
            (
                "NATS",
                Text.assemble(
                    nats,
                    f" server {vitals.nats_server}" if vitals.nats_server else "",
                    f", {vitals.backlog:,} events wait",
                ),
            ),
            ("record", _record(vitals)),
        ]
    )
    return Group(_hints(vitals), Text(), head, _feeds(vitals.feeds))


def rate(per: float | None) -> str:
    """A rate as a person reads it.

    >>> rate(None), rate(0.0), rate(0.25), rate(1234.5)
    ('-', '0', '0.2', '1,234')
    """
    if per is None:
        return "-"
    return f"{per:,.0f}" if per >= 10 or per == 0 else f"{per:.1f}"


def _hints(vitals: Vitals) -> RenderableType:
    if not vitals.hints:
        return Text("nothing wants attention", style="green")
    grid = Table.grid(padding=(0, 2))
    for hint in vitals.hints:
        grid.add_row(Text(hint.alert, style="bold red"), Text(hint.words, overflow="fold"))
    return grid


def _feeds(feeds: list[FeedVitals]) -> RenderableType:
    if not feeds:
        return Text("\nno connections: nobody has subscribed to anything", style="dim")
    grid = table(
        "feed",
        "connections",
        "live",
        "frames/s",
        "last data",
        "errors",
        numbers=("live", "frames/s", "errors"),
    )
    for feed in feeds:
        states = [Text.assemble(f"{count} ", state(word)) for word, count in feed.states.items()]
        grid.add_row(
            feed.feed,
            Text(", ").join(states),
            Text(f"{feed.live:,}/{feed.wanted:,}", style="green" if feed.live == feed.wanted else "yellow"),
            rate(feed.frames_per_s),
            "never" if feed.silent_s is None else f"{duration(feed.silent_s)} ago",
            f"{feed.errors:,}",
        )
    return grid


def _types(vitals: Vitals) -> str:
    frequent = sorted(vitals.events_per_s_by_type.items(), key=lambda item: -item[1])
    return ", ".join(f"{type_} {rate(per_s)}" for type_, per_s in frequent[:SHOWN_TYPES]) or "-"


def _record(vitals: Vitals) -> Text:
    shown = [Text.assemble(f"{name} ", state(word)) for name, word in vitals.streams.items()]
    return Text(", ").join(shown) if shown else Text("none", style="dim")
