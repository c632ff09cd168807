"""What telemetry costs: the gateway at one pace with and without it, turn by turn, and the parts by themselves.

With it means with all of it: `/metrics` is scraped, metrics and spans go out over OTLP, each every `EVERY_S`.
"""

import contextlib
import http.server
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, override

import anyio
import anyio.to_thread
import httpx
import msgspec
from opentelemetry.sdk.trace import TracerProvider

from bench import machine
from bench.frames import Replay
from bench.listener import Listener
from bench.subjects import KINDS, running
from bench.throughput import COMES_OUT_WITHIN_S, Spread, mark, ready, spread
from polybus_protocol.events import BestBidAsk
from polybus_protocol.stream import Stream
from polybus_services.telemetry.tracing import Tracing

EVERY_S = 5.0
"""Seconds from one scrape, and one export, to the next; thrice as often as is usual."""

SCRAPES = 50
"""Scrapes one after the other, of a gateway that has nothing else to do."""

BATCH, BATCHES = 20, 20_000
"""Events in a batch, a millisecond's worth at 20,000 a second, and how many batches are shown to a watcher."""


class Telemetry(msgspec.Struct):
    """What was found; shares are of one core."""

    events_per_s: int
    without: Spread
    with_it: Spread
    difference: Spread
    """Round by round."""
    scrape_ms: float
    """Processor time for one."""
    batch_us: float
    """Processor time of the watcher for one batch that it looks into."""
    threads: Spread
    """The share that the exporting threads took."""

    @property
    def parts(self) -> float:
        """What the parts come to: a scrape and a snapshot for the export each `EVERY_S`, a batch a millisecond, threads.

        A snapshot takes less than the scrape, which begins with one.
        """
        return 2 * self.scrape_ms / 1e3 / EVERY_S + self.batch_us / 1e3 + self.threads.median


async def measure(frames: Path, replay: Replay, events_per_s: int, seconds: float, rounds: int) -> Telemetry:
    """All of it; a frame is two events."""
    busy: dict[bool, list[float]] = {False: [], True: []}
    scrape_ms, threads = list[float](), list[float]()
    for number in range(rounds):
        for on in (False, True) if number % 2 == 0 else (True, False):
            turn = await _turn(frames, replay, events_per_s // 2, seconds, on=on)
            busy[on].append(turn.share)
            if on:
                scrape_ms.append(turn.scrape_ms)
                threads.append(turn.threads)
    return Telemetry(
        events_per_s,
        spread(busy[False]),
        spread(busy[True]),
        spread([on - off for on, off in zip(busy[True], busy[False], strict=True)]),
        min(scrape_ms),
        _batch_us(),
        spread(threads),
    )


class _Turn(msgspec.Struct):
    """Shares of a core: of the whole process, and of its threads but the first."""

    share: float = 0.0
    threads: float = 0.0
    scrape_ms: float = 0.0


async def _turn(frames: Path, replay: Replay, rate: int, seconds: float, *, on: bool) -> _Turn:
    """One turn at a pace, after some scrapes of a gateway that has nothing else to do."""
    turn, settings = _Turn(), "[http]\nport = 0\n" if on else ""
    async with ready(frames) as bench:
        listener = Listener(bench.nats)
        try:
            with _collector() if on else contextlib.nullcontext():
                async with (
                    running(
                        KINDS["gateway"],
                        bench.feed,
                        bench.nats,
                        list(replay.markets),
                        bench.scratch,
                        settings,
                    ) as subject,
                    anyio.create_task_group() as tasks,
                ):
                    await mark(bench, listener)
                    if subject.metrics is not None:
                        turn.scrape_ms = await _scrapes(subject.pid, subject.metrics)
                        tasks.start_soon(_scrape_on, subject.metrics)
                    before = machine.processor_ns(subject.pid), machine.other_threads_ns(subject.pid)
                    pumped = await bench.pump.ask(
                        first=0, last=int(rate * seconds), rate=rate, times=str(bench.scratch / "times")
                    )
                    await anyio.to_thread.run_sync(
                        listener.wait, int(str(pumped["connections"])), COMES_OUT_WITHIN_S
                    )
                    after = machine.processor_ns(subject.pid), machine.other_threads_ns(subject.pid)
                    # Of the time that was asked for: where the machine cannot keep pace it is as much work.
                    turn.share, turn.threads = (
                        (then - now) / 1e9 / seconds for now, then in zip(before, after, strict=True)
                    )
                    tasks.cancel_scope.cancel()
        finally:
            listener.close()
    return turn


async def _scrapes(pid: int, metrics: str) -> float:
    """Milliseconds of processor time for a scrape."""
    before = machine.processor_ns(pid)
    for _ in range(SCRAPES):
        await anyio.to_thread.run_sync(_scrape, metrics)
    return (machine.processor_ns(pid) - before) / 1e6 / SCRAPES


def _scrape(metrics: str) -> None:
    assert "polybus_events_total" in httpx.get(metrics, timeout=10).text


async def _scrape_on(metrics: str) -> None:
    while True:
        await anyio.to_thread.run_sync(_scrape, metrics)
        await anyio.sleep(EVERY_S)


class _Sink(http.server.BaseHTTPRequestHandler):
    """Takes whatever comes."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    @override
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def _collector() -> Iterator[None]:
    """An OTLP receiver, to which processes that are started in the block send."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "OTEL_METRIC_EXPORT_INTERVAL": str(int(EVERY_S * 1000)),
        }
        os.environ.update(asked)
        try:
            yield
        finally:
            for name in asked:
                del os.environ[name]
            server.shutdown()


def _batch_us() -> float:
    """Processor time of the watcher for a batch, each a millisecond after the other, so that it looks into all."""
    event = BestBidAsk(market="0x1", asset="1", best_bid="0.1", best_ask="0.2", source_time=1)
    stream = Stream("market", "market")
    batch = [stream.publish(event, 1, None) for _ in range(BATCH)]
    watcher = Tracing(TracerProvider(shutdown_on_exit=False), batches=True)
    begun = time.thread_time_ns()
    for number in range(BATCHES):
        watcher.published(batch, (number + 1) * 1_000_001)
    return (time.thread_time_ns() - begun) / 1e3 / BATCHES
