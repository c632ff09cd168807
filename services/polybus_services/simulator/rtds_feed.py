"""The manners of RTDS, which is served at the bare host there, and here at `/rtds` too.

| text | answer |
| --- | --- |
| `PING` | an empty frame |
| `ping` | nothing: the old client's, which the venue is suspected to ignore (real-time-data-client PR 25) |
| `{"action": "subscribe", "subscriptions": [...]}` | an empty frame, then a snapshot for each price filter |
| `{"action": "unsubscribe", "subscriptions": [...]}` | nothing |
| one with a retired topic in it | the status-400 frame, and nothing of the message is done |
| one with an unknown topic or type in it | nothing, and nothing of the message is done |
| anything else | `{"message": "Invalid request body"}` |

Without a PING the stream stops after six minutes while the socket stays open.  Filters are compared letter by
letter, though for the snapshot they are read as JSON: a space in one gives the snapshot and then silence.
"""

import hashlib
import json
from collections.abc import Iterator

import msgspec

from polybus_services.simulator import rtds_frames as frames
from polybus_services.simulator.facts import Commented, Happening, PriceMoved, Settled, TradeStatus
from polybus_services.simulator.feeds import Answer, Frame, Manners, Publication, Say
from polybus_services.simulator.people import People
from polybus_services.simulator.prices import Prices, PriceSeries

EMPTY = Say("")
"""The pong, and the first frame after subscribing."""

BAD_REQUEST = Say('{"message":"Invalid request body"}')
RETIRED = Say('{"body":{"message":"CLOB messages are not supported anymore"},"statusCode":400}')

COMMENT_TYPES = ("comment_created", "comment_removed", "reaction_created", "reaction_removed")

TOPICS: dict[str, tuple[str, ...]] = {
    "activity": ("trades", "orders_matched"),
    "comments": COMMENT_TYPES,
    "rfq": tuple(
        f"{what}_{how}"
        for what in ("request", "quote")
        for how in ("created", "edited", "canceled", "expired")
    ),
    **dict.fromkeys(frames.PRICE_TOPICS, ("update",)),
}
"""Topic -> its types, which is what `*` stands for.  Nothing ever happens on `rfq`."""

RETIRED_TOPICS = ("clob_market", "clob_user")


class RtdsChoices(msgspec.Struct, frozen=True):
    """Where the reports differ."""

    stale_after_s: float | None = 360.0
    """Without a PING; None for never.  Another client's notes say 228."""
    lowercase_ping: bool = False
    """Whether `ping` counts as a PING."""
    slug_filters: bool = False
    """Whether activity filtered by a slug delivers anything (real-time-data-client #34 says no)."""
    bad_topic_silences: bool = True
    """Whether one unknown topic in a message silences all of it."""


class _Subscription(msgspec.Struct):
    topic: str
    type: str
    filters: str = ""


class _Request(msgspec.Struct):
    action: str
    subscriptions: list[_Subscription]


class RtdsManners(Manners):
    """The venue's side of one connection."""

    def __init__(self, feed: "RtdsFeed", connection: str, now_ms: int) -> None:
        self.subscriptions: dict[tuple[str, str], dict[str, None]] = {}
        """Topic and type -> the filters, of which one must match; "" lets everything through."""
        self._feed = feed
        digest = hashlib.sha256(connection.encode()).hexdigest()
        self._prefix = f'{{"connection_id":"{digest[:18]}==",'
        self._pinged_ms = now_ms

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame; see the table above."""
        if text == "PING" or (text == "ping" and self._feed.choices.lowercase_ping):
            self._pinged_ms = now_ms
            return [EMPTY]
        if text == "ping":
            return []
        try:
            request = msgspec.json.decode(text, type=_Request)
        except msgspec.DecodeError:
            return [BAD_REQUEST]
        if request.action not in ("subscribe", "unsubscribe"):
            return [BAD_REQUEST]
        if any(asked.topic in RETIRED_TOPICS for asked in request.subscriptions):
            return [RETIRED]
        good = [asked for asked in request.subscriptions if _types(asked)]
        if len(good) < len(request.subscriptions) and self._feed.choices.bad_topic_silences:
            return []
        if request.action == "unsubscribe":
            self._unsubscribe(good)
            return []
        return [EMPTY, *self._subscribe(good, now_ms)]

    def tick(self, now_ms: int) -> list[Answer]:
        """Go stale when the last PING is too long ago."""
        limit_s = self._feed.choices.stale_after_s
        if limit_s is not None and now_ms - self._pinged_ms > limit_s * 1_000:
            self.stale = True
        return []

    def neglect(self, after_s: float, now_ms: int) -> None:
        """Go stale, if the last PING is so long ago."""
        if now_ms - self._pinged_ms >= after_s * 1_000:
            self.stale = True

    def address(self, frame: Frame) -> Frame:
        """With the connection's own id in it."""
        return Frame(frame.entries, self._prefix, frame.suffix)

    def made_up(self, subject: str, number: int) -> str:
        """An event on an unknown topic."""
        return (
            f'{self._prefix}"payload":{{"subject":"{subject}","number":{number}}},"timestamp":{self._pinged_ms},'
            '"topic":"some_future_topic","type":"update"}'
        )

    def leave(self) -> None:
        """The connection is over."""
        for key in self.subscriptions:
            self._feed.unfollow(self, key)
        self.subscriptions.clear()

    def _subscribe(self, asked: list[_Subscription], now_ms: int) -> Iterator[Frame]:
        for subscription in asked:
            for kind in _types(subscription):
                key = subscription.topic, kind
                # Whether a second filter replaces the first is not known; here it is added.
                self.subscriptions.setdefault(key, {})[subscription.filters] = None
                self._feed.follow(self, key)
            if subscription.filters and subscription.topic in frames.PRICE_TOPICS:
                yield from self._feed.snapshots(subscription.topic, subscription.filters, now_ms)

    def _unsubscribe(self, asked: list[_Subscription]) -> None:
        for subscription in asked:
            for kind in _types(subscription):
                key = subscription.topic, kind
                filters = self.subscriptions.get(key, {})
                if subscription.filters:
                    filters.pop(subscription.filters, None)
                else:
                    filters.clear()
                if not filters and self.subscriptions.pop(key, None) is not None:
                    self._feed.unfollow(self, key)


