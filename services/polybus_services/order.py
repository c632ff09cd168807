"""Following streams as a consumer should: is each event the next of its stream, and if not, what is missing?

The rules are those of the contract.  Within an epoch of a stream key `seq` rises by one; each later epoch begins
with a `gap` at `seq` 1, which names the last event before it, or with data where the stream had been given up.  A
gap for what was lost on the way to NATS stands in the place of the last lost event, says after which event the loss
begins, and comes when it can: it may open a later epoch, be repeated, or precede some of what it covers.
An event whose message has an id may be a repetition, by a gateway that did not learn whether it had arrived.
"""

from collections import deque

import msgspec

from polybus_protocol.events import ConnectionState, Event, Gap, GapRollup, LastBook, Notice, Unknown

type Place = tuple[int, int]
"""Epoch and `seq`."""

LOST_ON_THE_WAY = frozenset({"backlog_overflow", "nats_connection_lost", "not_recorded"})
"""Reasons of gaps that stand in the place of what was lost, and so may skip `seq`."""

ENDED = frozenset({"unsubscribed", "shutdown"})
"""Reasons of gaps that close a stream: whoever wants it next begins it anew."""

OPENING = (Gap, ConnectionState, GapRollup, Notice, Unknown)
"""Events that may open an epoch: the last ones are of streams that carry no data and announce no gaps."""

REMEMBERED_LOSSES = 8
"""Losses of a stream whose events may still come: those of one outage, and of the last ones before it."""


class Jump(msgspec.Struct, frozen=True):
    """An event that is not the next one of its stream, without a gap that says why."""

    stream: str
    """The stream key."""
    after: Place
    """Epoch and `seq` of the event before."""
    seen: Place
    """Epoch and `seq` of this event."""
    reason: str
    """What is wrong, for a person."""


class Track:
    """What is known of one stream; whoever joins late begins with what comes first, or sets `last`."""

    __slots__ = ("ended", "last", "losses")

    def __init__(self) -> None:
        self.last: Place | None = None
        self.ended = False
        self.losses: deque[tuple[Place, Place]] = deque(maxlen=REMEMBERED_LOSSES)
        """After which place, and up to which, events may be lost, or still come."""

    def take(self, place: Place, event: Event, *, may_repeat: bool) -> str | None:
        """Take in the next event; what is wrong with its place, or None."""
        if may_repeat and self.last is not None and place <= self.last and not isinstance(event, Gap):
            return None
        wrong = None if self.last is None else self._wrong(self.last, place, event)
        if isinstance(event, Gap) and event.reason in LOST_ON_THE_WAY:
            self.losses.append((_before(event), place))
        self.last = place if self.last is None else max(self.last, place)
        self.ended = isinstance(event, Gap) and event.reason in ENDED
        return wrong

    def _wrong(self, last: Place, place: Place, event: Event) -> str | None:
        epoch, seq = place
        if isinstance(event, Gap) and event.reason in LOST_ON_THE_WAY:
            return _missing_between(last, _before(event))
        if place <= last:
            covered = any(after < place <= up_to for after, up_to in self.losses)
            return None if covered else "an event came twice or out of order"
        if epoch == last[0]:
            return _missing(seq - last[1] - 1)
        if seq != 1 or not (self.ended or isinstance(event, OPENING)):
            return "a new epoch did not begin with a gap"
        return _missing_between(last, _before(event)) if isinstance(event, Gap) else None


class Follower:
    """The last event of each stream seen, and what did not follow it."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}
        self.events = 0
        """Events seen, gaps apart."""
        self.gaps = 0
        self.jumps = 0

    def see(self, subject: str, event: Event, *, may_repeat: bool = False) -> Jump | None:
        """Take in the next event of `subject`; what is wrong with its place, or None.

        Args:
            subject: of the message.
            event: in the message.
            may_repeat: the message has an id, so it may say what was said before.
        """
        if isinstance(event, Gap):
            self.gaps += event.closed_by is None
        elif not isinstance(event, LastBook):
            self.events += 1
        if event.seq == 0 or isinstance(event, LastBook):  # what has no place in a sequence
            return None
        stream, now = subject.rpartition(".")[0], (event.epoch, event.seq)
        track = self._tracks.setdefault(stream, Track())
        last = track.last
        reason = track.take(now, event, may_repeat=may_repeat)
        if last is None or reason is None:
            return None
        self.jumps += 1
        return Jump(stream, last, now, reason)


def _missing(count: int) -> str | None:
    return f"{count} event{'' if count == 1 else 's'} missing" if count else None


def _before(gap: Gap) -> Place:
    """The last event before a gap, by its own word; before all others where it does not know."""
    return gap.last_epoch or 0, gap.last_seq or 0


def _missing_between(last: Place, told: Place) -> str | None:
    """What is missing if `told` is the place of the last event before a gap, and `last` that of the last one seen."""
    if told <= last:
        return None
    return _missing(told[1] - last[1]) if told[0] == last[0] else "the events before the gap are missing"
