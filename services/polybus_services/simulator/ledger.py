"""The books of the simulator itself: what was handed to each socket, and what was not, and why.

A *stream* is what order belongs to: an asset on the market feed (or a market, for what concerns both of its
assets), and on the others the ids in polybus's subject, such as "alice/0x12" or "crypto/btcusd".

Counts are of events, not frames: one per asset in a `price_change` frame, one per book, one per trade.  What
an outside test needs to say "received = sent, or covered by a gap".
"""

import enum
from collections import Counter, deque
from collections.abc import Iterable

import msgspec

REMEMBERED_CONNECTIONS = 1_000
"""Closed connections told of one by one; a day of `refuse-429` or `drop` must not fill the memory.  The counts
per asset keep those of older ones."""


class Fate(enum.StrEnum):
    """What became of an event."""

    SENT = "sent"
    """For an asset the connection follows, written whole and once to a live socket."""
    MIRRORED = "mirrored"
    """Written, but about an asset the connection does not follow: the other half of a pair."""
    WITHHELD = "withheld"
    """Not sent, because of a stall, a frozen asset, a stale connection or a lost frame."""
    CORRUPTED = "corrupted"
    """Written in a frame that does not decode."""
    DUPLICATED = "duplicated"
    """Written a second time; the first is counted as sent."""
    UNKNOWN = "unknown"
    """Made up, of a type no client knows."""
    DISCARDED = "discarded"
    """Left in the queue of a connection that ended."""


class Tally(msgspec.Struct, frozen=True, gc=False):
    """One event, or several alike, for the ledger."""

    fate: Fate
    subject: str
    kind: str


class Record(msgspec.Struct):
    """One connection."""

    feed: str
    opened_ms: int
    closed: dict[str, object] | None = None
    """`by`: client or simulator, `code`: 1006 where there was no close frame, `reason`, `at_ms`."""
    frames: int = 0
    """Data frames written."""
    counts: Counter[Tally] = msgspec.field(default_factory=lambda: Counter[Tally]())


class Ledger:
    """All connections, past and present."""

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        self._records: dict[str, Record] = {}
        self._closed: deque[str] = deque()
        self._earlier: dict[str, Record] = {}
        # By feed: those of its connections that are too long ago to be told one by one, added up.
        self._opened_by_feed = Counter[str]()

    def open(self, connection: str, feed: str, now_ms: int) -> None:
        """A client was let in."""
        self.opened += 1
        self._opened_by_feed[feed] += 1
        self._records[connection] = Record(feed, now_ms)

    def count(self, connection: str, tallies: Iterable[Tally]) -> None:
        """These events met their fate, without having been in a frame of their own."""
        counts = self._records[connection].counts
        for tally in tallies:
            counts[tally] += 1

    def wrote(self, connection: str, tallies: Iterable[Tally]) -> None:
        """A data frame with these events was handed to the socket."""
        record = self._records[connection]
        record.frames += 1
        counts = record.counts
        for tally in tallies:
            counts[tally] += 1

    def close(self, connection: str, by: str, code: int, reason: str, now_ms: int) -> None:
        """A connection is over.  Call once, when nothing more can be written to it."""
        self._records[connection].closed = {"by": by, "code": code, "reason": reason, "at_ms": now_ms}
        self._closed.append(connection)
        if len(self._closed) > REMEMBERED_CONNECTIONS:
            old = self._records.pop(self._closed.popleft())
            earlier = self._earlier.setdefault(old.feed, Record(old.feed, old.opened_ms))
            earlier.counts.update(old.counts)
            earlier.frames += old.frames

    def record(self, connection: str) -> Record:
        """What is known about one connection.

        Raises:
            KeyError: there is none of that id, or it is too long ago.
        """
        return self._records[connection]

    def counts(self, feed: str | None = None) -> Counter[Tally]:
        """All connections together, or those of one feed."""
        total = Counter[Tally]()
        for record in self._all(feed):
            total.update(record.counts)
        return total

    def _all(self, feed: str | None = None) -> list[Record]:
        records = [*self._earlier.values(), *self._records.values()]
        return [record for record in records if feed is None or record.feed == feed]

    def show(self, asset: str | None = None) -> dict[str, object]:
        """Everything as JSON-ready values; see `admin.py` for the shape.

        Args:
            asset: count only what is about this asset, market or stream.
        """
        return {
            "opened": self.opened,
            "open": sum(record.closed is None for record in self._records.values()),
            "refused": self.refused,
            "frames": sum(record.frames for record in self._all()),
            "totals": _totals(self.counts(), asset),
            "assets": _by_subject(self.counts("market"), asset),
            "feeds": {feed: self._show_feed(feed, asset) for feed in self._opened_by_feed},
            "connections": {
                connection: {
                    "feed": record.feed,
                    "opened_ms": record.opened_ms,
                    "closed": record.closed,
                    "frames": record.frames,
                    "totals": _totals(record.counts, asset),
                    "assets": _by_subject(record.counts, asset),
                }
                for connection, record in self._records.items()
            },
        }

    def _show_feed(self, feed: str, asset: str | None) -> dict[str, object]:
        return {
            "opened": self._opened_by_feed[feed],
            "open": sum(record.closed is None for record in self._records.values() if record.feed == feed),
            "frames": sum(record.frames for record in self._all(feed)),
            "totals": _totals(self.counts(feed), asset),
            "streams": _by_subject(self.counts(feed), asset),
        }


def _totals(counts: Counter[Tally], asset: str | None) -> dict[str, int]:
    totals = dict.fromkeys((fate.value for fate in Fate), 0)
    for tally, count in counts.items():
        if asset is None or tally.subject == asset:
            totals[tally.fate] += count
    return totals


def _by_subject(counts: Counter[Tally], asset: str | None) -> dict[str, dict[str, dict[str, int]]]:
    shown: dict[str, dict[str, dict[str, int]]] = {}
    for tally, count in counts.items():
        if asset is None or tally.subject == asset:
            shown.setdefault(tally.subject, {}).setdefault(tally.fate, {})[tally.kind] = count
    return shown
