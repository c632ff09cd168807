"""`python -m bench`: what `make bench` and its kin run."""

import hashlib
import os
import re
import sys
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec
from rich.console import Console

from bench import burst, chart, core, frames, latency, machine, report, scale, soak, telemetry, throughput
from bench.subjects import KINDS, ROOT

CACHE = ROOT / ".bench" / "frames"
"""Frames that were made are kept: each takes 0.2 ms, most of it for the hash of the book."""

console = Console(stderr=True)


@click.group()
def main() -> None:
    """Measure the gateway and its rivals."""
    os.sched_setaffinity(0, machine.cores()[1])


def _frames(mix: str, count: int, assets: int) -> Path:
    """A file of frames, made if need be."""
    source = Path(frames.__file__).read_bytes()
    file = CACHE / f"{mix}-{count}-{assets}-{hashlib.sha256(source).hexdigest()[:8]}.jsonl"
    if not file.exists():
        console.print(f"making {count:,} frames of {assets:,} assets ({mix})")
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_suffix(".new")
        scratch.write_text("\n".join(frames.make(mix, count, assets)), encoding="ascii")
        scratch.rename(file)
    return file


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode({"machine": machine.about(), **found}).decode() + "\n")


@main.command("throughput")
@click.option("--rounds", default=3, show_default=True, help="Turns of each subject.")
@click.option("--count", default=40_000, show_default=True, help="Frames in one turn.")
@click.option("--assets", default=200, show_default=True)
@click.option(
    "--mix", default="changes", show_default=True, help=f"What is in them: {', '.join(frames.MIXES)}."
)
@click.option(
    "--frames", "file", type=click.Path(exists=True, path_type=Path), help="Captured ones, a frame a line."
)
@click.option("--subjects", default=",".join(KINDS), show_default=True)
@click.option("--json", "as_json", is_flag=True)
@click.option("--chart", "picture", type=click.Path(path_type=Path), help="Where to write a picture (SVG).")
def throughput_command(
    rounds: int,
    count: int,
    assets: int,
    mix: str,
    file: Path | None,
    subjects: str,
    as_json: bool,  # noqa: FBT001  click's way
    picture: Path | None,
) -> None:
    """Processor time per frame, as fast as each can."""
    path, title = file or _frames(mix, count, assets), file.name if file else mix
    replay = frames.read(path)

    def told(run: throughput.Run) -> None:
        console.print(
            f"round {run.round + 1}: {run.subject:9} {run.us_per_frame:7.2f} us/frame {run.frames_per_s:10,.0f}/s"
        )

    runs = anyio.run(throughput.compare, subjects.split(","), path, replay, rounds, told)
    report.throughput(console, title, runs)
    _tell({"mix": title, "runs": runs, "ratios": report.rivalry(runs)}, as_json=as_json)
    if picture is not None:
        shown = {KINDS[name].title: cost for name, cost in report.costs(runs).items()}
        picture.write_text(
            chart.bars(f"Processor time per frame ({title})", "us", shown, KINDS["gateway"].title),
            encoding="utf-8",
        )


@main.command("latency")
@click.option("--rates", default="1000,5000,20000", show_default=True, help="Frames a second.")
@click.option("--seconds", default=10.0, show_default=True, help="For each.")
@click.option("--assets", default=200, show_default=True)
@click.option("--mix", default="venue", show_default=True)
@click.option("--subjects", default="floor,gateway", show_default=True)
@click.option("--json", "as_json", is_flag=True)
def latency_command(
    rates: str,
    seconds: float,
    assets: int,
    mix: str,
    subjects: str,
    as_json: bool,  # noqa: FBT001  click's way
) -> None:
    """How long a frame is under way, at a pace."""
    paces = [int(rate) for rate in rates.split(",")]
    path = _frames(mix, int(max(paces) * seconds), assets)
    replay = frames.read(path)
    found = [
        anyio.run(latency.measure, name, path, replay, rate, seconds)
        for rate in paces
        for name in subjects.split(",")
    ]
    report.latency(console, found)
    _tell({"mix": mix, "latency": found}, as_json=as_json)


