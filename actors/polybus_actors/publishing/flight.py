"""What is in flight: handed to the NATS client, and not known to have arrived.

A marker is a message to ourselves: once it comes back, all that was handed over before it was taken in by the server.
What no marker has confirmed when the connection breaks may have reached nobody.
"""

from collections import deque
from itertools import chain

import msgspec

from polybus_protocol.stream import Publication

WINDOW_BYTES = 8 * 1024 * 1024
"""Payload bytes handed over and not confirmed, past which we wait: half a second at 20,000 events a second.  The
limits of nats-py and asyncio do not hold: `writelines`, which nats-py uses, never pauses its writer in CPython 3.12.1
and 3.13.0."""

MARKER_INTERVAL_S = 0.1
"""Seconds between two markers, so what is uncertain after a break is a tenth of a second's events; and what one marker
confirms is let go of at once, which at 10,000 events a second takes half a millisecond."""


class Batch(msgspec.Struct, eq=False, gc=False):
    """Some publications that were handed over in one go."""

    marker: int
    """The number of the marker that will confirm it."""
    publications: list[Publication]
    bytes: int
    """Of payload."""


class Flight:
    """See the module."""

    def __init__(self) -> None:
        self.progress = 0
        """Rises with each marker that comes back, and with each break."""
        self._batches: deque[Batch] = deque()
        self._bytes = 0
        self._marker = 0
        self._is_marked = False
        self._next_mark_at = 0.0

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is to be handed over for now."""
        return self._bytes >= WINDOW_BYTES

    def add(self, publications: list[Publication], size: int) -> Batch:
        """These are about to be handed over.

        Args:
            publications: which; none where what is handed over is kept elsewhere until it has arrived.
            size: bytes of their payloads.
        """
        batch = Batch(self._marker + 1, publications, size)
        self._batches.append(batch)
        self._bytes += size
        return batch

    def ends_with(self, batch: Batch) -> bool:
        """Whether a batch that was added last still flies; not after a break."""
        return bool(self._batches) and self._batches[-1] is batch

    def mark(self, now: float) -> int | None:
        """The number of the marker to send after what flies; None where none is due, or one is on its way.

        Args:
            now: a clock in seconds.
        """
        if self._is_marked or not self._batches or now < self._next_mark_at:
            return None
        self._is_marked, self._next_mark_at = True, now + MARKER_INTERVAL_S
        self._marker += 1
        return self._marker

    def hurry(self) -> None:
        """The next marker is due at once."""
        self._next_mark_at = 0.0

    def land(self, marker: int) -> None:
        """A marker came back."""
        batches = self._batches
        while batches and batches[0].marker <= marker:
            self._bytes -= batches.popleft().bytes
        self._is_marked = False
        self.progress += 1

    def crash(self) -> list[Publication]:
        """The connection is gone: what may have reached nobody."""
        uncertain = list(chain.from_iterable(batch.publications for batch in self._batches))
        self._batches.clear()
        self._bytes, self._is_marked = 0, False
        self.progress += 1
        return uncertain
