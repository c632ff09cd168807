"""The brake: while there is no room for events that are never given up, nobody reads what brings more of them.

A bounded queue that never drops can only push back.  So the feeds whose families are delivered `acked` are not read
while their events fill the backlog, nor dialled; what the venue says meanwhile stays in the kernels' buffers between
us, and then in the venue's own, until it hangs up or NATS takes things in again.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

import anyio

from .lane import Acked

logger = logging.getLogger("polybus.brake")

RELEASED_AT = 0.5
"""How full the lanes may be for the feeds to be read again: so that reading does not begin and end with each event."""

HELD_BACK = (
    "it is held back: NATS takes nothing in, and the backlog is full of events that are never given up"
)
"""Why a connection is not read, as `status` shows it."""


class Brake:
    """See the module.

    Args:
        lanes: by family, where the events wait that are never given up.
        max_messages: of them, from which on the brake is on.
        max_bytes: of their payloads, from which on it is.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        lanes: Mapping[str, Acked],
        max_messages: int,
        max_bytes: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.times = 0
        """How often it was put on."""
        self.since: int | None = None
        """Since when it is on, in nanoseconds since the epoch; None while it is off."""
        self._lanes = lanes
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._clock = clock
        self._released = anyio.Event()

    @property
    def is_on(self) -> bool:
        """Whether nothing more may be read."""
        return self.since is not None

    def concerns(self, families: Iterable[str]) -> bool:
        """Whether any of these families is never given up."""
        return not self._lanes.keys().isdisjoint(families)

    def look(self) -> None:
        """See how full the lanes are, and act accordingly."""
        lanes = self._lanes.values()
        fill = max(
            sum(map(len, lanes)) / self._max_messages, sum(lane.bytes for lane in lanes) / self._max_bytes
        )
        if self.since is None and fill >= 1:
            self.times += 1
            self.since = self._clock()
            self._released = anyio.Event()
            logger.error(
                "the feeds of %s are held back: their events fill the backlog", ", ".join(self._lanes)
            )
        elif self.since is not None and fill <= RELEASED_AT:
            held_s = (self._clock() - self.since) / 1e9
            self.since = None
            self._released.set()
            logger.warning("the feeds of %s are read again, after %.1f s", ", ".join(self._lanes), held_s)

    async def released(self) -> None:
        """Wait until it is off."""
        while self.is_on:
            await self._released.wait()
