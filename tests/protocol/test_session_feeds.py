"""A connection's conversation with the feeds besides the market feed, and what consumers receive of it."""

from typing import Any

import pytest

from polybus_protocol.conversation.actions import Ended
from polybus_protocol.conversation.signals import Live, Overdue, Tapped
from polybus_protocol.conversation.states import State
from polybus_protocol.events import AnyEvent, Gap, Order, PriceUpdate, Unknown
from polybus_protocol.feeds.user import ACCOUNT
from polybus_protocol.stream import Stream
from polybus_protocol.subjects import subject_for
from polybus_protocol.websocket.backoff import Verdict

from .conversation import FeedConversation, outline, written
from .feed_frames import (
    AUTHED,
    BTC,
    ETH,
    TWAP,
    A,
    B,
    activity,
    fill,
    game,
    order,
    price,
    refused,
    rtds_price,
)

AUTH = {"op": "auth", "rid": "a1", "auth": {"apiKey": "key", "secret": "secret", "passphrase": "phrase"}}


def polybolt(*keys: str) -> FeedConversation:
    """A conversation in which these keys are wanted and we have said who we are."""
    talk = FeedConversation("polybolt")
    talk.wants(*keys)
    assert talk.says() == [AUTH]
    return talk


def admitted(*keys: str) -> FeedConversation:
    """The same, and the venue believes us; what is asked for is out of the way."""
    talk = polybolt(*keys)
    assert talk.hears(AUTHED) == []
    talk.says()
    return talk


def proved(talk: FeedConversation) -> bool | None:
    """Whether the venue knows who we are."""
    return talk.session.is_authenticated


def gaps_of(events: list[AnyEvent]) -> list[str]:
    """The subjects of the gaps, with their reasons."""
    return [
        f"{subject_for(event).removeprefix('polymarket.v1.')}: {event.reason}"
        for event in events
        if isinstance(event, Gap)
    ]


# --- PolyBolt --------------------------------------------------------------------------------------


def test_nothing_is_said_before_we_are_admitted() -> None:
    """But who we are; what was wanted meanwhile, and still is, is asked for in one message after it."""
    talk = polybolt(BTC)
    talk.wants(ETH, BTC)
    talk.wants(TWAP)
    talk.drops(ETH)
    talk.waits(talk.profile.first_data_timeout_s - 0.1)
    assert talk.doubts(BTC) == talk.says() == []
    assert talk.session.state is State.PROVING
    assert proved(talk) is False

    assert talk.hears(AUTHED) == []
    (asked,) = talk.says()
    assert [each["channel"] for each in asked["subscriptions"]] == ["price.crypto", "price.crypto.twap"]
    assert [each["filter"]["symbol"] for each in asked["subscriptions"]] == ["btcusd", "btcusd"]
    assert proved(talk) is True
    talk.wants(ETH)
    assert [message["op"] for message in talk.says()] == ["subscribe"]


def test_no_ping_before_we_are_admitted() -> None:
    """And none too early after it."""
    talk = polybolt(BTC)
    talk.waits(9)
    talk.hears(AUTHED)
    talk.says()
    talk.waits(24, hearing=written(price(1)))
    assert talk.says() == []
    talk.waits(1)
    assert talk.says() == [{"op": "ping", "rid": "p1"}]


def test_what_is_taken_back_while_we_wait_is_never_asked_for() -> None:
    """Not even if nothing at all is left: then nothing is said, and what comes later is a request like any."""
    talk = polybolt(BTC)
    talk.drops(BTC)
    assert talk.hears(AUTHED) == talk.says() == []
    assert talk.waits(59) == []
    assert talk.session.state is State.OPEN
    talk.says()
    talk.wants(ETH)
    (asked,) = talk.says()
    assert (asked["op"], asked["filter"]) == ("subscribe", {"symbol": "ethusd"})


