"""Restart what can be restarted, escalate the rest.

A supervised actor that fails is started again after a growing pause.  Restarts are counted over a window;
an actor that needs more of them than its policy allows takes its supervisor down with it, and whoever
started the gateway judges.  A restarted actor finds the state that outlives it (streams, interest,
backlog) where it was, since those belong to nobody's stack frame.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable

import anyio
import msgspec

logger = logging.getLogger("polybus.supervisor")


class RestartPolicy(msgspec.Struct, frozen=True):
    """Allow `intensity` restarts in any `period_s` seconds; past that, escalate."""

    intensity: int = 5
    """Restarts that may happen within the period: enough for an accident, too few to hide a bug."""
    period_s: float = 60.0
    first_delay_s: float = 0.1
    """Seconds before the first restart in the period; each further one doubles it."""


DEFAULT_POLICY = RestartPolicy()


class TooManyRestarts(Exception):
    """An actor failed more often than its policy allows; the last failure is the cause."""


class Supervisor:
    """Counts the restarts of a set of actors, each under its own policy."""

    def __init__(self) -> None:
        self.restarts = 0
        """Restarts of all actors since the start."""

    async def supervise(
        self, name: str, actor: Callable[[], Awaitable[None]], policy: RestartPolicy = DEFAULT_POLICY
    ) -> None:
        """Run an actor until it returns, starting it again when it fails.

        Raises:
            TooManyRestarts: the policy is exhausted.
        """
        failures: deque[float] = deque()
        while True:
            try:
                return await actor()
            except Exception as error:
                now = anyio.current_time()
                failures.append(now)
                while failures[0] <= now - policy.period_s:
                    failures.popleft()
                if len(failures) > policy.intensity:
                    raise TooManyRestarts(
                        f"{name} failed {len(failures)} times in {policy.period_s:g} s"
                    ) from error
                delay = policy.first_delay_s * 2 ** (len(failures) - 1)
                logger.exception("%s failed and starts again in %.1f s", name, delay)
            self.restarts += 1
            await anyio.sleep(delay)
