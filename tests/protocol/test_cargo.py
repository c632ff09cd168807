"""What a connection carries: keys, and the streams that come and go with them."""

from collections import Counter
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.conversation import cargo as module
from polybus_protocol.conversation.cargo import Cargo
from polybus_protocol.events import Event
from polybus_protocol.feeds.market import VENUE, MarketDialect
from polybus_protocol.feeds.rtds import RtdsDialect
from polybus_protocol.stream import Stream
from polybus_protocol.subjects import ids_of

from .conversation import M1, M2, book, written
from .feed_frames import A, B, activity, rtds_price
from .samples import wire

ALL, TRADES, MARKET = "activity/*", "activity/trades", f"activity/*?market={A}"


def open_stream(wanted: Collection[str], event: Event) -> Stream:
    return Stream("rtds", event.family, ids_of(event))


def rtds(*keys: str) -> Cargo:
    cargo = Cargo(RtdsDialect(), open_stream)
    cargo.take(dict.fromkeys(keys))
    return cargo


def event_of(frame: dict[str, object]) -> tuple[str, Event]:
    ((key, event),) = RtdsDialect().read(wire(frame))
    assert key is not None
    return key, event


def test_a_key_that_is_a_stream() -> None:
    """The two come and go together, and nothing is adopted."""
    cargo = Cargo(MarketDialect())
    stream, venue = Stream("market", "market", (None, M1)), Stream("market", "market", (None, None))
    cargo.take({M1: stream, VENUE: venue})
    assert (cargo.streams_of(M1), list(cargo.keys_of(M1))) == ([stream], [M1])
    assert cargo.adopt(M2, MarketDialect().read(written(book(M2)))[0][1]) == (None, ())
    assert cargo.leaving([M1, M2]) == [stream]
    cargo.leave([M1, M2])
    assert (list(cargo.keys), list(cargo.streams)) == ([VENUE], [VENUE])
    assert cargo.streams_of(M1) == []


def test_quiet_keys_are_not_waited_for() -> None:
    """What may be silent for ever is not waited for."""
    cargo = Cargo(MarketDialect())
    venue = Stream("market", "market", (None, None))
    expectations = [cargo.expects_data]
    cargo.take({VENUE: venue})
    expectations.append(cargo.expects_data)
    assert cargo.awaited([VENUE, M1]) == [M1]
    cargo.take({M1: Stream("market", "market", (None, M1))})
    assert [*expectations, cargo.expects_data] == [False, False, True]
    assert cargo.quiet_keys == [VENUE]


def test_a_stream_is_adopted_once() -> None:
    """With the first event that answers a key; events of the same ids find it again."""
    cargo = rtds(ALL)
    stream, wanted = cargo.adopt(*event_of(activity(A)))
    assert stream is not None
    assert (stream.family, stream.ids, list(wanted)) == ("activity", ("rain", A), [ALL])
    assert cargo.adopt(*event_of(activity(A, type_="orders_matched")))[0] is stream
    assert cargo.adopt(*event_of(activity(B)))[0] is not stream
    assert cargo.adopt(*event_of(rtds_price("btcusdt"))) == (None, ())
    assert len(cargo.streams_of(ALL)) == len(cargo.streams) == 2


def test_ids_are_told_apart() -> None:
    """However the venue writes them: two lists of ids are never one stream."""
    cargo = rtds(ALL)
    for slug in ("a", "a/b", "a', '", "", "_", "None"):
        cargo.adopt(*event_of(activity("b/c", slug)))
        cargo.adopt(*event_of(activity("c", slug)))
    assert len(cargo.streams) == 12


def test_events_are_counted_by_the_keys_they_answer() -> None:
    """An event counts for each of them, and once in all."""
    cargo = rtds(ALL, TRADES, MARKET)
    for frame in (activity(A), activity(B), activity(A, type_="orders_matched")):
        cargo.adopt(*event_of(frame))
    assert cargo.heard == {
        ALL: {"trades": 2, "orders_matched": 1},
        TRADES: {"trades": 2},
        MARKET: {"trades": 1, "orders_matched": 1},
    }
    assert cargo.adopted_events() == {"trades": 2, "orders_matched": 1}


def test_gaps_stay_counted() -> None:
    """Also those of streams that are gone."""
    cargo = rtds(ALL)
    stream, _ = cargo.adopt(*event_of(activity(A)))
    assert stream is not None
    stream.live = True
    stream.interrupt("resync", 10**18)
    assert cargo.adopted_events()["gap"] == 1
    cargo.leave([ALL])
    assert (cargo.streams, cargo.heard, cargo.adopted_events()) == ({}, {}, {"gap": 1, "trades": 1})


def test_no_more_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was adopted first goes first; its key stays, and so do its counts."""
    monkeypatch.setattr(module, "ADOPTED_STREAMS", 3)
    cargo = rtds(ALL)
    for slug in "abcd":
        cargo.adopt(*event_of(activity(A, slug)))
    assert [stream.ids for stream in cargo.streams.values()] == [(slug, A) for slug in "bcd"]
    assert cargo.adopted_events() == Counter(trades=4)
    cargo.adopt(*event_of(activity(A, "a")))
    assert [stream.ids for stream in cargo.streams_of(ALL)] == [(slug, A) for slug in "cda"]


KEYS = [ALL, TRADES, MARKET, "activity/orders_matched?event_slug=rain", "crypto_prices/*"]
FRAMES = [activity(A), activity(B, "snow"), activity(B, type_="orders_matched"), rtds_price("btcusdt")]


@given(
    st.lists(st.tuples(st.sampled_from(["take", "leave"]), st.sampled_from(KEYS)) | st.sampled_from(FRAMES))
)
def test_whatever_comes_and_goes(steps: list[tuple[str, str] | dict[str, object]]) -> None:
    """A stream stays exactly as long as one of the keys it has answered; `leaving` tells beforehand."""
    cargo = rtds()
    answered: dict[Stream, set[str]] = {}
    for step in steps:
        match step:
            case ("take", str(key)):
                cargo.take({key: None})
            case (_, str(key)):
                leaving = cargo.leaving([key])
                cargo.leave([key])
                for keys in answered.values():
                    keys.discard(key)
                assert {stream for stream, keys in answered.items() if not keys} == set(leaving)
                answered = {stream: keys for stream, keys in answered.items() if keys}
            case dict():
                stream, wanted = cargo.adopt(*event_of(step))
                assert set(wanted) <= set(cargo.keys)
                if stream is not None:
                    answered.setdefault(stream, set()).update(wanted)
        assert set(cargo.streams.values()) == set(answered)
        for own, stream in cargo.streams.items():
            assert set(cargo.keys_of(own)) == answered[stream]
        for key in KEYS:
            assert set(cargo.streams_of(key)) == {s for s, keys in answered.items() if key in keys}