class RtdsFeed:
    """Settlements, comments and prices as RTDS tells them.

    Args:
        people: who traded.
        prices: for snapshots.
        choices: where reports differ.
    """

    name = "rtds"
    paths: tuple[str, ...] = ("/rtds", "/")
    arrays = False

    def __init__(self, people: People, prices: Prices, choices: RtdsChoices) -> None:
        self.choices = choices
        self._people = people
        self._prices = prices
        self._followers: dict[tuple[str, str], dict[RtdsManners, None]] = {}

    def greet(self, connection: str = "", now_ms: int = 0) -> RtdsManners:
        """A client connected."""
        return RtdsManners(self, connection, now_ms)

    def follow(self, manners: RtdsManners, key: tuple[str, str]) -> None:
        """Publish a topic's type to this client, as far as its filters let it through."""
        self._followers.setdefault(key, {})[manners] = None

    def unfollow(self, manners: RtdsManners, key: tuple[str, str]) -> None:
        """Publish no more of it to this client."""
        self._followers[key].pop(manners, None)

    def snapshots(self, topic: str, filters: str, now_ms: int) -> Iterator[Frame]:
        """The latest prices of the symbols that a filter names, if there are such."""
        symbols = _symbols(topic, filters)
        for series in self._series(topic):
            if frames.venue_symbol(topic, series) in symbols:
                yield frames.price_snapshot(topic, series, now_ms)

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say what happened on each topic that has readers."""
        match happening:
            case Settled(status=TradeStatus.MINED):
                if self._anyone("activity"):
                    for kind, frame in frames.activity(happening, self._people):
                        yield frame, self._readers("activity", kind, happening)
            case Commented():
                if readers := self._readers("comments", happening.kind, happening):
                    yield frames.comment(happening), readers
            case PriceMoved():
                for topic, (class_, _) in frames.PRICE_TOPICS.items():
                    if class_ == happening.series.class_ and (
                        readers := self._readers(topic, "update", happening)
                    ):
                        yield frames.price_update(topic, happening), readers
            case _:
                pass

    def _anyone(self, topic: str) -> bool:
        return any(self._followers.get((topic, kind)) for kind in TOPICS[topic])

    def _readers(
        self, topic: str, kind: str, happening: Settled | Commented | PriceMoved
    ) -> list[RtdsManners]:
        followers = self._followers.get((topic, kind))
        if not followers:
            return []
        accepted = {"", *frames.literal_filters(topic, happening)}
        if topic == "activity" and not self.choices.slug_filters:
            accepted = {""}
        symbol = (
            frames.venue_symbol(topic, happening.series)
            if topic == "crypto_prices" and isinstance(happening, PriceMoved)
            else None
        )
        return [
            manners
            for manners in followers
            if any(
                filters in accepted or (symbol is not None and symbol in filters.split(","))
                for filters in manners.subscriptions[topic, kind]
            )
        ]

    def _series(self, topic: str) -> list[PriceSeries]:
        class_, _ = frames.PRICE_TOPICS[topic]
        return [series for series in self._prices.series.values() if series.class_ == class_]


def _types(asked: _Subscription) -> tuple[str, ...]:
    """The types that are meant; none if the topic or the type is unknown."""
    types = TOPICS.get(asked.topic, ())
    if asked.type == "*":
        return types
    # The price topics' snapshots have a type of their own, which is no subscription of its own.
    return (asked.type,) if asked.type in types else ()


def _symbols(topic: str, filters: str) -> set[str]:
    """The symbols a filter names, read with good will."""
    try:
        named = json.loads(filters)
    except json.JSONDecodeError:
        return set(filters.split(",")) if topic == "crypto_prices" else set()
    symbol = named.get("symbol") if isinstance(named, dict) else None
    return {symbol.lower()} if isinstance(symbol, str) else set()
