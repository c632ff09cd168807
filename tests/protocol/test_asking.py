"""What can be asked of each feed: which fields mean something there, which keys and which subjects follow."""

from collections.abc import Collection
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import subject_for
from polybus_protocol.control.asking import ASKING, MAX_SUBJECT_BYTES, check, keys_of, subjects_of
from polybus_protocol.control.wish import Wish
from polybus_protocol.conversation.cargo import Cargo
from polybus_protocol.door import DIALECTS
from polybus_protocol.errors import ControlError
from polybus_protocol.events import MARKET_EVENTS, Event, Gap, Unknown, type_of
from polybus_protocol.feeds.credentials import Credentials
from polybus_protocol.feeds.market import MarketDialect
from polybus_protocol.feeds.reading import Aside
from polybus_protocol.profile import PROFILES
from polybus_protocol.stream import Stream
from polybus_protocol.subjects import FAMILIES, family_of, ids_of

from .samples import FRAMES, Samples

ASSET, OTHER = "7" * 77, "8" * 77
MARKET = "0x" + "ab" * 32

SAMPLE_MARKET = "0x5f65177b394277fd294cd75650044e32ba009a95022d88a0c1d565897d72f8f1"
"""The one that the samples of the user feed are about."""

CREDENTIALS = Credentials("key", "secret", "phrase")

WISHES: dict[str, tuple[dict[str, Any], list[str], list[str]]] = {
    "an asset": ({"assets": [ASSET]}, [ASSET], [f"market.*.{ASSET}.>", "market.*._.market_resolved"]),
    "two assets, one type": (
        {"assets": [ASSET, OTHER], "types": ["book"]},
        [ASSET, OTHER],
        [f"market.*.{asset}.{type_}" for asset in (ASSET, OTHER) for type_ in ("book", "gap")],
    ),
    "an asset twice": (
        {"assets": [ASSET, ASSET], "types": ["market_resolved"]},
        [ASSET],
        ["market.*._.market_resolved"],
    ),
    "the whole venue": ({"types": ["new_market"]}, ["*"], ["market.*._.new_market", "market._._.gap"]),
    "an account": ({"feed": "user", "account": "my acc"}, ["*"], ["user.my%20acc.*.>"]),
    "markets of an account": (
        {"feed": "user", "account": "main", "markets": [MARKET], "types": ["trade"]},
        [MARKET],
        [f"user.main.{MARKET}.trade", f"user.main.{MARKET}.gap"],
    ),
    "activity": ({"feed": "rtds", "topics": ["activity"]}, ["activity/*"], ["activity.*.*.>"]),
    "trades": (
        {"feed": "rtds", "types": ["trades"]},
        ["activity/trades"],
        ["activity.*.*.trades", "activity.*.*.gap"],
    ),
    "trades of an event and of a market": (
        {"feed": "rtds", "types": ["trades"], "event_slugs": ["us.open"], "markets": [MARKET]},
        ["activity/trades?event_slug=us.open", f"activity/trades?market={MARKET}"],
        [f"activity.{ids}.{type_}" for ids in ("us%2Eopen.*", f"*.{MARKET}") for type_ in ("trades", "gap")],
    ),
    "comments": ({"feed": "rtds", "topics": ["comments"]}, ["comments/*"], ["comments.*.*.>"]),
    "new comments": (
        {"feed": "rtds", "types": ["comment_created"]},
        ["comments/comment_created"],
        ["comments.*.*.comment_created", "comments.*.*.gap"],
    ),
    "updates, as of old": (
        {"feed": "rtds", "types": ["update"]},
        ["crypto_prices/*"],
        ["price.crypto.*.update", "price.crypto.*.gap"],
    ),
    "prices from two sources": (
        {
            "feed": "rtds",
            "topics": ["crypto_prices", "crypto_prices_chainlink"],
            "symbols": ["BTC/USD", "btcusdt"],
        },
        ["crypto_prices/*?symbol=btcusd", "crypto_prices_chainlink/*?symbol=btcusd"],
        ["price.crypto.btcusd.>"],
    ),
    "averages and equities": (
        {"feed": "rtds", "topics": ["crypto_prices_twap_sixty", "equity_prices"], "symbols": ["AAPL"]},
        ["crypto_prices_twap_sixty/*?symbol=aapl", "equity_prices/*?symbol=aapl"],
        ["price.crypto_twap.aapl.>", "price.equity.aapl.>"],
    ),
    "a topic and another, narrowed each in its way": (
        {
            "feed": "rtds",
            "topics": ["activity", "crypto_prices"],
            "markets": [MARKET],
            "symbols": ["eth/usd"],
        },
        [f"activity/*?market={MARKET}", "crypto_prices/*?symbol=ethusd"],
        [f"activity.*.{MARKET}.>", "price.crypto.ethusd.>"],
    ),
    "PolyBolt": (
        {"feed": "polybolt", "symbols": ["BTC/USD", "ethusdt", "btcusd"]},
        ["price.crypto:btcusd", "price.crypto:ethusd"],
        ["price.crypto.btcusd.>", "price.crypto.ethusd.>"],
    ),
    "PolyBolt's averages": (
        {"feed": "polybolt", "symbols": ["BRK.B"], "classes": ["equity", "equity_twap"], "types": ["update"]},
        ["price.equity:brk.b", "price.equity.twap:brk.b"],
        [
            f"price.{class_}.brk%2Eb.{type_}"
            for class_ in ("equity", "equity_twap")
            for type_ in ("update", "gap")
        ],
    ),
    "all games": ({"feed": "sports"}, ["*"], ["sports.*.*.>"]),
    "leagues": (
        {"feed": "sports", "leagues": ["NBA", "la liga", "nba"], "types": ["sport_result"]},
        ["league=nba", "league=la liga"],
        [
            f"sports.{league}.*.{type_}"
            for league in ("nba", "la%20liga")
            for type_ in ("sport_result", "gap")
        ],
    ),
}


