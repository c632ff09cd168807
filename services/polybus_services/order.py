"""Following streams as a consumer should: is each event the next of its stream, and if not, what is missing?

The rules are those of the contract: within an epoch of a stream key `seq` rises by one; each later epoch begins
with a `gap` at `seq` 1; a gap for what was lost on the way to NATS stands at the `seq` of the last lost event.
"""

import msgspec

from polybus_protocol.events import Event, Gap

LOST_ON_THE_WAY = frozenset({"backlog_overflow", "nats_connection_lost"})
"""Reasons of gaps that stand in place of what was lost, and so may skip `seq`."""


class Jump(msgspec.Struct, frozen=True):
    """An event that is not the next one of its stream, without a gap that says why."""

    stream: str
    """The stream key."""
    after: tuple[int, int]
    """Epoch and `seq` of the event before."""
    seen: tuple[int, int]
    """Epoch and `seq` of this event."""
    reason: str
    """What is wrong, for a person."""


class Follower:
    """The last event of each stream seen, and what did not follow it."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}
        self.events = 0
        """Events seen, gaps apart."""
        self.gaps = 0
        self.jumps = 0

    def see(self, subject: str, event: Event) -> Jump | None:
        """Take in the next event of `subject`; what is wrong with its place, or None."""
        if isinstance(event, Gap):
            self.gaps += 1
        else:
            self.events += 1
        if event.seq == 0:  # a stream without numbers
            return None
        stream, now = subject.rpartition(".")[0], (event.epoch, event.seq)
        last = self._last.get(stream)
        self._last[stream] = now if last is None else max(last, now)
        reason = None if last is None else _wrong(last, now, event)
        if last is None or reason is None:
            return None
        self.jumps += 1
        return Jump(stream, last, now, reason)


def _wrong(last: tuple[int, int], now: tuple[int, int], event: Event) -> str | None:
    (last_epoch, last_seq), (epoch, seq) = last, now
    if epoch < last_epoch or (epoch == last_epoch and seq <= last_seq):
        return "an event came twice or out of order"
    if epoch > last_epoch:
        if seq == 1 and isinstance(event, Gap):
            return None
        return "a new epoch did not begin with a gap"
    missing = seq - last_seq - 1
    if missing == 0 or (isinstance(event, Gap) and event.reason in LOST_ON_THE_WAY):
        return None
    return f"{missing} event{'' if missing == 1 else 's'} missing"
