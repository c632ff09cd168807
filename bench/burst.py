"""Bursts: thousands of snapshots at once, while other sockets carry frames at a pace whose venue closes slow readers.

Twice: a `book` of each asset of most sockets, as at the start of a day, and all these sockets cut and made anew.  What
must not happen is that the others are closed with 1013, or a watchdog gives a socket up, or memory runs away.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import anyio
import msgspec

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, Line, Subject, running, started
from bench.throughput import COMES_OUT_WITHIN_S
from bench.venue import SLOW_BYTES, Standing
from polybus_protocol.control.replies import StatusReply
from polybus_services.nats_server import nats_server

SETTINGS = "dial_interval_s = 0.0\n[feeds.market.backoff]\nfirst_s = 0.1\nlongest_s = 0.5\n"
"""All sockets are made anew at once, which is the worst that there can be."""

ANEW = "sockets anew"
"""The phase in which sockets are cut."""

QUIET_S = 3.0
"""Seconds before the first burst, and after each: what the pace alone is like, and whether all is well again."""

LOOK_EVERY_S = 0.05
"""Seconds between two questions to the venue, which cost the gateway nothing."""


class Phase(msgspec.Struct):
    """What became of one burst, or of the quiet before it."""

    name: str
    seconds: float
    """From the beginning until the last snapshot has come out."""
    p50_ms: float
    """Of the latency on the other sockets, meanwhile."""
    longest_ms: float
    most_unsent_kb: float
    """The most that the venue had to keep for one of the other sockets, besides what the kernel holds."""
    slow: int
    """Sockets closed with 1013."""
    reconnects: int
    """Sockets made anew, be it for a 1013, a watchdog or because they were cut."""
    gaps: int
    peak_mb: float
    """The most memory that the process has had so far."""


class Burst(msgspec.Struct):
    """What all came to."""

    rate: int
    paced: int
    """Sockets with frames at a pace."""
    bursting: int
    """Sockets with the snapshots."""
    snapshots: int
    slow_kb: float
    """For how much the venue calls a reader slow."""
    phases: list[Phase]

    @property
    def is_sound(self) -> bool:
        """Whether nobody was too slow, and no socket was lost but those that were cut."""
        cut = {ANEW: self.bursting}
        return not any(each.slow or each.reconnects != cut.get(each.name, 0) for each in self.phases)


class Bench:
    """What is measured with.

    Args:
        venue: whose frames these are.
        subject: the gateway.
        quiet_s: see `QUIET_S`.
    """

    def __init__(self, venue: Line, subject: Subject, quiet_s: float) -> None:
        self._venue = venue
        self._subject = subject
        self._quiet_s = quiet_s
        self._delays: list[float] = []
        self.phases: list[Phase] = []

    def probed(self, said_us: int, heard_ns: int) -> None:
        """A probe has come out; called by another thread."""
        self._delays.append(heard_ns / 1e6 - said_us / 1e3)

    async def standing(self) -> Standing:
        """How the venue stands."""
        return msgspec.convert(await self._venue.ask(tell=1), Standing)

    async def status(self) -> StatusReply:
        """How the gateway stands."""
        assert self._subject.control is not None
        return await self._subject.control.status()

    async def phase(self, name: str, before: StatusReply, slow: int, begun: float) -> StatusReply:
        """A phase is over."""
        seconds = anyio.current_time() - begun
        standing, delays, after = await self.standing(), self._delays, await self.status()
        self.phases.append(
            Phase(
                name,
                round(seconds, 2),
                round(statistics.median(delays), 2),
                round(max(delays), 2),
                round(standing.most_unsent / 1024, 1),
                standing.slow - slow,
                after.reconnects - before.reconnects,
                after.gaps - before.gaps,
                round(machine.memory_kb(self._subject.pid)[1] / 1024, 1),
            )
        )
        return after

    async def rest(self) -> None:
        """Let the pace go on alone for a while; what was seen is forgotten."""
        await self.standing()
        self._delays = []
        await anyio.sleep(self._quiet_s)


async def measure(
    frames: Path,
    replay: Replay,
    rate: int,
    snapshots: int,
    quiet_s: float = QUIET_S,
    settings: str = SETTINGS,
) -> Burst:
    """One run.

    Args:
        frames: a file of them.
        replay: what is in it.
        rate: frames a second on the other sockets.
        snapshots: at once; the assets of whole sockets.
        quiet_s: see `QUIET_S`.
        settings: see `SETTINGS`.
    """
    _, others = machine.cores()
    with tempfile.TemporaryDirectory(prefix="polybus-bench-") as folder:
        async with (
            nats_server() as server,
            started([sys.executable, "-m", "bench.venue", str(frames)], others) as venue,
        ):
            feed = str((await venue.hear())["url"])
            async with running(
                KINDS["gateway"], feed, server.url, list(replay.markets), Path(folder), settings
            ) as subject:
                bench = Bench(venue, subject, quiet_s)
                return await _measure(bench, venue, server.url, len(replay.markets), rate, snapshots)


async def _measure(bench: Bench, venue: Line, nats: str, assets: int, rate: int, snapshots: int) -> Burst:
    listener = Listener(nats, on_probe=bench.probed)

    async def come_out(count: int) -> None:
        await anyio.to_thread.run_sync(listener.wait, count, COMES_OUT_WITHIN_S)

    try:
        sockets = (await bench.standing()).connections
        bursting = min(round(snapshots * sockets / assets), sockets - 1)
        first = sockets - bursting
        await venue.ask(mark=sockets)
        await come_out(sockets)
        await venue.ask(go=rate, first=first)

        status, begun = await bench.status(), anyio.current_time()
        await bench.rest()
        status = await bench.phase("quiet", status, 0, begun)

        await bench.rest()
        slow, begun = (await bench.standing()).slow, anyio.current_time()
        await venue.ask(again=bursting)
        await come_out(bursting)
        status = await bench.phase("snapshots", status, slow, begun)

        await bench.rest()
        slow, begun = (await bench.standing()).slow, anyio.current_time()
        await venue.ask(drop=bursting)
        with anyio.fail_after(COMES_OUT_WITHIN_S):
            while (await bench.standing()).assets < assets:  # noqa: ASYNC110  nobody tells of it
                await anyio.sleep(LOOK_EVERY_S)
        # New sockets come last.
        await venue.ask(mark=bursting)
        await come_out(bursting)
        await bench.phase(ANEW, status, slow, begun)
    finally:
        listener.close()
    return Burst(rate, first, bursting, assets * bursting // sockets, SLOW_BYTES / 1024, bench.phases)
