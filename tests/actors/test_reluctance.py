"""Streams whose snapshots are too large: asked for ever more seldom, and at once where that may help."""

from itertools import pairwise

import pytest

from polybus_actors.publishing.reluctance import FIRST_WAIT_S, LONGEST_WAIT_S, Reluctance
from polybus_protocol.stream import Stream


class Vain:
    """A stream each of whose snapshots is too large."""

    def __init__(self) -> None:
        self.now = 100.0
        self.reluctance = Reluctance(lambda: self.now)
        self.stream = Stream("market", "market", ("0x1", "1"))

    def asks(self, until: float) -> list[float]:
        """When it is asked for, if each answer is too large again."""
        asked = list[float]()
        while self.now < until:
            if self.reluctance.due():
                asked.append(self.now)
                self.reluctance.lost(self.stream)
            self.now += 0.5
        return asked


@pytest.fixture
def vain() -> Vain:
    made = Vain()
    made.reluctance.lost(made.stream)
    return made


def test_pauses_double(vain: Vain) -> None:
    """At once, then after twice the pause each time, up to the longest."""
    asked = vain.asks(10_000.0)
    pauses = [after - before for before, after in pairwise(asked)]
    assert asked[0] == 100.0
    assert pauses[:4] == [FIRST_WAIT_S * factor for factor in (1, 2, 4, 8)]
    assert pauses[-1] == LONGEST_WAIT_S


def test_what_is_too_large_meanwhile_changes_nothing(vain: Vain) -> None:
    """Each trade brings a book of itself: the next request waits its time all the same."""
    assert vain.asks(103.0) == [100.0, 102.0]
    for _ in range(100):
        vain.reluctance.lost(vain.stream)
    assert vain.asks(110.0) == [106.0]


def test_what_goes_well_is_forgotten(vain: Vain) -> None:
    """After a request that is answered by something smaller, the next loss is a first one."""
    vain.asks(110.0)
    vain.now = 114.0
    assert vain.reluctance.due() == [vain.stream]
    vain.now = 200.0
    assert vain.reluctance.due() == []
    vain.reluctance.lost(vain.stream)
    assert vain.reluctance.due() == [vain.stream]


def test_hope(vain: Vain) -> None:
    """With another connection the limit may be another: it is asked for at once, and the pauses begin anew."""
    vain.asks(500.0)
    vain.reluctance.hope()
    assert vain.asks(504.0) == [500.0, 502.0]
