"""A long run under load and troubles: fails if memory, latency or the number of tasks rises.

The gateway takes frames at a pace while sockets are cut, stalled and closed, frames are lost and spoilt, and its line
to NATS is cut; then it is looked at whether all is as it was.  How it lost nothing unsaid meanwhile is for `make soak`
to show.  `python -m bench soak --seconds 3600`.
"""

import random
import re
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import anyio
import httpx
import msgspec
from tests.support.books import BELIEVED
from tests.support.proxy import Proxy, proxy_to

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, Line, Subject, running, started
from bench.trend import Limit, Trend, trend
from bench.venue import FAULTS
from polybus_protocol.control.replies import StatusReply
from polybus_services.client import NoGateway
from polybus_services.nats_server import nats_server

WINDOWS = 60
"""Into how many parts a run is cut; each gives one look at each thing."""

SETTLED_S = 150.0
"""Seconds that are not looked at, half of a short run at most: by then each fault has befallen a socket, what happens to an
asset has happened to most, and the allocator holds what that takes; memory was seen to rise by a quarter until then."""

LOOK_EVERY_S = 0.5
"""Seconds between two looks at memory and tasks."""

FAULT_EVERY_S = 5.0
"""Seconds from one fault to the next: the gateway is back after one or two, so most of the time all is well."""

STALLS_S = (1.0, 12.0)
"""Seconds of a stall: a short one ends in a burst of what was held back, a long one in a socket that is given up."""

SETTINGS = (
    "dial_interval_s = 0.0\nsilence_timeout_s = 8.0\ndata_timeout_s = 8.0\nfirst_data_timeout_s = 8.0\n"
    "[feeds.market.backoff]\nfirst_s = 0.2\nlongest_s = 1.0\n[http]\nport = 0\n"
)
"""With metrics.  A socket that says nothing is given up within a stall's time, and dialled again at once: many sockets in an hour."""

BACK_WITHIN_S = 60.0
"""Seconds after the last fault until all assets are live again: the longest stall, and a look at each book."""

CUT = "nats-cut"
"""The line to NATS ends, with all that is on its way in it."""

LIMITS = {
    "memory": Limit(share=0.05, least=4.0),
    "latency": Limit(share=0.5, least=2.0),
    "tasks": Limit(share=0.0, least=0.5),
}
"""How far each may rise over a run.  Memory, in MB: the allocator keeps some of what a burst took, and fills the gaps later; a
leak of 100 bytes a frame would be 1.8 GB in an hour at 5,000 a second.  Latency, in ms: another load of the machine
moves it by a third.  Tasks: not by one; each reconnect that left one behind would be hundreds."""

UNITS = {"memory": "MB", "latency": "ms", "tasks": ""}


class Soak(msgspec.Struct):
    """What a run came to."""

    seconds: float
    rate: int
    seed: int
    frames: int
    faults: dict[str, int]
    probes: int
    reconnects: int
    gaps: int
    nats_reconnects: int
    behind: int
    """Frames that the venue had not said at the end though they were due: the machine could not carry the pace."""
    slow: int
    """Times that the venue found us too slow by its rule."""
    trends: list[Trend]
    series: dict[str, list[float]]
    """What the trends are of."""
    wrong: list[str]
    """What else is not as it should be at the end."""

    @property
    def is_sound(self) -> bool:
        """Whether nothing rose and nothing is wrong."""
        return not self.wrong and all(each.is_sound for each in self.trends)


class Window(msgspec.Struct):
    """What was seen in a part of the run."""

    at: float
    """Seconds since the run began."""
    memory_mb: list[float] = []
    tasks: list[int] = []
    delays_ms: list[float] = []


