"""Processor time per frame: each subject takes the same frames, as fast as it can, one after the other.

They take turns that are a fraction of a second long.  On a shared machine the same program may take twice as long a second
later; so what is compared has to have run within the same second.
"""

import signal
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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

TURN = 2_000
"""Frames in one turn: a twentieth of a second, in which the processor's caches fill a hundred times over.  What falls due
once a second falls into as many turns as there are of one's own in it, so it counts for its share."""

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


async def mark(bench: Bench, listener: Listener) -> int:
    """Wait until all that was sent has come out; returns how many sentinels that took."""
    connections = (await bench.pump.ask(mark=1))["connections"]
    assert isinstance(connections, int)
    await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
    return connections


class Contender:
    """One subject that stands ready, and what it has taken so far.

    Args:
        bench: its own nats-server and pump.
        subject: has subscribed.
        listener: hears what comes out.
        replay: what there is to take.
    """

    def __init__(self, bench: Bench, subject: Subject, listener: Listener, replay: Replay) -> None:
        self._bench = bench
        self._subject = subject
        self._listener = listener
        self._replay = replay
        self._sentinels = 0
        self._frames = 0
        self._spent_ns = 0
        self._took_ns = 0

    async def warm_up(self, last: int) -> None:
        """Take the first frames, which are not measured."""
        self._sentinels += await mark(self._bench, self._listener)
        await self.take(0, last)
        self._frames = self._spent_ns = self._took_ns = 0

    async def take(self, first: int, last: int) -> None:
        """Take these frames, as fast as it can.

        Raises:
            TimeoutError: it did not come to the end.
        """
        before = machine.processor_ns(self._subject.pid)
        pumped = await self._bench.pump.ask(first=first, last=last)
        connections = int(str(pumped["connections"]))
        await anyio.to_thread.run_sync(self._listener.wait, connections, COMES_OUT_WITHIN_S)
        self._spent_ns += machine.processor_ns(self._subject.pid) - before
        self._took_ns += self._listener.last_sentinel_ns - int(str(pumped["begun"]))
        self._sentinels += connections
        self._frames += last - first

    async def finish(self, number: int) -> Run:
        """What it came to.

        Raises:
            Unfair: it did not publish each message.
        """
        name, frames = self._subject.kind.name, self._frames
        _, peak = machine.memory_kb(self._subject.pid)
        wanted = len(self._replay.books) + sum(frame.messages for frame in self._replay.frames)
        wanted += self._sentinels
        published = await self._subject.published()
        if published != wanted:
            raise Unfair(f"{name} published {published} messages, not {wanted}")
        return Run(
            name,
            number,
            frames,
            self._spent_ns / 1e3 / frames,
            frames / (self._took_ns / 1e9),
            round(peak / 1024, 1),
        )


@asynccontextmanager
async def contending(kind: Kind, frames: Path, replay: Replay) -> AsyncIterator[Contender]:
    """A subject with all that it needs, for the length of a block."""
    async with ready(frames) as bench:
        listener = Listener(bench.nats)
        try:
            async with running(kind, bench.feed, bench.nats, list(replay.markets), bench.scratch) as subject:
                yield Contender(bench, subject, listener, replay)
        finally:
            listener.close()


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
    """Several rounds, in each of which all subjects begin anew, and take turns; every other turn backwards."""
    runs: list[Run] = []
    last = len(replay.frames)
    first = min(WARMED_UP_AFTER, last // 10)
    for number in range(rounds):
        async with AsyncExitStack() as stack:
            contenders = [
                await stack.enter_async_context(contending(KINDS[name], frames, replay)) for name in names
            ]
            for contender in contenders:
                await contender.warm_up(first)
            for turn, at in enumerate(range(first, last, TURN)):
                for contender in contenders if turn % 2 == 0 else reversed(contenders):
                    await contender.take(at, min(at + TURN, last))
            for contender in contenders:
                runs.append(run := await contender.finish(number))
                told(run)
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
