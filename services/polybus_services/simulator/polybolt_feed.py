"""The manners of PolyBolt: the one feed of the venue that answers.

| `op` | answer |
| --- | --- |
| `auth` | `authed`; else `error` with `auth_invalid`, and after eight attempts `auth_attempts` and a close 4008 |
| `subscribe` | per item, in order: `subscribed` and, if it is new, a snapshot; or `error` |
| `unsubscribe` | per item: `unsubscribed` |
| `ping` | `pong` |
| `challenge` | `challenge` with a nonce; what for is not documented |
| anything else | `error` with `bad_op` |

Errors of an item: `auth_required`, `bad_channel`, `bad_filter`, `sub_limit`; of the whole message: `rate_limited`.
Every answer repeats the `rid` of the question.  A frame of more than 64 KB ends the connection with 4008, two
WebSocket pings without a pong with 4002.
"""

import uuid
from collections import deque
from collections.abc import Iterator
from typing import Literal

import msgspec

from polybus_services.simulator import polybolt_frames as frames
from polybus_services.simulator.exchange import Exchange, Market
from polybus_services.simulator.facts import Cancelled, Happening, Placed, PriceMoved, Traded
from polybus_services.simulator.feeds import (
    Answer,
    Close,
    Frame,
    Gate,
    Manners,
    ProtocolPing,
    Publication,
    Say,
    admit_all,
)
from polybus_services.simulator.people import People
from polybus_services.simulator.polybolt_frames import PRICE_CHANNELS, QUOTES, ChannelFrame
from polybus_services.simulator.prices import Prices
from polybus_services.simulator.user_feed import CREDENTIAL_REFUSED

TOO_LARGE = Close(4008, "frame too large")
TOO_MANY_ATTEMPTS = Close(4008, "too many auth attempts")
NO_PONG = Close(4002, "pong timeout")

DEFAULT_SOURCE = "pyth"
"""Who makes the prices unless a filter prefers somebody else."""


class PolyboltChoices(msgspec.Struct, frozen=True):
    """The limits, as documented, and where the documents leave a choice."""

    subscriptions: int = 64
    frames_per_s: int = 20
    """Of subscribe and unsubscribe."""
    frame_bytes: int = 64 * 1024
    auth_attempts: int = 8
    ping_every_s: float = 25.0
    pongs_missed: int = 2
    wrong_credentials: Literal["error", "close"] = "error"
    """`auth_invalid`, or at once a close 4001."""


class _Credentials(msgspec.Struct):
    api_key: str = msgspec.field(name="apiKey")
    secret: str
    passphrase: str


class _Filter(msgspec.Struct):
    symbol: str | None = None
    asset_id: str | None = None
    window_seconds: int | None = None
    provider: Literal["chainlink", "pyth"] | None = None


class _Item(msgspec.Struct):
    channel: str
    filter: msgspec.Raw = msgspec.Raw(b"{}")


class _Message(msgspec.Struct):
    op: str
    rid: str | None = None
    auth: _Credentials | None = None
    channel: str | None = None
    filter: msgspec.Raw = msgspec.Raw(b"{}")
    subscriptions: list[_Item] | None = None


Topic = tuple[str, str]
"""A channel, and the symbol or asset in it."""