@pytest.mark.parametrize("name", WISHES)
def test_what_follows_from_a_wish(name: str) -> None:
    """The keys and the subjects, in order, nothing twice; gaps come with every choice of types."""
    fields, keys, subjects = WISHES[name]
    wish = Wish(**fields)
    check(wish)
    assert keys_of(wish) == keys
    assert subjects_of(wish, "p") == [f"p.{subject}" for subject in subjects]


FIELDS = {
    "assets": [ASSET],
    "markets": [MARKET],
    "account": "main",
    "topics": ["activity"],
    "event_slugs": ["x"],
    "symbols": ["btcusd"],
    "classes": ["crypto"],
    "leagues": ["nba"],
}
BELONG = {
    "market": {"assets", "markets"},
    "user": {"account", "markets", "assets"},
    "rtds": {"topics", "event_slugs", "markets", "assets", "symbols"},
    "polybolt": {"symbols", "classes"},
    "sports": {"leagues"},
}
ENOUGH: dict[str, dict[str, Any]] = {
    "market": {"assets": [ASSET]},
    "user": {},
    "rtds": {"topics": ["activity", "crypto_prices"]},
    "polybolt": {"symbols": ["btcusd"]},
    "sports": {},
}
"""The least that each feed must be told."""


def refusal(**fields: Any) -> ControlError:
    with pytest.raises(ControlError) as caught:
        check(Wish(**fields))
    return caught.value


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("feed", BELONG)
def test_which_fields_belong_to_which_feed(feed: str, field: str) -> None:
    """One that does not is refused by name, since it would be ignored; the answer says which do."""
    fields: dict[str, Any] = {"feed": feed} | ENOUGH[feed] | {field: FIELDS[field]}
    if field in BELONG[feed]:
        check(Wish(**fields))
        return
    error = refusal(**fields)
    assert (error.code, error.field) == (400, field)
    assert all(f"`{name}`" in error.message for name in BELONG[feed])