@pytest.mark.parametrize("code", ["auth_invalid", "auth_expired", "auth_attempts", "auth_required"])
@pytest.mark.parametrize("early", [True, False], ids=["at once", "in the middle"])
def test_credentials_that_are_not_accepted(code: str, early: bool) -> None:
    """The connection is over and is not dialled again; the reason is passed on, and names the code."""
    talk = polybolt(BTC) if early else admitted(BTC)
    if not early:
        talk.hears(price(1))
    events = talk.hears(refused(code))
    assert outline(events) == (["Unknown"] if early else ["gap: connection_lost", "Unknown"])
    assert talk.session.state is State.CLOSED
    assert talk.session.ended is not None
    assert talk.session.ended.verdict is Verdict.NEVER
    assert code in talk.session.ended.reason
    assert talk.hears(AUTHED) == talk.says() == []


def test_what_stands_behind_a_rejection_is_too_late() -> None:
    """Nothing is published after the gaps that end the connection, but the reason."""
    talk = admitted(BTC, ETH)
    talk.hears(price(1))
    events = talk.hears([refused("auth_expired"), price(2), price(3, "ethusd")])
    assert outline(events) == ["gap: connection_lost", "Unknown"]
    assert not any(stream.live for stream in talk.streams.values())


@pytest.mark.parametrize("answer", [refused("auth_unavailable"), {"op": "challenge", "nonce": "x"}, "hm"])
def test_no_answer_in_time(answer: Any) -> None:
    """What settles nothing, as the venue's own trouble does, is waited out and tried anew on another socket."""
    talk = polybolt(BTC)
    talk.waits(4)
    talk.hears(written(answer))
    assert talk.session.state is State.PROVING
    talk.waits(5.9)
    assert talk.session.next_deadline() == 10
    talk.waits(0.1)
    assert talk.session.ended == Ended("the venue has not accepted our credentials in 10 s", Verdict.RETRY)
    assert talk.says() == []


def test_an_admission_that_takes_long_shortens_no_patience() -> None:
    """The time for the first data begins with the request for it."""
    talk = polybolt(BTC)
    talk.waits(9.5)
    talk.hears(AUTHED)
    talk.waits(9.9, hearing=b'{"op":"pong"}')
    assert talk.session.ended is None
    talk.waits(0.1)
    assert talk.session.ended is not None


@pytest.mark.parametrize(
    ("later", "lost"), [({"seq": 5}, 3), ({"seq": 2, "dropped": 2}, 2), ({"seq": 5, "dropped": 7}, 7)]
)
def test_what_the_venue_left_out_is_a_gap(later: dict[str, int], lost: int) -> None:
    """On the streams of that channel only, before the event that told; and trust is back with it."""
    talk = admitted(BTC, ETH, TWAP)
    for frame in (price(1), price(1, channel="price.crypto.twap")):
        assert outline(talk.hears(frame)) == ["PriceUpdate"]
    talk.hears(price(0, "ethusd"))  # an old number tells of no loss
    talk.tells()

    events = talk.hears(price(1) | later)
    assert gaps_of(events) == [
        "price.crypto.btcusd.gap: upstream_loss",
        "price.crypto.ethusd.gap: upstream_loss",
    ]
    first, _, event = events
    assert isinstance(first, Gap)
    assert first.detail == f"the venue left out {lost} frames of the channel price.crypto"
    assert isinstance(event, PriceUpdate)
    assert (event.epoch, event.seq) == (first.epoch, 3)
    assert talk.tells() == [Live(BTC)]
    assert [stream.live for stream in talk.streams.values()] == [True, True, False]
    assert talk.says() == []


def test_a_hole_before_the_first_event_of_a_stream_is_none_of_its_business() -> None:
    """It had nothing to lose."""
    talk = admitted(BTC)
    talk.hears(price(1))
    assert outline(talk.hears(price(2))) == ["PriceUpdate"]
    talk.wants(ETH)
    assert gaps_of(talk.hears(price(9, "ethusd"))) == ["price.crypto.btcusd.gap: upstream_loss"]