class PolyboltManners(Manners):
    """The venue's side of one connection."""

    def __init__(self, feed: "PolyboltFeed", connection: str, now_ms: int) -> None:
        self.authed = False
        self.following: dict[Topic, str] = {}
        """With the source that it is told of."""
        self._feed = feed
        self._connection = connection
        self._attempts = 0
        self._deaf = False
        self._changes_ms: deque[int] = deque()
        self._pinged_ms = now_ms
        self._unanswered = 0
        self._seq: dict[str, int] = {}
        self._dropped: dict[str, int] = {}

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame; see the table above."""
        if len(text.encode()) > self._feed.choices.frame_bytes:
            return [TOO_LARGE]
        try:
            message = msgspec.json.decode(text, type=_Message)
        except msgspec.DecodeError:
            return [_say("error", code="bad_op")]
        match message.op:
            case "ping":
                return [_say("pong", rid=message.rid)]
            case _ if self._deaf:
                return []
            case "auth":
                return self._authenticate(message)
            case "challenge":
                nonce = uuid.uuid5(uuid.NAMESPACE_OID, f"{self._connection} {now_ms}")
                return [_say("challenge", nonce=str(nonce), rid=message.rid)]
            case "subscribe" | "unsubscribe":
                return self._change(message, now_ms)
            case _:
                return [_say("error", code="bad_op", rid=message.rid)]

    def receive_pong(self) -> None:
        """The client is there."""
        self._unanswered = 0

    def tick(self, now_ms: int) -> list[Answer]:
        """Ping, or give up on a client that has not answered the last ones."""
        choices = self._feed.choices
        if now_ms - self._pinged_ms < choices.ping_every_s * 1_000:
            return []
        if self._unanswered >= choices.pongs_missed:
            return [NO_PONG]
        self._pinged_ms = now_ms
        self._unanswered += 1
        return [ProtocolPing()]

    def address(self, frame: Frame) -> Frame:
        """With the next number of its channel, and how many frames are missing before it."""
        assert isinstance(frame, ChannelFrame)  # this feed publishes no others
        seq = self._seq[frame.channel] = self._seq.get(frame.channel, 0) + 1
        dropped = self._dropped.pop(frame.channel, 0)
        told = f'"dropped":{dropped},' if dropped else ""
        return Frame(frame.entries, f'{{"v":1,"channel":"{frame.channel}","seq":{seq},{told}', "}")

    def lose(self, frame: Frame, *, told: bool, counted: bool) -> None:
        """Count a frame that is not sent."""
        assert isinstance(frame, ChannelFrame)
        if told:
            self._dropped[frame.channel] = self._dropped.get(frame.channel, 0) + 1
        if counted:
            self._seq[frame.channel] = self._seq.get(frame.channel, 0) + 1

    def made_up(self, subject: str, number: int) -> str:
        """Data of an unknown channel."""
        return (
            f'{{"v":1,"channel":"price.future","seq":{number},"ts":{self._pinged_ms},'
            f'"payload":{{"subject":"{subject}"}}}}'
        )

    def leave(self) -> None:
        """The connection is over."""
        for topic, source in self.following.items():
            self._feed.unfollow(self, topic, source)
        self.following.clear()

    def _authenticate(self, message: _Message) -> list[Answer]:
        choices = self._feed.choices
        self._attempts += 1
        if self._attempts > choices.auth_attempts:
            return [_say("error", code="auth_attempts", rid=message.rid), TOO_MANY_ATTEMPTS]
        fate = self._feed.gate(self._connection)
        if fate == "4001":
            return [CREDENTIAL_REFUSED]
        if fate == "silent":
            self._deaf = True
            return []
        auth = message.auth
        if auth is not None and self._feed.people.admits(auth.api_key, auth.secret, auth.passphrase):
            self.authed = True
            return [_say("authed", rid=message.rid)]
        if choices.wrong_credentials == "close":
            return [CREDENTIAL_REFUSED]
        return [_say("error", code="auth_invalid", rid=message.rid)]

    def _change(self, message: _Message, now_ms: int) -> list[Answer]:
        while self._changes_ms and now_ms - self._changes_ms[0] >= 1_000:
            self._changes_ms.popleft()
        if len(self._changes_ms) >= self._feed.choices.frames_per_s:
            return [_say("error", code="rate_limited", rid=message.rid)]
        self._changes_ms.append(now_ms)
        items = message.subscriptions
        if items is None:
            items = [] if message.channel is None else [_Item(message.channel, message.filter)]
        if not items:
            return [_say("error", code="bad_channel", rid=message.rid)]
        answers: list[Answer] = []
        for item in items:
            answers += self._change_one(message.op, item, message.rid, now_ms)
        return answers

    def _change_one(self, op: str, item: _Item, rid: str | None, now_ms: int) -> Iterator[Answer]:
        wish = _wish(item) if self.authed else "auth_required"
        if isinstance(wish, str):
            yield _say("error", code=wish, channel=item.channel, rid=rid)
            return
        topic, source = wish
        if op == "unsubscribe":
            if (followed := self.following.pop(topic, None)) is not None:
                self._feed.unfollow(self, topic, followed)
            yield _say("unsubscribed", channel=item.channel, rid=rid)
            return
        new = topic not in self.following
        if new and len(self.following) >= self._feed.choices.subscriptions:
            yield _say("error", code="sub_limit", channel=item.channel, rid=rid)
            return
        yield _say("subscribed", channel=item.channel, rid=rid)
        if new:
            self.following[topic] = source
            self._feed.follow(self, topic, source)
            yield from self._feed.snapshot(topic, source, now_ms)


class PolyboltFeed:
    """Prices and tops of books, numbered.

    Args:
        exchange: for the tops of books.
        people: whose credentials are good.
        prices: for snapshots.
        choices: limits.
        gate: what the faults make of an attempt to authenticate.
    """

    name = "polybolt"
    paths: tuple[str, ...] = ("/polybolt/ws",)
    arrays = False

    def __init__(
        self,
        exchange: Exchange,
        people: People,
        prices: Prices,
        choices: PolyboltChoices,
        gate: Gate = admit_all,
    ) -> None:
        self.people = people
        self.choices = choices
        self.gate = gate
        self._exchange = exchange
        self._prices = prices
        self._followers: dict[Topic, dict[str, dict[PolyboltManners, None]]] = {}

    def greet(self, connection: str = "", now_ms: int = 0) -> PolyboltManners:
        """A client connected."""
        return PolyboltManners(self, connection, now_ms)

    def follow(self, manners: PolyboltManners, topic: Topic, source: str) -> None:
        """Publish what this source says of the topic to this client."""
        self._followers.setdefault(topic, {}).setdefault(source, {})[manners] = None

    def unfollow(self, manners: PolyboltManners, topic: Topic, source: str) -> None:
        """Publish no more of it to this client."""
        del self._followers[topic][source][manners]

    def snapshot(self, topic: Topic, source: str, now_ms: int) -> Iterator[Frame]:
        """What a new subscription begins with; nothing for an asset that does not exist."""
        channel, of = topic
        if channel == QUOTES:
            if found := self._exchange.assets.get(of):
                yield frames.quote(*found, now_ms, snapshot=True)
        else:
            series = self._prices.series.get((PRICE_CHANNELS[channel][0], of))
            yield frames.price_snapshot(channel, of, series, source, now_ms)

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say prices and tops of books that moved."""
        match happening:
            case PriceMoved():
                yield from self._moved(happening)
            case Placed(top_moved=True) | Cancelled(top_moved=True) | Traded(top_moved=True):
                yield from self._quotes(happening.market, happening.now_ms)
            case _:
                pass

    def _moved(self, moved: PriceMoved) -> Iterator[Publication]:
        for channel, (class_, window_s) in PRICE_CHANNELS.items():
            # An average's status changes only with its price.
            if class_ != moved.series.class_ or (window_s and moved.carried_forward):
                continue
            for source, readers in self._followers.get((channel, moved.series.symbol), {}).items():
                if readers:
                    yield frames.price_update(channel, moved, source), readers

    def _quotes(self, market: Market, now_ms: int) -> Iterator[Publication]:
        for outcome, asset in enumerate(market.listing.assets):
            for readers in self._followers.get((QUOTES, asset), {}).values():
                if readers:
                    yield frames.quote(market, outcome, now_ms, snapshot=False), readers


def _wish(item: _Item) -> tuple[Topic, str] | str:
    """What an item asks for, with the source it prefers; or the error's code."""
    if item.channel not in PRICE_CHANNELS and item.channel != QUOTES:
        return "bad_channel"
    try:
        wanted = msgspec.json.decode(item.filter, type=_Filter)
    except msgspec.DecodeError:
        return "bad_filter"
    if item.channel == QUOTES:
        return ((QUOTES, wanted.asset_id), DEFAULT_SOURCE) if wanted.asset_id else "bad_filter"
    if not wanted.symbol or wanted.window_seconds != PRICE_CHANNELS[item.channel][1]:
        return "bad_filter"
    return (item.channel, wanted.symbol.lower()), wanted.provider or DEFAULT_SOURCE


def _say(op: str, **more: str | None) -> Say:
    """An answer; what is None is left out."""
    said = {name: value for name, value in more.items() if value is not None}
    return Say(msgspec.json.encode({"op": op, **said}).decode())
