"""Whether something rises: the slope of a series, so that single looks at a bad moment say nothing.

The slope is that of Theil and Sen: the median of the slopes between all pairs.  Nearly a third of all looks may be
anything at all without moving it far.
"""

import statistics
from collections.abc import Sequence
from itertools import combinations

import msgspec


class Limit(msgspec.Struct, frozen=True):
    """How far something may rise from the beginning of a run to its end."""

    share: float
    """Of what it usually is."""
    least: float
    """In its own unit: less than that is no rise, however little it usually is."""


class Trend(msgspec.Struct, frozen=True):
    """What became of something over a run."""

    name: str
    unit: str
    usual: float
    """The median."""
    rise: float
    """From beginning to end, by the slope."""
    limit: float
    """The most it may rise."""

    @property
    def is_sound(self) -> bool:
        """Whether it has not risen too far."""
        return self.rise <= self.limit


def slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Theil and Sen's, in units of the values for each of the times; 0 for fewer than two points."""
    points = list(zip(times, values, strict=True))
    slopes = [
        (value - earlier) / (at - before)
        for (before, earlier), (at, value) in combinations(points, 2)
        if at != before
    ]
    return statistics.median(slopes) if slopes else 0.0


def trend(name: str, unit: str, times: Sequence[float], values: Sequence[float], limit: Limit) -> Trend:
    """How far something has risen.

    Raises:
        ValueError: nobody has looked.
    """
    if not values:
        raise ValueError(f"{name}: nobody has looked")
    usual = statistics.median(values)
    rise = slope(times, values) * (times[-1] - times[0])
    return Trend(name, unit, round(usual, 3), round(rise, 3), round(max(limit.least, limit.share * usual), 3))