def test_a_payload_that_cannot_be_read_is_asked_for_again() -> None:
    """PolyBolt answers a subscription with a snapshot; repeating it without taking it back brings none."""
    talk = admitted(BTC)
    talk.hears(price(1))
    talk.waits(2)
    assert outline(talk.hears(price(2) | {"payload": 7})) == ["Unknown", "gap: undecodable_frame"]
    assert [message["op"] for message in talk.says()] == ["unsubscribe", "subscribe"]


def test_what_comes_before_a_renewal_is_not_all() -> None:
    """Between what takes a subscription back and what renews it, nobody is told anything."""
    talk = admitted(BTC)
    talk.hears(price(1))
    talk.waits(2)
    talk.hears(price(2) | {"payload": 7})
    _, renewal = talk.says()
    assert outline(talk.hears(price(3))) == ["PriceUpdate"]
    acknowledged = {"op": "subscribed", "rid": renewal["rid"], "channel": "price.crypto"}
    assert gaps_of(talk.hears(acknowledged)) == ["price.crypto.btcusd.gap: resync"]
    assert outline(talk.hears(price(4))) == ["PriceUpdate"]
    assert talk.hears(acknowledged) == []


def test_a_reconnect_proves_and_asks_again() -> None:
    """Every stream has its gap, goes on in its epoch, and the venue's numbers begin anew."""
    talk = admitted(BTC, ETH)
    talk.hears(price(1))
    talk.hears(price(2, "ethusd"))
    assert gaps_of(talk.ends()) == [
        "price.crypto.btcusd.gap: connection_lost",
        "price.crypto.ethusd.gap: connection_lost",
    ]
    talk.reconnects()
    (said,) = talk.says()
    assert (said["op"], said["rid"]) == ("auth", "a2")
    talk.hears(AUTHED)
    assert [each["filter"]["symbol"] for each in talk.says()[0]["subscriptions"]] == ["btcusd", "ethusd"]
    (event,) = talk.hears(price(1))
    assert (event.seq, event.connection) == (3, "gw-polybolt-1#2")


def test_an_exchange_may_be_closed() -> None:
    """Equities may be silent; crypto never is."""
    quiet = admitted("price.equity:aapl", "price.equity.twap:aapl")
    assert quiet.waits(3600, hearing=b'{"op":"pong"}') == []
    assert quiet.session.state is State.OPEN
    assert quiet.tells() == []
    loud = admitted("price.equity:aapl", BTC)
    loud.waits(10, hearing=b'{"op":"pong"}')
    assert loud.session.state is State.CLOSED


def test_a_stream_that_two_feeds_bring() -> None:
    """Each knows by itself what it asked for, what it waits for and what it gives back."""
    prices: dict[str, Stream] = {}
    rtds = FeedConversation("rtds", prices=prices)
    rtds.wants("crypto_prices/*")
    rtds.hears(rtds_price("btcusdt"))
    bolt = FeedConversation("polybolt", prices=prices)
    bolt.wants(BTC)
    bolt.hears(AUTHED)
    bolt.hears(price(1))
    assert len(prices) == 1
    assert bolt.tells() == [Live(BTC)]
    assert bolt.session.has_data
    assert list(bolt.session._waits) == []

    assert gaps_of(bolt.hears(price(4))) == ["price.crypto.btcusd.gap: upstream_loss"]
    rtds.drops("crypto_prices/*")
    assert list(rtds.streams.values()) == []
    assert list(bolt.streams.values()) == bolt.cargo.streams_of(BTC) == list(prices.values())


# --- the user feed ---------------------------------------------------------------------------------


def user(*keys: str) -> FeedConversation:
    """A conversation in which these markets, or the account, are wanted."""
    talk = FeedConversation("user")
    talk.wants(*keys)
    return talk


def test_the_opening_holds_the_credentials() -> None:
    """It asks for the whole account at once, and no later wish needs a message."""
    talk = user(A)
    assert talk.says() == [{"auth": AUTH["auth"], "type": "user"}]
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
    assert talk.says() == [{"auth": AUTH["auth"], "type": "user"}]
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
