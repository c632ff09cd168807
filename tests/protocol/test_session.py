"""One connection's conversation with the venue, and what consumers receive of it."""

import json
from typing import Any

import pytest

from polybus_protocol.conversation.actions import Ended
from polybus_protocol.conversation.signals import Live, Overdue, Tapped
from polybus_protocol.conversation.waits import RESYNC_INTERVAL_S
from polybus_protocol.events import Book, Gap, MarketEvent, Unknown
from polybus_protocol.feeds.market import VENUE
from polybus_protocol.websocket.backoff import Verdict

from .conversation import (
    M1,
    M2,
    N1,
    N2,
    PONG,
    Conversation,
    M,
    N,
    book,
    live,
    new_market,
    opened,
    outline,
    price_change,
    tick_size_change,
    trade,
    written,
)

# --- what is said ----------------------------------------------------------------------------------


def test_opening_once_then_operations() -> None:
    """The first message opens, with all options; every later change is an operation."""
    talk = Conversation()
    talk.wants(M1, M2)
    talk.wants(N1)
    talk.drops(M1)

    options = {"level": 2, "custom_feature_enabled": True}
    assert talk.says() == [
        {"assets_ids": [M1, M2], "type": "market", "initial_dump": True, **options},
        {"operation": "subscribe", "assets_ids": [N1], **options},
        {"operation": "unsubscribe", "assets_ids": [M1]},
    ]
    assert talk.says() == []


def test_what_changes_nothing_is_not_said() -> None:
    """Keys that are carried are not asked for again, nor those taken back that are not."""
    talk = opened(M1)
    talk.wants(M1, M1)
    talk.drops(N1)
    talk.wants()
    talk.drops()
    talk.doubts(N1)
    assert talk.says() == []


def test_a_key_named_twice_is_asked_for_once() -> None:
    """Whatever the request: subscribe, unsubscribe or resync."""
    talk = Conversation()
    talk.wants(M1, M1)
    assert talk.asks() == [("opening", [M1])]
    talk.waits(RESYNC_INTERVAL_S)
    talk.doubts(M1, M1)
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    talk.drops(M1, M1)
    assert talk.asks() == [("unsubscribe", [M1])]


def test_no_frame_holds_more_ids_than_allowed() -> None:
    """Long lists travel in parts, in order: opening, operations, taking back, asking again."""
    keys = [str(10**29 + i) for i in range(7)]
    parts = [keys[0:3], keys[3:6], keys[6:7]]
    talk = Conversation(ids_per_frame=3)

    talk.wants(*keys)
    assert talk.asks() == [("opening", parts[0]), ("subscribe", parts[1]), ("subscribe", parts[2])]

    talk.waits(2)
    talk.doubts(*keys)
    assert talk.asks() == [(verb, part) for part in parts for verb in ("unsubscribe", "subscribe")]

    talk.drops(*keys)
    assert talk.asks() == [("unsubscribe", part) for part in parts]


def test_no_ping_before_the_opening() -> None:
    """The venue closes with 1008 on an early PING, so a connection without interest keeps quiet."""
    talk = Conversation()
    assert talk.waits(3600) == []
    assert talk.says() == []

    talk.wants(M1)
    assert talk.asks() == [("opening", [M1])]
    talk.waits(talk.profile.ping_interval_s - 1, hearing=written(book(M1)))
    assert talk.says() == []
    talk.waits(1)
    assert talk.says() == ["PING"]


def test_pings_go_on_at_their_interval() -> None:
    """Ten seconds apart, also while nothing is subscribed any more."""
    talk = live(M1)
    talk.drops(M1)
    talk.says()
    talk.waits(35, hearing=PONG)
    assert talk.says() == ["PING"] * 3


# --- what cannot be read ---------------------------------------------------------------------------

