"""The states of a session: the table of them, and that each of its actions is carried out."""

import itertools
from collections.abc import Callable

import pytest

from polybus_protocol.conversation.states import TABLE, Input, State

from .conversation import (
    M1,
    N1,
    PONG,
    Conversation,
    FeedConversation,
    N,
    live,
    new_market,
    written,
)
from .feed_frames import AUTHED, BTC, ETH, price, refused


def fresh() -> Conversation:
    return Conversation()


def closed() -> Conversation:
    talk = live(M1)
    talk.ends()
    return talk


def proving() -> Conversation:
    talk = FeedConversation("polybolt")
    talk.wants(BTC)
    talk.says()
    return talk


def admitted() -> Conversation:
    talk = proving()
    talk.hears(AUTHED)
    talk.hears(price(1))
    talk.says()
    return talk


IN: dict[State, Callable[[], Conversation]] = {
    State.FRESH: fresh,
    State.PROVING: proving,
    State.OPEN: lambda: live(M1),
    State.CLOSED: closed,
}

ANSWERED = {
    (State.FRESH, Input.ADMISSION_DUE): lambda: FeedConversation("polybolt"),
    (State.OPEN, Input.REJECTED): admitted,
}
"""Where the pair exists on a feed that answers only."""

DO: dict[Input, Callable[[Conversation], object]] = {
    Input.WANTED: lambda talk: talk.wants(ETH if isinstance(talk, FeedConversation) else N1),
    Input.ADMISSION_DUE: lambda talk: talk.wants(BTC),
    Input.ADMITTED: lambda talk: talk.hears(AUTHED),
    Input.REJECTED: lambda talk: talk.hears(refused("auth_invalid")),
    Input.UNANSWERED: lambda talk: talk.waits(talk.profile.first_data_timeout_s),
    Input.DROPPED: lambda talk: talk.drops(*talk.session.cargo.keys),
    Input.DOUBTED: lambda talk: talk.doubts(*talk.session.streams),
    Input.PING_DUE: lambda talk: talk.waits(talk.profile.ping_interval_s),
    Input.CHECK_DUE: lambda talk: talk.waits(talk.profile.asset_silence_s, hearing=written(new_market(N))),
    Input.NO_FRAME: lambda talk: talk.waits(talk.profile.silence_timeout_s),
    Input.NO_DATA: lambda talk: talk.waits(talk.profile.data_timeout_s, hearing=PONG),
    Input.REFUSED: lambda talk: talk.hears("INVALID OPERATION"),
    Input.ENDED: lambda talk: talk.ends(),
}


IDLE = {State.FRESH, State.CLOSED}
"""Where time brings nothing."""

SPOKEN = {Input.DOUBTED, Input.REFUSED, Input.ADMITTED, Input.REJECTED}
"""What somebody says; elsewhere than in `IDLE`, time and wishes bring the inputs of the table."""


@pytest.mark.parametrize(("state", "input_"), list(itertools.product(State, Input)))
def test_every_pair_of_state_and_input(state: State, input_: Input) -> None:
    """A pair of the table leads to the state it names; any other changes nothing and says nothing."""
    talk = ANSWERED.get((state, input_), IN[state])()
    session = talk.session
    assert session.state is state

    if (state, input_) in TABLE:
        if input_ is Input.OVERDUE:
            talk.wants(N1)
            talk.says()
            talk.waits(talk.profile.asset_timeout_s, hearing=written(new_market(N)))
        else:
            DO[input_](talk)
        assert session.state is TABLE[state, input_][1]
    else:
        carried, deadline = dict(session.streams), session.next_deadline()
        assert session._on(input_) == []
        if input_ in DO and (state in IDLE or input_ in SPOKEN):
            DO[input_](talk)
        assert (session.state, session.streams) == (state, carried)
        assert talk.says() == []
        assert session.next_deadline() == deadline
        assert state not in IDLE or deadline is None


@pytest.mark.parametrize("action", sorted({action for action, _ in TABLE.values()}))
def test_every_action_is_carried_out(action: str) -> None:
    """The table names nothing that the session cannot do."""
    assert callable(getattr(live(M1).session, action))