class Looker:
    """Looks at the gateway all the time.

    Args:
        seconds: that the run takes.
    """

    def __init__(self, seconds: float) -> None:
        self._begun = anyio.current_time()
        self._each_s = seconds / WINDOWS
        self.windows = [Window(self._each_s * number) for number in range(WINDOWS)]
        self.probes = 0
        self._delays: list[float] = []

    def probed(self, said_us: int, heard_ns: int) -> None:
        """A probe has come out; called by another thread, which appends and no more."""
        self._delays.append(heard_ns / 1e6 - said_us / 1e3)

    async def look(self, pid: int, metrics: str) -> None:
        """Look until cancelled."""
        async with httpx.AsyncClient() as client:
            while True:
                await anyio.sleep(LOOK_EVERY_S)
                number = int((anyio.current_time() - self._begun) / self._each_s)
                window = self.windows[min(number, WINDOWS - 1)]
                delays, self._delays = self._delays, []
                self.probes += len(delays)
                window.delays_ms += delays
                window.memory_mb.append(machine.memory_kb(pid)[0] / 1024)
                text = (await client.get(metrics)).text
                found = re.search(r"^polybus_loop_tasks(?:\{.*\})? (\d+)", text, re.MULTILINE)
                assert found is not None
                window.tasks.append(int(found[1]))

    def series(self) -> tuple[list[float], dict[str, list[float]]]:
        """When it was looked, and what was seen."""
        settled = min(round(SETTLED_S / self._each_s), WINDOWS // 2)
        looked = [each for each in self.windows[settled:] if each.tasks and len(each.delays_ms) > 1]
        return [each.at for each in looked], {
            "memory": [statistics.median(each.memory_mb) for each in looked],
            # Of ten the quickest: what waits in a queue delays that one, too, and a busy machine does so least.
            "latency": [statistics.quantiles(each.delays_ms, n=10)[0] for each in looked],
            # The fewest: in a window there is a moment without a socket that is just being made.
            "tasks": [float(min(each.tasks)) for each in looked],
        }


async def run(
    frames: Path, replay: Replay, seconds: float, rate: int, seed: int, told: Callable[[str], None]
) -> Soak:
    """One run.

    Raises:
        Unfair: the gateway cannot subscribe.
        ValueError: it was never seen to be well.
    """
    _, others = machine.cores()
    with tempfile.TemporaryDirectory(prefix="polybus-bench-") as folder:
        async with (
            nats_server() as server,
            proxy_to(server.port) as proxy,
            started([sys.executable, "-m", "bench.venue", str(frames)], others) as venue,
        ):
            feed = str((await venue.hear())["url"])
            looker = Looker(seconds)
            listener = Listener(server.url, on_probe=looker.probed)
            try:
                async with running(
                    KINDS["gateway"], feed, proxy.url, list(replay.markets), Path(folder), SETTINGS
                ) as subject:
                    return await _soak(
                        venue, proxy, subject, looker, len(replay.markets), seconds, rate, seed, told
                    )
            finally:
                listener.close()


async def _soak(
    venue: Line,
    proxy: Proxy,
    subject: Subject,
    looker: Looker,
    assets: int,
    seconds: float,
    rate: int,
    seed: int,
    told: Callable[[str], None],
) -> Soak:
    dice, faults = random.Random(seed), Counter[str]()
    assert subject.control is not None
    assert subject.metrics is not None
    await venue.ask(go=rate)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(looker.look, subject.pid, subject.metrics)
        end = anyio.current_time() + seconds
        while (left := end - anyio.current_time()) > 0:
            await anyio.sleep(min(FAULT_EVERY_S, left))
            name = await harm(venue, proxy, dice)
            faults[name] += 1
            told(name)
        tasks.cancel_scope.cancel()
    standing = await venue.ask(tell=1)
    wrong = await _not_well(subject, assets)
    status = await subject.control.status()
    times, series = looker.series()
    return Soak(
        seconds,
        rate,
        seed,
        int(str(standing["frames"])),
        dict(faults),
        looker.probes,
        status.reconnects,
        status.gaps,
        status.nats.reconnects,
        int(str(standing["behind"])),
        int(str(standing["slow"])),
        [trend(name, UNITS[name], times, series[name], limit) for name, limit in LIMITS.items()],
        series,
        wrong,
    )


async def harm(venue: Line, proxy: Proxy, dice: random.Random) -> str:
    """Let one thing go wrong; what it was."""
    name = dice.choice([*FAULTS, CUT])
    if name == CUT:
        proxy.cut()
    else:
        await venue.ask(fault=name, number=dice.randrange(1 << 16), seconds=dice.choice(STALLS_S))
    return name


async def _not_well(subject: Subject, assets: int) -> list[str]:
    """Wait until all is well; what is not in the end."""
    assert subject.control is not None
    wrong: list[str] = []
    with anyio.move_on_after(BACK_WITHIN_S):
        while True:
            try:
                wrong = _wrong(await subject.control.status(), assets)
            except NoGateway as error:  # one of us has just lost its line to NATS
                wrong = [str(error)]
            if not wrong:
                break
            await anyio.sleep(LOOK_EVERY_S)
    return wrong


def _wrong(status: StatusReply, assets: int) -> list[str]:
    """What is not as it should be when nothing has gone wrong for a while."""
    believed = sum(count for trust, count in status.trust.items() if trust in BELIEVED)
    found = {
        f"{assets - believed} of {assets} assets are not to be believed: {status.trust}": believed != assets,
        f"{status.restarts} actors failed and were started again": status.restarts > 0,
        f"{status.nats.dropped} events were given up, as NATS did not take them": status.nats.dropped > 0,
        "NATS is away": not status.nats.connected,
    }
    return [what for what, is_so in found.items() if is_so]
