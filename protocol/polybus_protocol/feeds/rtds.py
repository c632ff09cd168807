"""RTDS, the venue's real-time data socket: activity, comments and, deprecated, reference prices.

Facts: docs.polymarket.com rtds page, issues and README of Polymarket/real-time-data-client, captures of
August and September 2026.  Interest is counted in `topic/type`, where the type may be `*`, with an upstream
filter after a `#` if need be: `comments/*#{"parentEntityID":18396,"parentEntityType":"Event"}`.  Filters by
slug are unreliable upstream (real-time-data-client issue 34), and of several entries in one message a bad
one silences all: ask for whole topics, one a message, and filter here.  An event's key is its `topic/type`;
`RtdsDialect.answers` says which interest that answers.

The topic `rfq` is passed on raw, as unknown: only the old client's README describes it, nobody has confirmed
that it is alive, and there is no subject for it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from msgspec import UNSET

from ..errors import LocalProtocolError
from ..events import (
    ActivityEvent,
    ActivityTrade,
    CommentCreated,
    CommentRemoved,
    Event,
    OrdersMatched,
    Profile,
    ReactionCreated,
    ReactionRemoved,
    Unknown,
)
from .careful import Drift, Element, Nested, read_frame
from .dialect import Manners
from .market import MarketDialect
from .prices import E18_DIGITS, Series, WirePoint, WirePrice, price_event
from .reading import Keyed, Word, present, unknown, without_blanks, write
from .rtds_retired import RETIRED, read_retired
from .rtds_wire import (
    WireActivity,
    WireComment,
    WireEnvelope,
    WireError,
    WireProfile,
    WireReaction,
    WireRequest,
    WireSubscription,
)
from .user import UserDialect
from .values import decimal, moment, number, required, text

FEED = "rtds"

PRICES: Mapping[str, Series] = MappingProxyType(
    {
        "crypto_prices": Series(FEED, "crypto", "binance"),
        "crypto_prices_chainlink": Series(FEED, "crypto", "chainlink", digits=E18_DIGITS),
        "crypto_prices_twap_thirty": Series(FEED, "crypto_twap", "chainlink", 30, E18_DIGITS),
        "crypto_prices_twap_sixty": Series(FEED, "crypto_twap", "chainlink", 60, E18_DIGITS),
        "equity_prices": Series(FEED, "equity"),
    }
)
"""The price topics, which the venue means to retire in favour of PolyBolt."""

SNAPSHOT = "subscribe"
"""The type of the frame that answers a subscription to a price topic; its key is that of the updates."""

UNKNOWN_OUTCOME = 999
"""The venue's `outcomeIndex` where it does not know the outcome."""


FILTERS = ("event_slug", "market", "asset", "symbol")
"""What we filter by ourselves, as `topic/type?name=value`: the venue's own filters deliver nothing to some
(real-time-data-client issue 34)."""


def refusal(interest: str) -> str | None:
    """Why this cannot be asked for; None if it can."""
    topic, slash, type_ = interest.partition("#")[0].partition("/")
    if not (topic and slash and type_):
        return f"{interest[:80]!r} is not of the form `topic/type` or `topic/*`"
    return RETIRED.get(topic)


def _asked_for(key: str) -> str:
    """What the venue is asked for; our own filter, after a `?`, is none of its business."""
    return key.partition("?")[0]


def _activity[A: ActivityEvent](kind: type[A]) -> Callable[[WireActivity, int | None], A]:
    def event(wire: WireActivity, sent: int | None) -> A:
        outcome_index = number(wire.outcome_index)
        return kind(
            present(wire.event_slug),
            wire.condition_id,
            wire.asset,
            wire.side,
            required(decimal(wire.price), "price"),
            required(decimal(wire.size), "size"),
            present(wire.proxy_wallet),
            present(wire.transaction_hash),
            decimal(wire.fee),
            present(wire.outcome),
            None if outcome_index == UNKNOWN_OUTCOME else outcome_index,
            present(wire.slug),
            present(wire.title),
            present(wire.name),
            present(wire.pseudonym),
            present(wire.bio),
            present(wire.profile_image),
            present(wire.icon),
            sent,
            source_time=moment(wire.timestamp) or sent,
        )

    return event


