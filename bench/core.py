"""The core alone: processor time per frame of each part between the socket's bytes and the encoded event.

No socket, no NATS, no task: what is measured is done by one thread on frames that are there, so that a change of a
tenth of a microsecond shows.  The frames go through in pieces, round after round, and of each piece the quickest
round counts: what else runs on the machine only ever adds.  Where that is not enough, `valgrind` counts instructions,
which a busy machine does not change.
"""

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import thread_time_ns

import msgspec

from bench.frames import Replay
from bench.pump import wire
from polybus_actors.venue.wire import CHUNK_BYTES
from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.conversation.session import Session
from polybus_protocol.events import MarketEvent
from polybus_protocol.feeds.market import FEED, MarketDialect
from polybus_protocol.profile import PROFILES
from polybus_protocol.websocket.framing import FrameStream

PIECE = 250
"""Frames measured at a time: a few milliseconds, which are often undisturbed; the clock's own 0.3 us show nowhere."""

FRAMES_PER_S = 5_000
"""By the session's clock: how many frames share a look at the books."""

LOOK_EVERY = 20
"""Frames from one question to the session what is due to the next, as a socket is read 250 times a second."""

COUNTED = 4_000
"""Frames whose instructions are counted: valgrind takes fifty times as long as without it."""

BEGUN_NS = 1_790_000_000_000_000_000
"""Nanoseconds since the epoch at which the frames begin to arrive."""


class Part(msgspec.Struct):
    """What a part comes to for one frame."""

    name: str
    us: float


class Core(msgspec.Struct):
    """What one mix of frames came to."""

    mix: str
    assets: int
    frames: int
    rounds: int
    parts: list[Part]
    whole_us: float
    """Microseconds per frame from the text to the encoded event: `Session.receive`."""
    instructions: int | None = None
    """Per frame, of all that `whole_us` covers; None where they were not counted."""


class Hearer:
    """A session that has subscribed to all assets and heard their first books.

    Args:
        replay: what there is to hear.
    """

    def __init__(self, replay: Replay) -> None:
        profile, checks = PROFILES[FEED], Counter[str]()
        self.dialect = MarketDialect()
        self.session = Session(
            profile, self.dialect, "bench-market-1#1", Commons(FEED), MarketDirectory(), 0.0, checks=checks
        )
        self.streams = {asset: AssetStream(None, asset, profile.budgets, checks) for asset in replay.markets}
        self.session.subscribe(self.streams.items(), 0.0, BEGUN_NS)
        self.published = 0
        self._number = 0
        self.session.receive(replay.books.values(), 0.0, BEGUN_NS)
        self.session.data_to_send()
        self.session.take_signals()

    def hear(self, texts: list[bytes]) -> None:
        """Take in frames."""
        self.published += len(self.session.receive(texts, self._now, self._time))

    def look(self, frames: int) -> None:
        """Let time go on, and do what falls due meanwhile."""
        for _ in range(0, frames, LOOK_EVERY):
            self._number += LOOK_EVERY
            due = self.session.next_deadline()
            if due is not None and due <= self._now:
                self.session.handle_deadline(self._now, self._time)
                self.session.data_to_send()
                self.session.take_signals()

    @property
    def _now(self) -> float:
        return self._number / FRAMES_PER_S

    @property
    def _time(self) -> int:
        return BEGUN_NS + self._number * 1_000_000_000 // FRAMES_PER_S


type Turn = tuple[Callable[[list[bytes]], object], Callable[[int], object]]
"""What is measured with each piece, and what is done after it."""


def _round(replay: Replay, pieces: list[list[bytes]]) -> dict[str, list[int]]:
    """Nanoseconds of each piece in each part, once."""
    spent: dict[str, list[int]] = {}

    def took(name: str, begun: int) -> None:
        spent.setdefault(name, []).append(thread_time_ns() - begun)

    hearer, apart = Hearer(replay), Hearer(replay)
    cut = FrameStream(max_message_bytes=PROFILES[FEED].max_message_bytes).receive
    for texts in pieces:
        wired = b"".join(map(wire, texts))
        chunks = [wired[at : at + CHUNK_BYTES] for at in range(0, len(wired), CHUNK_BYTES)]
        begun = thread_time_ns()
        frames = [frame for chunk in chunks for frame in cut(chunk)]
        took("cutting into frames", begun)
        assert len(frames) == len(texts)

        begun = thread_time_ns()
        hearer.hear(texts)
        took("whole", begun)
        begun = thread_time_ns()
        hearer.look(len(texts))
        took("looking at books", begun)

        read = apart.dialect.read
        begun = thread_time_ns()
        events = [keyed for text in texts for keyed in read(text)]
        took("reading", begun)
        of = apart.streams
        own = [(of[key], event) for key, event in events if key in of and isinstance(event, MarketEvent)]
        begun = thread_time_ns()
        for stream, event in own:
            stream.publish(event, BEGUN_NS, "bench-market-1#1")
        took("stamping and encoding", begun)
        begun = thread_time_ns()
        for stream, event in own:
            stream.absorb(event)
        took("books", begun)
    assert hearer.published >= sum(map(len, pieces))
    return spent


def measure(mix: str, replay: Replay, rounds: int) -> Core:
    """Processor time per frame, part by part."""
    pieces = _pieces(replay)
    best: dict[str, list[int]] = {}
    for _ in range(rounds):
        for name, times in _round(replay, pieces).items():
            best[name] = [min(pair) for pair in zip(times, best.get(name, times), strict=True)]
    # In the first half what is opened once, with the first event of its kind, is opened.
    best = {name: times[len(times) // 2 :] for name, times in best.items()}
    count = sum(map(len, pieces[len(pieces) // 2 :]))
    us = {name: round(sum(times) / count / 1e3, 3) for name, times in best.items()}
    whole = us.pop("whole")
    us["all else in the session"] = round(
        whole - sum(us[name] for name in ("reading", "stamping and encoding", "books")), 3
    )
    return Core(
        mix, len(replay.markets), count, rounds, [Part(name, each) for name, each in us.items()], whole
    )


def instructions(file: Path, frames: int) -> int:
    """Instructions per frame, counted by valgrind: those of a run, less those of one that takes in half as many.

    Raises:
        FileNotFoundError: there is no valgrind.
        ValueError: it has not counted.
    """
    half = frames // 2
    return round((_counted(file, frames, frames) - _counted(file, frames, half)) / (frames - half))


def _counted(file: Path, there: int, heard: int) -> int:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable]
    command += ["-m", "bench.core", str(file), str(there), str(heard)]
    # The same hashes each time, or dicts collide at random.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", told.stderr)
    if told.returncode or found is None:
        raise ValueError(f"valgrind: {told.stderr[-500:]}")
    return int(found[1])


def _pieces(replay: Replay) -> list[list[bytes]]:
    texts = [frame.text for frame in replay.frames]
    return [texts[at : at + PIECE] for at in range(0, len(texts), PIECE)]


def _head(file: Path, frames: int) -> Replay:
    """The beginning of a file: all first books, and about so many frames."""
    kept: list[bytes] = []
    with file.open("rb") as lines:
        for line in lines:
            kept.append(line)
            frames -= not line.startswith(b"[")
            if frames == 0:
                break
    return Replay(kept)


def _hear_some(file: Path, there: int, heard: int) -> None:
    """What instructions are counted of: all is read from the file, and some is taken in."""
    replay = _head(file, there)
    Hearer(replay).hear([frame.text for frame in replay.frames[:heard]])


if __name__ == "__main__":
    _hear_some(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
