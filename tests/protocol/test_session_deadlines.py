"""What falls due on a connection, and what comes of it."""

import pytest

from polybus_protocol.conversation.actions import Ended
from polybus_protocol.conversation.signals import Live, Overdue
from polybus_protocol.conversation.states import State
from polybus_protocol.events import Gap
from polybus_protocol.feeds.market import VENUE
from polybus_protocol.websocket.backoff import Verdict

from .conversation import (
    M1,
    N1,
    PONG,
    Conversation,
    M,
    book,
    live,
    opened,
    outline,
    price_change,
    trade,
    written,
)

SELDOM_S = 60
"""Seconds from one look at a book to the next where hours pass, and no book is what it is about."""


def test_no_frame_at_all_ends_the_connection() -> None:
    """A socket that says nothing for 30 s, not even PONG, is dead."""
    talk = live(M1)
    assert outline(talk.waits(30)) == ["gap: connection_lost"]
    assert talk.session.ended == Ended("no frame at all for 30 s", Verdict.RETRY)
    assert talk.session.next_deadline() is None


def test_a_pong_is_a_frame_but_no_data() -> None:
    """A socket that only answers pings has stalled after 60 s."""
    talk = live(M1)
    assert talk.waits(59, hearing=PONG) == []
    assert outline(talk.waits(1)) == ["gap: connection_lost"]
    assert talk.session.ended == Ended("no data for 60 s, though the socket is open", Verdict.RETRY)


def test_the_first_data_has_a_deadline_of_its_own() -> None:
    """Ten seconds after the opening message something must have come."""
    talk = opened(M1)
    assert talk.waits(10, hearing=PONG) == []
    assert talk.session.ended is not None
    assert talk.session.ended.reason.startswith("no data at all since the subscription for 10 s")
    assert not talk.session.has_data


@pytest.mark.parametrize("keys", [(VENUE,), ()], ids=["whole venue", "nothing"])
def test_where_no_data_is_due_none_is_missed(keys: tuple[str, ...]) -> None:
    """Interest in new markets may be silent for ever, and so may no interest at all."""
    talk = opened(*keys or (M1,), check_interval_s=SELDOM_S)
    if not keys:
        talk.drops(M1)
    assert talk.waits(3600, hearing=PONG) == []
    assert talk.session.state is State.OPEN


@pytest.mark.parametrize("had_data", [True, False])
def test_patience_counts_from_when_data_is_due(had_data: bool) -> None:
    """An hour in which nothing was wanted is not held against the first key that is."""
    talk = (live if had_data else opened)(M1 if had_data else VENUE, check_interval_s=SELDOM_S)
    talk.drops(M1)
    talk.waits(3600, hearing=PONG)
    talk.wants(N1)
    patience = talk.profile.data_timeout_s if had_data else talk.profile.first_data_timeout_s
    assert talk.waits(patience - 1, hearing=PONG) == []
    assert talk.session.ended is None
    talk.waits(1)
    assert talk.session.ended is not None


def test_a_connection_may_idle_before_it_is_used() -> None:
    """Silence before the opening message is nobody's fault."""
    talk = Conversation()
    talk.waits(3600)
    talk.wants(M1)
    assert talk.waits(5) == []
    assert talk.session.state is State.OPEN


def test_a_key_that_stays_silent_is_reported_and_asked_for_again() -> None:
    """Taken back and asked for after 10 s, and again after waits that double."""
    talk = live(M1)
    talk.wants(N1)
    talk.says()
    at = talk.now
    asked = []
    for _ in range(300):
        talk.waits(5, hearing=written(price_change(M1, at=int(talk.now))))
        if asks := talk.asks():
            assert asks == [("unsubscribe", [N1]), ("subscribe", [N1])]
            assert talk.tells() == [Overdue(N1, talk.now - at)]
            asked.append(talk.now - at)
    assert asked == [10, 30, 70, 150, 310, 630, 1230]


def test_waits_do_not_double_for_ever() -> None:
    """At most ten minutes pass between two requests."""
    talk = opened(VENUE, N1, data_timeout_s=1e6, first_data_timeout_s=1e6, check_interval_s=SELDOM_S)
    talk.waits(6_000, hearing=PONG)
    waited = [signal.waited_s for signal in talk.tells() if isinstance(signal, Overdue)]
    assert waited[-1] - waited[-2] == 600


def test_data_ends_the_wait() -> None:
    """A key that delivers is live at once and no longer waited for."""
    talk = opened(M1, N1)
    assert outline(talk.hears(book(M1))) == ["Book"]
    assert talk.tells() == [Live(M1)]
    assert outline(talk.hears(price_change(N1))) == ["PriceChange"]
    assert talk.tells() == [], "without a snapshot there is no book"
    assert outline(talk.hears(book(N1))) == ["Book"]
    assert talk.tells() == [Live(N1)]
    assert talk.hears(book(M1, at=2)) != []
    assert talk.tells() == []


def test_what_is_dropped_is_waited_for_no_longer() -> None:
    """A key that was taken back before it delivered is neither reported nor asked for again."""
    talk = live(M1)
    talk.wants(N1)
    talk.drops(N1)
    talk.says()
    talk.waits(100, hearing=written(trade(M1)))
    assert talk.asks() == []
    assert talk.tells() == []


def test_a_key_that_falls_silent_is_asked_for_again() -> None:
    """A frozen asset among lively ones gets a gap after its silence budget, at the latest a quarter later."""
    talk = live(M1, N1, asset_silence_s=40)
    epoch, heard_at = talk.streams[M1].epoch, talk.time
    assert "gap: silent" not in outline(talk.waits(39, hearing=written(trade(N1))))
    talk.says()

    gaps = [event for event in talk.waits(11, hearing=written(trade(N1))) if isinstance(event, Gap)]
    assert [(gap.market, gap.asset, gap.reason) for gap in gaps] == [(M, M1, "silent")]
    assert (gaps[0].last_epoch, gaps[0].last_seq, gaps[0].last_received_time) == (epoch, 1, heard_at)
    assert talk.asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
