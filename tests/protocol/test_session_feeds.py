"""A connection's conversation with the feeds besides the market feed and PolyBolt, and what consumers receive of it."""

from typing import Any

import pytest

from polybus_protocol.conversation.actions import Ended
from polybus_protocol.conversation.signals import Live, Overdue, Tapped
from polybus_protocol.conversation.states import State
from polybus_protocol.events import Gap, Order, Unknown
from polybus_protocol.feeds.user import ACCOUNT
from polybus_protocol.subjects import subject_for
from polybus_protocol.websocket.backoff import Verdict

from .conversation import CREDENTIALS, FeedConversation, gaps_of, outline, written
from .feed_frames import (
    A,
    B,
    activity,
    fill,
    game,
    order,
    rtds_price,
)


def proved(talk: FeedConversation) -> bool | None:
    """Whether the venue knows who we are."""
    return talk.session.is_authenticated


# --- the user feed ---------------------------------------------------------------------------------


def user(*keys: str) -> FeedConversation:
    """A conversation in which these markets, or the account, are wanted."""
    talk = FeedConversation("user")
    talk.wants(*keys)
    return talk


def test_the_opening_holds_the_credentials() -> None:
    """It asks for the whole account at once, and no later wish needs a message."""
    talk = user(A)
    assert talk.says() == [{"auth": CREDENTIALS, "type": "user"}]
    talk.wants(B, ACCOUNT)
    talk.drops(A)
    assert talk.says() == []


def test_each_market_of_an_account_is_a_stream() -> None:
    """It opens with its first event, live at once; what nobody wants is counted and left out."""
    talk = user(A)
    (first,) = talk.hears(order(A))
    (second,) = talk.hears(fill(A))
    assert [subject_for(event) for event in (first, second)] == [
        f"polymarket.v1.user.main.{A}.order",
        f"polymarket.v1.user.main.{A}.trade",
    ]
    assert (first.epoch, first.seq, second.epoch, second.seq) == (first.epoch, 1, first.epoch, 2)
    assert talk.hears(order(B, "0x02")) == []
    assert talk.session.unwanted == 1
    talk.wants(ACCOUNT)
    (other,) = talk.hears(order(B, "0x03"))
    assert isinstance(other, Order)
    assert (other.market, other.seq) == (B, 1)
    assert talk.tells() == [Live(A), Live(ACCOUNT)]


def test_what_is_told_twice_is_published_once() -> None:
    """By id and status; also on the next socket, since it belongs to the same connection.  All are counted."""
    talk = user(ACCOUNT)
    frames: list[Any] = [fill(A), fill(A), fill(A, status="MINED"), [fill(A, "t2"), fill(A)]]
    assert [len(talk.hears(frame)) for frame in frames] == [1, 0, 1, 1]
    duplicates = talk.session.duplicates  # to the letter, back to back: not even read
    talk.ends()
    talk.reconnects()
    assert talk.hears(fill(A)) == []
    assert (duplicates, talk.dialect.repeated) == (1, 2)


def test_the_end_is_a_gap_on_each_stream_of_the_account() -> None:
    """What happened until the next socket is lost, and nothing will tell; each gap holds its ids."""
    talk = user(ACCOUNT)
    talk.hears([order(A), order(B, "0x02")])
    gaps = talk.ends()
    assert gaps_of(gaps) == [f"user.main.{market}.gap: connection_lost" for market in (A, B)]
    assert [(gap.account, gap.market) for gap in gaps if isinstance(gap, Gap)] == [("main", A), ("main", B)]
    talk.reconnects()
    assert talk.says() == [{"auth": CREDENTIALS, "type": "user"}]
    assert talk.ends() == []


def test_an_account_may_do_nothing_for_days() -> None:
    """No watchdog asks for data; one that asks for a sign of life stays."""
    talk = user(ACCOUNT)
    talk.says()
    assert proved(talk) is None
    assert talk.waits(3600, hearing=b"PONG") == []
    assert talk.says() == ["PING"] * 360
    talk.hears(order(A))
    assert proved(talk) is True
    assert talk.waits(86_400, hearing=b"PONG") == []
    assert talk.session.state is State.OPEN
    assert outline(talk.waits(30)) == ["gap: connection_lost"]


def test_a_stream_leaves_with_the_last_key_it_answered() -> None:
    """Interest in a market and in the account overlap: taking one back disturbs nobody."""
    talk = user(A, ACCOUNT)
    talk.hears(order(A))
    assert talk.tells() == [Live(A), Live(ACCOUNT)]
    stream = talk.cargo.streams_of(A)
    assert talk.cargo.streams_of(ACCOUNT) == stream
    talk.drops(A)
    assert talk.cargo.streams_of(ACCOUNT) == stream
    (event,) = talk.hears(fill(A))
    assert event.seq == 2
    talk.drops(ACCOUNT)
    assert talk.streams == {}


