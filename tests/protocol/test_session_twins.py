"""Two sessions over one stream: what each says to the venue, what goes out once, and when there is a gap."""

from collections import Counter
from typing import Any

import pytest

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.conversation.session import Session
from polybus_protocol.conversation.signals import Orphaned
from polybus_protocol.conversation.watch import LOOKS
from polybus_protocol.events import AnyEvent, Gap, type_of
from polybus_protocol.feeds.market import VENUE, MarketDialect
from polybus_protocol.twins.pair import AGREE_AFTER_S, ASK_AGAIN_S, DIFFERENCES, SPLIT_S, Pair

from .conversation import M1, M2, Conversation, book, live, price_change, trade

A, B = 0, 1


class Duet:
    """Two conversations over the same streams: the first leads, the second has just asked."""

    def __init__(self, *keys: str) -> None:
        self.talk = live(*keys)
        talk = self.talk
        self.sessions = [talk.session, self._newcomer("gw-market-1b#1")]
        for stream in talk.streams.values():
            is_book = isinstance(stream, AssetStream)
            stream.pair = Pair(talk.checks, has_snapshot=is_book, leader="gw-market-1#1" if is_book else None)
            stream.pair.join("gw-market-1#1", talk.now)
        talk.session = self.sessions[B]
        talk.wants(*keys)
        talk.says()
        talk.closings.clear()

    def _newcomer(self, name: str) -> Session:
        talk = self.talk
        return Session(
            talk.profile, MarketDialect(), name, talk.commons, talk.directory, talk.now, checks=talk.checks
        )

    def __getitem__(self, which: int) -> Conversation:
        self.talk.session = self.sessions[which]
        return self.talk

    def waits(self, seconds: float) -> list[AnyEvent]:
        """Let time pass for both, a look at a time."""
        events: list[AnyEvent] = []
        for _ in range(round(seconds * LOOKS)):
            self.talk.now += 1 / LOOKS
            for session in self.sessions:
                events += self.talk.published(session.handle_deadline(self.talk.now, self.talk.time))
        return events

    def pair(self, key: str = M1) -> Pair:
        """Of a stream."""
        pair = self.talk.streams[key].pair
        assert pair is not None
        return pair

    @property
    def checks(self) -> Counter[str]:
        """What was counted."""
        return self.talk.checks


def outline(events: list[AnyEvent]) -> list[str]:
    """The kinds of events, gaps with their reasons."""
    return [f"gap: {event.reason}" if isinstance(event, Gap) else type_of(event) for event in events]


def change(at: int) -> dict[str, Any]:
    """A change of the first asset."""
    return price_change(M1, at=at)


def aligned() -> Duet:
    """Both have said the same change."""
    duet = Duet(M1)
    assert outline(duet[B].hears(book(M1))) == []
    assert outline(duet[A].hears(change(2))) == ["price_change"]
    assert outline(duet[B].hears(change(2))) == []
    return duet


def test_the_first_to_speak_is_heard() -> None:
    """Once each, whoever it is, in one epoch and without a hole in `seq`."""
    duet = aligned()
    for first, second, at in ((A, B, 3), (B, A, 4), (B, A, 5)):
        assert outline(duet[first].hears(change(at))) == ["price_change"]
        assert duet[second].hears(change(at)) == []
    assert len({event.epoch for event in duet.talk.everything}) == 1
    assert [event.seq for event in duet.talk.everything] == [1, 2, 3, 4, 5]
    # Twins are counted at the next look.
    duet.waits(1)
    assert duet.checks["twins_removed"] == 4


@pytest.mark.parametrize("which", [A, B])
def test_either_of_two_may_end(which: int) -> None:
    """No gap, and the other goes on; the last to end has the ordinary one."""
    duet = aligned()
    assert duet[which].ends() == []
    assert outline(duet[1 - which].hears(change(3))) == ["price_change"]
    assert outline(duet[1 - which].ends()) == ["gap: connection_lost"]


def test_the_leader_ends_before_the_newcomer_was_aligned() -> None:
    """A gap, which the newcomer's snapshot closes at once, and what it said since follows."""
    duet = Duet(M1)
    duet[B].hears(book(M1, at=7))
    duet[B].hears(change(8))
    assert outline(duet[A].ends()) == ["gap: connection_lost", "book", "price_change"]
    assert [gap.closed_by for gap in duet.talk.closings if isinstance(gap, Gap)] == ["snapshot"]
    assert outline(duet[B].hears(change(9))) == ["price_change"]


