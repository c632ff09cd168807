"""What holds for a connection whatever happens, in whatever order."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polybus_protocol.events import AnyEvent, Gap
from polybus_protocol.feeds.market import VENUE
from polybus_protocol.states import State

from .conversation import (
    M1,
    M2,
    N1,
    N2,
    Conversation,
    M,
    N,
    book,
    new_market,
    price_change,
    tick_size_change,
    trade,
    written,
)

KEYS = [M1, M2, N1, N2, VENUE]
IDS_PER_FRAME = 2

FRAMES = [
    *(written(book(key, at)) for key in (M1, M2, N1, N2) for at in (1, 2)),
    written([book(M1), book(M2), book(N1), book(N2)]),
    written(price_change(M1, M2)),
    written(price_change(N1, N2, N1)),
    written(tick_size_change(M1)),
    written([tick_size_change(N1), trade(N1), tick_size_change(N1)]),
    written(trade(M2)),
    written(new_market(M)),
    written(new_market(N, at=2)),
    b"PONG",
    b"",
    b"[]",
    b"NO NEW ASSETS",
    b"HELLO",
    b"{",
    b'{"event_type":"book"}',
    f'{{"event_type":"book","asset_id":"{M1}"}}'.encode(),
    f'[{{"event_type":"book","market":"{N}"}},7]'.encode(),
    f'{{"event_type":"book","asset_id":"{N2}"'.encode(),
    f'[{json.dumps(book(M1))},{{"event_type":"new_one"}},{json.dumps(book(N1))}]'.encode(),
]
"""Usual and odd ones; `INVALID OPERATION` is a step of its own, since it ends the connection."""

SOME_KEYS = st.lists(st.sampled_from(KEYS), max_size=6)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wants"), SOME_KEYS),
        st.tuples(st.just("drops"), SOME_KEYS),
        st.tuples(st.just("doubts"), SOME_KEYS),
        *[st.tuples(st.just("hears"), st.sampled_from(FRAMES))] * 4,
        st.tuples(st.just("waits"), st.sampled_from([0.0, 0.3, 1.0, 7.0, 40.0])),
        st.tuples(st.just("lives through"), st.sampled_from([31.0, 65.0, 700.0])),
        st.tuples(st.just("steps the clock"), st.integers(-3600, 3600)),
        st.tuples(st.sampled_from(["ends", "is refused", "reconnects", "reconnects"]), st.none()),
    ),
    min_size=12,
    max_size=40,
)


class SteppingConversation(Conversation):
    """One whose wall clock can be set, also back."""

    def __init__(self, *, remembered: bool) -> None:
        self.offset_s = 0
        super().__init__(remembered=remembered, ids_per_frame=IDS_PER_FRAME, asset_silence_s=60)

    @property
    def time(self) -> int:
        return super().time + self.offset_s * 1_000_000_000


class Venue:
    """What the venue would think of a connection, by its manners."""

    def __init__(self) -> None:
        self.opened = False
        self.active: set[str] = set()

    def hears(self, message: Any) -> None:
        """Take in one message; each breach of manners is an assertion."""
        if message == "PING":
            assert self.opened, "a PING before the opening message"
            return
        ids = message["assets_ids"]
        assert len(ids) <= IDS_PER_FRAME
        assert len(set(ids)) == len(ids)
        assert VENUE not in ids
        match message.get("operation"):
            case None:
                assert not self.opened, "a second opening message"
                self.opened = True
                self.active |= set(ids)
            case "subscribe":
                assert self.opened, "an operation before the opening message"
                assert not self.active & set(ids), "what is active is asked for again, which does nothing"
                self.active |= set(ids)
            case "unsubscribe":
                assert self.opened
                assert self.active >= set(ids)
                self.active -= set(ids)
            case other:
                pytest.fail(f"an operation the venue does not know: {other}")


class Ledger:
    """What a consumer knows of the order of each stream."""

    def __init__(self) -> None:
        self.last: dict[str, tuple[int, int]] = {}

    def enter(self, key: str, event: AnyEvent) -> None:
        """Take in one event; each breach of order is an assertion."""
        before = self.last.get(key)
        if before is None or event.epoch != before[0]:
            assert event.seq == 1
            assert before is None or event.epoch > before[0]
            assert before is None or isinstance(event, Gap), "a later epoch begins with a gap"
        else:
            assert event.seq == before[1] + 1
            assert not isinstance(event, Gap), "a gap opens an epoch"
        self.last[key] = (event.epoch, event.seq)


def take(talk: SteppingConversation, step: str, argument: Any) -> list[AnyEvent]:
    """Do one step; what it publishes."""
    match step:
        case "wants":
            talk.wants(*argument)
        case "drops":
            # Whoever drops a key announces that, so that it can be wanted again.
            carried = [key for key in dict.fromkeys(argument) if key in talk.session.streams]
            gaps = [gap for key in carried for gap in talk.streams[key].interrupt("unsubscribed", talk.time)]
            if talk.session.state is State.CLOSED:
                return talk.published(gaps)
            talk.drops(*argument)
            assert not set(argument) & set(talk.session.streams)
            return talk.published(gaps)
        case "doubts":
            return talk.doubts(*argument)
        case "hears":
            return talk.hears(argument)
        case "waits":
            return talk.waits(argument)
        case "lives through":
            return talk.waits(argument, hearing=written(new_market(M)))
        case "steps the clock":
            talk.offset_s += argument
        case "ends":
            return talk.ends()
        case "is refused":
            return talk.hears(b"INVALID OPERATION")
        case _:
            events = talk.ends()
            talk.reconnects()
            return events
    return []


BUSY: list[tuple[str, Any]] = [("wants", KEYS), ("hears", written([book(M1), book(M2), book(N1), book(N2)]))]
"""How half of the stories begin."""


@settings(max_examples=200)
@given(st.booleans(), st.sampled_from([[], BUSY]), STEPS)
def test_whatever_happens(
    remembered: bool, beginning: list[tuple[str, Any]], steps: list[tuple[str, Any]]
) -> None:
    """Order per stream, good manners towards the venue, no deadline left behind, silence once closed."""
    talk, venue, ledger = SteppingConversation(remembered=remembered), Venue(), Ledger()
    for step, argument in beginning + steps:
        was_closed = talk.session.state is State.CLOSED
        session = talk.session

        events = take(talk, step, argument)

        for event in events:
            ledger.enter(stream_of(event), event)
        if talk.session is not session:
            venue = Venue()
            continue
        for message in talk.says():
            venue.hears(message)
        if was_closed:
            assert session.state is State.CLOSED
            assert step == "drops" or events == []
        else:
            assert venue.opened == (session.state is not State.FRESH) or session.state is State.CLOSED
        if session.state is State.OPEN:
            assert venue.active == set(session.streams) - {VENUE}
            for key, stream in session.streams.items():
                assert stream.live != (key in session._waits), "a key is live, or it is waited for"
                assert stream.live or key != VENUE
        else:
            assert session.next_deadline() is None
        if session.state is State.CLOSED:
            assert session.ended is not None
            assert not any(stream.live for stream in session.streams.values())


def stream_of(event: AnyEvent) -> str:
    """The stream as the session keeps it: by asset, whether its market was known or not."""
    if event.family == "market" and (asset := getattr(event, "asset", None)) is not None:
        return str(asset)
    market = getattr(event, "market", None)
    return f"{event.family} {market}"
