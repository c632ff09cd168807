"""A histogram in plain integers, for what happens too often to tell anybody about each time."""

from bisect import bisect_left

LATENCY_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds for what an event takes on its way: from what a turn of the event loop takes to what no
trader would wait for.  Finer than a factor of 2.5 costs series and shows nothing more."""

ANSWER_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds for answers to commands, which may wait for data for a minute."""


class Histogram:
    """Counts of values by size; a value belongs to the first bound that it does not exceed.

    Args:
        bounds: upper bounds, rising; one more count is of what exceeds them all.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS_S) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def record(self, value: float) -> None:
        """Count a value; one below zero, which only clocks that disagree can yield, counts as zero."""
        value = max(value, 0.0)
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values."""
        return sum(self.counts)
