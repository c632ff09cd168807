"""`polybus subscribe`, `unsubscribe`, `subscriptions` and `status`: what the gateway is asked and answers."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from polybus_protocol.control.asking import keys_of
from polybus_protocol.control.requests import DELIVERIES, WAITS, parse_request
from polybus_services import present
from polybus_services.cli.duration import DURATION
from polybus_services.cli.support import (
    FAILED,
    WRONG_USAGE,
    Failure,
    Invocation,
    async_command,
    common_options,
    json_option,
    pass_invocation,
    print_json,
    until_stopped,
)
from polybus_services.cli.wishes import TYPES_BY_FEED, feed_meant, wish_options
from polybus_services.client import ControlClient

WATCH_S = 1.0
"""How often `status --watch` asks."""


@click.command(
    epilog=f"""\b
Examples:
  polybus subscribe 7132104567 7132104568 --wait data
  polybus subscribe --market 0xd7a1... --type book --type price_change --id my-bot --ttl 30m
  jq -r '.markets[].assets[]' simulator.json | polybus subscribe -
  polybus subscribe @ids.txt --owner research --json

\b
  polybus subscribe --account alice                       user: an account's orders and trades
  polybus subscribe --feed user --type trade              the same of the only account, trades only
  polybus subscribe --topic activity --type trades        rtds: the trades of the whole venue
  polybus subscribe --event-slug fed-decision-in-march    rtds: the activity of one event
  polybus subscribe --topic comments --topic crypto_prices
  polybus subscribe --feed polybolt --symbol BTC/USD --symbol eth-usd --wait data
  polybus subscribe --class equity --symbol aapl          polybolt: stocks
  polybus subscribe --league nfl --league nba             sports; all games: --feed sports

ASSET is a token id; `-` reads ids from standard input, `@FILE` from a file, separated by spaces, commas or lines.
The feed follows from what is given; user and polybolt need an account in the gateway's configuration.

\b
Types by feed:
{TYPES_BY_FEED}

Exit status 1: the subscription stands, but not everything got as far as --wait asks for.
"""
)
@click.argument("assets", metavar="[ASSET]...", nargs=-1)
@wish_options
@click.option("--owner", help="Who wants it; `unsubscribe --owner` drops all of an owner's.")
@click.option("--id", "id_", help="A name, which makes the command safe to repeat  [default: made up].")
@click.option("--ttl", type=DURATION, help="How long it lasts unless renewed, as 30m  [default: for ever].")
@click.option(
    "--deliver", type=click.Choice(DELIVERIES), help="`log`: the gateway also logs a line per event."
)
@click.option("--wait", type=click.Choice(WAITS), help="How far to wait  [default: accepted].")
@click.option("--timeout", type=DURATION, help="How long to wait, 60 s at most  [default: 10s].")
@json_option
@common_options()
@pass_invocation
@async_command
async def subscribe(
    invocation: Invocation,
    *,
    assets: tuple[str, ...],
    feed: str | None,
    id_: str | None,
    ttl: float | None,
    timeout: float | None,
    as_json: bool,
    **fields: Any,
) -> None:
    """Ask for events, and learn which NATS subjects carry them."""
    fields |= {"assets": list(_ids(assets)), "id": id_, "ttl_s": ttl, "wait_timeout_s": timeout}
    given = {name: value for name, value in fields.items() if value not in (None, (), [])}
    given["feed"] = feed or feed_meant(given)
    if "event_slugs" in given:
        given.setdefault("topics", ["activity"])
    # What the gateway would refuse, refused here: it needs no NATS to say so.
    request = parse_request("subscribe", msgspec.json.encode(given))
    async with _connect(invocation) as client:
        reply = await client.subscribe(**given)
    if as_json:
        print_json(reply)
    else:
        invocation.console().print(present.subscribed(reply))
    if request.wait != "accepted" and reply.missing:
        if as_json:
            raise click.exceptions.Exit(FAILED)
        # A condition id stands for more assets than it has keys.
        count = reply.assets or len(keys_of(request))
        wanted = present.counted(count, present.THINGS[reply.feed])
        raise Failure(f"{len(reply.missing)} of {wanted} did not get as far as `{request.wait}`")


@click.command(
    epilog="""\b
