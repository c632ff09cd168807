"""Latency: from a frame's write to the venue's socket to its arrival at a subscriber, at a pace.

Both ends read the same clock.  The way through kernel, nats-server and our subscriber is in it, and the same for the
gateway and the floor: what counts is the difference.
"""

from array import array
from pathlib import Path

import anyio
import msgspec

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, running
from bench.throughput import COMES_OUT_WITHIN_S, mark, ready

SAMPLED_PER_S = 1_000
"""Messages a second that the subscriber takes, so that it is no load of its own: all those of some assets."""


class Latency(msgspec.Struct):
    """What one run at one pace came to; times in milliseconds."""

    subject: str
    rate: int
    samples: int
    p50_ms: float
    p99_ms: float
    p999_ms: float
    longest_ms: float
    cpu_percent: float
    """Of the subject's core."""


async def measure(name: str, frames: Path, replay: Replay, rate: int, seconds: float) -> Latency:
    """One subject at one pace."""
    count = min(int(rate * seconds), len(replay.frames))
    share = min(1.0, SAMPLED_PER_S / rate)
    # One asset of each market: a frame tells of both.
    firsts = list(dict.fromkeys(replay.markets.values()))
    chosen = set(firsts[: max(int(len(firsts) * share), 1)])
    watched: dict[bytes, list[int]] = {}
    for asset, market in replay.markets.items():
        if market in chosen:
            chosen.remove(market)
            watched[f"polymarket.v1.market.{market}.{asset}.price_change".encode()] = []
    arrived: dict[bytes, list[int]] = {subject: [] for subject in watched}
    async with ready(frames) as bench:
        listener = Listener(
            bench.nats, [one.decode() for one in watched], lambda at, now: arrived[at].append(now)
        )
        try:
            async with running(
                KINDS[name], bench.feed, bench.nats, list(replay.markets), bench.scratch
            ) as subject:
                await mark(bench, listener)
                times = bench.scratch / "times"
                before, begun = machine.processor_ns(subject.pid), anyio.current_time()
                pumped = await bench.pump.ask(first=0, last=count, rate=rate, times=str(times))
                await anyio.to_thread.run_sync(
                    listener.wait, int(str(pumped["connections"])), COMES_OUT_WITHIN_S
                )
                spent = machine.processor_ns(subject.pid) - before
                busy = spent / 1e9 / (anyio.current_time() - begun)
        finally:
            listener.close()
        written = array("q", times.read_bytes())
    return _summed(name, rate, busy, _delays(replay, written, watched, arrived))


def _delays(
    replay: Replay, written: array[int], watched: dict[bytes, list[int]], arrived: dict[bytes, list[int]]
) -> list[int]:
    """Nanoseconds of each message: an asset's come out in the order in which its frames went in."""
    for n, frame in enumerate(replay.frames[: len(written)]):
        if b'"price_changes"' in frame.text:
            for asset in frame.assets:
                at = f"polymarket.v1.market.{replay.markets[asset]}.{asset}.price_change".encode()
                if at in watched:
                    watched[at].append(written[n])
    for at, begun in watched.items():
        assert len(begun) == len(arrived[at]), f"{at.decode()}: {len(begun)} in, {len(arrived[at])} out"
    return sorted(
        there - begun for at in watched for begun, there in zip(watched[at], arrived[at], strict=True)
    )


def _summed(name: str, rate: int, busy: float, delays: list[int]) -> Latency:
    def at(share: float) -> float:
        return round(delays[min(int(len(delays) * share), len(delays) - 1)] / 1e6, 3)

    return Latency(name, rate, len(delays), at(0.5), at(0.99), at(0.999), at(1.0), round(busy * 100, 1))
