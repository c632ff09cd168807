"""The states of a connection, as a table: the specification that `polybus_protocol.conversation.session` carries out.

A pair of state and input that the table does not list changes nothing and says nothing.  That is how
a connection never sends a PING before its subscription (the venue closes with 1008: nautilus_trader
issue 4864), and why whatever reaches a closed one is ignored.
"""

import enum
from collections.abc import Mapping
from types import MappingProxyType


class State(enum.Enum):
    """Where a connection is in its life."""

    FRESH = "fresh"
    """Nothing asked for yet: the next message is the opening one."""
    PROVING = "proving"
    """Who we are is being checked: nothing else may be said until it is accepted."""
    OPEN = "open"
    """The opening message is out: changes travel as operations."""
    CLOSED = "closed"
    """Over, for good.  Reconnecting takes a new session over the same streams."""


class Input(enum.Enum):
    """What can happen to a connection."""

    WANTED = "keys are wanted"
    ADMISSION_DUE = "keys are wanted from a feed that wants to know who asks"
    ADMITTED = "the venue has accepted who we are"
    REJECTED = "the venue has not accepted who we are"
    UNANSWERED = "the venue has not said in time whether it accepts who we are"
    DROPPED = "keys are no longer wanted"
    DOUBTED = "keys may have lost events: they need a fresh snapshot"
    PING_DUE = "it is time for the next PING"
    OVERDUE = "keys that were asked for have delivered nothing in time"
    CHECK_DUE = "it is time to look at the books, and for silence"
    NO_FRAME = "no frame arrived for too long, pongs included"
    NO_DATA = "no data arrived for too long, though some is expected"
    REFUSED = "the venue refused our last message"
    ENDED = "the socket ended, or its owner gives it up"


TABLE: Mapping[tuple[State, Input], tuple[str, State]] = MappingProxyType(
    {
        # state        input               action (a method of Session)   next state
        (State.FRESH, Input.WANTED): ("_open", State.OPEN),
        (State.FRESH, Input.ADMISSION_DUE): ("_prove", State.PROVING),
        (State.FRESH, Input.ENDED): ("_break", State.CLOSED),
        (State.PROVING, Input.WANTED): ("_note", State.PROVING),
        (State.PROVING, Input.DROPPED): ("_forget", State.PROVING),
        (State.PROVING, Input.ADMITTED): ("_open_noted", State.OPEN),
        (State.PROVING, Input.REJECTED): ("_break", State.CLOSED),
        (State.PROVING, Input.UNANSWERED): ("_break", State.CLOSED),
        (State.PROVING, Input.ENDED): ("_break", State.CLOSED),
        (State.OPEN, Input.WANTED): ("_ask", State.OPEN),
        (State.OPEN, Input.DROPPED): ("_take_back", State.OPEN),
        (State.OPEN, Input.DOUBTED): ("_ask_again", State.OPEN),
        (State.OPEN, Input.PING_DUE): ("_ping", State.OPEN),
        (State.OPEN, Input.OVERDUE): ("_report_overdue", State.OPEN),
        (State.OPEN, Input.CHECK_DUE): ("_look", State.OPEN),
        (State.OPEN, Input.NO_FRAME): ("_break", State.CLOSED),
        (State.OPEN, Input.NO_DATA): ("_break", State.CLOSED),
        (State.OPEN, Input.REJECTED): ("_break", State.CLOSED),
        (State.OPEN, Input.REFUSED): ("_break", State.CLOSED),
        (State.OPEN, Input.ENDED): ("_break", State.CLOSED),
    }
)
"""What each input leads to: the action, and the state after it."""
