"""PolyBolt, the authenticated successor of the RTDS price topics: the one feed that answers and counts.

Facts: docs.polymarket.com polybolt, live-data and migration pages; `polymarket-client` 0.14.0.  Interest is
counted in `channel:symbol`, such as `price.crypto:btcusd`, and in `price.polymarket:<asset>`; that is also
the key of an event.  A window is no part of it, since only one exists, and neither is a provider: no frame
tells which of two subscriptions to one symbol it answers, so the preference is one for the connection.

Channel names are open-ended: `price.equity.twap` came without notice.  A channel `price.x.y` whose payload
has a symbol is read as the class `x_y`.
"""

import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Self

import msgspec
from msgspec import UNSET

from ..errors import LocalProtocolError
from ..events import Event, PriceQuote
from ..profile import FeedProfile
from .careful import Drift, Element, read_frame
from .credentials import Credentials
from .dialect import Manners, Proof
from .polybolt_wire import (
    WireData,
    WireFilter,
    WireHead,
    WireQuote,
    WireReply,
    WireRequest,
    WireSubscription,
)
from .prices import Series, WirePoint, WirePrice, price_event
from .reading import UNREADABLE, Keyed, Reply, Upstream, Word, present, unknown, write
from .values import Loose, decimal, moment, text

FEED = "polybolt"

MAX_SUBSCRIPTIONS = 64
"""Subscriptions a connection may have; more are a breach of policy (close code 4008)."""
MAX_REQUESTS_PER_S = 20
"""Subscribe and unsubscribe frames a second; a batch counts as one."""
MAX_REQUEST_BYTES = 64 * 1024
"""Of one frame: several hundred subscriptions, so a batch of `MAX_SUBSCRIPTIONS` always fits."""
MAX_AUTH_ATTEMPTS = 8
"""On one connection."""

TWAP_WINDOW_S = 60
"""The only window there is, on `price.crypto.twap` and on `price.equity.twap`."""

QUOTES = "price.polymarket"
"""The channel of the venue's own markets.  The newest official client does not know it."""

SOURCES: Mapping[str, str] = MappingProxyType({"price.crypto": "pyth", "price.crypto.twap": "chainlink"})
"""Who makes the prices, by the venue's pages; since payloads name their `source`, only for those without."""

REPLIES = frozenset({"subscribed", "unsubscribed", "authed", "pong", "challenge", "error"})
"""The answers there are.  What a `challenge` is for is not explained."""

ERROR_CODES: Mapping[str, str] = MappingProxyType(
    {
        "bad_op": "it does not know the operation",
        "bad_channel": "there is no such channel",
        "bad_filter": "the filter does not suit the channel",
        "sub_limit": f"the connection has its {MAX_SUBSCRIPTIONS} subscriptions",
        "rate_limited": f"more than {MAX_REQUESTS_PER_S} requests a second",
        "auth_required": "the channel needs API credentials",
        "auth_unavailable": "it cannot check credentials at the moment",
        "auth_expired": "the credentials have expired",
        "auth_attempts": f"more than {MAX_AUTH_ATTEMPTS} attempts to authenticate",
        "auth_invalid": "the credentials are wrong",
    }
)
"""What the code of an error means, for people."""

REMEMBERED_REQUESTS = 256
"""Requests of which we remember the keys, so that a refusal can be laid at their door; answers come within
a second, and in one there can be 20."""

_CHANNEL = re.compile(r"price((?:\.[a-z0-9_]+)+)")
_COUNT = re.compile(r"[0-9]{1,15}")

_read_head = msgspec.json.Decoder(WireHead).decode
_read_reply = msgspec.json.Decoder(WireReply).decode
_read_data = msgspec.json.Decoder(WireData).decode
_read_quote = msgspec.json.Decoder(WireQuote).decode
_read_price = msgspec.json.Decoder(WirePrice).decode