Examples:
  polybus unsubscribe my-bot
  polybus unsubscribe --owner research
"""
)
@click.argument("id_", metavar="[ID]", required=False)
@click.option("--owner", help="Drop all of this owner's.")
@json_option
@common_options()
@pass_invocation
@async_command
async def unsubscribe(invocation: Invocation, *, id_: str | None, owner: str | None, as_json: bool) -> None:
    """Drop one subscription by its ID, or all of an owner's."""
    if bool(id_) == bool(owner):
        raise click.UsageError(
            "name either the ID of a subscription or an --owner", click.get_current_context()
        )
    async with _connect(invocation) as client:
        reply = await client.unsubscribe(id=id_, owner=owner)
    if as_json:
        print_json(reply)
    else:
        dropped = ", ".join(reply.ids) or f"nothing: {owner} has no subscription"
        invocation.console().print(f"dropped {dropped}", soft_wrap=True)


@click.command(
    epilog="""\b
Examples:
  polybus subscriptions
  polybus subscriptions --id my-bot --assets
  polybus subscriptions --json | jq '.subscriptions[] | select(.live_count < .asset_count)'
"""
)
@click.option("--id", "id_", help="Only this one.")
@click.option("--owner", help="Only this owner's.")
@click.option("--assets", is_flag=True, help="Each asset with its state; --json always has them.")
@json_option
@common_options()
@pass_invocation
@async_command
async def subscriptions(
    invocation: Invocation, *, id_: str | None, owner: str | None, assets: bool, as_json: bool
) -> None:
    """List subscriptions with what each has received."""
    async with _connect(invocation) as client:
        reply = await client.subscriptions(id=id_, owner=owner, assets=assets or as_json)
    if as_json:
        print_json(reply)
    else:
        invocation.console().print(present.subscriptions(reply.subscriptions, with_assets=assets))


@click.command(
    epilog="""\b
Examples:
  polybus status
  polybus status --watch
  polybus status --json | jq '.connections[] | {id, feed, state, authenticated, last_data_time}'
  polybus status --json | jq '.unknown, .unknown_fields'
"""
)
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C; with --json a line each second.")
@json_option
@common_options()
@pass_invocation
@async_command
async def status(invocation: Invocation, *, watch: bool, as_json: bool) -> None:
    """How the gateway is doing.

    Connections, totals, events by type, gaps, and what it says of NATS.
    """
    console = invocation.console()
    async with _connect(invocation) as client:
        if not watch:
            reply = await client.status()
            if as_json:
                print_json(reply)
            else:
                console.print(present.status(reply))
            return
        with present.screen(console, live=not as_json) as show:
            async with until_stopped():
                while True:
                    reply = await client.status()
                    if as_json:
                        print_json(reply)
                    else:
                        show(present.status(reply))
                    await anyio.sleep(WATCH_S)


def _connect(invocation: Invocation) -> AbstractAsyncContextManager[ControlClient]:
    config = invocation.config()
    return ControlClient.connect(config.nats, prefix=config.gateway.prefix, name="polybus-cli")


def _ids(arguments: Iterable[str]) -> Iterator[str]:
    """The ids that arguments name, files and standard input read; each id once, in order."""
    seen: set[str] = set()
    for argument in arguments:
        for id_ in _read(argument):
            if id_ not in seen:
                seen.add(id_)
                yield id_


def _read(argument: str) -> list[str]:
    if argument != "-" and not argument.startswith("@"):
        return [argument]
    try:
        text = sys.stdin.read() if argument == "-" else Path(argument[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise Failure(f"ids cannot be read from {argument}: {reason.lower()}", WRONG_USAGE) from None
    return re.split(r"[\s,]+", text.strip()) if text.strip() else []
