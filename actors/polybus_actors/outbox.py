"""What is on its way to NATS: a bounded backlog that never loses anything silently.

When it is full, the oldest events go: market data that is seconds old is worth less than what comes
after it.  What is lost is remembered per stream, and the next `take` begins with a gap for each, so that
the record of a loss stands where the lost events would have stood: since it is always the oldest that
go, everything still queued is younger.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable

import msgspec

from polybus_protocol.events import Gap, decode_event
from polybus_protocol.stream import Publication, Stream

OVERFLOW = "backlog_overflow"
UNCERTAIN = "nats_connection_lost"


class Loss(msgspec.Struct):
    """What a stream has lost since the last gap was announced."""

    first: tuple[int, int]
    """Epoch and `seq`."""
    last: tuple[int, int]
    count: int
    reason: str


class Outbox:
    """Publications in order, and the losses to announce before them.

    Args:
        max_messages: publications held at most.
        max_bytes: payload bytes held at most.
        clock: nanoseconds since the epoch.
    """

    def __init__(self, max_messages: int, max_bytes: int, clock: Callable[[], int] = time.time_ns) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._clock = clock
        self._queue: deque[Publication] = deque()
        self._bytes = 0
        self._losses: dict[Stream, Loss] = {}
        self.dropped = 0
        """Publications given up because the backlog was full."""
        self.uncertain = 0
        """Publications handed to NATS whose arrival was never confirmed."""
        self.on_put: Callable[[], None] = _nothing
        """Called after each `put`."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._losses)

    @property
    def utilization(self) -> float:
        """How full it is, 0 to 1: by messages or by bytes, whichever is more."""
        return max(len(self._queue) / self._max_messages, self._bytes / self._max_bytes)

    def put(self, publications: list[Publication]) -> None:
        """Add publications at the end, giving up the oldest where there is no room."""
        if not publications:
            return
        self._queue.extend(publications)
        for publication in publications:
            self._bytes += len(publication.payload)
        while len(self._queue) > self._max_messages or self._bytes > self._max_bytes:
            oldest = self._queue.popleft()
            self._bytes -= len(oldest.payload)
            self.dropped += 1
            self._lose(oldest, OVERFLOW)
        self.on_put()

    def take(self, limit: int) -> list[Publication]:
        """Hand out what to publish next, in order: first a gap for each loss, then up to `limit` events."""
        taken: list[Publication] = []
        if self._losses:
            now = self._clock()
            taken = [
                stream.mark_lost(loss.first, loss.last, loss.count, loss.reason, now)
                for stream, loss in self._losses.items()
                if stream.announces_gaps
            ]
            self._losses.clear()
        queue = self._queue
        for _ in range(min(limit, len(queue))):
            publication = queue.popleft()
            self._bytes -= len(publication.payload)
            taken.append(publication)
        return taken

    def put_back(self, publications: list[Publication]) -> None:
        """Return what was taken and could not be published, to the front.

        What is older than a loss of its stream that happened meanwhile is lost with it: its gap goes out
        first, and nothing may follow that comes before it.
        """
        for publication in reversed(publications):
            loss = self._losses.get(publication.stream)
            if loss is not None and _place(publication) < loss.last:
                self.dropped += 1
                self._lose(publication, OVERFLOW)
            else:
                self._queue.appendleft(publication)
                self._bytes += len(publication.payload)

    def lose(self, publications: Iterable[Publication], reason: str = UNCERTAIN) -> None:
        """Take note of publications that may have reached nobody."""
        for publication in publications:
            self.uncertain += 1
            self._lose(publication, reason)

    def losers(self) -> list[Stream]:
        """The streams whose losses the next `take` announces: they need a fresh snapshot."""
        return list(self._losses)

    def _lose(self, publication: Publication, reason: str) -> None:
        first, last, count = _range(publication)
        loss = self._losses.get(publication.stream)
        if loss is None:
            self._losses[publication.stream] = Loss(first, last, count, reason)
        else:
            loss.first = min(loss.first, first)
            loss.last = max(loss.last, last)
            loss.count += count
            loss.reason = reason


def _place(publication: Publication) -> tuple[int, int]:
    return publication.epoch, publication.seq


def _range(publication: Publication) -> tuple[tuple[int, int], tuple[int, int], int]:
    """First and last event, and how many, that are lost with a publication: more than one if it is such a gap."""
    place = _place(publication)
    if publication.subject.endswith(".gap"):
        gap = decode_event(publication.payload)
        if isinstance(gap, Gap) and gap.lost is not None:
            # Without a last event, what is lost begins with an epoch: at least with that of the gap.
            epoch, seq = gap.last_epoch or gap.epoch, gap.last_seq or 0
            return (epoch, seq + 1), place, gap.lost
    return place, place, 1


def _nothing() -> None:
    pass
