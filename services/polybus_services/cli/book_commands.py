"""`polybus book` and `polybus explain`: one asset, looked at closely."""

from collections.abc import Callable

import anyio
import click

from polybus_services import present
from polybus_services.cli.support import (
    Invocation,
    async_command,
    common_options,
    json_option,
    pass_invocation,
    print_json,
    until_stopped,
)
from polybus_services.client import ControlClient
from polybus_services.consumer import Polybus, connect
from polybus_services.present.book import Sight, explanation, ladder, sight

REDRAW_S = 0.1
"""Seconds from one picture to the next at least: more is not seen."""

AGE_S = 1.0
"""Seconds after which a picture of what has not changed is drawn anew, for its age."""


@click.command(
    epilog="""\b
Examples:
  polybus book 71321045679252212594            the ladder, live, until Ctrl-C
  polybus book 71321045679252212594 --depth 20
  polybus book 71321045679252212594 --once --json | jq '.bids[0], .asks[0]'
  polybus book 71321045679252212594 --json     a line with each change, ten a second at most, and each second

It keeps the book from the events on NATS, as a consumer does, and says when it must not be believed. Somebody must have
subscribed to the asset (see `polybus subscribe`).
"""
)
@click.argument("asset")
@click.option("--depth", type=click.IntRange(1), default=10, show_default=True, help="Levels of each side.")
@click.option("--once", is_flag=True, help="Show what the gateway says it is, and leave.")
@json_option
@common_options()
@pass_invocation
@async_command
async def book(invocation: Invocation, *, asset: str, depth: int, once: bool, as_json: bool) -> None:
    """The book of an asset, drawn live."""
    config, console = invocation.config(), invocation.console()
    async with connect(config.nats, prefix=config.gateway.prefix, name="polybus-cli") as polybus:
        # Also where it goes on: what the gateway does not have is said at once.
        told = await polybus.control.book(asset, depth=depth)
        if once and as_json:
            print_json(told)
        elif once:
            console.print(ladder(sight(told, depth)))
        else:
            with present.screen(console, live=not as_json) as show:
                async with until_stopped():
                    await _watch(
                        polybus, asset, depth, print_json if as_json else lambda it: show(ladder(it))
                    )


@click.command(
    epilog="""\b
Examples:
  polybus explain 71321045679252212594
  polybus explain 71321045679252212594 --json | jq -r '.words[]'
"""
)
@click.argument("asset")
@json_option
@common_options()
@pass_invocation
@async_command
async def explain(invocation: Invocation, *, asset: str, as_json: bool) -> None:
    """Why an asset is, or is not, live, and what happened to it."""
    config = invocation.config()
    async with ControlClient.connect(config.nats, prefix=config.gateway.prefix, name="polybus-cli") as client:
        reply = await client.explain(asset)
    if as_json:
        print_json(reply)
    else:
        invocation.console().print(explanation(reply), soft_wrap=False)


async def _watch(polybus: Polybus, asset: str, depth: int, show: Callable[[Sight], None]) -> None:
    """Show a book whenever it has changed."""
    news = anyio.Event()
    events = polybus.follow([asset], subscribe=False)

    async def keep() -> None:
        async for _ in events:
            news.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keep)
        while True:
            with anyio.move_on_after(AGE_S):
                await news.wait()
            news = anyio.Event()
            show(sight(polybus.book(asset), depth))
            await anyio.sleep(REDRAW_S)