def _comment[C: (CommentCreated, CommentRemoved)](kind: type[C]) -> Callable[[WireComment, int | None], C]:
    def event(wire: WireComment, sent: int | None) -> C:
        profile = Profile(*msgspec.structs.astuple(wire.profile)) if wire.profile else None
        return kind(
            present(wire.parent_entity_type),
            text(wire.parent_entity_id),
            required(text(wire.id), "id"),
            present(wire.body),
            present(wire.user_address),
            text(wire.parent_comment_id),
            present(wire.reply_address),
            number(wire.reaction_count),
            number(wire.report_count),
            without_blanks(profile),
            moment(wire.created_at),
            moment(wire.updated_at),
            source_time=sent,
        )

    return event


def _reaction[R: (ReactionCreated, ReactionRemoved)](
    kind: type[R],
) -> Callable[[WireReaction, int | None], R]:
    def event(wire: WireReaction, sent: int | None) -> R:
        return kind(
            None,
            None,
            required(text(wire.id), "id"),
            text(wire.comment_id),
            present(wire.reaction_type),
            present(wire.icon),
            present(wire.user_address),
            moment(wire.created_at),
            source_time=sent,
        )

    return event


class _Form:
    """One form of payload: how to decode it, how to translate it, and which fields it knows."""

    def __init__[W: msgspec.Struct](
        self, wire: type[W], translate: Callable[[W, int | None], Event], nested: Nested | None = None
    ) -> None:
        decode = msgspec.json.Decoder(wire).decode
        self.read: Callable[[msgspec.Raw, int | None], Event] = lambda payload, sent: translate(
            decode(payload), sent
        )
        self.wire = wire
        self.nested = nested or {}


def _price(topic: str) -> _Form:
    series = PRICES[topic]
    return _Form(WirePrice, lambda wire, sent: price_event(wire, series, sent), {"data": WirePoint})


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "activity/trades": _Form(WireActivity, _activity(ActivityTrade)),
        "activity/orders_matched": _Form(WireActivity, _activity(OrdersMatched)),
        "comments/comment_created": _Form(WireComment, _comment(CommentCreated), {"profile": WireProfile}),
        "comments/comment_removed": _Form(WireComment, _comment(CommentRemoved), {"profile": WireProfile}),
        "comments/reaction_created": _Form(WireReaction, _reaction(ReactionCreated)),
        "comments/reaction_removed": _Form(WireReaction, _reaction(ReactionRemoved)),
    }
    | {f"{topic}/update": _price(topic) for topic in PRICES}
)

_read_envelope = msgspec.json.Decoder(WireEnvelope).decode
_read_error = msgspec.json.Decoder(WireError).decode


