"""The market feed (`/ws/market`): how to read its frames, and what to say to it.

Facts: docs.polymarket.com market-channel page and captures of 2025 and 2026.  The discriminator is
`event_type`, and it is not the first key, so the one kind that makes up 98 % of the traffic is
recognised by how its frames end and decoded straight away; everything else takes the careful path,
element by element, where a bad one does not harm its neighbours.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Self

import msgspec

from ..events import (
    BestBidAsk,
    Change,
    Event,
    LastTradePrice,
    MarketResolved,
    NewMarket,
    PriceChange,
    TickSizeChange,
)
from ..profile import FeedProfile
from .credentials import Credentials
from .dialect import EVERYTHING, Manners
from .market_book import FEED as FEED
from .market_book import book_of
from .market_wire import (
    HotPriceChange,
    WireBestBidAsk,
    WireBook,
    WireChange,
    WireLastTradePrice,
    WireMarket,
    WireOldChange,
    WireOldPriceChange,
    WirePriceChange,
    WireTickSizeChange,
)
from .reading import (
    UNREADABLE,
    Keyed,
    Word,
    milliseconds,
    present,
    unknown,
    wire_fields,
    without_blanks,
    write,
)

VENUE = EVERYTHING
"""The key of interest in the whole venue: a connection with an empty asset list hears `new_market`."""

_HOT_TAIL = b'"event_type":"price_change"}'
"""How a `price_change` ends on the wire (captures of August 2026)."""

DRIFT_EVERY = 256
"""Every how many `price_change` frames one takes the careful path, which looks for unknown fields.

