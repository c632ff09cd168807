"""The terms of the manager that polybus replaced, and what they are called today.

Its requests named an `event_type`, a `channel`, `market_ids`, `token_ids` and a `callback_type`.
Sources: the venue's names as they changed over 2025 and 2026 (RTDS client README, docs pages).
"""

from typing import Any

from .errors import ControlError

FIELDS = {
    "channel": "feed",
    "event_type": "types",
    "event_types": "types",
    "token_ids": "assets",
    "asset_ids": "assets",
    "assets_ids": "assets",
    "market_ids": "markets",
    "callback_type": "deliver",
}
"""Old field names, and today's."""

TYPES = {
    "agg_orderbook": "book",
    "orderbook_update": "book",
    "market_created": "new_market",
}
"""Old event types, and today's; the others kept their names."""

CHANNELS = {"activity": "rtds", "crypto_prices": "rtds"}
"""Old channels that are topics of a feed today; `market` and `user` kept their names."""

FEED_OF_TYPE = {
    "order": "user",
    "trade": "user",
    "trades": "rtds",
    "orders_matched": "rtds",
    "update": "rtds",
}
"""The feed of an old event type where the request names no channel; all others are of the market feed."""

DELIVERY = {"notification": "subjects"}
"""Old callback types, and today's; `log` kept its name."""

_LISTS = frozenset({"types", "assets", "markets"})


def modernise(fields: dict[str, Any]) -> dict[str, Any]:
    """Say a `subscribe` request in today's terms; a request that already does is left as it is.

    A single value stands for a list of one, and `null` for an absent field, as they did then.

    Raises:
        ControlError: 400 if a field is given under two names.
    """
    modern: dict[str, Any] = {}
    for old, value in fields.items():
        new = FIELDS.get(old, old)
        if value is None:
            continue
        if new in modern:
            raise ControlError(400, f"{old}: the request names `{new}` twice, under two names", field=old)
        modern[new] = [value] if new in _LISTS and isinstance(value, str) else value
    if isinstance(modern.get("types"), list):
        types: list[Any] = modern["types"]
        modern["types"] = [TYPES.get(t, t) if isinstance(t, str) else t for t in types]
    if isinstance(feed := modern.get("feed"), str) and feed in CHANNELS:
        modern["feed"] = CHANNELS[feed]
        modern.setdefault("topics", [feed])
    elif feed is None and isinstance(modern.get("types"), list):
        feeds = {FEED_OF_TYPE.get(type_, "market") for type_ in modern["types"] if isinstance(type_, str)}
        if len(feeds) == 1:
            modern["feed"] = feeds.pop()
    if isinstance(deliver := modern.get("deliver"), str):
        modern["deliver"] = DELIVERY.get(deliver, deliver)
    return modern
