"""What is in flight to NATS: let go of when a marker has come back, and uncertain when the connection breaks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_actors.publishing.flight import MARKER_INTERVAL_S, WINDOW_BYTES, Flight
from polybus_protocol.stream import Publication, Stream

STREAM = Stream("market", "market", ("0x1", "1"))


def said(*numbers: int) -> list[Publication]:
    return [Publication(b"a.subject", b"{}", STREAM, 1, number) for number in numbers]


@pytest.fixture
def flight() -> Flight:
    return Flight()


def test_a_marker_lets_go_of_what_came_before_it(flight: Flight) -> None:
    """And of nothing that was handed over since it was sent."""
    flight.add(said(1), 10)
    flight.add(said(2), 10)
    marker = flight.mark(0.0)
    assert marker is not None
    flight.add(said(3), 10)
    flight.land(marker)
    assert len(flight) == 1
    assert flight.crash() == said(3)


def test_one_marker_at_a_time_and_not_too_often(flight: Flight) -> None:
    """None where nothing flies, none while one is on its way; then one in each interval, or at once in a hurry."""
    assert flight.mark(0.0) is None
    flight.add(said(1), 10)
    assert flight.mark(0.0) == 1
    assert flight.mark(10.0) is None
    flight.land(1)
    flight.add(said(2), 10)
    assert flight.mark(MARKER_INTERVAL_S / 2) is None
    flight.hurry()
    assert flight.mark(MARKER_INTERVAL_S / 2) == 2


def test_it_is_full_until_enough_has_landed(flight: Flight) -> None:
    """By the bytes of payload."""
    flight.add(said(1), WINDOW_BYTES - 1)
    before = flight.is_full
    flight.add(said(2), 1)
    meanwhile = flight.is_full
    flight.land(flight.mark(0.0) or 0)
    assert (before, meanwhile, flight.is_full) == (False, True, False)


def test_a_break_ends_all(flight: Flight) -> None:
    """What flew is uncertain, in order; a batch that was being handed over does not fly any more."""
    batch = flight.add(said(1, 2), WINDOW_BYTES)
    assert flight.ends_with(batch)
    flight.mark(0.0)
    assert flight.crash() == said(1, 2)
    assert not flight.ends_with(batch)
    assert not flight.is_full
    assert flight.crash() == []
    # The marker of before is not waited for.
    flight.add(said(3), 10)
    assert flight.mark(MARKER_INTERVAL_S) == 2


@given(st.lists(st.sampled_from(["add", "mark", "land", "crash"]), max_size=40))
def test_each_is_confirmed_or_uncertain(steps: list[str]) -> None:
    """Whatever happens, each publication lands or crashes, once, and those that land do so in order."""
    flight, now, number = Flight(), 0.0, 0
    flying: list[Publication] = []
    marked: tuple[int, int] | None = None
    """The marker that is on its way, and how many it confirms."""
    for step in steps:
        now += MARKER_INTERVAL_S
        match step:
            case "add":
                number += 1
                flight.add(said(number), 10)
                flying += said(number)
            case "mark":
                if (marker := flight.mark(now)) is not None:
                    marked = marker, len(flying)
            case "land":
                if marked is not None:
                    flight.land(marked[0])
                    del flying[: marked[1]]
                    marked = None
            case _:
                assert flight.crash() == flying
                flying, marked = [], None
        assert len(flight) == len(flying)
    assert flight.crash() == flying
