"""What holds for a connection whatever happens, in whatever order."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from polybus_protocol.conversation.states import State
from polybus_protocol.events import AnyEvent, Gap
from polybus_protocol.feeds.market import VENUE
from polybus_protocol.feeds.user import ACCOUNT
from polybus_protocol.subjects import family_of, ids_of

from .conversation import (
    M1,
    M2,
    N1,
    N2,
    Conversation,
    FeedConversation,
    M,
    N,
    book,
    new_market,
    price_change,
    tick_size_change,
    trade,
    written,
)
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
        # Books are looked at eight times in an interval, and minutes pass here.
        super().__init__(
            remembered=remembered, ids_per_frame=IDS_PER_FRAME, asset_silence_s=60, check_interval_s=4
        )

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
    """What a consumer knows of the order of each stream.

    Args:
        reopens: streams may leave and come back.  One that comes back begins anew, in a later epoch, and has
            nothing to announce: the last that was heard of it was a gap.
    """

    def __init__(self, *, reopens: bool = False) -> None:
        self.last: dict[str, tuple[int, int]] = {}
        self.reopens = reopens
        self.ended: set[str] = set()
        """Streams whose last event was a gap."""
        self.opened: set[str] = set()
        """Streams whose gap is open."""

    def enter(self, key: str, event: AnyEvent) -> None:
        """Take in one event; each breach of order is an assertion."""
        before = self.last.get(key)
        if before is None or event.epoch != before[0]:
            assert event.seq == 1
            assert before is None or event.epoch > before[0]
            told = isinstance(event, Gap) or (self.reopens and key in self.ended)
            assert before is None or told, "a later epoch begins with a gap"
        else:
            assert event.seq == before[1] + 1
            is_closing = isinstance(event, Gap) and event.closed_by is not None
            assert is_closing or not isinstance(event, Gap), "a gap opens an epoch"
            assert not is_closing or key in self.opened, "only a gap that is open can be closed"
        self.last[key] = (event.epoch, event.seq)
        if isinstance(event, Gap):
            (self.opened.add if event.closed_by is None else self.opened.discard)(key)
            self.ended.add(key)
        else:
            self.ended.discard(key)


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


@settings(max_examples=80)
@given(st.booleans(), st.sampled_from([[], BUSY]), STEPS)
def test_whatever_happens(
    remembered: bool, beginning: list[tuple[str, Any]], steps: list[tuple[str, Any]]
) -> None:
    """Order per stream, good manners towards the venue, no deadline left behind, silence once closed."""
    talk, venue, ledger = SteppingConversation(remembered=remembered), Venue(), Ledger()
    for step, argument in beginning + steps:
        was_closed = talk.session.state is State.CLOSED
        session, told = talk.session, len(talk.everything)

        take(talk, step, argument)
        events = talk.everything[told:]

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
    family = family_of(event)
    if family == "market" and (asset := getattr(event, "asset", None)) is not None:
        return str(asset)
    return f"{family} {ids_of(event)}"


# --- the other feeds -------------------------------------------------------------------------------


class Polybolt:
    """What PolyBolt would think of a connection."""

    def __init__(self) -> None:
        self.proved = False
        self.active: set[str] = set()

    def hears(self, message: Any, talk: FeedConversation) -> None:
        """Take in one message."""
        if message["op"] == "auth":
            assert not self.proved, "we say who we are once"
            self.proved = True
            return
        assert talk.session.is_authenticated or talk.session.state is State.CLOSED, "nothing before `authed`"
        if message["op"] == "ping":
            return
        entries = message.get("subscriptions") or [message]
        keys = {f"{entry['channel']}:{entry['filter']['symbol']}" for entry in entries}
        assert len(keys) == len(entries) <= talk.profile.ids_per_frame
        take_in(self.active, message["op"], keys)

    def wanted(self, keys: set[str]) -> set[str]:
        """What should be active."""
        return keys


class Rtds:
    """What RTDS would think of a connection."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.opened = False

    def hears(self, message: Any, talk: FeedConversation) -> None:
        """Take in one message."""
        if message == "PING":
            assert self.opened
            return
        (entry,) = message["subscriptions"]
        assert "filters" not in entry
        self.opened = True
        topic = {f"{entry['topic']}/{entry['type']}"}
        if message["action"] == "subscribe":
            self.active |= topic  # what says nothing is asked for again as it is
        else:
            take_in(self.active, message["action"], topic)

    def wanted(self, keys: set[str]) -> set[str]:
        """Whole topics, whatever our filters."""
        return {key.partition("?")[0] for key in keys}


class User:
    """What the user feed would think of a connection: it is asked for everything, once."""

    def __init__(self) -> None:
        self.active: set[str] = set()
        self.opened = False

    def hears(self, message: Any, talk: FeedConversation) -> None:
        """Take in one message."""
        if message == "PING":
            assert self.opened
        else:
            assert not self.opened
            assert set(message) == {"auth", "type"}
            self.opened = True

    def wanted(self, keys: set[str]) -> set[str]:
        """Nothing but the opening."""
        return set()


class Sports(User):
    """The sports feed wants to hear nothing but that we are there."""

    def hears(self, message: Any, talk: FeedConversation) -> None:
        """Take in one message."""
        assert message in ("pong", "PONG")


def take_in(active: set[str], op: str, keys: set[str]) -> None:
    """What an operation does to what is active."""
    if op == "subscribe":
        assert not active & keys, "what is active is asked for again, which does nothing"
        active |= keys
    else:
        assert op == "unsubscribe"
        assert active >= keys
        active -= keys


