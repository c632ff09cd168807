"""Scale: cost per frame, memory per asset and the time to subscribe, from ten assets to twenty thousand; and bursts.

The pump stands in for the simulator where all that matters is how many assets there are: a simulator would spend a
minute on making 20,000 books.
"""

from pathlib import Path

import anyio
import msgspec

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, Unfair, running, subscribe
from bench.throughput import COMES_OUT_WITHIN_S, mark, ready

UNPACED = "dial_interval_s = 0.0\n"
"""How fast the gateway subscribes is measured, not how patient it is with the venue."""


class Scale(msgspec.Struct):
    """What a run with so many assets came to."""

    assets: int
    connections: int
    subscribe_s: float
    """From the request to data of all."""
    us_per_frame: float
    kb_per_asset: float
    """Memory that the subscription took, book included, by the number of assets."""
    burst_s: float
    """From the first to the last of twice as many snapshots as there are assets, all at once."""
    burst_mb: float
    """How much the peak rose in that."""


async def measure(frames: Path, replay: Replay) -> Scale:
    """One run.

    Raises:
        Unfair: events were lost, or a connection was.
    """
    assets = list(replay.markets)
    async with ready(frames) as bench:
        listener = Listener(bench.nats)
        try:
            async with running(
                KINDS["gateway"], bench.feed, bench.nats, assets[:2], bench.scratch, UNPACED
            ) as subject:
                assert subject.control is not None
                empty_kb, _ = machine.memory_kb(subject.pid)
                begun = anyio.current_time()
                await subscribe(subject.control, assets[2:])
                subscribed_s = anyio.current_time() - begun
                await mark(bench, listener)
                full_kb, peak_kb = machine.memory_kb(subject.pid)
                begun = anyio.current_time()
                connections = int(str((await bench.pump.ask(burst=2))["connections"]))
                await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
                burst_s = anyio.current_time() - begun
                _, burst_kb = machine.memory_kb(subject.pid)
                # By then most assets have said something: the first event of each takes longer.
                first, last = len(replay.frames) // 2, len(replay.frames)
                await bench.pump.ask(first=0, last=first)
                await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
                before = machine.processor_ns(subject.pid)
                await bench.pump.ask(first=first, last=last)
                await anyio.to_thread.run_sync(listener.wait, connections, COMES_OUT_WITHIN_S)
                spent = machine.processor_ns(subject.pid) - before
                status = await subject.control.status()
                if status.gaps or status.reconnects:
                    raise Unfair(f"{status.gaps} gaps, {status.reconnects} reconnects: {status.checks}")
        finally:
            listener.close()
    return Scale(
        len(assets),
        connections,
        round(subscribed_s, 2),
        round(spent / 1e3 / (last - first), 2),
        round((full_kb - empty_kb) / (len(assets) - 2), 1),
        round(burst_s, 2),
        round((burst_kb - peak_kb) / 1024, 1),
    )
