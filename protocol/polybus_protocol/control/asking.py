"""What can be asked of each feed: which fields a wish may use, which keys it wants, what to listen on.

One row of `ASKING` per feed.  A key is what a connection asks the venue for; where the venue's own filters
cannot be relied on, as on RTDS, a key carries our filter after a `?` and the venue is asked for the whole
topic.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

import msgspec

from ..errors import ControlError
from ..events import (
    ACTIVITY_EVENTS,
    COMMENTS_EVENTS,
    MARKET_EVENTS,
    PRICE_EVENTS,
    SPORTS_EVENTS,
    USER_EVENTS,
    MarketResolved,
    NewMarket,
    type_of,
)
from ..feeds.market import VENUE
from ..feeds.polybolt import key_for
from ..feeds.prices import plain_symbol
from ..feeds.sports import EVERY_GAME
from ..feeds.user import ACCOUNT, asset_key
from ..subjects import asset_pattern, encode_token
from .wish import Wish

MAX_SUBJECT_BYTES = 512 * 1024
"""Bytes of subjects a reply may hold: half of NATS' default payload.  Past it the subjects are wider."""

MAX_NAME_CHARS = 200
"""Characters of a slug, a symbol or a league: the venue's slugs are its questions, of a sentence at most."""

_ASSET = re.compile(r"[0-9]{1,78}")
_MARKET = re.compile(r"0x[0-9a-fA-F]{40,64}")

_MARKET_WIDE = (type_of(NewMarket), type_of(MarketResolved))
"""The types of the market feed that concern a market rather than an asset."""

_VENUE_WIDE = {type_of(NewMarket)}
"""What the market feed sends without an asset being named."""

_PRICE_TOPICS = (
    "crypto_prices",
    "crypto_prices_chainlink",
    "crypto_prices_twap_thirty",
    "crypto_prices_twap_sixty",
    "equity_prices",
)

_RETIRED_TOPICS = ("clob_market", "clob_user")

_CHANNELS = {
    "crypto": "price.crypto",
    "crypto_twap": "price.crypto.twap",
    "equity": "price.equity",
    "equity_twap": "price.equity.twap",
}
"""PolyBolt's channel of each class of prices."""


class Asking(msgspec.Struct, frozen=True):
    """What can be asked of one feed."""

    fields: frozenset[str]
    """The fields of a `Wish` that mean something here, besides `feed` and `types`."""
    types: tuple[str, ...]
    """The event types one can choose from; gaps come with every choice."""
    keys: Callable[[Wish], list[str]]
    """The keys a checked wish wants."""
    subjects: Callable[[Wish, str], list[str]]
    """The subjects, under a prefix, that carry what a wish wants."""
    check: Callable[[Wish], None] | None = None
    """Raises `ControlError` for what the feed cannot give."""


def check(wish: Wish) -> None:
    """See that a feed can give what is wished.

    Raises:
        ControlError: 400 with the field that is wrong and why, 422 for what this version cannot serve.
    """
    asking = ASKING.get(wish.feed)
    if asking is None:
        raise ControlError(
            422, f"this gateway serves the feeds {', '.join(ASKING)}, not {wish.feed[:80]!r}", field="feed"
        )
    for field in sorted(_WISHES - asking.fields):
        if getattr(wish, field):
            takes = ", ".join(f"`{name}`" for name in sorted(asking.fields)) or "no such field"
            raise bad(field, f"means nothing on the feed {wish.feed!r}, which takes {takes}")
    for type_ in wish.types:
        if type_ not in asking.types:
            raise bad("types", f"{type_[:80]!r} is not one of {', '.join(asking.types)}")
    for asset in wish.assets:
        if not _ASSET.fullmatch(asset):
            hint = " (it looks like a condition id: put it in `markets`)" if _MARKET.fullmatch(asset) else ""
            raise bad(
                "assets", f"{asset[:80]!r} is not a token id, a decimal number of up to 78 digits{hint}"
            )
    for market in wish.markets:
        if not _MARKET.fullmatch(market):
            hint = " (it looks like a token id: put it in `assets`)" if _ASSET.fullmatch(market) else ""
            raise bad("markets", f"{market[:80]!r} is not a condition id, `0x` and hex digits{hint}")
    _check_names(wish)
    if asking.check is not None:
        asking.check(wish)


def _check_names(wish: Wish) -> None:
    """What stands for nothing, or is too long for any name, must not get as far as a message to the venue."""
    for field in ("event_slugs", "symbols", "leagues"):
        for name in getattr(wish, field):
            if not (0 < len(name) <= MAX_NAME_CHARS and name.isprintable()):
                raise bad(field, f"{name[:80]!r} is not a name of 1 to {MAX_NAME_CHARS} printable characters")
    for symbol in wish.symbols:
        if not plain_symbol(symbol, "crypto"):
            raise bad("symbols", f"{symbol!r} names no symbol, such as `btcusd`")