def test_a_doubt_is_only_announced() -> None:
    """The feed has no snapshots: asking again would bring nothing."""
    talk = user(ACCOUNT)
    talk.hears([order(A), order(B, "0x02")])
    talk.says()
    broken = fill(A, "t9") | {"status": 7}
    assert gaps_of(talk.hears(broken)) == [f"user.main.{A}.gap: undecodable_frame"]
    assert talk.says() == []
    (event,) = talk.hears(fill(A))
    assert event.seq == 3


def test_a_stream_that_was_there_before_begins_with_a_gap() -> None:
    """What happened while the gateway was away is lost: the gap stands before the first event."""
    talk = FeedConversation("user", remembered=True)
    talk.wants(ACCOUNT)
    assert gaps_of(talk.hears(order(A))) == [f"user.main.{A}.gap: restart"]
    assert gaps_of(talk.hears(fill(A))) == []


# --- RTDS ------------------------------------------------------------------------------------------


def rtds(*keys: str) -> FeedConversation:
    """A conversation in which these keys are wanted."""
    talk = FeedConversation("rtds")
    talk.wants(*keys)
    return talk


def asked(talk: FeedConversation) -> list[str]:
    """What was asked of RTDS since the last look, pings apart."""
    return [
        f"{message['action']} {entry['topic']}/{entry['type']}"
        for message in talk.says()
        if message != "PING"
        for entry in message["subscriptions"]
    ]


def test_one_topic_a_message() -> None:
    """Of several in one message, a bad one would silence all."""
    talk = rtds("activity/trades", "activity/orders_matched", "crypto_prices/*")
    said = talk.says()
    assert [len(message["subscriptions"]) for message in said] == [1, 1, 1]
    assert {message["action"] for message in said} == {"subscribe"}


def test_a_topic_wanted_twice_is_asked_for_once() -> None:
    """Whatever the filters, which are ours; it goes back with the last that wants it, and after a reconnect too."""
    first, second = "activity/*?event_slug=rain", f"activity/*?market={B}"
    talk = rtds(first, second)
    assert asked(talk) == ["subscribe activity/*"]
    talk.drops(first)
    assert asked(talk) == []
    talk.wants(first)
    assert asked(talk) == []
    talk.ends()
    talk.reconnects()
    assert asked(talk) == ["subscribe activity/*"]
    talk.drops(second)
    assert asked(talk) == []
    talk.drops(first)
    assert asked(talk) == ["unsubscribe activity/*"]


def test_our_own_filters() -> None:
    """What passes one of them is published, once; all else is counted and left out."""
    slug, market = "activity/trades?event_slug=rain", f"activity/trades?market={A}"
    talk = rtds(slug, market, "crypto_prices/*?symbol=btcusd")
    frames = {
        "the slug": activity(B, "rain"),
        "the market": activity(A, "snow"),
        "both": activity(A, "rain"),
        "neither": activity(B, "snow"),
        "another type": activity(A, "rain", "orders_matched"),
        "the symbol": rtds_price("btcusdt"),
        "another symbol": rtds_price("ethusdt"),
        "another topic": rtds_price("btc/usd", "crypto_prices_chainlink"),
    }
    passed = [name for name, frame in frames.items() if talk.hears(frame)]
    assert passed == ["the slug", "the market", "both", "the symbol"]
    assert talk.session.unwanted == 4
    assert {key: counts.total() for key, counts in talk.cargo.heard.items()} == {
        slug: 2,
        market: 2,
        "crypto_prices/*?symbol=btcusd": 1,
    }
    assert talk.cargo.adopted_events().total() == 4


def test_two_topics_on_one_stream_are_both_heard() -> None:
    """Binance's and Chainlink's prices share a subject; neither key is overdue while it delivers."""
    talk = rtds("crypto_prices/*", "crypto_prices_chainlink/*")
    talk.hears(rtds_price("btcusdt"))
    assert talk.tells() == [Live("crypto_prices/*")]
    talk.hears(rtds_price("btc/usd", "crypto_prices_chainlink"))
    assert talk.tells() == [Live("crypto_prices_chainlink/*")]
    assert len(talk.streams) == 1
    talk.says()
    talk.waits(120, hearing=written(rtds_price("btcusdt")))
    assert asked(talk) == []
    assert talk.tells() == []

    talk.drops("crypto_prices/*")
    (stream,) = talk.streams.values()
    assert stream.live
    assert talk.hears(rtds_price("btcusdt", value=2.5)) == []


