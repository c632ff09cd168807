"""What was measured, for people: tables."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.burst import Burst
from bench.core import Core
from bench.latency import Latency
from bench.scale import Scale
from bench.soak import Soak
from bench.subjects import KINDS
from bench.telemetry import Telemetry
from bench.throughput import Run, Spread, ratios, spread

TARGETS = {
    "gateway": {"script": 0.40, "official": 0.25, "fastest": 1.0, "floor": 1.6},
    "bookless": {"script": 0.33},
}
"""The most of each rival's processor time that the gateway, with and without books, may take (issue 7)."""


def costs(runs: Sequence[Run]) -> dict[str, Spread]:
    """Processor time per frame, by subject."""
    names = dict.fromkeys(run.subject for run in runs)
    return {name: spread([run.us_per_frame for run in runs if run.subject == name]) for name in names}


def throughput(console: Console, mix: str, runs: list[Run]) -> None:
    """Each subject, and how the gateway stands to it, with and without books."""
    rounds = len({run.round for run in runs})
    table = Table(title=f"{mix}: {runs[0].frames:,} frames, {rounds} rounds; median (least to most)")
    table.add_column("subject")
    found = rivalry(runs)
    for heading in ("us/frame", "frames/s", "peak MB", *(f"{KINDS[each].title} takes" for each in found)):
        table.add_column(heading, justify="right")
    for name, cost in costs(runs).items():
        own = [run for run in runs if run.subject == name]
        rate = spread([run.frames_per_s for run in own]).median
        peak = max(run.peak_mb for run in own)
        standing = [
            _held(share[name], TARGETS[each].get(name)) if name in share else ""
            for each, share in found.items()
        ]
        table.add_row(KINDS[name].title, _shown(cost, 1), f"{rate:,.0f}", f"{peak:.0f}", *standing)
    console.print(table)


def rivalry(runs: Sequence[Run]) -> dict[str, dict[str, Spread]]:
    """What the gateway takes of each rival's processor time, with books and without, as far as they ran."""
    names = dict.fromkeys(run.subject for run in runs)
    return {
        each: {name: ratios(runs, each, name) for name in names if KINDS[name].is_rival}
        for each in TARGETS
        if each in names
    }


def _held(share: Spread, target: float | None) -> str:
    return _shown(share, 2) + (f", wanted {target:.2f}" if target is not None else "")


def latency(console: Console, found: list[Latency]) -> None:
    """Each pace, subject by subject."""
    table = Table(title="from the venue's socket to a subscriber, ms")
    for heading in ("frames/s", "subject", "p50", "p99", "p99.9", "longest", "core %", "samples"):
        table.add_column(heading, justify="left" if heading == "subject" else "right")
    for one in found:
        times = [f"{value:.2f}" for value in (one.p50_ms, one.p99_ms, one.p999_ms, one.longest_ms)]
        table.add_row(f"{one.rate:,}", one.subject, *times, f"{one.cpu_percent:.0f}", f"{one.samples:,}")
    console.print(table)


def scale(console: Console, found: list[Scale]) -> None:
    """Each number of assets."""
    table = Table(title="the gateway alone, by the number of assets")
    for heading in ("assets", "sockets", "subscribed in s", "us/frame", "kB/asset", "burst s", "burst MB"):
        table.add_column(heading, justify="right")
    for one in found:
        numbers = (one.subscribe_s, one.us_per_frame, one.kb_per_asset, one.burst_s, one.burst_mb)
        table.add_row(f"{one.assets:,}", str(one.connections), *(f"{number:.1f}" for number in numbers))
    console.print(table)


def burst(console: Console, found: Burst) -> None:
    """Each burst, and what it did to the other sockets."""
    console.print(
        f"{found.snapshots:,} snapshots on {found.bursting} sockets at once, beside {found.rate:,} frames/s on "
        f"{found.paced} others (1013 for {found.slow_kb:,.0f} kB unread)"
    )
    table = Table()
    table.add_column("")
    for heading in ("s", "p50 ms", "most ms", "unread kB", "1013s", "anew", "gaps", "peak MB"):
        table.add_column(heading, justify="right")
    for each in found.phases:
        times = (each.seconds, each.p50_ms, each.longest_ms)
        counts = (str(count) for count in (each.slow, each.reconnects, each.gaps))
        table.add_row(
            each.name,
            *(f"{value:.2f}" for value in times),
            f"{each.most_unsent_kb:,.0f}",
            *counts,
            f"{each.peak_mb:.0f}",
        )
    console.print(table)


def core(console: Console, found: list[Core]) -> None:
    """Each mix, part by part."""
    least = min(one.rounds for one in found)
    table = Table(title=f"the core alone, us of processor time per frame, at best of {least} rounds")
    table.add_column("part")
    for one in found:
        table.add_column(one.mix, justify="right")
    for n, part in enumerate(found[0].parts):
        table.add_row(part.name, *(f"{one.parts[n].us:.2f}" for one in found))
    table.add_section()
    table.add_row("Session.receive", *(f"{one.whole_us:.2f}" for one in found))
    if any(one.instructions for one in found):
        table.add_row("instructions", *(f"{one.instructions or 0:,}" for one in found))
    console.print(table)


def soak(console: Console, found: Soak) -> None:
    """What rose, and what else there was."""
    table = Table(title=f"{found.seconds:g} s at {found.rate:,} frames/s, seed {found.seed}")
    for heading in ("", "usual", "rise in the run", "may rise", ""):
        table.add_column(heading, justify="right" if heading else "left")
    for each in found.trends:
        numbers = (f"{value:.2f} {each.unit}" for value in (each.usual, each.rise, each.limit))
        table.add_row(each.name, *numbers, "" if each.is_sound else "TOO MUCH")
    console.print(table)
    faults = ", ".join(f"{count} {name}" for name, count in sorted(found.faults.items()))
    console.print(
        f"{found.frames:,} frames, {found.probes:,} probes; {faults}; {found.reconnects} sockets made anew, "
        f"{found.nats_reconnects} lines to NATS, {found.gaps:,} gaps; closed {found.slow} times as too slow; "
        f"{found.behind:,} frames behind at the end"
    )
    for what in found.wrong:
        console.print(f"[red]wrong[/]: {what}")


def telemetry(console: Console, found: Telemetry) -> None:
    """With and without, and the parts."""
    table = Table(title=f"{found.events_per_s:,} events/s, % of a core; median (least to most)")
    for heading in ("without", "with telemetry", "difference, by round"):
        table.add_column(heading, justify="right")
    shares = (found.without, found.with_it, found.difference)
    table.add_row(*(_shown(Spread(100 * one.median, 100 * one.least, 100 * one.most), 1) for one in shares))
    console.print(table)
    console.print(
        f"parts: a scrape {found.scrape_ms:.1f} ms, a batch {found.batch_us:.1f} us, threads "
        f"{found.threads.median:.2%}; together {found.parts:.2%} of a core"
    )


def _shown(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.least:.{digits}f} to {value.most:.{digits}f})"