def bad(field: str, why: str) -> ControlError:
    """A refusal of one field of a request."""
    return ControlError(400, f"{field}: {why}", field=field)


def keys_of(wish: Wish) -> list[str]:
    """The keys a checked wish wants, without repeats."""
    return list(dict.fromkeys(ASKING[wish.feed].keys(wish)))


def subjects_of(wish: Wish, prefix: str) -> list[str]:
    """The subjects that carry what a checked wish wants, gaps included."""
    return list(dict.fromkeys(ASKING[wish.feed].subjects(wish, prefix)))


def _types(events: Iterable[type]) -> tuple[str, ...]:
    return tuple(type_of(event) for event in events)


def _with_gap(types: Iterable[str]) -> list[str]:
    """The last tokens to listen for: all of them, or those of some types and the gaps between."""
    return [*types, "gap"] if types else [">"]


# --- market ------------------------------------------------------------------------------------------


def _market_subjects(wish: Wish, prefix: str) -> list[str]:
    types = [type_ for type_ in wish.types if type_ not in _MARKET_WIDE]
    market_wide = [type_ for type_ in _MARKET_WIDE if type_ in wish.types]
    if not wish.types and wish.assets:
        market_wide = [type_of(MarketResolved)]
    wide = [f"{prefix}.market.*._.{type_}" for type_ in market_wide]
    if type_of(NewMarket) in market_wide:
        wide.append(f"{prefix}.market._._.gap")  # what was missed of the whole venue
    if not wish.assets or (wish.types and not types):
        return wide
    wanted = [*types, "gap"] if types else [None]
    narrow = [asset_pattern(asset, type_, prefix) for asset in wish.assets for type_ in wanted]
    if sum(map(len, narrow)) > MAX_SUBJECT_BYTES:
        return [f"{prefix}.market.*.*.{type_ or '*'}" for type_ in wanted]
    return narrow + wide


def _check_market(wish: Wish) -> None:
    if not wish.assets and not wish.markets and set(wish.types) != _VENUE_WIDE:
        raise ControlError(
            422,
            "assets: name the token ids that are wanted; without any, the venue sends `new_market` only "
            "(ask for it with `types`)",
            field="assets",
        )


# --- user --------------------------------------------------------------------------------------------


def _user_subjects(wish: Wish, prefix: str) -> list[str]:
    head = f"{prefix}.user.{encode_token(wish.account)}"
    # Subjects name no asset here, so whoever wants some listens to all markets and looks.
    markets = ["*"] if wish.assets or not wish.markets else [encode_token(market) for market in wish.markets]
    return [f"{head}.{market}.{last}" for market in markets for last in _with_gap(wish.types)]


# --- rtds --------------------------------------------------------------------------------------------


def _topics(wish: Wish) -> dict[str, list[str]]:
    """The topics a wish is about, with the types wanted of each (none for all)."""
    topics = wish.topics or [
        topic
        for topic, types in _RTDS_TYPES.items()
        if set(types) & set(wish.types) and topic in _DEFAULT_TOPICS
    ]
    return {topic: [type_ for type_ in wish.types if type_ in _RTDS_TYPES[topic]] for topic in topics}


def _rtds_keys(wish: Wish) -> list[str]:
    keys: list[str] = []
    for topic, types in _topics(wish).items():
        filters = [""]
        if topic == "activity":
            filters = [f"?event_slug={slug}" for slug in wish.event_slugs]
            filters += [f"?market={market}" for market in wish.markets]
            filters += [f"?asset={asset}" for asset in wish.assets]
        elif topic in _PRICE_TOPICS:
            filters = [f"?symbol={plain_symbol(symbol, _CLASS_OF_TOPIC[topic])}" for symbol in wish.symbols]
        # A price topic sends its snapshot under a type of its own, and it belongs to the prices.
        wanted = ["*"] if topic in _PRICE_TOPICS or not types else types
        keys += [f"{topic}/{type_}{filter_}" for type_ in wanted for filter_ in filters or [""]]
    return keys


def _rtds_subjects(wish: Wish, prefix: str) -> list[str]:
    subjects: list[str] = []
    for topic, types in _topics(wish).items():
        lasts = _with_gap(types)
        if topic == "activity":
            slugs = [f"{encode_token(slug)}.*" for slug in wish.event_slugs]
            slugs += [f"*.{encode_token(market)}" for market in wish.markets]
            slugs = [] if wish.assets else slugs
            subjects += [f"{prefix}.activity.{ids}.{last}" for ids in slugs or ["*.*"] for last in lasts]
        elif topic == "comments":
            subjects += [f"{prefix}.comments.*.*.{last}" for last in lasts]
        else:
            symbols = [
                encode_token(plain_symbol(symbol, _CLASS_OF_TOPIC[topic])) for symbol in wish.symbols
            ] or ["*"]
            class_ = _CLASS_OF_TOPIC[topic]
            subjects += [f"{prefix}.price.{class_}.{symbol}.{last}" for symbol in symbols for last in lasts]
    return subjects