def test_the_leader_ends_before_the_newcomer_has_a_snapshot() -> None:
    """A gap, until it comes; whoever owns the two is told that one is left alone."""
    duet = Duet(M1)
    assert outline(duet[A].ends()) == ["gap: connection_lost"]
    assert Orphaned(M1) in duet[A].tells()
    assert outline(duet[B].hears(book(M1))) == ["book"]
    assert duet.talk.streams[M1].live


def test_a_quiet_asset_is_aligned_by_equal_books() -> None:
    """Not before both were quiet for a while."""
    duet = Duet(M1)
    duet[B].hears(book(M1))
    duet.waits(AGREE_AFTER_S - 0.5)
    assert not duet.pair().is_ready("gw-market-1b#1")
    assert duet.waits(1.5) == []
    assert duet.pair().is_ready("gw-market-1b#1")
    assert duet[A].ends() == []


def test_a_newcomer_to_an_asset_that_spoke_and_fell_silent_is_asked_again() -> None:
    """Its first snapshot is of nobody knows when; the second is aligned by equal books."""
    duet = Duet(M1)
    duet[A].hears(trade(M1))
    duet[B].hears(book(M1))
    duet[B].says()
    duet.waits(ASK_AGAIN_S + 1)
    assert duet[B].asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    duet[B].hears(book(M1))
    assert duet.waits(AGREE_AFTER_S + 1) == []
    assert duet.pair().is_ready("gw-market-1b#1")


def test_snapshots_that_go_on_to_differ_end_the_trust() -> None:
    """Once may be a moment's difference; the second time the stream has its gap, and begins with a new book."""
    duet = Duet(M1)
    other = book(M1) | {"bids": [{"price": "0.3", "size": "1"}]}
    gaps: list[AnyEvent] = []
    for _ in range(DIFFERENCES):
        assert gaps == []
        duet[B].hears(other)
        gaps += duet.waits(AGREE_AFTER_S + 1)
    assert outline(gaps) == ["gap: resync"]
    assert outline(duet[B].hears(book(M1, at=9))) == ["book"]


def test_two_that_do_not_come_together_are_not_believed() -> None:
    """Each says what the other does not: nobody can tell what is missing, so the epoch ends."""
    duet = aligned()
    assert outline(duet[A].hears(change(3))) == ["price_change"]
    assert duet[B].hears(change(4)) == []
    assert outline(duet.waits(SPLIT_S + 2)) == ["gap: resync"]


def test_a_broken_frame_of_one_of_two_is_no_loss() -> None:
    """It is asked for another snapshot, and nothing is interrupted."""
    duet = aligned()
    duet.waits(1.5)
    duet[B].says()
    assert outline(duet[B].hears('[{"asset_id": "' + M1)) == ["unknown"]
    assert duet[B].asks() == [("unsubscribe", [M1]), ("subscribe", [M1])]
    assert outline(duet[A].hears(change(3))) == ["price_change"]


def test_a_resync_is_of_both() -> None:
    """The next book of either begins the epoch; what the other still says of the old one counts no more."""
    duet = aligned()
    assert outline(duet[A].doubts(M1)) == ["gap: resync"]
    assert duet[B].hears(change(3)) == []
    assert outline(duet[A].hears(book(M1, at=4))) == ["book"]


def test_a_pair_is_dropped_once_one_carrier_is_enough() -> None:
    """Not before what is left has caught up; then the stream is like any other."""
    duet = aligned()
    assert outline(duet[A].hears(change(3))) == ["price_change"]
    duet.pair().lasting = False
    assert duet[A].ends() == []
    assert duet[B].hears(change(3)) == []
    assert duet.talk.streams[M1].pair is None
    assert outline(duet[B].hears(change(4))) == ["price_change"]


def test_what_may_be_silent_for_ever_goes_on_with_either() -> None:
    """The stream of the whole venue has no snapshot: that the other asked for it is enough."""
    duet = Duet(M1, M2, VENUE)
    duet[B].hears([book(M1), book(M2)])
    duet.waits(AGREE_AFTER_S + 1)
    assert duet[A].ends() == []
    assert outline(duet[B].ends()) == ["gap: connection_lost"] * 3


def test_a_closed_pair_hears_nothing() -> None:
    """The end of a stream is announced on one socket, and the other must not bring it to life again."""
    duet = aligned()
    duet.pair().close()
    assert duet[B].hears(book(M1, at=9)) == []
    assert duet.checks["twin_doubts"] == 0
    assert duet.checks["twins_removed"] == 1
    assert outline(duet[A].ends()) == ["gap: connection_lost"]
