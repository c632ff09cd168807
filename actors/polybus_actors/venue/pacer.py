"""Dialling in turn: opening many sockets at once is answered by 429 (nautilus_trader issue 2238)."""

import anyio


class DialPacer:
    """Lets one dial through at a time, at most one every `interval_s` seconds, in the order of asking."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next_at = 0.0

    async def turn(self) -> None:
        """Wait for one's turn."""
        now = anyio.current_time()
        at = max(now, self._next_at)
        self._next_at = at + self._interval_s
        if at > now:
            await anyio.sleep(at - now)
