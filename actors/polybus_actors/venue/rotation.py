"""The rotator actor: replaces sockets that have grown old, one at a time, make-before-break.

A connection's successor carries the same streams beside it; only once it could go on alone is the old one
closed.  One that cannot in good time is closed again, and the old one stays.
"""

import math
from collections.abc import Awaitable, Callable, Mapping

import anyio
import msgspec

from .connection import Connection, Phase

LOOK_S = 0.25
"""Seconds from one look at the connections to the next."""

PATIENCE_S = 120.0
"""Seconds a successor has to be ready: two snapshots of a quiet asset, and then some."""

AGAIN_S = 60.0
"""Seconds from a rotation that was put off to the next try."""


class Rotate(msgspec.Struct, frozen=True):
    """Message: open a successor beside this connection."""

    number: int


class Swap(msgspec.Struct, frozen=True):
    """Message: let the successor go on alone."""

    number: int


class PutOff(msgspec.Struct, frozen=True):
    """Message: the successor does not get ready: close it again."""

    number: int


type Step = Rotate | Swap | PutOff


class Rotator:
    """See the module.

    Args:
        connections: of a pool, by number; the successor of one has the negative number.
        rotate_after_s: the age at which a socket is replaced; 0 for never.
        tell: takes the steps to the pool.
    """

    def __init__(
        self,
        connections: Mapping[int, Connection],
        rotate_after_s: float,
        tell: Callable[[Step], Awaitable[None]],
    ) -> None:
        self._connections = connections
        self._rotate_after_s = rotate_after_s
        self._tell = tell
        self._until: dict[int, float] = {}
        self._not_before = -math.inf

    def begun(self, number: int) -> None:
        """A rotation has begun; see that it ends."""
        self._until[number] = anyio.current_time() + PATIENCE_S

    def ended(self, number: int) -> None:
        """A rotation is over, whatever came of it."""
        self._until.pop(number, None)

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await anyio.sleep(LOOK_S)
            for step in self._steps(anyio.current_time()):
                await self._tell(step)

    def _steps(self, now: float) -> list[Step]:
        steps: list[Step] = []
        for number, until in list(self._until.items()):
            old, successor = self._connections.get(number), self._connections.get(-number)
            if old is None or successor is None:
                self.ended(number)
            elif successor.can_replace(old):
                steps.append(Swap(number))
            elif now >= until:
                self._not_before = now + AGAIN_S
                steps.append(PutOff(number))
        if self._rotate_after_s and not self._until and now >= self._not_before:
            aged = [
                (connection.opened_at, number)
                for number, connection in self._connections.items()
                if number > 0
                and connection.phase is Phase.LIVE
                and now >= connection.opened_at + self._rotate_after_s
            ]
            steps += [Rotate(min(aged)[1])] if aged else []
        return steps
