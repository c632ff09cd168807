"""Whether the event loop turns, and how late it is: what liveness is about, and nothing else."""

import anyio

from polybus_actors.histogram import Histogram

BEAT_S = 0.5
"""Seconds between two beats: often enough for a histogram of delays, too seldom to cost anything."""


class Pulse:
    """Beats while the event loop turns."""

    def __init__(self) -> None:
        self.lag = Histogram()
        """Seconds by which each beat came late."""
        self._last = anyio.current_time()

    @property
    def age_s(self) -> float:
        """Seconds since the last beat."""
        return anyio.current_time() - self._last

    async def beat(self) -> None:
        """Beat until cancelled."""
        while True:
            due = anyio.current_time() + BEAT_S
            await anyio.sleep_until(due)
            self._last = anyio.current_time()
            self.lag.record(self._last - due)
