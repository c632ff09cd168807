"""What books and checks cost: processor time per frame, beside decoding, sequencing and encoding alone.

The frames are the simulator's, recorded once, and go through two sessions in turn: one whose assets are plain
streams, and one that keeps the books, compares the best prices and looks at every book once a second.  No socket,
no NATS: the ratio says what books add to the rest of the hot path.  `python -m bench.books_cost [--json]`.
"""

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Sequence

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

from polybus_protocol.asset_stream import AssetStream
from polybus_protocol.commons import Commons
from polybus_protocol.directory import MarketDirectory
from polybus_protocol.feeds.market import FEED, MarketDialect
from polybus_protocol.profile import PROFILES
from polybus_protocol.session import Session
from polybus_protocol.stream import Stream
from polybus_services.simulator import SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient, connected, opening

ASSETS = 200
"""What one connection carries by default."""

FRAMES = 20_000
ROUNDS = 5
RATES = (50, 200, 1000, 5000)
"""Frames a second: the fewer, the fewer changes share one look.  Simulated, as the sessions have no clock."""

MOST_EXTRA = 0.6
"""What books and checks may add (issue 4)."""

BEFOREHAND = 8000
"""Frames that are not counted: the snapshots of all assets are among them, and the first look at each."""

STEPS = 500
"""Facts at a time, which the venue's queue for a slow reader holds."""


class Cost(msgspec.Struct, frozen=True):
    """What came of one rate; microseconds of processor time per frame, medians of the rounds."""

    frames_per_s: int
    alone_us: float
    books_us: float
    extra: float
    """What books and checks add, as a share of the rest: the median of the rounds' own."""
    proved_books: int
    """Books whose hash was computed and found right in a round."""
    doubted_books: int
    """Books that were found wrong; anything but none is a fault of ours."""


async def record(frames: int) -> tuple[list[str], list[bytes]]:
    """The assets, and the frames of a connection that carries them: snapshots first."""
    options = SimulatorOptions(markets=ASSETS // 2, seed=1, paused=True)
    async with running_simulator(options) as simulator, connected(simulator.feeds[FEED]) as client:
        admin, assets, texts = AdminClient(simulator.admin), list(simulator.assets), list[str]()
        await client.say(opening(*assets))
        while len(texts) < frames:
            await admin.step(STEPS)
            await client.say("PING")
            while (text := await client.hear()) != "PONG":
                assert text is not None, "the simulator has hung up"
                texts.append(text)
    return assets, [text.encode() for text in texts[:frames]]


def talk(
    assets: Sequence[str], frames: Sequence[bytes], frames_per_s: int, *, books: bool
) -> tuple[float, Counter[str]]:
    """Let a session take in all frames; seconds of processor time, and what the checks found."""
    profile, checks = PROFILES[FEED], Counter[str]()
    session = Session(
        profile, MarketDialect(), "bench-market-1#1", Commons(FEED), MarketDirectory(), 0.0, checks=checks
    )
    streams: dict[str, Stream] = {
        asset: AssetStream(None, asset, profile.budgets, checks)
        if books
        else Stream(FEED, "market", (None, asset))
        for asset in assets
    }
    session.subscribe(streams.items(), 0.0, 0)
    published = 0
    begun = time.process_time()
    for number, frame in enumerate(frames):
        if number == BEFOREHAND:
            begun = time.process_time()
        now = number / frames_per_s
        published += len(session.receive(frame, now, round(now * 1e9)))
        due = session.next_deadline()
        if due is not None and due <= now:
            published += len(session.handle_deadline(now, round(now * 1e9)))
            session.data_to_send()
        session.take_signals()
    seconds = time.process_time() - begun
    assert published >= len(frames)
    return seconds, checks


def measure(assets: Sequence[str], frames: Sequence[bytes], frames_per_s: int, rounds: int) -> Cost:
    """Take turns, so that a machine that slows down slows both."""
    alone, with_books, checks = list[float](), list[float](), Counter[str]()
    for _ in range(rounds):
        alone.append(talk(assets, frames, frames_per_s, books=False)[0])
        seconds, checks = talk(assets, frames, frames_per_s, books=True)
        with_books.append(seconds)
    each_us = 1e6 / (len(frames) - BEFOREHAND)
    return Cost(
        frames_per_s,
        statistics.median(alone) * each_us,
        statistics.median(with_books) * each_us,
        statistics.median(b / a for a, b in zip(alone, with_books, strict=True)) - 1,
        checks["hash_proved"],
        checks["hash_mismatch"] + checks["top_mismatch"] + checks["complement_mismatch"],
    )


def main() -> None:
    """Measure, and print a table or JSON; ends with 1 if a rate costs more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    assets, frames = anyio.run(record, options.frames)
    costs = [measure(assets, frames, rate, options.rounds) for rate in RATES]
    if options.json:
        print(json.dumps([msgspec.to_builtins(cost) for cost in costs]))
    else:
        table = Table(
            title=f"{len(frames)} frames, {ASSETS} assets, one connection; medians of {options.rounds}"
        )
        for column in ("frames/s", "without us/frame", "with us/frame", "more", "books proved", "doubted"):
            table.add_column(column, justify="right")
        for cost in costs:
            table.add_row(
                str(cost.frames_per_s),
                f"{cost.alone_us:.1f}",
                f"{cost.books_us:.1f}",
                f"{cost.extra:+.0%}",
                str(cost.proved_books),
                str(cost.doubted_books),
            )
        Console().print(table)
    raise SystemExit(any(cost.extra > MOST_EXTRA for cost in costs))


if __name__ == "__main__":
    main()
