"""What `polybus tail` looks at: from options to NATS subjects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from types import MappingProxyType

import click

from polybus_protocol.feeds.prices import plain_symbol
from polybus_protocol.subjects import BRINGS, FAMILIES, encode_token

SEEN = tuple(family for family in FAMILIES if family != "control")
"""The families of subjects that carry events."""

FEEDS: Mapping[str, Sequence[str]] = MappingProxyType(
    {
        **{family: (family,) for family in SEEN},
        **BRINGS,
    }
)
"""Feeds and families by name, and the families of subjects that each means."""


def _spellings(symbol: str) -> list[str]:
    """As the symbol stands in subjects: that of a stock keeps what a pair of currencies loses."""
    return list(dict.fromkeys(plain_symbol(symbol, class_) for class_ in ("crypto", "equity")))


def _same(value: str) -> list[str]:
    return [value]


def _lower(value: str) -> list[str]:
    return [value.lower()]


NARROWING: Mapping[str, tuple[str, Sequence[str], Callable[[str], list[str]]]] = MappingProxyType(
    {
        "asset": ("asset", ("market",), _same),
        "market": ("market", ("market", "user", "activity"), _same),
        "account": ("account", ("user",), _same),
        "slug": ("event_slug", ("activity",), _same),
        "symbol": ("symbol", ("price",), _spellings),
        "league": ("league", ("sports",), _lower),
    }
)
"""By option: the id that it narrows, the families that have it (the first ones count where none is named), and
what makes the id of what was written."""


def sight_options[Function: Callable[..., object]](function: Function) -> Function:
    """The options that say what to look at."""
    options = (
        click.option(
            "--feed",
            "--family",
            "feeds",
            multiple=True,
            type=click.Choice(list(FEEDS)),
            metavar="NAME",
            help=f"Only this feed or family of subjects: {', '.join(FEEDS)}.",
        ),
        click.option("--asset", multiple=True, metavar="ID", help="Everything about this token id."),
        click.option("--market", multiple=True, metavar="ID", help="Everything about this condition id."),
        click.option(
            "--account", multiple=True, metavar="LABEL", help="The orders and trades of this account."
        ),
        click.option(
            "--slug", multiple=True, metavar="SLUG", help="The activity of this event of the venue."
        ),
        click.option("--symbol", multiple=True, help="This price, in any spelling: btcusd, BTC/USD, aapl."),
        click.option("--league", multiple=True, help="The games of this league."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def subjects_seen(feeds: Sequence[str], narrowing: Mapping[str, Sequence[str]], prefix: str) -> Iterator[str]:
    """The subjects that options mean: of each family that is named, or that an option is about, what they leave.

    Args:
        feeds: names of `FEEDS`.
        narrowing: what was given for each option of `NARROWING`.
        prefix: the first tokens of all subjects.

    Raises:
        click.UsageError: an option that means nothing to any family that is named.
    """
    given = {option: values for option, values in narrowing.items() if values}
    families = dict.fromkeys(family for feed in feeds for family in FEEDS[feed])
    for option in given:
        having = NARROWING[option][1]
        if feeds and not set(having) & set(families):
            raise click.UsageError(
                f"--{option} means nothing to {', '.join(feeds)}", click.get_current_context(silent=True)
            )
    if not feeds:
        families = dict.fromkeys(NARROWING[option][1][0] for option in given)
        # A condition id beside an account is about that account's orders there.
        if "market" in given and families.keys() & {"user", "activity"} and "asset" not in given:
            del families["market"]
    for family in families:
        ids = {NARROWING[option][0]: _spelt(option, values) for option, values in given.items()}
        ids = {id_: values for id_, values in ids.items() if id_ in FAMILIES[family]}
        # A market has its assets: to name both is to want both.
        for some in [{id_: ids[id_]} for id_ in ids] if family == "market" and ids else [ids]:
            for chosen in product(*(some.get(id_, ["*"]) for id_ in FAMILIES[family])):
                while chosen and chosen[-1] == "*":
                    chosen = chosen[:-1]
                yield ".".join((prefix, family, *chosen, ">"))


def _spelt(option: str, values: Sequence[str]) -> list[str]:
    """The tokens of what was given for an option."""
    return [encode_token(spelt) for value in values for spelt in NARROWING[option][2](value)]