def test_the_tables_are_complete() -> None:
    """Each feed that has a language can be asked, and each field of a wish belongs somewhere."""
    assert set(ASKING) == set(DIALECTS) == set(PROFILES) == set(BELONG)
    assert set(FIELDS) == set().union(*BELONG.values()) == set(Wish.__struct_fields__) - {"feed", "types"}


@pytest.mark.parametrize("feed", BELONG)
def test_types_of_another_feed_are_refused(feed: str) -> None:
    """Gaps cannot be chosen: they come with everything."""
    others = {type_ for asking in ASKING.values() for type_ in asking.types} - set(ASKING[feed].types)
    for type_ in {*others, "gap", "unknown", "BOOK", ""}:
        error = refusal(feed=feed, types=[type_], **ENOUGH[feed])
        assert (error.code, error.field) == (400, "types")
        assert ASKING[feed].types[0] in error.message


@pytest.mark.parametrize(
    ("fields", "code", "field", "words"),
    [
        ({"feed": "weather"}, 422, "feed", "market, user, rtds, polybolt, sports, not 'weather'"),
        ({"feed": "user", "markets": [ASSET]}, 400, "markets", "looks like a token id"),
        ({"feed": "rtds", "markets": ["x"]}, 400, "markets", "is not a condition id"),
        ({"feed": "rtds"}, 400, "topics", "name at least one of activity, comments, crypto_prices"),
        ({"feed": "rtds", "topics": ["rfq"]}, 400, "topics", "'rfq' is not one of activity"),
        (
            {"feed": "rtds", "topics": ["clob_market"]},
            422,
            "topics",
            "subscribe to the feed 'market' instead",
        ),
        ({"feed": "rtds", "topics": ["activity", "clob_user"]}, 422, "topics", "the feed 'user' instead"),
        (
            {"feed": "rtds", "topics": ["comments"], "types": ["trades"]},
            400,
            "types",
            "of the topic 'comments'",
        ),
        (
            {"feed": "rtds", "topics": ["activity", "comments"], "types": ["trades"]},
            400,
            "types",
            "comment_created",
        ),
        ({"feed": "rtds", "topics": ["comments"], "event_slugs": ["x"]}, 400, "event_slugs", "`activity`"),
        ({"feed": "rtds", "topics": ["comments"], "markets": [MARKET]}, 400, "markets", "`activity`"),
        ({"feed": "rtds", "topics": ["activity"], "symbols": ["x"]}, 400, "symbols", "only the price topics"),
        ({"feed": "rtds", "topics": ["activity"], "event_slugs": [""]}, 400, "event_slugs", "not a name"),
        (
            {"feed": "rtds", "topics": ["activity"], "event_slugs": ["x" * 201]},
            400,
            "event_slugs",
            "1 to 200",
        ),
        ({"feed": "sports", "leagues": ["nba", "n\nba"]}, 400, "leagues", "printable"),
        ({"feed": "polybolt", "symbols": [""]}, 400, "symbols", "not a name"),
        ({"feed": "polybolt", "symbols": ["/"]}, 400, "symbols", "names no symbol"),
        ({"feed": "polybolt"}, 400, "symbols", "name at least one"),
        ({"feed": "polybolt", "symbols": ["x"], "classes": ["polymarket"]}, 400, "classes", "crypto_twap"),
    ],
    ids=str,
)
def test_what_a_feed_cannot_give(fields: dict[str, Any], code: int, field: str, words: str) -> None:
    """It is refused with the field to blame and what would be right."""
    error = refusal(**fields)
    assert (error.code, error.field) == (code, field)
    assert words in error.message


