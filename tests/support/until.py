"""Waiting for what nobody tells of: looking again and again, and leaving the others most of the time."""

from collections.abc import Callable

import anyio

LOOK_S = 0.002
"""Seconds from one look to the next.  Without a pause a test would take a whole core from those beside it."""


async def a_moment() -> None:
    """Let the others go on."""
    await anyio.sleep(LOOK_S)


async def until(is_so: Callable[[], object], within_s: float = 60.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it is not, in time.
    """
    with anyio.fail_after(within_s):
        while not is_so():
            await a_moment()
