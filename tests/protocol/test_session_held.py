"""A session whose socket nobody reads for a while: that silence is ours, and tells nothing of the venue."""

from collections.abc import Callable

import pytest

from polybus_protocol.conversation.states import State
from polybus_protocol.events import Book

from .conversation import M1, Conversation, FeedConversation, book, live, opened
from .feed_frames import BTC

LONG_S = 10_000.0


def an_account() -> Conversation:
    talk = FeedConversation("user")
    talk.wants("*")
    return talk


def proving() -> Conversation:
    talk = FeedConversation("polybolt")
    talk.wants(BTC)
    return talk


@pytest.mark.parametrize(
    "begin",
    [an_account, proving, lambda: opened(M1), lambda: live(M1)],
    ids=["account", "proving", "asked", "live"],
)
def test_no_silence_counts(begin: Callable[[], Conversation]) -> None:
    """Whatever a socket waits for, it is not given up while it is held, nor is anything said but pings."""
    talk = begin()
    talk.says()
    state = talk.session.state
    talk.session.hold()
    assert talk.waits(LONG_S) == []
    assert talk.session.state is state
    pings = talk.says()
    assert set(pings) <= {"PING"}
    if state is State.OPEN:
        assert len(pings) == LONG_S // talk.profile.ping_interval_s


@pytest.mark.parametrize("begin", [an_account, proving, lambda: live(M1)], ids=["account", "proving", "live"])
def test_patience_begins_anew(begin: Callable[[], Conversation]) -> None:
    """Once it is read again, the venue has all its time to be heard; after that a silence is the venue's."""
    talk = begin()
    profile = talk.profile
    talk.session.hold()
    talk.waits(LONG_S)
    talk.session.go_on(talk.now)
    patience_s = (
        profile.first_data_timeout_s if talk.session.state is State.PROVING else profile.silence_timeout_s
    )
    talk.waits(patience_s - 0.1)
    assert talk.session.ended is None
    talk.waits(0.2)
    assert talk.session.ended is not None


def test_what_lay_in_the_socket_is_read() -> None:
    """It follows what came before, as if nothing had been: no gap, and no book in doubt."""
    talk = live(M1)
    talk.session.hold()
    talk.waits(300)
    talk.session.go_on(talk.now)
    (event,) = talk.hears(book(M1, 2))
    assert isinstance(event, Book)
    assert talk.waits(1.0) == []
    assert talk.streams[M1].live