def test_subjects_become_wider_before_a_reply_bursts() -> None:
    """Ten thousand assets would not fit; what is listened to then holds them all."""
    assets = [str(10**76 + number) for number in range(10_000)]
    wish = Wish(assets=assets, types=["book"])
    assert subjects_of(wish, "p") == ["p.market.*.*.book", "p.market.*.*.gap"]
    assert sum(map(len, subjects_of(Wish(assets=assets[:1000], types=["book"]), "p"))) < MAX_SUBJECT_BYTES


# --- what the samples become ------------------------------------------------------------------------


def matches(pattern: str, subject: str) -> bool:
    """Whether NATS would deliver a subject to who listens on a pattern."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(map(fits, wanted[:-1], tokens))
    return len(tokens) == len(wanted) and all(map(fits, wanted, tokens))


def fits(wanted: str, token: str) -> bool:
    return wanted in ("*", token)


def gap_of(event: Event) -> Gap:
    """A gap on the stream of an event."""
    names = FAMILIES[family_of(event)]
    ids = dict(zip(names, ids_of(event), strict=True))
    return msgspec.convert({"type": "gap", "feed": "x", "reason": "resync"} | ids, Gap)


def sampled(feed: str) -> list[tuple[str, Event]]:
    """All events of the samples of a feed that answer a key, with what they are about."""
    read = DIALECTS[feed].spoken(PROFILES[feed], "main", CREDENTIALS).read
    keyed = [each for frame in Samples(feed).json_frames.values() for each in read(frame)]
    return [(key, event) for key, event in keyed if key and not isinstance(event, Aside | Unknown)]


def passed(wish: Wish) -> tuple[list[Event], list[Event]]:
    """Which of the samples a connection publishes that carries a wish, and which it leaves out."""
    dialect = DIALECTS[wish.feed].spoken(PROFILES[wish.feed], "main", CREDENTIALS)
    cargo = Cargo(dialect, lambda wanted, event: Stream(wish.feed, event.family, ids_of(event)))
    cargo.take(dict.fromkeys(keys_of(wish)))
    inside, outside = list[Event](), list[Event]()
    for key, event in sampled(wish.feed):
        (outside if cargo.adopt(key, event)[0] is None else inside).append(event)
    return inside, outside


def narrowings(feed: str) -> list[Wish]:
    """One wish for all of a feed, and one for each thing that can be named in the samples."""
    events = [event for _, event in sampled(feed)]

    def named(attribute: str, family: str | None = None) -> Collection[str]:
        kin = [event for event in events if family in (None, event.family)]
        return sorted({value for event in kin if (value := getattr(event, attribute, None))})

    match feed:
        case "user":
            return [
                Wish(feed=feed, account="main", markets=list(m))
                for m in ([], *([m] for m in named("market")))
            ]
        case "rtds":
            topics = [*PRICE_TOPICS, "activity", "comments"]
            narrow = [Wish(feed=feed, topics=["activity"], event_slugs=[s]) for s in named("event_slug")]
            narrow += [Wish(feed=feed, topics=["activity"], markets=[m]) for m in named("market", "activity")]
            narrow += [Wish(feed=feed, topics=list(PRICE_TOPICS), symbols=[s]) for s in named("symbol")]
            return [Wish(feed=feed, topics=topics), *narrow, *(Wish(feed=feed, topics=[t]) for t in topics)]
        case "polybolt":
            return [
                Wish(feed=feed, symbols=[symbol], classes=[class_])
                for symbol, class_ in (("btcusd", "crypto"), ("BTC/USD", "crypto_twap"), ("AAPL", "equity"))
            ]
        case _:
            return [Wish(feed=feed), *(Wish(feed=feed, leagues=[league]) for league in named("league"))]


PRICE_TOPICS = (
    "crypto_prices",
    "crypto_prices_chainlink",
    "crypto_prices_twap_thirty",
    "crypto_prices_twap_sixty",
    "equity_prices",
)


@pytest.mark.parametrize("feed", ["user", "rtds", "polybolt", "sports"])
def test_the_subjects_hold_what_the_keys_bring(feed: str) -> None:
    """For each wish and each of its types: what is published for its keys is heard on its subjects, with gaps."""
    for wish in narrowings(feed):
        check(wish)
        inside, _ = passed(wish)
        assert inside, f"no sample of {feed} answers {wish}"
        for event in inside:
            for types in ([], [type_of(event)]):
                subjects = subjects_of(msgspec.structs.replace(wish, types=types), "polymarket.v1")
                assert any(matches(each, subject_for(event)) for each in subjects)
                assert any(matches(each, subject_for(gap_of(event))) for each in subjects)


@pytest.mark.parametrize("feed", ["user", "sports"])
def test_the_subjects_hold_nothing_else(feed: str) -> None:
    """Where one feed alone brings a family, what a wish leaves out is not heard on its subjects either."""
    for wish in narrowings(feed):
        _, outside = passed(wish)
        for event in outside:
            assert not any(matches(each, subject_for(event)) for each in subjects_of(wish, "polymarket.v1"))


def test_the_samples_of_the_market_feed() -> None:
    """An asset's subjects hold its events, and the resolution of its market."""
    frames = [file.read_bytes() for file in sorted((FRAMES / "market").iterdir())]
    keyed = [
        each for frame in frames for each in MarketDialect().read(frame) if not isinstance(each[1], Unknown)
    ]
    assert {type(event) for _, event in keyed} == set(MARKET_EVENTS)
    for key, event in keyed:
        if key is not None:
            wide, narrow = Wish(assets=[key]), Wish(assets=[key], types=[type_of(event)])
        elif type_of(event) == "market_resolved":
            wide, narrow = Wish(assets=[ASSET]), Wish(assets=[ASSET], types=["market_resolved"])
        else:
            wide = narrow = Wish(types=["new_market"])
        for wish in (wide, narrow):
            assert any(matches(each, subject_for(event)) for each in subjects_of(wish, "polymarket.v1"))
            if key is not None:
                gap = subject_for(gap_of(event))
                assert any(matches(each, gap) for each in subjects_of(wish, "polymarket.v1"))