A new field comes to stay, so it shows within seconds on any busy connection; the careful path takes ten times as long.
"""

_read_hot = msgspec.json.Decoder(HotPriceChange, strict=False).decode
_read_array = msgspec.json.Decoder(list[msgspec.Raw]).decode


def _book(wire: WireBook) -> list[Keyed]:
    return [(wire.asset_id, book_of(wire))]


def _price_change(wire: WirePriceChange) -> list[Keyed]:
    return _by_asset(wire.market, milliseconds(wire.timestamp), wire.price_changes)


def _by_asset(market: str, source_time: int | None, entries: list[WireChange]) -> list[Keyed]:
    """One event per asset, in the order in which the assets first appear."""
    if len(entries) == 2:
        one, other = entries
        asset, mirror = one.asset_id, other.asset_id
        if asset != mirror:  # as nearly always: a change, told for both assets of the market
            return [
                (asset, PriceChange(market, asset, [_change(one)], source_time=source_time)),
                (mirror, PriceChange(market, mirror, [_change(other)], source_time=source_time)),
            ]
    by_asset: dict[str, list[Change]] = {}
    for entry in entries:
        by_asset.setdefault(entry.asset_id, []).append(_change(entry))
    return [
        (asset, PriceChange(market, asset, changes, source_time=source_time))
        for asset, changes in by_asset.items()
    ]


def _change(entry: WireChange) -> Change:
    return Change(
        entry.price,
        entry.size,
        entry.side,
        entry.hash or None,
        entry.best_bid or None,
        entry.best_ask or None,
    )


def _old_price_change(wire: WireOldPriceChange) -> list[Keyed]:
    if wire.changes is not None:
        entries = wire.changes
    elif wire.price is not None and wire.size is not None and wire.side is not None:
        entries = [WireOldChange(wire.price, wire.size, wire.side)]
    else:
        raise msgspec.ValidationError("a price_change without `price_changes`, `changes` or `price`")
    # The hash describes the book after all changes, so only the last one may carry it.
    last = len(entries) - 1
    changes = [
        Change(e.price, e.size, e.side, present(wire.hash) if i == last else None, None, None)
        for i, e in enumerate(entries)
    ]
    event = PriceChange(wire.market, wire.asset_id, changes, source_time=milliseconds(wire.timestamp))
    return [(wire.asset_id, event)]


def _last_trade_price(wire: WireLastTradePrice) -> list[Keyed]:
    event = LastTradePrice(
        wire.market,
        wire.asset_id,
        wire.price,
        wire.size,
        wire.side,
        present(wire.fee_rate_bps),
        present(wire.transaction_hash),
        source_time=milliseconds(wire.timestamp),
    )
    return [(wire.asset_id, event)]


def _tick_size_change(wire: WireTickSizeChange) -> list[Keyed]:
    event = TickSizeChange(
        wire.market,
        wire.asset_id,
        present(wire.old_tick_size),
        wire.new_tick_size,
        present(wire.side),
        source_time=milliseconds(wire.timestamp),
    )
    return [(wire.asset_id, event)]


def _best_bid_ask(wire: WireBestBidAsk) -> list[Keyed]:
    event = BestBidAsk(
        wire.market,
        wire.asset_id,
        present(wire.best_bid),
        present(wire.best_ask),
        present(wire.spread),
        source_time=milliseconds(wire.timestamp),
    )
    return [(wire.asset_id, event)]


def _new_market(wire: WireMarket) -> list[Keyed]:
    event = NewMarket(
        wire.market,
        wire.assets_ids or wire.clob_token_ids or [],
        present(wire.id),
        present(wire.question),
        present(wire.slug),
        present(wire.description),
        wire.outcomes or [],
        without_blanks(wire.event_message),
        wire.tags or [],
        wire.active,
        present(wire.sports_market_type),
        present(wire.line),
        present(wire.game_start_time),
        present(wire.order_price_min_tick_size),
        present(wire.group_item_title),
        present(wire.taker_base_fee),
        wire.fees_enabled,
        without_blanks(wire.fee_schedule),
        source_time=milliseconds(wire.timestamp),
    )
    return [(None, event)]


def _market_resolved(wire: WireMarket) -> list[Keyed]:
    event = MarketResolved(
        wire.market,
        wire.assets_ids or wire.clob_token_ids or [],
        present(wire.id),
        present(wire.question),
        present(wire.slug),
        present(wire.description),
        wire.outcomes or [],
        without_blanks(wire.event_message),
        wire.tags or [],
        present(wire.winning_asset_id),
        present(wire.winning_outcome),
        source_time=milliseconds(wire.timestamp),
    )
    return [(None, event)]


class _Form:
    """One form of event: how to decode it, how to translate it, and which fields it knows."""

    def __init__[W: msgspec.Struct](self, wire: type[W], translate: Callable[[W], list[Keyed]]) -> None:
        decode = msgspec.json.Decoder(wire).decode
        self.read: Callable[[bytes | msgspec.Raw], list[Keyed]] = lambda element: translate(decode(element))
        self.fields = wire_fields(wire)


_FORMS: Mapping[str, _Form] = MappingProxyType(
    {
        "book": _Form(WireBook, _book),
        "price_change": _Form(WirePriceChange, _price_change),
        "price_change before 2025-09-15": _Form(WireOldPriceChange, _old_price_change),
        "last_trade_price": _Form(WireLastTradePrice, _last_trade_price),
        "tick_size_change": _Form(WireTickSizeChange, _tick_size_change),
        "best_bid_ask": _Form(WireBestBidAsk, _best_bid_ask),
        "new_market": _Form(WireMarket, _new_market),
        "market_resolved": _Form(WireMarket, _market_resolved),
    }
)


_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_word = msgspec.json.Decoder(str | None).decode


def _form_of(fields: Mapping[str, msgspec.Raw]) -> str | None:
    """The form of event an element has, as named in `_FORMS`; None, or a word that we do not know.

    Raises:
        msgspec.ValidationError: its `event_type` is no word.
    """
    word = fields.get("event_type")
    event_type: str | None = None if word is None else _read_word(word)
    if event_type is None:
        # One recorder saw initial snapshots without the discriminator.
        return "book" if "bids" in fields or "buys" in fields else None
    if event_type == "price_change" and "price_changes" not in fields:
        return "price_change before 2025-09-15"
    return event_type


class MarketDialect(Manners):
    """The language of the market feed, as one connection speaks it.

    Args:
        custom_features: ask for `best_bid_ask`, `new_market` and `market_resolved` too.
        initial_dump: ask for a snapshot of each asset (missing at scale unless asked for explicitly:
            nautilus_trader issue 3963).
        level: depth of the subscription, 1 to 3; what it changes is not documented.
    """

    feed: str = FEED
    ping: str = "PING"
    has_snapshots: bool = True
    has_books: bool = True
    closed_by: str = "snapshot"
    quiet_keys: frozenset[str] = frozenset({VENUE})
    words: Mapping[bytes, Word] = MappingProxyType(
        {
            b"PONG": Word.KEEPALIVE,
            b"": Word.KEEPALIVE,
            b"NO NEW ASSETS": Word.IDLE,
            b"INVALID OPERATION": Word.REFUSAL,
        }
    )

    def __init__(self, *, custom_features: bool = True, initial_dump: bool = True, level: int = 2) -> None:
        self._options: dict[str, Any] = {"level": level, "custom_feature_enabled": custom_features}
        self._initial_dump = initial_dump
        self._hot_frames = 0
        self.unknown_fields: Counter[str] = Counter()
        """How often a field was met that this version does not know, by `event_type.field`."""

    @classmethod
    def spoken(cls, profile: FeedProfile, account: str | None, credentials: Credentials | None) -> Self:  # noqa: ARG003
        """See `Manners`."""
        return cls(custom_features=profile.custom_features, level=profile.level)

    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:  # noqa: ARG002
        """None: an event of an asset that was not asked for is a mirrored entry."""
        return []

    def opening(self, keys: Collection[str]) -> str:
        """The message that opens the subscription; a second one would be an `INVALID OPERATION`."""
        message = {"assets_ids": _assets(keys), "type": "market", "initial_dump": self._initial_dump}
        return write(message | self._options)

    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds assets to an open subscription; None if the keys need none."""
        assets = _assets(keys)
        return write({"operation": "subscribe", "assets_ids": assets} | self._options) if assets else None

    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes assets from an open subscription; None if the keys need none."""
        assets = _assets(keys)
        return write({"operation": "unsubscribe", "assets_ids": assets}) if assets else None

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame: its events in order, with `unknown` ones for what cannot be read.

        Never raises for anything the venue may send.
        """
        if frame.endswith(_HOT_TAIL):
            self._hot_frames += 1
            if self._hot_frames % DRIFT_EVERY:
                try:
                    wire = _read_hot(frame)
                    return _by_asset(wire.market, wire.timestamp, wire.price_changes)
                except UNREADABLE:
                    pass  # the careful path tells what is wrong
        try:
            elements = _read_array(frame) if frame.lstrip().startswith(b"[") else [frame]
        except UNREADABLE as error:
            return [(None, unknown(FEED, "not_json", f"the frame is no JSON: {error}", frame))]
        return [keyed for element in elements for keyed in self._read_element(element)]

    def _read_element(self, element: bytes | msgspec.Raw) -> list[Keyed]:
        try:
            fields = _read_fields(element)
            name = _form_of(fields)
            if name is None or name not in _FORMS:
                what = "no event_type" if name is None else f"the unknown event_type {name[:80]!r}"
                return [(None, unknown(FEED, "event", f"the element has {what}", element))]
            form = _FORMS[name]
            return form.read(element) + self._drift(name, element, fields.keys() - form.fields)
        except msgspec.ValidationError as error:
            return [(None, unknown(FEED, "malformed", f"the element cannot be read: {error}", element))]
        except UNREADABLE as error:
            return [(None, unknown(FEED, "not_json", f"the frame is no JSON: {error}", element))]

    def _drift(self, name: str, element: bytes | msgspec.Raw, strange: Collection[str]) -> list[Keyed]:
        """Count the fields we do not know; the first of each name is passed on raw as well."""
        keyed: list[Keyed] = []
        for field in sorted(strange):
            label = f"{name}.{field}"[:120]
            if not self.unknown_fields[label]:
                keyed.append((None, unknown(FEED, "field", f"the unknown field {label!r}", element)))
            self.unknown_fields[label] += 1
        return keyed


def _assets(keys: Collection[str]) -> list[str]:
    return [key for key in keys if key != VENUE]
