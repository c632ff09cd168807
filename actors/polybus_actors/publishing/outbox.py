"""What is on its way to NATS: a bounded backlog that never loses anything silently.

When it is full, the oldest events go: market data that is seconds old is worth less than what comes
after it.  Events of families that are delivered `acked`, those of accounts, are never given up: where they alone
fill it, the `brake` keeps more of them from being read.  What is lost is remembered per stream, and the next `take`
begins with a gap for each, so that the record of a loss stands where the lost events would have stood: since it is
always the oldest that go, everything still queued is younger.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from polybus_protocol.stream import Publication, Stream

from .brake import Brake
from .lane import Acked
from .losses import Losses, count_as_lost
from .reluctance import Reluctance

OVERFLOW = "backlog_overflow"
UNCERTAIN = "nats_connection_lost"
TOO_LARGE = "too_large"
"""Told as `UNCERTAIN`, and counted apart: of these it is certain that they have reached nobody."""


class Outbox:
    """Publications in order, and the losses to announce before them.

    Args:
        max_messages: publications held at most.
        max_bytes: payload bytes held at most.
        clock: nanoseconds since the epoch.
        lanes: by family, where the events wait that go out one at a time, and stay until they are stored.
    """

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        clock: Callable[[], int] = time.time_ns,
        lanes: Mapping[str, Acked] = MappingProxyType({}),
    ) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._clock = clock
        self._lanes = lanes
        self.brake = Brake(lanes, max_messages, max_bytes, clock)
        self._queue: deque[Publication] = deque()
        self._bytes = 0
        self._losses = Losses()
        self.reluctance = Reluctance()
        self.dropped = 0
        """Publications given up because the backlog was full."""
        self.too_large = 0
        """Publications that NATS does not take, for their size."""
        self.uncertain = 0
        """Publications handed to NATS whose arrival was never confirmed."""
        self.unrecorded = 0
        """Publications that NATS took in, but that JetStream may not have stored.  Each that is lost counts once, here
        or above."""
        self.pass_on: Callable[[list[Publication]], bool] = _keep
        """Asked where nothing waits: whether these went out at once, or have to wait."""
        self.on_put: Callable[[], None] = _nothing
        """Called when something waits."""

    def __len__(self) -> int:
        return len(self._queue) + len(self._losses) + self.kept

    @property
    def kept(self) -> int:
        """Events that wait and are never given up; only the end of the process can."""
        return sum(map(len, self._lanes.values()))

    @property
    def has_some(self) -> bool:
        """Whether `take` has something to hand out."""
        return bool(self._queue or len(self._losses)) or any(
            not lane.is_there and len(lane) for lane in self._lanes.values()
        )

    @property
    def has_losses(self) -> bool:
        """Whether `take` begins with gaps."""
        return bool(len(self._losses))

    @property
    def utilization(self) -> float:
        """How full it is, 0 to 1: by messages or by bytes, whichever is more."""
        messages, size = self._load()
        return max(messages / self._max_messages, size / self._max_bytes)

    def put(self, publications: list[Publication]) -> None:
        """Add publications at the end, giving up the oldest where there is no room, though none that waits in a lane."""
        if not publications:
            return
        # As a rule no family is delivered `acked`, and then nobody looks at each of them.
        is_kept = bool(self._lanes) and self.brake.concerns(
            {publication.stream.family for publication in publications}
        )
        if not (is_kept or self._queue or self.has_losses) and self.pass_on(publications):
            return
        lanes, wait, size = self._lanes, self._queue.append, 0
        for publication in publications:
            if publication.stream.family in lanes:
                lanes[publication.stream.family].put(publication)
            else:
                wait(publication)
                size += len(publication.payload)
        self._bytes += size
        while self._queue and self._is_overfull():
            oldest = self._queue.popleft()
            self._bytes -= len(oldest.payload)
            self.dropped += self._losses.add(oldest, OVERFLOW)
        if is_kept:
            self.brake.look()
        self.on_put()

    def take(self, limit: int) -> list[Publication]:
        """Hand out what to publish next, in order: first a gap for each loss, then up to `limit` events.

        What waits in a lane is the lane's to hand out, unless there is no record that could store it.
        """
        taken: list[Publication] = []
        if len(self._losses):
            now = self._clock()
            for stream, loss in self._losses:
                if stream.announces_gaps:
                    reason = UNCERTAIN if loss.reason == TOO_LARGE else loss.reason
                    gap = stream.mark_lost(loss.first, loss.last, loss.count, reason, now)
                    # It stands in the place of an event that is counted, and has none of its own.
                    count_as_lost(gap, loss.reason)
                    if (lane := self._lanes.get(stream.family)) is None:
                        taken.append(gap)
                    else:
                        lane.put_first(gap)
            self._losses.clear()
        for lane in self._lanes.values():
            if not lane.is_there:
                taken += lane.drain()
        if self.brake.is_on:
            self.brake.look()
        queue = self._queue
        if len(queue) <= limit:
            taken += queue
            queue.clear()
            self._bytes = 0
            return taken
        for _ in range(limit):
            publication = queue.popleft()
            self._bytes -= len(publication.payload)
            taken.append(publication)
        return taken

    def put_back(self, publications: list[Publication]) -> None:
        """Return what was taken and could not be published, to the front.

        What is older than a loss of its stream that happened meanwhile is lost with it: its gap goes out
        first, and nothing may follow that comes before it, but what is never given up.
        """
        for publication in reversed(publications):
            if (lane := self._lanes.get(publication.stream.family)) is not None:
                lane.put_first(publication)
            elif self._losses.covers(publication):
                self.dropped += self._losses.add(publication, OVERFLOW)
            else:
                self._queue.appendleft(publication)
                self._bytes += len(publication.payload)

    def lose(self, publications: Iterable[Publication]) -> None:
        """Take note of publications that may have reached nobody."""
        for publication in publications:
            self.uncertain += self._losses.add(publication, UNCERTAIN)

    def refuse(self, publication: Publication) -> None:
        """Take note of a publication that is larger than NATS takes."""
        self.too_large += self._losses.add(publication, TOO_LARGE)
        self.reluctance.lost(publication.stream)

    def announce(self, losses: Losses) -> None:
        """Take note of what the record lacks; the gaps go out with the next `take`."""
        self.unrecorded += losses.fresh
        self._losses.update(losses)

    def losers(self) -> list[Stream]:
        """The streams that need a fresh snapshot: the next `take` announces what they have lost.

        Where that was too large, the next snapshot hardly is smaller: it is asked for ever more seldom.
        """
        lost = [stream for stream, loss in self._losses if loss.reason != TOO_LARGE]
        return lost + [stream for stream in self.reluctance.due() if stream not in lost]

    def _is_overfull(self) -> bool:
        messages, size = self._load()
        return messages > self._max_messages or size > self._max_bytes

    def _load(self) -> tuple[int, int]:
        """Messages, and payload bytes, that wait."""
        messages, size = len(self._queue), self._bytes
        for lane in self._lanes.values():
            messages += len(lane)
            size += lane.bytes
        return messages, size


def _keep(_publications: list[Publication]) -> bool:
    return False


def _nothing() -> None:
    pass
