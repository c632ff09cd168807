"""Garbage collection without long pauses: what has come to stay is not looked at again.

A full collection looks at every container there is.  At 20,000 assets those are 300,000, and no event moves for 0.2 s.
What the gateway makes per event is freed by counting references; cycles are rare, and found among what is young.  So the
streams and books, which stay, are put aside once no more come (`gc.freeze`), and full collections have little to look at.
"""

import gc
from collections.abc import Callable

import anyio

THRESHOLDS = (5_000, 10, 100)
"""Containers made and not freed until the young are looked at; how often that is until those that
were young a while ago are, and they until all are.  By default it is (700, 10, 10): full collections would come ten times as
often while thousands of assets are subscribed, each longer than the one before.  Chosen, not measured."""

SETTLED_S = 1.0
"""Seconds without a new stream until those that came are put aside."""

GROWN = 1.1
"""By how much there must be more streams than were put aside: those that come singly are no load."""


async def put_aside(count: Callable[[], int]) -> None:
    """Keep pauses short until cancelled.

    Args:
        count: how many streams there are now.
    """
    thresholds = gc.get_threshold()
    gc.set_threshold(*THRESHOLDS)
    try:
        aside, last = 0, count()
        gc.freeze()  # what was imported
        while True:
            await anyio.sleep(SETTLED_S)
            now = count()
            if now == last and now > aside * GROWN:
                gc.collect(1)  # garbage that is put aside stays for ever
                gc.freeze()
                aside = now
            last = now
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