NAMES = st.lists(
    st.sampled_from(["", "x", "a.b", "*", ">", "\u00e9", "btc/usd"]) | st.text(max_size=3), max_size=2
)


@given(
    st.sampled_from(list(ASKING)),
    st.fixed_dictionaries(
        {},
        optional={
            "types": st.lists(
                st.sampled_from([t for asking in ASKING.values() for t in asking.types]), max_size=2
            ),
            "topics": st.lists(st.sampled_from([*PRICE_TOPICS, "activity", "comments"]), max_size=2),
            "markets": st.just([MARKET]),
            "assets": st.just([ASSET]),
            "event_slugs": NAMES,
            "symbols": NAMES,
            "leagues": NAMES,
            "classes": st.just(["equity"]),
            "account": st.just("main"),
        },
    ),
)
def test_whatever_is_asked(feed: str, fields: dict[str, Any]) -> None:
    """It is refused, or has keys and subjects; no name from outside gets a wildcard or a blank into one.

    What was accepted can be said to the venue: a request must never be able to break a connection.
    """
    wish = Wish(feed=feed, **fields)
    refused: ControlError | None = None
    try:
        check(wish)
    except ControlError as error:
        refused = error
    if refused is not None:
        assert refused.code in (400, 422)
        assert refused.field in Wish.__struct_fields__
        return
    keys = keys_of(wish)
    assert keys
    dialect = DIALECTS[feed].spoken(PROFILES[feed], "main", CREDENTIALS)
    dialect.opening(keys)
    dialect.subscribe(keys)
    dialect.unsubscribe(keys)
    for subject in subjects_of(wish, "p"):
        tokens = subject.split(".")
        assert all(tokens)
        assert subject.isascii()
        assert not any(blank in subject for blank in " \t\r\n")
        assert ">" not in "".join(tokens[:-1])
        for token in tokens:
            assert token == "*" or "*" not in token
