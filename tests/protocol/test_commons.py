"""The streams that all connections of a feed share."""

import pytest

from polybus_protocol.conversation import commons
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.events import Book, Event, MarketResolved, NewMarket, Unknown

from .conversation import M1, M, N


def test_what_is_heard_twice_is_published_once() -> None:
    """The same type, market and time, whichever connection brings it; another time is another event."""
    shared = Commons("market")
    stream = shared.stream_for(NewMarket(market=M, assets_ids=[], source_time=1))
    assert stream is not None
    assert stream.key == f"polymarket.v1.market.{M}._"
    assert shared.stream_for(NewMarket(market=M, assets_ids=["7"], source_time=1)) is None
    assert shared.duplicates == 1

    others: list[Event] = [
        NewMarket(market=M, assets_ids=[], source_time=2),
        MarketResolved(market=M, assets_ids=[], source_time=1),
    ]
    assert [shared.stream_for(event) for event in others] == [stream, stream]
    assert shared.stream_for(NewMarket(market=N, assets_ids=[], source_time=1)) is not stream


def test_unknown_events_are_never_taken_for_repeats() -> None:
    """They share one stream; nobody knows what they are."""
    shared = Commons("market", "pm")
    events = [Unknown(feed="market", kind="word", reason="?", raw="x") for _ in range(2)]
    streams = {shared.stream_for(event) for event in events}
    assert [stream.key for stream in streams if stream] == ["pm.unknown"]


def test_an_event_of_one_asset_has_no_place_here() -> None:
    """It belongs to a stream of an interest: a mistake of ours, not of the venue."""
    with pytest.raises(TypeError, match="Book belongs to an interest"):
        Commons("market").stream_for(Book(market=M, asset=M1, bids=[], asks=[], hash=None))


def test_memory_is_bounded_and_counts_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest market goes first; what it brought still counts."""
    monkeypatch.setattr(commons, "REMEMBERED_MARKETS", 3)
    shared = Commons("market")
    for number in range(10):
        event = NewMarket(market=f"0x{number}", assets_ids=[], source_time=1)
        stream = shared.stream_for(event)
        assert stream is not None
        stream.begin(event, 10**18, None)
        stream.publish(event, 10**18, None)
    assert shared.counts() == {"new_market": 10}
    assert len(shared._markets) == len(shared._heard) == 3
    assert shared.stream_for(NewMarket(market="0x9", assets_ids=[], source_time=1)) is None
    assert shared.stream_for(NewMarket(market="0x0", assets_ids=[], source_time=1)) is not None
