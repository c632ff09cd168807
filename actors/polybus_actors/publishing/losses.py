"""What streams have lost on the way: a range for each, which becomes one gap."""

from collections.abc import Iterator

import msgspec

from polybus_protocol.events import Gap, decode_event
from polybus_protocol.stream import Publication, Stream

type Place = tuple[int, int]
"""Epoch and `seq`."""


class Loss(msgspec.Struct):
    """What a stream has lost since the last gap was announced."""

    first: Place
    last: Place
    count: int
    reason: str

    def add(self, other: "Loss") -> None:
        """Take another loss in, with its reason: the latest one is the one to tell."""
        self.first = min(self.first, other.first)
        self.last = max(self.last, other.last)
        self.count += other.count
        if self.first[0] == self.last[0]:
            # What is lost twice, to everybody and to the record, is one event all the same.
            self.count = min(self.count, self.last[1] - self.first[1] + 1)
        self.reason = other.reason


class Losses:
    """The losses of all streams; as much memory as there are streams, however long a trouble lasts."""

    def __init__(self) -> None:
        self._by_stream: dict[Stream, Loss] = {}
        self.fresh = 0
        """Events in here that were not lost before: the sum over all losses counts each event once."""

    def __len__(self) -> int:
        return len(self._by_stream)

    def __iter__(self) -> Iterator[tuple[Stream, Loss]]:
        return iter(self._by_stream.items())

    @property
    def count(self) -> int:
        """Events lost, over all streams."""
        return sum(loss.count for loss in self._by_stream.values())

    def covers(self, publication: Publication) -> bool:
        """Whether a publication is older than a loss of its stream, and so must not follow its gap."""
        loss = self._by_stream.get(publication.stream)
        return loss is not None and place(publication) < loss.last

    def add(self, publication: Publication, reason: str) -> int:
        """Take note of one that is lost.

        Returns:
            How many events are lost by that which were not before: 1; 0 for what is told of again, be it in a gap that
            is lost itself.
        """
        self._merge(publication.stream, Loss(*_range(publication), reason))
        if publication.lost_by is not None:
            return 0
        count_as_lost(publication, reason)
        self.fresh += 1
        return 1

    def update(self, others: "Losses") -> None:
        """Take note of all that others have noted."""
        for stream, loss in others:
            self._merge(stream, loss)
        self.fresh += others.fresh

    def clear(self) -> None:
        """All of it has been announced."""
        self._by_stream.clear()
        self.fresh = 0

    def _merge(self, stream: Stream, loss: Loss) -> None:
        known = self._by_stream.get(stream)
        if known is None:
            self._by_stream[stream] = loss
        else:
            known.add(loss)


def count_as_lost(publication: Publication, reason: str) -> None:
    """From here on a publication is no new loss, whatever becomes of it."""
    msgspec.structs.force_setattr(publication, "lost_by", reason)


def place(publication: Publication) -> Place:
    """Where in its stream a publication stands."""
    return publication.epoch, publication.seq


def _range(publication: Publication) -> tuple[Place, Place, int]:
    """First and last event, and how many, that are lost with a publication: more than one if it is such a gap."""
    at = place(publication)
    if publication.subject.endswith(".gap"):
        gap = decode_event(publication.payload)
        if isinstance(gap, Gap) and gap.lost is not None:
            # Without a last event, what is lost begins with an epoch: at least with that of the gap.
            epoch, seq = gap.last_epoch or gap.epoch, gap.last_seq or 0
            return (epoch, seq + 1), at, gap.lost
    return at, at, 1
