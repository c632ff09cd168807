"""A connection's conversation with PolyBolt, where nothing is asked for before we are admitted."""

from typing import Any

import pytest

from polybus_protocol.conversation.actions import Ended
from polybus_protocol.conversation.signals import Live
from polybus_protocol.conversation.states import State
from polybus_protocol.events import Gap, PriceUpdate
from polybus_protocol.stream import Stream
from polybus_protocol.websocket.backoff import Verdict

from .conversation import CREDENTIALS, FeedConversation, gaps_of, outline, written
from .feed_frames import (
    AUTHED,
    BTC,
    ETH,
    TWAP,
    price,
    refused,
    rtds_price,
)

AUTH = {"op": "auth", "rid": "a1", "auth": CREDENTIALS}


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
