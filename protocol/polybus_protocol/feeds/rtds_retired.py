"""The retired topics of RTDS, `clob_market` and `clob_user`, as recordings still have them.

The venue answers a subscription to them with status 400.  What they said is what the market and the user
feed say today under other names, so a payload is put into today's words and given to their readers.
Source of the old forms: README of Polymarket/real-time-data-client, September 2025.
"""

from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from .market import MarketDialect
from .reading import Keyed
from .rtds_wire import WireEnvelope
from .user import UserDialect

RETIRED: Mapping[str, str] = MappingProxyType(
    {
        "clob_market": "RTDS no longer carries CLOB messages (since January 2026): use the feed `market`",
        "clob_user": "RTDS no longer carries CLOB messages (since January 2026): use the feed `user`",
    }
)
"""The retired topics, and what to tell who asks for one."""

_TODAY = MappingProxyType(
    {"agg_orderbook": "book", "market_created": "new_market"}
    | {
        kept: kept
        for kept in (
            "price_change",
            "last_trade_price",
            "tick_size_change",
            "market_resolved",
            "order",
            "trade",
        )
    }
)
"""Types, and what they are called today."""

_LONG = MappingProxyType(
    {
        "m": "market",
        "t": "timestamp",
        "pc": "price_changes",
        "a": "asset_id",
        "h": "hash",
        "p": "price",
        "s": "side",
        "si": "size",
        "bb": "best_bid",
        "ba": "best_ask",
    }
)
"""The short keys of `price_change`."""

type _Fields = dict[str, msgspec.Raw]

_read_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_read_list = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_read_ids = msgspec.json.Decoder(list[str] | str).decode
_encode = msgspec.json.Encoder().encode


def read_retired(envelope: WireEnvelope, market: MarketDialect, user: UserDialect) -> list[Keyed]:
    """What a frame of a retired topic says today; nothing if its type was never one of the topic's.

    Args:
        envelope: the frame, its topic one of `RETIRED`.
        market: reads what `clob_market` said.
        user: reads what `clob_user` said.

    Raises:
        msgspec.DecodeError: the payload is not of the form that the type had.
    """
    type_ = _TODAY.get(envelope.type or "")
    if type_ is None:
        return []
    fields = {"timestamp": envelope.timestamp} if envelope.timestamp else {}
    fields |= _read_fields(envelope.payload) | {"event_type": msgspec.Raw(_encode(type_))}
    if envelope.topic == "clob_user":
        return user.read(_encode(fields))
    return market.read(_encode(_elements(type_, fields)))


def _elements(type_: str, fields: _Fields) -> list[_Fields]:
    """The elements of the market feed that a payload comes to."""
    match type_:
        case "price_change":
            fields = _lengthened(fields)
            if changes := fields.get("price_changes"):
                fields["price_changes"] = msgspec.Raw(
                    _encode([_lengthened(each) for each in _read_list(changes)])
                )
            return [fields]
        case "tick_size_change" if "asset_id" in fields:
            # The README calls it a string and describes an array of two.
            ids = _read_ids(fields["asset_id"])
            return [
                fields | {"asset_id": msgspec.Raw(_encode(asset))}
                for asset in ([ids] if isinstance(ids, str) else ids)
            ]
        case "new_market" | "market_resolved":
            renamed = {"asset_ids": "assets_ids", "tick_size": "order_price_min_tick_size"}
            # Today's event has no place for these two; both stand in every `book`.
            dropped = {"min_order_size", "neg_risk"}
            return [{renamed.get(key, key): value for key, value in fields.items() if key not in dropped}]
        case _:
            return [fields]


def _lengthened(fields: _Fields) -> _Fields:
    return {_LONG.get(key, key): value for key, value in fields.items()}
