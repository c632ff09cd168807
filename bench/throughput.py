"""Processor time per frame: each subject takes the same frames, as fast as it can, one after the other."""

import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, ROOT, Kind, Line, Subject, Unfair, running, started
from polybus_services.nats_server import nats_server

WARMED_UP_AFTER = 2_000
"""Frames that are not measured: the first ones fill caches and let lists grow."""

COMES_OUT_WITHIN_S = 300.0
"""Seconds that all frames may take; the slowest rival takes a tenth of a millisecond a frame."""


class Run(msgspec.Struct):
    """What one run of one subject came to."""

    subject: str
    round: int
    frames: int
    us_per_frame: float
    """Processor time of the subject's process, microseconds per frame."""
    frames_per_s: float
    peak_mb: float


class Bench(msgspec.Struct):
    """What stands ready for one run."""

    nats: str
    pump: Line
    feed: str
    scratch: Path


@asynccontextmanager
async def ready(frames: Path) -> AsyncIterator[Bench]:
    """A nats-server and a pump of one's own, for the length of a block."""
    _, others = machine.cores()
    with tempfile.TemporaryDirectory(prefix="polybus-bench-") as folder:
        async with (
            nats_server() as server,
            started([sys.executable, "-m", "bench.pump", str(frames)], others) as pump,
        ):
            with anyio.fail_after(COMES_OUT_WITHIN_S):
                feed = str((await pump.hear())["url"])
            yield Bench(server.url, pump, feed, Path(folder))


async def mark(bench: Bench, listener: Listener) -> None:
    """Wait until all that was sent has come out."""
    connections = (await bench.pump.ask(mark=1))["connections"]
    assert isinstance(connections, int)
    await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)


async def measure(kind: Kind, frames: Path, replay: Replay, number: int, settings: str = "") -> Run:
    """One run.

    Raises:
        Unfair: it did not publish each message.
        TimeoutError: it did not come to the end.
    """
    async with ready(frames) as bench:
        listener = Listener(bench.nats)
        try:
            async with running(
                kind, bench.feed, bench.nats, list(replay.markets), bench.scratch, settings
            ) as subject:
                return await _measure(bench, subject, listener, replay, number)
        finally:
            listener.close()


async def _measure(bench: Bench, subject: Subject, listener: Listener, replay: Replay, number: int) -> Run:
    last = len(replay.frames)
    first = min(WARMED_UP_AFTER, last // 10)
    await mark(bench, listener)
    warm = await bench.pump.ask(first=0, last=first)
    connections = int(str(warm["connections"]))
    await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
    before = machine.processor_ns(subject.pid)
    pumped = await bench.pump.ask(first=first, last=last)
    await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
    spent = machine.processor_ns(subject.pid) - before
    seconds = (listener.last_sentinel_ns - int(str(pumped["begun"]))) / 1e9
    _, peak = machine.memory_kb(subject.pid)
    sentinels = 3 * connections
    wanted = len(replay.books) + sum(frame.messages for frame in replay.frames) + sentinels
    published = await subject.published()
    if published != wanted:
        raise Unfair(f"{subject.kind.name} published {published} messages, not {wanted}")
    measured = last - first
    return Run(
        subject.kind.name, number, measured, spent / 1e3 / measured, measured / seconds, round(peak / 1024, 1)
    )


async def profile(frames: Path, replay: Replay, picture: Path) -> None:
    """Let py-spy look at the gateway while it takes the frames, and draw where the time went."""
    _, others = machine.cores()
    async with ready(frames) as bench:
        listener = Listener(bench.nats)
        async with running(
            KINDS["gateway"], bench.feed, bench.nats, list(replay.markets), bench.scratch
        ) as subject:
            await mark(bench, listener)
            form = ["--format", "raw"] if picture.suffix == ".txt" else ["--format", "flamegraph"]
            command = [str(ROOT / ".bench/bin/py-spy"), "record", "--pid", str(subject.pid), "--rate", "500"]
            command += ["--duration", "3600", "--function", "--output", str(picture), *form]
            spy = await anyio.open_process(command, stdin=None, stdout=None)
            machine.pin(spy.pid, others)
            await anyio.sleep(1)  # it has no way to say that it has begun
            pumped = await bench.pump.ask(first=0, last=len(replay.frames))
            await anyio.to_thread.run_sync(listener.wait, int(str(pumped["connections"])), COMES_OUT_WITHIN_S)
            spy.send_signal(signal.SIGINT)  # which has it write what it saw
            await spy.wait()
        listener.close()


async def compare(
    names: list[str], frames: Path, replay: Replay, rounds: int, told: Callable[[Run], None]
) -> list[Run]:
    """Several rounds, in each of which every subject has its turn; every other one backwards."""
    runs: list[Run] = []
    for number in range(rounds):
        for name in names if number % 2 == 0 else reversed(names):
            run = await measure(KINDS[name], frames, replay, number)
            told(run)
            runs.append(run)
    return runs


class Spread(msgspec.Struct):
    """Several values of the same."""

    median: float
    least: float
    most: float


def spread(values: list[float]) -> Spread:
    """Of these."""
    return Spread(statistics.median(values), min(values), max(values))


def ratios(runs: Sequence[Run], of: str, to: str) -> Spread:
    """Processor time of one subject by that of another, round by round."""
    cost = {(run.subject, run.round): run.us_per_frame for run in runs}
    rounds = sorted({run.round for run in runs})
    return spread([cost[of, number] / cost[to, number] for number in rounds])
