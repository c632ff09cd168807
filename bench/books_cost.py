"""What books and checks cost: processor time per frame, with and without them.

The frames are the simulator's, recorded once, and go through two sessions in turn: one whose assets are plain
streams, and one that keeps the books, compares the best prices and has the books looked at.  Twice: up to the
encoded event, and the whole way, through outbox and bus to a real nats-server, which is what issue 4 asks for.  Of
several rounds the quickest counts, since whatever else runs on the machine only ever adds.
`python -m bench.books_cost [--rounds N] [--json]`.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import msgspec
from nats.aio.client import Client
from rich.console import Console
from rich.table import Table

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.login import NatsSettings
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.conversation.session import Session
from polybus_protocol.feeds.market import FEED, MarketDialect
from polybus_protocol.profile import PROFILES
from polybus_protocol.stream import Publication, Stream
from polybus_services.nats_server import nats_server
from polybus_services.simulator import SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient, connected, opening

ASSETS = 200
"""What one connection carries by default."""

FRAMES = 20_000
ROUNDS = 5
RATES = (50, 200, 1000, 5000)
"""Frames a second: the fewer, the fewer changes share one look.  Simulated, as the sessions have no clock."""

MOST_EXTRA = 0.6
"""What books and checks may add to decoding and publishing (issue 4)."""

BEFOREHAND = 8000
"""Frames that are not counted: the snapshots of all assets are among them, and the first look at each."""

READS_PER_S = 250
"""Reads from the socket: the more frames there are, the more come at once, and go on together."""

STEPS = 500
"""Facts at a time, which the venue's queue for a slow reader holds."""


class Cost(msgspec.Struct, frozen=True):
    """What came of one rate; microseconds of processor time per frame."""

    frames_per_s: int
    encoded_us: float
    """Up to the encoded event, without books."""
    encoded_books_us: float
    published_us: float
    """The whole way to NATS, without books."""
    published_books_us: float
    proved_books: int
    """Books whose hash was computed and found right in a round."""
    doubted_books: int
    """Books that were found wrong; anything but none is a fault of ours."""

    @property
    def extra_encoded(self) -> float:
        """What books add, as a share of the rest."""
        return self.encoded_books_us / self.encoded_us - 1

    @property
    def extra(self) -> float:
        """The same, the whole way."""
        return self.published_books_us / self.published_us - 1


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


async def talk(
    assets: Sequence[str],
    frames: Sequence[bytes],
    frames_per_s: int,
    *,
    books: bool,
    way: tuple[Outbox, Bus] | None,
) -> tuple[float, Counter[str]]:
    """Let a session take in all frames; seconds of processor time, and what the checks found.

    Args:
        assets: of the session.
        frames: for it.
        frames_per_s: by the session's clock.
        books: whether it keeps them.
        way: where what it publishes goes on to; nowhere if None.
    """
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
    published, ready, together = 0, list[Publication](), max(frames_per_s // READS_PER_S, 1)
    begun = time.process_time()
    for number, frame in enumerate(frames):
        if number == BEFOREHAND:
            begun = time.process_time()
        now = number / frames_per_s
        ready += session.receive([frame], now, round(now * 1e9))
        if number % together:
            continue
        due = session.next_deadline()
        if due is not None and due <= now:
            ready += session.handle_deadline(now, round(now * 1e9))
            session.data_to_send()
        session.take_signals()
        published += len(ready)
        if way is not None:
            way[0].put(ready)
            while way[0].has_some:
                await anyio.lowlevel.checkpoint()
        ready = []
    if way is not None:
        assert await way[1].flush(10)
    seconds = time.process_time() - begun
    assert published >= len(frames)
    return seconds, checks


@asynccontextmanager
async def way_to_nats() -> AsyncIterator[tuple[Outbox, Bus]]:
    """An outbox, and the bus that publishes what is put into it."""

    async def lost(streams: list[Stream]) -> None:
        raise AssertionError(f"lost on the way to NATS: {streams}")

    async def serve(_client: Client) -> None:
        await anyio.sleep_forever()

    async with nats_server() as server, anyio.create_task_group() as tasks:
        outbox = Outbox(100_000, 1 << 30)
        bus = Bus(NatsSettings(url=server.url), outbox, lost)
        await bus.connect()
        tasks.start_soon(bus.run, serve)
        yield outbox, bus
        tasks.cancel_scope.cancel()


async def measure(
    assets: Sequence[str], frames: Sequence[bytes], frames_per_s: int, rounds: int, way: tuple[Outbox, Bus]
) -> Cost:
    """Take turns, so that a machine that slows down slows all."""
    quickest, checks = dict[tuple[bool, bool], float](), Counter[str]()
    for _ in range(rounds):
        for place in ((False, False), (False, True), (True, False), (True, True)):
            is_whole, books = place
            seconds, found = await talk(
                assets, frames, frames_per_s, books=books, way=way if is_whole else None
            )
            quickest[place] = min(seconds, quickest.get(place, seconds))
            checks = found if books else checks
    each_us = 1e6 / (len(frames) - BEFOREHAND)
    return Cost(
        frames_per_s,
        quickest[False, False] * each_us,
        quickest[False, True] * each_us,
        quickest[True, False] * each_us,
        quickest[True, True] * each_us,
        checks["hash_proved"],
        checks["hash_mismatch"] + checks["top_mismatch"] + checks["complement_mismatch"],
    )


async def measure_all(frames: int, rounds: int) -> list[Cost]:
    """The cost at each of the rates."""
    assets, recorded = await record(frames)
    async with way_to_nats() as way:
        return [await measure(assets, recorded, rate, rounds, way) for rate in RATES]


def main() -> None:
    """Measure, and print a table or JSON; ends with 1 if a rate costs more than it may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    costs = anyio.run(measure_all, options.frames, options.rounds)
    if options.json:
        print(json.dumps([msgspec.to_builtins(cost) for cost in costs]))
    else:
        title = f"{options.frames} frames, {ASSETS} assets, one connection; us/frame, the quickest of {options.rounds}"
        table = Table(title=title)
        for column in ("frames/s", "encoded", "+ books", "", "published", "+ books", "", "proved", "doubted"):
            table.add_column(column, justify="right")
        for cost in costs:
            table.add_row(
                str(cost.frames_per_s),
                f"{cost.encoded_us:.1f}",
                f"{cost.encoded_books_us:.1f}",
                f"{cost.extra_encoded:+.0%}",
                f"{cost.published_us:.1f}",
                f"{cost.published_books_us:.1f}",
                f"{cost.extra:+.0%}",
                str(cost.proved_books),
                str(cost.doubted_books),
            )
        Console(width=100).print(table)
    raise SystemExit(any(cost.extra > MOST_EXTRA or cost.doubted_books for cost in costs))


if __name__ == "__main__":
    main()
