"""What `polybus subscribe` is asked for: which feed the options mean, and what is wrong with them."""

from collections.abc import Callable, Collection, Mapping

import click

from polybus_protocol.control.asking import ASKING, EVENT_TYPES

FLAGS = {
    "assets": "ASSET",
    "markets": "--market",
    "account": "--account",
    "topics": "--topic",
    "event_slugs": "--event-slug",
    "symbols": "--symbol",
    "classes": "--class",
    "leagues": "--league",
}
"""The fields of a request, and how the command line calls them."""

_OPTIONS = (
    click.option("--feed", type=click.Choice(list(ASKING)), help="Which feed, where the rest does not tell."),
    click.option(
        "--market",
        "markets",
        multiple=True,
        metavar="ID",
        help="A condition id: its known assets, or only it.",
    ),
    click.option(
        "--account", metavar="LABEL", help="user: whose orders and trades  [default: the only one's]."
    ),
    click.option("--topic", "topics", multiple=True, help="rtds: activity, comments, crypto_prices, ..."),
    click.option("--event-slug", "event_slugs", multiple=True, metavar="SLUG", help="rtds: only this event."),
    click.option(
        "--symbol",
        "symbols",
        multiple=True,
        help="polybolt: what to follow, as btcusd; rtds: only these prices.",
    ),
    click.option(
        "--class",
        "classes",
        multiple=True,
        help="polybolt: crypto, crypto_twap, equity or equity_twap  [default: crypto].",
    ),
    click.option("--league", "leagues", multiple=True, help="sports: only this league, as nfl."),
    click.option(
        "--type",
        "types",
        multiple=True,
        type=click.Choice(EVENT_TYPES),
        metavar="TYPE",
        help="Only these events; each feed's are below.",
    ),
)

TYPES_BY_FEED = "\n".join(f"  {feed:<9} {', '.join(asking.types)}" for feed, asking in ASKING.items())
"""For the help."""


def wish_options[Function: Callable[..., object]](function: Function) -> Function:
    """The options that say what is wanted."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def feed_meant(given: Mapping[str, Collection[str] | str | None]) -> str:
    """The feed that takes all that was given, where nobody named it.

    Args:
        given: fields of a request, `types` among them; the empty ones do not count.

    Raises:
        click.UsageError: none takes all of it, or more than one does.
    """
    fields = {name for name in FLAGS if given.get(name)}
    types = set(given.get("types") or ())
    if not fields and not types:
        raise _wrong(
            "name at least one ASSET or --market, or what another feed has: "
            "--account, --topic, --symbol, --league or --feed"
        )
    feeds = [feed for feed, asking in ASKING.items() if fields <= asking.fields and types <= {*asking.types}]
    told = " with ".join(
        [*(FLAGS[name] for name in FLAGS if name in fields), *(f"--type {t}" for t in sorted(types))]
    )
    if not feeds:
        raise _wrong(f"no feed takes {told}")
    # Ids alone mean the market feed, as they did when it was the only one.
    if len(feeds) > 1 and not (feeds[0] == "market" and fields <= {"assets", "markets"}):
        raise _wrong(f"{told} could mean the feeds {' and '.join(feeds)}: say which with --feed")
    return feeds[0]


def _wrong(message: str) -> click.UsageError:
    return click.UsageError(message, click.get_current_context(silent=True))