class RtdsDialect(Manners):
    """The language of RTDS, as one connection speaks it.

    Args:
        wallet: an address that the venue may want for streams of comments of one user.
    """

    feed: str = FEED
    ping: str = "PING"
    words: Mapping[bytes, Word] = MappingProxyType(
        {b"": Word.KEEPALIVE, b"PONG": Word.KEEPALIVE, b"pong": Word.KEEPALIVE}
    )
    """The empty frame is the pong of today; a word was never confirmed."""

    def __init__(self, wallet: str | None = None) -> None:
        self._wallet = wallet
        self._drift = Drift(FEED)
        self._asked: Counter[str] = Counter()
        self._market = MarketDialect()
        self._user = UserDialect()

    @property
    def unknown_fields(self) -> Counter[str]:
        """How often a field was met that this version does not know, by `topic/type.field`."""
        return self._drift.fields

    def is_quiet(self, key: str) -> bool:
        """Comments are, and whatever we filter ourselves: only a whole topic always has something to say."""
        return key.startswith("comments/") or "?" in key

    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:
        """An event answers its topic and type, all of its topic, and either with a filter that lets it pass."""
        topic = key.partition("/")[0]
        names = (f"?{name}={value}" for name in FILTERS if (value := getattr(event, name, None)))
        filters = ("", *names)
        fitting = (f"{type_}{filter_}" for type_ in (key, f"{topic}/*") for filter_ in filters)
        return [each for each in fitting if each in keys]

    def opening(self, keys: Collection[str]) -> str:
        """The first message, which is like any other.

        Raises:
            LocalProtocolError: a key is one of those that `refusal` refuses.
        """
        self._asked.clear()
        return self.subscribe(keys) or self._request("subscribe", [])

    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds subscriptions; None if the venue sends all of it already.

        Raises:
            LocalProtocolError: a key is one of those that `refusal` refuses.
        """
        new = [asked for asked in dict.fromkeys(map(_asked_for, keys)) if not self._asked[asked]]
        self._asked.update(map(_asked_for, keys))
        return self._request("subscribe", new) if new else None

    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes subscriptions back; None if other keys still need all of it."""
        self._asked.subtract(map(_asked_for, keys))
        old = [asked for asked in dict.fromkeys(map(_asked_for, keys)) if self._asked[asked] <= 0]
        for asked in old:
            del self._asked[asked]
        return self._request("unsubscribe", old) if old else None

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame: its events in order, with `unknown` ones for what cannot be read.

        Never raises for anything the venue may send.
        """
        return read_frame(FEED, frame, self._read_element)

    def _request(self, action: str, keys: Collection[str]) -> str:
        return write(WireRequest(action, [self._subscription(key) for key in keys]))

    def _subscription(self, key: str) -> WireSubscription:
        if (why := refusal(key)) is not None:
            raise LocalProtocolError(why)
        name, _, filters = key.partition("#")
        topic, _, type_ = name.partition("/")
        auth = {"address": self._wallet} if self._wallet and topic == "comments" else UNSET
        return WireSubscription(topic, type_, filters or UNSET, auth)

    def _read_element(self, element: Element) -> list[Keyed]:
        envelope = _read_envelope(element)
        if envelope.topic is None:
            return [(None, _refused(element))]
        if envelope.topic in RETIRED:
            return self._read_retired(envelope, element)
        type_ = "update" if envelope.type == SNAPSHOT and envelope.topic in PRICES else envelope.type
        key = f"{envelope.topic}/{type_}"
        form = _FORMS.get(key)
        if form is None:
            what = f"the unknown topic and type {f'{envelope.topic}/{envelope.type}'[:80]!r}"
            return [(None, unknown(FEED, "event", f"the element has {what}", element))]
        event = form.read(envelope.payload, moment(envelope.timestamp))
        drift = self._drift.look("envelope", element, WireEnvelope)
        return [(key, event), *drift, *self._drift.look(key, envelope.payload, form.wire, form.nested)]

    def _read_retired(self, envelope: WireEnvelope, element: Element) -> list[Keyed]:
        key = f"{envelope.topic}/{envelope.type}"
        events = [event for _, event in read_retired(envelope, self._market, self._user)]
        if not events or any(isinstance(event, Unknown) and event.kind != "field" for event in events):
            reason = f"the retired topic and type {key[:80]!r}, in a form that this version cannot read"
            return [(None, unknown(FEED, "event", reason, element))]
        return [(key, event) for event in events if not isinstance(event, Unknown)]


def _refused(element: Element) -> Unknown:
    """A frame without a topic: the venue's refusal of something, if it has words for it."""
    error = _read_error(element)
    status = text(error.status_code)
    words = next(filter(None, map(_words, (error.body, error.message, error.error))), None)
    if status is None and words is None:
        return unknown(FEED, "event", "the element has no topic", element)
    said = ": ".join(filter(None, (status and f"status {status}", words)))
    return unknown(FEED, "refused", f"the venue refused our last message: {said[:200]}", element)


def _words(said: Any) -> str | None:
    """The sentence in what may be a sentence, or an object with one under `message`."""
    match said:
        case str():
            return said
        case {"message": str(words)}:
            return words
        case _:
            return None