def test_a_topic_that_says_nothing_is_asked_for_again() -> None:
    """While others go on; it is reported as overdue."""
    talk = rtds("activity/*", "crypto_prices/*")
    talk.hears(activity(A))
    talk.says()
    talk.tells()
    talk.waits(10, hearing=written(activity(A)))
    # It is not taken back first: no snapshot would follow, but a hole, had it just begun to speak.
    assert asked(talk) == ["subscribe crypto_prices/*"]
    assert talk.tells() == [Overdue("crypto_prices/*", 10)]


def test_the_empty_frame_is_the_pong() -> None:
    """It is a sign of life but no data; pings go out every five seconds."""
    talk = rtds("activity/*")
    talk.hears(activity(A))
    talk.says()
    assert talk.waits(29.9, hearing=b"") == []
    assert talk.says() == ["PING"] * 5
    assert gaps_of(talk.waits(0.1, hearing=b"")) == [f"activity.rain.{A}.gap: connection_lost"]
    assert talk.session.ended == Ended("no data for 30 s, though the socket is open", Verdict.RETRY)


def test_two_equal_rows_are_two_fills() -> None:
    """Several fills can share all they tell, also where a slug ends like the name of a hash."""
    talk = rtds("activity/*")
    assert [len(talk.hears(activity(A, "more-hash"))) for _ in range(2)] == [1, 1]


@pytest.mark.parametrize("key", ["comments/*", f"activity/*?market={A}", "crypto_prices/*?symbol=btcusd"])
def test_where_silence_is_no_fault(key: str) -> None:
    """Comments, and whatever we filter: nobody knows when the next one is due."""
    talk = rtds(key)
    talk.says()
    assert talk.waits(3600, hearing=b"") == []
    assert talk.session.state is State.OPEN
    assert asked(talk) == []


def test_a_status_frame_is_a_refusal_but_not_the_end() -> None:
    """It is passed on raw, in words, and concerns no stream."""
    talk = rtds("activity/*")
    talk.hears(activity(A))
    (event,) = talk.hears({"statusCode": 400, "body": {"message": "Invalid request body"}})
    assert isinstance(event, Unknown)
    assert (event.kind, event.feed) == ("refused", "rtds")
    assert "status 400: Invalid request body" in event.reason
    assert talk.session.unknown == {"refused": 1}
    assert talk.session.state is State.OPEN


# --- sports ----------------------------------------------------------------------------------------


def test_the_sports_feed_is_told_nothing() -> None:
    """Neither at the opening nor later, but that we are there, in the letter case it asked in."""
    talk = FeedConversation("sports")
    talk.wants("league=nba")
    talk.wants("*")
    talk.drops("*")
    talk.waits(25, hearing=b"ping")
    talk.hears(b"PING")
    assert talk.says() == ["pong"] * 5 + ["PONG"]
    assert outline(talk.hears(game("NBA", 7))) == ["SportResult"]
    assert talk.waits(3600, hearing=b"ping") == []


def test_a_league_of_its_own() -> None:
    """The feed has no filter: ours is the league, whatever its letter case; each game is a stream."""
    talk = FeedConversation("sports")
    talk.wants("league=nba")
    events = [*talk.hears(game("NBA", 7)), *talk.hears(game("nfl", 8)), *talk.hears(game("nba", 9))]
    assert [subject_for(event) for event in events] == [
        "polymarket.v1.sports.nba.7.sport_result",
        "polymarket.v1.sports.nba.9.sport_result",
    ]
    assert talk.session.unwanted == 1
    talk.wants("*")
    assert outline(talk.hears(game("nfl", 8))) == ["SportResult"]
    assert gaps_of(talk.ends()) == [
        f"sports.{ids}.gap: connection_lost" for ids in ("nba.7", "nba.9", "nfl.8")
    ]


# --- signals ---------------------------------------------------------------------------------------


def test_a_tapped_key_signals_its_events() -> None:
    """Each event once, with all the keys it answers; those of keys that nobody taps, not at all."""
    talk = rtds("activity/*", f"activity/trades?market={A}", "crypto_prices/*")
    talk.cargo.taps = {f"activity/trades?market={A}"}
    talk.hears(activity(A))
    talk.hears(activity(B))
    talk.hears(rtds_price("btcusdt"))
    (signal,) = [signal for signal in talk.tells() if isinstance(signal, Tapped)]
    assert set(signal.keys) == {"activity/*", f"activity/trades?market={A}"}
    assert signal.event.seq == 1
