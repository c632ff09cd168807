"""What is noticed while a gateway works, beside what each actor counts for itself.

The actors tell a watcher of three things: that a batch was written to NATS, that a connection is in another phase,
that a command is being answered.  This one only counts, in plain integers; who wants more than numbers overrides.
It is told between two awaits of the hot path: it never waits, and never raises.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec

from polybus_protocol.control.asking import ASKING
from polybus_protocol.control.requests import VERBS
from polybus_protocol.stream import Publication

from .histogram import ANSWER_BOUNDS_S, Histogram
from .venue.connection import Connection

SAMPLE_INTERVAL_NS = 1_000_000
"""Nanoseconds from one batch that is looked into to the next: a look takes about 2 us, so 0.2 % of the time at most."""

OLD_NEWS = frozenset({"book", "snapshot", "gap"})
"""Types whose `source_time` may lie hours back: a snapshot bears the time of the last change, a gap none."""

OK = "ok"
"""The outcome of a command that was not refused."""


class Stamps(msgspec.Struct):
    """What an event's payload says about its way."""

    type: str
    source_time: int | None
    received_time: int


_read_stamps = msgspec.json.Decoder(Stamps).decode


class Command:
    """A command that is being answered."""

    def __init__(self, headers: Mapping[str, str] | None = None) -> None:
        self.reply_headers = None if headers is None else dict(headers)
        """To be sent with the answer."""
        self.outcome = "cancelled"
        """`ok`, or the code of the refusal."""

    def ended(self, code: int | None) -> None:
        """It has its answer: a refusal with that code, or what was asked for."""
        self.outcome = OK if code is None else str(code)


class Watcher:
    """See the module."""

    def __init__(self) -> None:
        self.arrival = {feed: Histogram() for feed in ASKING}
        """Seconds from the venue's clock to our socket, by feed: of one event in a batch, of one batch a millisecond."""
        self.publishing = {feed: Histogram() for feed in ASKING}
        """Seconds from our socket to NATS, of the same events: the oldest of their batches."""
        self.answering = {verb: Histogram(ANSWER_BOUNDS_S) for verb in VERBS}
        """Seconds from a command's arrival to its answer, by verb."""
        self.commands: Counter[tuple[str, str]] = Counter()
        """By verb and outcome."""
        self._next_sample_at = 0

    def published(self, batch: list[Publication], begun: int) -> None:
        """A batch was written to NATS.

        Args:
            batch: as it was written; may be empty.
            begun: when that began, in nanoseconds since the epoch.
        """
        if not batch or begun < self._next_sample_at:
            return
        self._next_sample_at = begun + SAMPLE_INTERVAL_NS
        oldest = batch[0]
        publishing = self.publishing.get(oldest.stream.feed)
        if publishing is None:
            return  # of no feed: states of connections, and what nobody can read
        try:
            stamps = _read_stamps(oldest.payload)
        except msgspec.DecodeError:
            return  # no event of ours: there is nothing to learn from it
        if stamps.type != "gap":
            publishing.record((time.time_ns() - stamps.received_time) / 1e9)
        if stamps.source_time is not None and stamps.type not in OLD_NEWS:
            self.arrival[oldest.stream.feed].record(stamps.received_time / 1e9 - stamps.source_time / 1e3)

    def entered(self, connection: Connection) -> None:
        """A connection is in another phase."""

    @contextmanager
    def command(self, verb: str, headers: Mapping[str, str] | None) -> Iterator[Command]:  # noqa: ARG002
        """A command is being answered for the length of a block.

        Args:
            verb: of the command.
            headers: those it came with.
        """
        command, begun = Command(), time.perf_counter()
        try:
            yield command
        finally:
            self.answering[verb].record(time.perf_counter() - begun)
            self.commands[verb, command.outcome] += 1