BROKEN = {
    "names one asset": (f'{{"event_type":"book","asset_id":"{M1}"}}', {M1}),
    "names a market": (f'{{"event_type":"book","market":"{M}"}}', {M1, M2}),
    "names both": (f'{{"event_type":"book","market":"{N}","asset_id":"{M1}"}}', {M1, N1}),
    "names others only": (f'{{"event_type":"book","asset_id":"{N2}"}}', {VENUE}),
    "names nobody": ('{"event_type":"book"}', {M1, M2, N1, VENUE}),
    "is no JSON, names one": (f'{{"event_type":"book","asset_id":"{M1}"', {M1}),
    "is no JSON, names others only": (f'{{"event_type":"book","asset_id":"{N2}"', {M1, M2, N1, VENUE}),
    "is no JSON, names nobody": ("{", {M1, M2, N1, VENUE}),
    "lost its first byte": (f'?"event_type":"book","asset_id":"{M1}"}}', {M1}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_frame_that_cannot_be_read_is_a_gap_for_those_concerned(name: str) -> None:
    """By asset, by market, else for all; and nobody else is disturbed."""
    frame, concerned = BROKEN[name]
    talk = live(M1, M2, N1, VENUE)
    talk.waits(2)
    raw, *gaps = talk.hears(frame)

    assert isinstance(raw, Unknown)
    assert raw.raw == frame
    assert {gap.asset or VENUE for gap in gaps if isinstance(gap, Gap)} == concerned
    assert len(gaps) == len(concerned)
    assert all(isinstance(gap, Gap) and gap.reason == "undecodable_frame" and gap.detail for gap in gaps)
    assert {key for _, keys in talk.asks() for key in keys} == concerned - {VENUE}
    assert talk.streams[VENUE].live


def test_a_broken_element_harms_none_of_its_neighbours() -> None:
    """The others of its frame are published, in order."""
    talk = live(M1, N1)
    broken = {"event_type": "book", "asset_id": M1, "market": M, "bids": 7}
    events = talk.hears([price_change(N1, at=2), broken, price_change(N1, at=3)])
    assert outline(events) == ["PriceChange", "Unknown", "gap: undecodable_frame", "PriceChange"]
    assert [event.seq for event in events if isinstance(event, MarketEvent)] == [2, 3]


def test_a_burst_of_broken_frames_is_no_storm_of_requests() -> None:
    """One gap for all of it, and one request a second at most, though each snapshot comes at once."""
    talk = live(M1)
    talk.waits(5)
    requests = 0
    for i in range(200):
        talk.hears(f'{{"event_type":"book","asset_id":"{M1}","n":{i}')
        if asks := talk.asks():
            requests += len(asks) // 2
            talk.hears(book(M1, at=i + 2))
        talk.waits(0.05)
    assert 5 <= requests <= 200 * 0.05 / RESYNC_INTERVAL_S + 1
    assert not any(isinstance(signal, Overdue) for signal in talk.tells())


def test_what_is_in_doubt_is_asked_for_even_if_it_was_a_moment_ago() -> None:
    """The request that came too soon is made up for, and is not called overdue."""
    talk = opened(M1)
    assert outline(talk.hears('{"event_type":"book"}')) == ["Unknown"]
    assert talk.asks() == []
    talk.waits(RESYNC_INTERVAL_S)
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    assert talk.tells() == []


@pytest.mark.parametrize("frame", ['{"event_type":"brand_new"}', "HELLO", '{"odd":1}'])
def test_what_is_merely_unknown_is_no_loss(frame: str) -> None:
    """An event or a word we have no reader for is passed on, counted, and nobody is disturbed."""
    talk = live(M1)
    (event,) = talk.hears(frame)
    assert isinstance(event, Unknown)
    assert event.raw == frame
    assert talk.session.unknown.total() == 1
    assert talk.streams[M1].live
    assert talk.asks() == []


def test_a_frame_may_be_padded() -> None:
    """Blanks around a frame change nothing, and it is counted once; a word is not."""
    talk = opened(M1)
    assert outline(talk.hears(b" \n" + written(book(M1)) + b"\n")) == ["Book"]
    assert talk.hears(b" PONG\n") == []
    assert talk.session.frames == 1


# --- repeats and mirrors ---------------------------------------------------------------------------


def test_a_frame_repeated_back_to_back_is_published_once() -> None:
    """The same hash and time, letter for letter, is the same event told twice."""
    talk = live(M1)
    assert len(talk.hears(price_change(M1, at=2))) == 1
    assert talk.hears(price_change(M1, at=2)) == []
    assert talk.session.duplicates == 1
    talk.hears(price_change(M1, at=3))
    assert len(talk.hears(price_change(M1, at=2))) == 1
    assert talk.session.duplicates == 1


def test_without_a_hash_a_repeat_is_an_event() -> None:
    """Two equal trades may both have happened."""
    talk = live(M1)
    assert len(talk.hears(trade(M1)) + talk.hears(trade(M1))) == 2
    assert talk.session.duplicates == 0


def test_the_answer_to_a_resync_is_no_repeat() -> None:
    """The snapshot of a book at rest is the same, to the letter, as the one before."""
    talk = live(M1)
    talk.waits(2)
    assert outline(talk.doubts(M1)) == ["gap: resync"]
    assert outline(talk.hears([book(M1)])) == ["Book"]
    assert talk.streams[M1].live


def test_mirrored_entries_of_others_are_not_published() -> None:
    """A `price_change` names both assets of a market, whichever was subscribed: the other is learned from."""
    talk = live(M1)
    (event,) = talk.hears(price_change(M1, M2, at=2))
    assert isinstance(event, MarketEvent)
    assert event.asset == M1
    assert talk.session.unwanted == 1
    assert talk.directory.assets_of(M) == (M1, M2)
    assert talk.directory.market_of(M2) == M


def test_several_entries_for_one_asset_are_one_event() -> None:
    """The changes of one frame to one asset are to be applied together."""
    talk = live(M1, M2)
    first, second = talk.hears(price_change(M1, M2, M1, at=2))
    assert [getattr(event, "asset", "") for event in (first, second)] == [M1, M2]
    assert len(getattr(first, "changes", ())) == 2


# --- the end of trust ------------------------------------------------------------------------------


def test_a_tick_size_change_ends_the_epoch() -> None:
    """After the event comes the gap, and a fresh book is asked for."""
    talk = live(M1, N1)
    talk.waits(2)
    change, gap = talk.hears(tick_size_change(M1))
    assert outline([change, gap]) == ["TickSizeChange", "gap: tick_size_change"]
    assert gap.epoch > change.epoch
    assert gap.seq == 1
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    (snapshot,) = talk.hears(book(M1, at=2))
    assert (snapshot.epoch, snapshot.seq) == (gap.epoch, 3)
    assert talk.streams[N1].live


def test_the_end_is_one_gap_for_each_live_stream() -> None:
    """Those that waited have nothing to lose; nothing at all comes after it."""
    talk = opened(M1, M2, N1)
    talk.hears([book(M1), book(N1)])
    gaps = talk.ends("closed with 1006")
    assert outline(gaps) == ["gap: connection_lost"] * 2
    assert [getattr(gap, "asset", "") for gap in gaps] == [M1, N1]
    assert {getattr(gap, "detail", "") for gap in gaps} == {"closed with 1006"}
    assert talk.session.ended == Ended("closed with 1006", Verdict.RETRY)

    talk.says()
    assert talk.ends() == talk.hears(book(M1, at=2)) == talk.doubts(M1) == talk.waits(1000) == []
    talk.wants(N2)
    talk.drops(M1)
    assert talk.says() == []


def test_a_reconnect_goes_on_with_a_higher_epoch() -> None:
    """The gap opened it; the first data makes it live, and counts on."""
    talk = live(M1)
    (gap,) = talk.ends()
    talk.reconnects()
    talk.wants(M1)
    (snapshot,) = talk.hears(book(M1, at=2))
    assert isinstance(gap, Gap)
    assert gap.epoch > (gap.last_epoch or 0)
    assert (snapshot.epoch, snapshot.seq) == (gap.epoch, 3)
    assert (gap.connection, snapshot.connection) == ("gw-market-1#1", "gw-market-1#2")


def test_dial_failures_announce_nothing_again() -> None:
    """A stream that waits already is not interrupted by the next connection that ends."""
    talk = live(M1)
    assert len(talk.ends()) == 1
    for _ in range(3):
        talk.reconnects()
        talk.wants(M1)
        assert talk.ends() == []


def test_a_refusal_ends_the_connection() -> None:
    """`INVALID OPERATION` is passed on raw, and the connection is of no more use."""
    talk = live(M1)
    refused, gap = talk.hears("INVALID OPERATION")
    assert isinstance(refused, Unknown)
    assert refused.kind == "refused"
    assert outline([gap]) == ["gap: connection_lost"]
    assert talk.session.ended == Ended("the venue refused our last message: INVALID OPERATION", Verdict.RETRY)


# --- the whole venue -------------------------------------------------------------------------------


def test_interest_in_the_whole_venue_opens_with_an_empty_list() -> None:
    """Which is enough to hear of new markets; as an operation it needs no message."""
    talk = Conversation()
    talk.wants(VENUE)
    assert talk.asks() == [("opening", [])]
    talk.wants(M1)
    talk.drops(VENUE)
    talk.wants(VENUE)
    assert talk.asks() == [("subscribe", [M1])]


def test_the_whole_venue_has_a_gap_of_its_own() -> None:
    """New markets may be missed while the connection is away: `market._._.gap` says so, each time."""
    talk = opened(VENUE)
    for _ in range(2):
        (gap,) = talk.ends()
        assert isinstance(gap, Gap)
        assert (gap.market, gap.asset, gap.seq) == (None, None, 1)
        talk.reconnects()
        talk.wants(VENUE)


def test_a_new_market_is_published_once_and_learned() -> None:
    """Every connection hears it; the second to tell is not believed."""
    talk = opened(VENUE)
    (event,) = talk.hears(new_market(N))
    assert (type(event).__name__, event.seq) == ("NewMarket", 1)
    assert talk.session.has_data
    talk.reconnects()
    talk.wants(VENUE)
    assert talk.hears(new_market(N)) == []
    assert talk.commons.duplicates == 1
    assert talk.directory.market_of("7" * 30) == N


# --- signals ---------------------------------------------------------------------------------------


def test_a_tapped_stream_signals_every_event() -> None:
    """For `deliver: log`: the event itself, with its stamps."""
    talk = live(M1)
    talk.session.cargo.taps = {M1}
    talk.hears(price_change(M1, M2, at=2))
    (signal,) = talk.tells()
    assert isinstance(signal, Tapped)
    assert (signal.keys, signal.event.seq) == ((M1,), 2)
    assert talk.tells() == []


def test_a_snapshot_of_many_assets_is_one_frame() -> None:
    """The array that answers the opening makes each of its assets live."""
    keys: list[str] = [M1, M2, N1, N2]
    talk = opened(*keys)
    events = talk.hears([book(key) for key in keys])
    assert [type(event) for event in events] == [Book] * 4
    assert talk.tells() == [Live(key) for key in keys]
    frame: Any = json.dumps([])
    assert talk.hears(frame) == []
