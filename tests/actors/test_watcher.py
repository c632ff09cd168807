"""What is counted on the way, in plain integers."""

import bisect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_actors.histogram import LATENCY_BOUNDS_S, Histogram
from polybus_actors.watcher import SAMPLE_INTERVAL_NS, Watcher
from polybus_protocol.events import Book, Event, PriceChange
from polybus_protocol.stream import Publication, Stream

RECEIVED_MS = 1_700_000_000_000


@given(st.lists(st.floats(min_value=-1, max_value=100)))
def test_a_histogram(values: list[float]) -> None:
    """Each value is counted once, under the first bound it does not exceed; the sum never falls."""
    histogram = Histogram()
    for value in values:
        before = histogram.sum
        histogram.record(value)
        assert histogram.sum >= before
    assert histogram.count == len(values)
    below = sorted(max(value, 0.0) for value in values)
    for place, bound in enumerate(LATENCY_BOUNDS_S):
        assert sum(histogram.counts[: place + 1]) == bisect.bisect_right(below, bound)


def publication(event: Event, feed: str = "market") -> Publication:
    """An event that was received at `RECEIVED_MS`."""
    return Stream(feed, "market").publish(event, RECEIVED_MS * 1_000_000, "gw0-market-1#1")


def change(source_time: int | None) -> PriceChange:
    return PriceChange(market="0x1", asset="1", changes=[], source_time=source_time)


@pytest.mark.parametrize(
    ("event", "arrivals", "publishings"),
    [
        (change(RECEIVED_MS - 90), 1, 1),
        (change(RECEIVED_MS + 5), 1, 1),  # our clock is behind the venue's
        (change(None), 0, 1),
        (Book(market="0x1", asset="1", bids=[], asks=[], hash=None, source_time=1), 0, 1),
    ],
)
def test_what_an_event_tells(event: Event, arrivals: int, publishings: int) -> None:
    """How long it took to us where it says when it was made, which a snapshot does not; and how long it took from us."""
    watcher = Watcher()
    watcher.published([publication(event)], 1)
    assert watcher.arrival["market"].count == arrivals
    assert watcher.publishing["market"].count == publishings
    if arrivals:
        assert watcher.arrival["market"].sum == pytest.approx(
            max(0.0, (RECEIVED_MS - (event.source_time or 0)) / 1e3)
        )


def test_a_gap_tells_nothing() -> None:
    """It was on no way."""
    watcher, stream = Watcher(), Stream("market", "market", ("0x1", "1"))
    stream.begin(change(1), 1, None)
    watcher.published(stream.interrupt("connection_lost", RECEIVED_MS * 1_000_000), 1)
    assert watcher.arrival["market"].count == watcher.publishing["market"].count == 0


def test_few_are_looked_at() -> None:
    """One event of a batch, and one batch a millisecond."""
    watcher = Watcher()
    batch = [publication(change(RECEIVED_MS))] * 3
    for begun in (1, 2, SAMPLE_INTERVAL_NS, SAMPLE_INTERVAL_NS + 1, SAMPLE_INTERVAL_NS + 2):
        watcher.published(batch, begun)
    watcher.published([], 10 * SAMPLE_INTERVAL_NS)
    assert watcher.publishing["market"].count == 2


def test_streams_of_no_feed_tell_nothing() -> None:
    """States of connections come from nowhere."""
    watcher = Watcher()
    watcher.published([publication(change(1), feed="system")], 1)
    assert all(not each.count for each in watcher.publishing.values())


def test_a_command_has_one_outcome() -> None:
    """Its code if it was refused; and a name of its own if it never came to an answer."""
    watcher = Watcher()
    for code in (None, 404):
        with watcher.command("status", None) as command:
            command.ended(code)
    with pytest.raises(KeyboardInterrupt), watcher.command("status", None):
        raise KeyboardInterrupt
    assert watcher.commands == {("status", "ok"): 1, ("status", "404"): 1, ("status", "cancelled"): 1}
    assert watcher.answering["status"].count == 3