FEEDS: dict[str, tuple[Callable[[], Any], list[str], list[bytes]]] = {
    "polybolt": (
        Polybolt,
        [BTC, ETH, TWAP, "price.equity:aapl"],
        [
            *[written(AUTHED)] * 6,
            *(written(price(count, symbol)) for symbol in ("btcusd", "ethusd") for count in (1, 2, 3, 9)),
            written(price(4, channel="price.crypto.twap")),
            written(price(1, "AAPL", "price.equity", dropped=3)),
            written(price(1, "dogeusd")),
            written(price(5) | {"payload": {}}),
            written([price(10), price(12, "ethusd"), 7, price(13)]),
            written(refused("auth_unavailable")),
            written(refused("sub_limit", "s1")),
            written(refused("auth_invalid")),
            b'{"op":"pong"}',
            b"{",
            b"HELLO",
            b"",
        ],
    ),
    "rtds": (
        Rtds,
        [
            "activity/*",
            "activity/trades",
            f"activity/*?market={A}",
            "activity/trades?event_slug=rain",
            "crypto_prices/*",
            "crypto_prices/*?symbol=ethusd",
            "crypto_prices_chainlink/*",
        ],
        [
            *(written(activity(market, slug)) for market in (A, B) for slug in ("rain", "snow", "")),
            written(activity(A, type_="orders_matched")),
            *(written(rtds_price(symbol)) for symbol in ("btcusdt", "ethusdt")),
            written(rtds_price("btc/usd", "crypto_prices_chainlink")),
            written([activity(A), rtds_price("btcusdt"), {"topic": "new"}, 7]),
            written({"statusCode": 400, "body": {"message": "no"}}),
            written(activity(A) | {"payload": {"conditionId": A}}),
            b"{",
            b"HELLO",
            b"",
        ],
    ),
    "user": (
        User,
        [ACCOUNT, A, B],
        [
            *(written(order(market, id_)) for market in (A, B) for id_ in ("0x01", "0x02")),
            *(written(fill(market, status=status)) for market in (A, B) for status in ("MATCHED", "MINED")),
            written([order(A, "0x03"), fill(B, "t3")]),
            written(fill(A, "t4") | {"status": 7}),
            b"{",
            b"PONG",
            b"INVALID OPERATION",
        ],
    ),
    "sports": (
        Sports,
        ["*", "league=nba", "league=nfl"],
        [
            *(written(game(league, id_)) for league in ("NBA", "nfl", "mlb") for id_ in (1, 2)),
            written({"gameId": [], "slug": 7}),
            b"ping",
            b"PING",
            b"{}",
            b"{",
        ],
    ),
}
"""What the venue would think, what can be wanted, and what can be heard."""


def feed_steps(keys: list[str], frames: list[bytes]) -> st.SearchStrategy[list[tuple[str, Any]]]:
    """What can happen on a feed."""
    some = st.lists(st.sampled_from(keys), max_size=4)
    return st.lists(
        st.one_of(
            st.tuples(st.just("wants"), some),
            st.tuples(st.just("drops"), some),
            st.tuples(st.just("doubts"), st.none()),
            *[st.tuples(st.just("hears"), st.sampled_from(frames))] * 5,
            st.tuples(st.just("waits"), st.sampled_from([0.3, 1.0, 9.0, 31.0, 65.0])),
            st.tuples(st.sampled_from(["ends", "reconnects", "reconnects"]), st.none()),
        ),
        min_size=8,
        max_size=40,
    )


def take_on_feed(talk: FeedConversation, step: str, argument: Any) -> list[AnyEvent]:
    """Do one step; what it publishes."""
    match step:
        case "wants":
            talk.wants(*argument)
            return []
        case "drops":
            return talk.drops(*argument)
        case "doubts":
            return talk.doubts(*list(talk.streams)[:2])
        case "hears":
            return talk.hears(argument)
        case "waits":
            return talk.waits(argument)
        case "ends":
            return talk.ends()
        case _:
            return talk.ends()


@pytest.mark.parametrize("feed", FEEDS)
@settings(max_examples=80)
@given(st.data())
def test_whatever_happens_on_a_feed(feed: str, data: st.DataObject) -> None:
    """Order per stream, good manners, no deadline left behind, and no stream without a key that it answered."""
    make_venue, keys, frames = FEEDS[feed]
    remembered = data.draw(st.booleans())
    busy = [("wants", keys[:3]), *([("hears", written(AUTHED))] if feed == "polybolt" else [])]
    beginning = data.draw(st.sampled_from([[], busy]))
    steps = data.draw(feed_steps(keys, frames))

    talk, venue, ledger = FeedConversation(feed, remembered=remembered), make_venue(), Ledger(reopens=True)
    wanted: set[str] = set()
    for step, argument in beginning + steps:
        was_closed = talk.session.state is State.CLOSED
        told = len(talk.everything)
        take_on_feed(talk, step, argument)
        events = talk.everything[told:]
        for event in events:
            ledger.enter(stream_of(event), event)
        if step == "wants":
            wanted |= set(argument)
        elif step == "drops":
            wanted -= set(argument)
        elif step == "reconnects":
            venue = make_venue()
            talk.reconnects()
        for message in talk.says():
            venue.hears(message, talk)

        session = talk.session
        assert set(talk.cargo.keys) == wanted
        for own in talk.streams:
            assert set(talk.cargo.keys_of(own)) <= wanted
            assert talk.cargo.keys_of(own)
        if was_closed and step != "reconnects":
            assert session.state is State.CLOSED
            assert step == "drops" or events == []
        if session.state is State.OPEN:
            assert venue.active == venue.wanted(wanted)
            assert set(session._waits) <= {key for key in wanted if not talk.dialect.is_quiet(key)}
        elif session.state is State.CLOSED:
            assert session.ended is not None
            assert session.next_deadline() is None
            assert not any(stream.live for stream in talk.streams.values())
