"""The keys a connection has asked for and not heard of yet: when to ask again, and how often at most.

Two clocks run per key.  Its patience ends with a report, and doubles each time; a key that is in doubt
is asked for sooner, but never twice within `RESYNC_INTERVAL_S`.
"""

import math
from collections.abc import Collection, Iterable, Iterator

import msgspec

RESYNC_INTERVAL_S = 1.0
"""Seconds between two requests for a snapshot of one key, so that a burst of bad frames is no storm."""

LONGEST_OVERDUE_S = 600.0
"""Longest wait, in seconds, until a key that never answered is asked for again; waits double up to it."""


class _Wait(msgspec.Struct, gc=False):
    since: float
    patience_s: float
    ask_at: float
    report_at: float


class Waits(Collection[str]):
    """The waiting keys of one connection, in the order in which they began to wait.

    Args:
        patience_s: seconds until a key that was asked for is overdue for the first time.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._waits: dict[str, _Wait] = {}
        self._asked_at: dict[str, float] = {}

    def asked(self, keys: Iterable[str], now: float) -> None:
        """These keys are being asked for; those that wait already go on waiting."""
        for key in keys:
            self._asked_at[key] = now
            wait = self._waits.get(key) or self._start(key, now)
            if now >= wait.report_at:
                wait.patience_s = min(wait.patience_s * 2, max(LONGEST_OVERDUE_S, self._patience_s))
                wait.report_at = now + wait.patience_s
            wait.ask_at = wait.report_at

    def doubted(self, keys: Iterable[str], now: float) -> list[str]:
        """These keys need a fresh snapshot.

        Returns:
            Those to ask for right now; the others were asked for a moment ago and fall due in a moment.
        """
        ready: list[str] = []
        for key in keys:
            soonest = self._asked_at.get(key, -math.inf) + RESYNC_INTERVAL_S
            if now >= soonest:
                ready.append(key)
            else:
                wait = self._waits.get(key) or self._start(key, now)
                wait.ask_at = min(wait.ask_at, soonest)
        return ready

    def delivered(self, key: str) -> None:
        """The key has been heard of."""
        self._waits.pop(key, None)

    def forget(self, key: str) -> None:
        """The key is carried no longer."""
        self._waits.pop(key, None)
        self._asked_at.pop(key, None)

    def due(self, now: float) -> list[str]:
        """The keys to ask for again."""
        return [key for key, wait in self._waits.items() if now >= wait.ask_at]

    def overdue(self, now: float) -> dict[str, float]:
        """The keys whose patience is over, and for how many seconds they have waited; all are `due` too."""
        return {key: now - wait.since for key, wait in self._waits.items() if now >= wait.report_at}

    def next_deadline(self) -> float | None:
        """When the next key falls due; None while none waits."""
        return min((wait.ask_at for wait in self._waits.values()), default=None)

    def __contains__(self, key: object) -> bool:
        return key in self._waits

    def __iter__(self) -> Iterator[str]:
        return iter(self._waits)

    def __len__(self) -> int:
        return len(self._waits)

    def _start(self, key: str, now: float) -> _Wait:
        end = now + self._patience_s
        self._waits[key] = wait = _Wait(now, self._patience_s, end, end)
        return wait
