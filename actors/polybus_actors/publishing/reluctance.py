"""Streams whose snapshots are larger than NATS takes: asked for ever more seldom, since the next one hardly is smaller."""

import time
from collections.abc import Callable

import msgspec

from polybus_protocol.stream import Stream

FIRST_WAIT_S = 2.0
"""Seconds from the first snapshot that was asked for in vain to the next request; doubles each time."""

LONGEST_WAIT_S = 600.0
"""Seconds that doubling ends at: as for a key that never answers."""


class _Wait(msgspec.Struct):
    ask_at: float
    wait_s: float = 0.0
    is_asked: bool = False


class Reluctance:
    """See the module.

    Args:
        clock: seconds, that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waits: dict[Stream, _Wait] = {}

    def lost(self, stream: Stream) -> None:
        """An event of the stream was too large.  The first time it is asked for at once."""
        now, wait = self._clock(), self._waits.get(stream)
        if wait is None:
            self._waits[stream] = _Wait(now)
        elif wait.is_asked:
            wait.wait_s = min(wait.wait_s * 2 or FIRST_WAIT_S, LONGEST_WAIT_S)
            wait.ask_at, wait.is_asked = now + wait.wait_s, False

    def hope(self) -> None:
        """NATS may take more than before: ask for all of them now."""
        now = self._clock()
        for wait in self._waits.values():
            wait.ask_at, wait.wait_s, wait.is_asked = now, 0.0, False

    def due(self) -> list[Stream]:
        """The streams to ask for now; those of which all has gone well since the last request are forgotten."""
        if not self._waits:
            return []
        now, due = self._clock(), list[Stream]()
        for stream, wait in list(self._waits.items()):
            if not wait.is_asked and now >= wait.ask_at:
                wait.is_asked = True
                due.append(stream)
            elif wait.is_asked and now >= wait.ask_at + 2 * (wait.wait_s or FIRST_WAIT_S):
                del self._waits[stream]
        return due