def _check_rtds(wish: Wish) -> None:
    for topic in wish.topics:
        if topic in _RETIRED_TOPICS:
            raise ControlError(
                422,
                f"topics: the venue has retired {topic!r} on this feed; subscribe to the feed "
                f"{topic.removeprefix('clob_')!r} instead",
                field="topics",
            )
        if topic not in _RTDS_TYPES:
            raise bad("topics", f"{topic[:80]!r} is not one of {', '.join(_RTDS_TYPES)}")
        if wish.types and not set(wish.types) & set(_RTDS_TYPES[topic]):
            raise bad("types", f"none of them is of the topic {topic!r}: {', '.join(_RTDS_TYPES[topic])}")
    topics = _topics(wish)
    if not topics:
        raise bad("topics", f"name at least one of {', '.join(_RTDS_TYPES)}, or types that tell")
    for field in ("event_slugs", "markets", "assets"):
        if getattr(wish, field) and "activity" not in topics:
            raise bad(field, "only the topic `activity` can be narrowed so")
    if wish.symbols and not set(topics) & set(_PRICE_TOPICS):
        raise bad("symbols", "only the price topics can be narrowed so")


_PRICE_TYPES = _types(PRICE_EVENTS)[:2]

_RTDS_TYPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "activity": _types(ACTIVITY_EVENTS),
        "comments": _types(COMMENTS_EVENTS),
        **dict.fromkeys(_PRICE_TOPICS, _PRICE_TYPES),
    }
)
"""The topics RTDS still serves, and the types of each."""

_DEFAULT_TOPICS = ("activity", "comments", "crypto_prices")
"""The topics that types alone can stand for: `update` meant `crypto_prices` before there were others."""

_CLASS_OF_TOPIC = {
    "crypto_prices": "crypto",
    "crypto_prices_chainlink": "crypto",
    "crypto_prices_twap_thirty": "crypto_twap",
    "crypto_prices_twap_sixty": "crypto_twap",
    "equity_prices": "equity",
}


# --- polybolt ----------------------------------------------------------------------------------------


def _polybolt_keys(wish: Wish) -> list[str]:
    return [
        key_for(_CHANNELS[class_], plain_symbol(symbol, class_))
        for class_ in wish.classes or ["crypto"]
        for symbol in wish.symbols
    ]


def _polybolt_subjects(wish: Wish, prefix: str) -> list[str]:
    return [
        f"{prefix}.price.{class_}.{encode_token(plain_symbol(symbol, class_))}.{last}"
        for class_ in wish.classes or ["crypto"]
        for symbol in wish.symbols
        for last in _with_gap(wish.types)
    ]


def _check_polybolt(wish: Wish) -> None:
    for class_ in wish.classes:
        if class_ not in _CHANNELS:
            raise bad("classes", f"{class_[:80]!r} is not one of {', '.join(_CHANNELS)}")
    if not wish.symbols:
        raise bad("symbols", "name at least one, such as `btcusd`")


# --- sports ------------------------------------------------------------------------------------------


def _sports_keys(wish: Wish) -> list[str]:
    return [f"league={league.lower()}" for league in wish.leagues] or [EVERY_GAME]


def _sports_subjects(wish: Wish, prefix: str) -> list[str]:
    leagues = [encode_token(league.lower()) for league in wish.leagues] or ["*"]
    return [f"{prefix}.sports.{league}.*.{last}" for league in leagues for last in _with_gap(wish.types)]


_WISHES = frozenset(Wish.__struct_fields__) - {"feed", "types"}

ASKING: Mapping[str, Asking] = MappingProxyType(
    {
        "market": Asking(
            frozenset({"assets", "markets"}),
            _types(MARKET_EVENTS),
            lambda wish: wish.assets or [VENUE],
            _market_subjects,
            _check_market,
        ),
        "user": Asking(
            frozenset({"account", "markets", "assets"}),
            _types(USER_EVENTS),
            lambda wish: [*wish.markets, *map(asset_key, wish.assets)] or [ACCOUNT],
            _user_subjects,
        ),
        "rtds": Asking(
            frozenset({"topics", "event_slugs", "markets", "assets", "symbols"}),
            tuple(dict.fromkeys(type_ for types in _RTDS_TYPES.values() for type_ in types)),
            _rtds_keys,
            _rtds_subjects,
            _check_rtds,
        ),
        "polybolt": Asking(
            frozenset({"symbols", "classes"}),
            _PRICE_TYPES,
            _polybolt_keys,
            _polybolt_subjects,
            _check_polybolt,
        ),
        "sports": Asking(frozenset({"leagues"}), _types(SPORTS_EVENTS), _sports_keys, _sports_subjects),
    }
)
"""What can be asked, by feed."""

EVENT_TYPES = tuple(dict.fromkeys(type_ for asking in ASKING.values() for type_ in asking.types))
"""Every event type one can ask for, whatever the feed."""