@main.command("telemetry")
@click.option("--rate", default=20_000, show_default=True, help="Events a second.")
@click.option("--seconds", default=10.0, show_default=True, help="For each turn.")
@click.option("--rounds", default=5, show_default=True, help="Turns with telemetry, and without it.")
@click.option("--assets", default=200, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def telemetry_command(
    rate: int,
    seconds: float,
    rounds: int,
    assets: int,
    as_json: bool,  # noqa: FBT001  click's way
) -> None:
    """Processor time of the gateway with and without telemetry, at a pace."""
    path = _frames("changes", int(rate * seconds / 2), assets)
    found = anyio.run(telemetry.measure, path, frames.read(path), rate, seconds, rounds)
    report.telemetry(console, found)
    _tell({"telemetry": found}, as_json=as_json)


@main.command("scale")
@click.option("--sizes", default="10,200,2000,20000", show_default=True, help="How many assets.")
@click.option("--count", default=40_000, show_default=True, help="Frames to take with each.")
@click.option("--json", "as_json", is_flag=True)
def scale_command(sizes: str, count: int, as_json: bool) -> None:  # noqa: FBT001  click's way
    """The gateway with few assets and with many, and all their snapshots at once."""
    found = []
    for assets in map(int, sizes.split(",")):
        path = _frames("changes", count, assets)
        found.append(anyio.run(scale.measure, path, frames.read(path)))
    report.scale(console, found)
    _tell({"scale": found}, as_json=as_json)


@main.command("soak")
@click.option("--seconds", default=3600.0, show_default=True)
@click.option("--rate", default=5_000, show_default=True, help="Frames a second.")
@click.option("--assets", default=1_000, show_default=True)
@click.option("--seed", default=1, show_default=True, help="For other faults.")
@click.option("--json", "as_json", is_flag=True)
def soak_command(seconds: float, rate: int, assets: int, seed: int, as_json: bool) -> None:  # noqa: FBT001
    """A long run with faults; ends with 1 if memory, latency or tasks rise."""
    path = _frames("venue", 40_000, assets)
    found = anyio.run(
        soak.run, path, frames.read(path), seconds, rate, seed, lambda what: console.print(what)
    )
    report.soak(console, found)
    _tell({"soak": found}, as_json=as_json)
    raise SystemExit(not found.is_sound)


@main.command("core")
@click.option(
    "--rounds", default=7, show_default=True, help="Turns of each part; of each piece the quickest."
)
@click.option("--count", default=10_000, show_default=True, help="Frames in one turn.")
@click.option("--assets", default=200, show_default=True)
@click.option("--mixes", default=",".join(frames.MIXES), show_default=True)
@click.option(
    "--frames", "file", type=click.Path(exists=True, path_type=Path), help="Captured ones, a frame a line."
)
@click.option("--instructions", is_flag=True, help="Have valgrind count them, too; a minute for each mix.")
@click.option("--json", "as_json", is_flag=True)
def core_command(
    rounds: int,
    count: int,
    assets: int,
    mixes: str,
    file: Path | None,
    instructions: bool,  # noqa: FBT001  click's way
    as_json: bool,  # noqa: FBT001
) -> None:
    """The core alone, without a socket or NATS: processor time per frame, by part."""
    found = []
    for title in [file.name] if file else mixes.split(","):
        path = file or _frames(title, count, assets)
        found.append(core.measure(title, frames.read(path), rounds))
        if instructions:
            found[-1].instructions = core.instructions(path, min(count, core.COUNTED))
    report.core(console, found)
    _tell({"core": found}, as_json=as_json)


@main.command("burst")
@click.option("--rate", default=2_000, show_default=True, help="Frames a second on the other sockets.")
@click.option("--snapshots", default=4_000, show_default=True)
@click.option("--assets", default=6_000, show_default=True, help="In all.")
@click.option("--json", "as_json", is_flag=True)
def burst_command(rate: int, snapshots: int, assets: int, as_json: bool) -> None:  # noqa: FBT001  click's way
    """Thousands of snapshots at once, beside a pace; ends with 1 if the venue found a reader slow."""
    path = _frames("venue", 60_000, assets)
    found = anyio.run(burst.measure, path, frames.read(path), rate, snapshots)
    report.burst(console, found)
    _tell({"burst": found}, as_json=as_json)
    raise SystemExit(not found.is_sound)


@main.command("profile")
@click.option("--count", default=200_000, show_default=True, help="Frames to take while somebody looks.")
@click.option("--assets", default=200, show_default=True)
@click.option("--mix", default="changes", show_default=True)
@click.argument("picture", type=click.Path(path_type=Path))
def profile_command(count: int, assets: int, mix: str, picture: Path) -> None:
    """Where the time goes: a flame graph (SVG), or with `.txt` the stacks and how often each was seen."""
    path = _frames(mix, count, assets)
    anyio.run(throughput.profile, path, frames.read(path), picture)
    # Its title is py-spy's command line, with the folders of this machine.
    drawn = picture.read_text(encoding="utf-8")
    picture.write_text(re.sub(r"[^<>]*py-spy record [^<>]*", "polybus under load, by py-spy", drawn))


if __name__ == "__main__":
    main()