def key_for(channel: str, symbol: str) -> str:
    """The key of interest in a symbol (for `price.polymarket` an asset) on a channel."""
    return f"{channel}:{symbol.lower()}"


class PolyboltDialect(Manners):
    """The language of PolyBolt, as one connection speaks it.

    Args:
        credentials: of any account; without them all channels of reference prices refuse.
        provider: whose prices to ask for, `chainlink` or `pyth`; None leaves it to the venue.
    """

    feed: str = FEED
    ping: str = '{"op":"ping","rid":"p1"}'
    """Optional: the server pings by itself, below the frames.  The answer shows that it still reads us."""
    proof: Proof = Proof.ANSWERED
    has_snapshots: bool = True
    closed_by: str = "sequence"
    words: Mapping[bytes, Word] = MappingProxyType({b"": Word.IDLE})
    """There are no words here."""

    def __init__(self, credentials: Credentials | None = None, provider: str | None = None) -> None:
        self._credentials = credentials
        self._provider = provider
        self._drift = Drift(FEED)
        self._attempts = 0
        self._requests = 0
        self._asked: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    @property
    def unknown_fields(self) -> Counter[str]:
        """How often a field was met that this version does not know, by `channel.field` or `op.field`."""
        return self._drift.fields

    @classmethod
    def spoken(cls, profile: FeedProfile, account: str | None, credentials: Credentials | None) -> Self:  # noqa: ARG003
        """See `Manners`."""
        return cls(credentials)

    def is_quiet(self, key: str) -> bool:
        """Equities are, while their exchange is closed."""
        return key.startswith("price.equity")

    def admission(self) -> str | None:
        """The message that comes first; None without credentials.  It must not be logged.

        Wait for the `Reply` `authed` before asking for anything.
        """
        if self._credentials is None:
            return None
        self._attempts += 1
        return write(WireRequest("auth", f"a{self._attempts}", self._credentials))

    def opening(self, keys: Collection[str]) -> str | None:
        """The first request for data, which is like any other.

        Raises:
            LocalProtocolError: a key is not of the form `channel:symbol`.
        """
        return self.subscribe(keys)

    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds subscriptions; None without keys.

        Raises:
            LocalProtocolError: a key is not of the form `channel:symbol`.
        """
        return self._subscribe(keys) if keys else None

    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes subscriptions back; None without keys."""
        return write(self._request("unsubscribe", keys)) if keys else None

    def asked_by(self, reply: Reply) -> tuple[str, ...]:
        """The keys that an answer is about; none if it is about no subscription, or an old one."""
        keys = self._asked.get(reply.rid or "", ())
        return tuple(key for key in keys if reply.channel is None or key.startswith(f"{reply.channel}:"))

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame: its events in order, with `unknown` ones for what cannot be read.

        An answer comes as a `Reply`, one that refuses beside an `unknown` event for people; data comes after
        its `Upstream`.  Never raises for anything the venue may send.
        """
        return [*read_frame(FEED, frame, self._read_element)]

    def _subscribe(self, keys: Collection[str]) -> str:
        self._requests += 1
        rid = f"s{self._requests}"
        request = self._request("subscribe", keys)
        request.rid = rid
        self._asked[rid] = tuple(keys)
        if len(self._asked) > REMEMBERED_REQUESTS:
            self._asked.popitem(last=False)
        return write(request)

    def _request(self, op: str, keys: Collection[str]) -> WireRequest:
        subscriptions = [self._subscription(key) for key in keys]
        if len(subscriptions) == 1:
            return WireRequest(op, channel=subscriptions[0].channel, filter=subscriptions[0].filter)
        return WireRequest(op, subscriptions=subscriptions)

    def _subscription(self, key: str) -> WireSubscription:
        channel, _, symbol = key.partition(":")
        if not (channel and symbol):
            raise LocalProtocolError(f"{key[:80]!r} is not of the form `channel:symbol`")
        if channel == QUOTES:
            return WireSubscription(channel, WireFilter(asset_id=symbol))
        window = TWAP_WINDOW_S if channel.endswith(".twap") else UNSET
        return WireSubscription(channel, WireFilter(symbol, window, provider=self._provider or UNSET))

    def _read_element(self, element: Element) -> list[Keyed]:
        head = _read_head(element)
        if head.op is not None:
            return self._read_reply(element)
        if head.channel is None:
            return [(None, unknown(FEED, "event", "the element has neither an op nor a channel", element))]
        data = _read_data(element)
        if bytes(data.v) != b"1":
            raise msgspec.ValidationError(f"version {_shown(data.v)} of the envelope, where 1 was expected")
        upstream = Upstream(data.channel, _count(data.seq, "seq"), _count(data.dropped or b"0", "dropped"))
        return [
            (None, upstream),
            *self._drift.look("envelope", element, WireData),
            *self._read_data(data, element),
        ]

    def _read_data(self, data: WireData, element: Element) -> list[Keyed]:
        # The frame has its number whatever is in it, so a payload that cannot be read fails alone.
        try:
            return self._read_payload(data, element)
        except UNREADABLE as error:
            return [(None, unknown(FEED, "malformed", f"the payload cannot be read: {error}", element))]

    def _read_payload(self, data: WireData, element: Element) -> list[Keyed]:
        channel, sent = data.channel, moment(data.ts)
        name = _CHANNEL.fullmatch(channel)
        if name is None:
            return [(None, unknown(FEED, "event", f"the unknown channel {channel[:80]!r}", element))]
        if channel == QUOTES:
            quote = _read_quote(data.payload)
            event: Event = _quote(quote, snapshot=data.snapshot is True, sent=sent)
            return [
                (key_for(channel, quote.asset_id), event),
                *self._drift.look(channel, data.payload, WireQuote),
            ]
        window_s = TWAP_WINDOW_S if channel.endswith(".twap") else None
        series = Series(FEED, name[1][1:].replace(".", "_"), SOURCES.get(channel), window_s)
        price = _read_price(data.payload)
        drift = self._drift.look(channel, data.payload, WirePrice, {"data": WirePoint})
        event = price_event(price, series, sent)
        return [(key_for(channel, event.symbol), event), *drift]

    def _read_reply(self, element: Element) -> list[Keyed]:
        wire = _read_reply(element)
        if wire.op not in REPLIES:
            return [(None, unknown(FEED, "event", f"the unknown op {wire.op[:80]!r}", element))]
        reply = Reply(wire.op, text(wire.rid), present(wire.channel), present(wire.code), present(wire.nonce))
        heard: list[Keyed] = [(None, reply), *self._drift.look(wire.op, element, WireReply)]
        if reply.op == "error":
            code = reply.code or "no code"
            why = f"{code}: {ERROR_CODES.get(code, 'an unknown code')}"[:200]
            about = f" on {reply.channel[:80]}" if reply.channel else ""
            refused = unknown(FEED, "refused", f"the venue refused our message{about}: {why}", element)
            heard.append((None, refused))
        return heard


def _quote(wire: WireQuote, *, snapshot: bool, sent: int | None) -> PriceQuote:
    return PriceQuote(
        "polymarket",
        wire.asset_id,
        FEED,
        wire.market,
        decimal(wire.best_bid),
        decimal(wire.best_ask),
        present(wire.hash),
        snapshot,
        sent,
        source_time=moment(wire.timestamp),
    )


def _count(value: Loose | bytes, field: str) -> int:
    """A number of the envelope.

    Raises:
        msgspec.ValidationError: it is no whole number from 0.
    """
    written = bytes(value).decode("ascii", "replace")
    if not _COUNT.fullmatch(written):
        raise msgspec.ValidationError(f"{field} is {written[:20]!r}, no whole number from 0")
    return int(written)


def _shown(value: Loose) -> str:
    return bytes(value)[:20].decode("utf-8", "replace") if value else "none"
