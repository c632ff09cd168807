"""`polybus top`: a gateway at work, in one screen."""

import contextlib
import time
from collections.abc import AsyncIterator

import anyio
import click
import nats.errors

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
from polybus_services.client import ControlClient, NatsUnreachable, NoGateway
from polybus_services.present.vitals import top as screenful
from polybus_services.vitals import Chart, Unanswered, Vitals

LOOK_S = 1.0
"""Seconds from one look to the next: a status takes the gateway a few milliseconds with thousands of assets."""

ANSWER_S = 2.0
"""Seconds for an answer: that there is none for longer is what one looks for."""


@click.command(
    epilog="""\b
Examples:
  polybus top
  polybus top --once                             after two looks, a second apart
  polybus top --json | jq -c '[.events_per_s, .backlog, .trust]'
  polybus top --once --json | jq -r '.hints[] | .alert + ": " + .words'

Rates are those of the last five seconds.  What wants attention stands above all else, by the name of the alert;
deploy/monitoring/runbooks.md says what to do.
"""
)
@click.option("--once", is_flag=True, help="Look twice, for the rates, show it and leave.")
@json_option
@common_options()
@pass_invocation
@async_command
async def top(invocation: Invocation, *, once: bool, as_json: bool) -> None:
    """Connections, rates, trust, gaps and backlog of a gateway, every second."""
    config, console = invocation.config(), invocation.console()
    async with ControlClient.connect(config.nats, prefix=config.gateway.prefix, name="polybus-cli") as client:
        seen = looks(client)
        if once:
            await anext(seen)
            told = await anext(seen)
            if as_json:
                print_json(told)
            else:
                console.print(screenful(told))
            return
        with present.screen(console, live=not as_json) as show:
            async with until_stopped():
                async for told in seen:
                    if as_json:
                        print_json(told)
                    else:
                        show(screenful(told))


async def looks(client: ControlClient, every_s: float = LOOK_S) -> AsyncIterator[Vitals | Unanswered]:
    """What is seen of a gateway, again and again.

    Raises:
        NoGateway: none answers the first time; later on that is something to be seen.
        NatsUnreachable: likewise.
    """
    chart = Chart()
    yield await _look(client, chart)
    while True:
        await anyio.sleep(every_s)
        try:
            told: Vitals | Unanswered = await _look(client, chart)
        except (NoGateway, NatsUnreachable) as error:
            told = Unanswered(time.time_ns(), f"{await _whose_fault(client)} ({error})")
        yield told


async def _whose_fault(client: ControlClient) -> str:
    """Whether it is NATS or the gateway that does not answer, by the name of the alert."""
    answers = False
    if client.nats.is_connected:  # else a flush has nothing to wait for
        with contextlib.suppress(nats.errors.Error, OSError), anyio.move_on_after(ANSWER_S):
            await client.nats.flush()
            answers = True
    if not answers:
        return "NatsDisconnected: NATS does not answer us, either; `polybus doctor` says more"
    return "GatewayDown: NATS answers, and the gateway does not; is its process there, and has it processor time?"


async def _look(client: ControlClient, chart: Chart) -> Vitals:
    begun = time.perf_counter()
    reply = await client.status(ANSWER_S)
    at = time.perf_counter()
    return chart.look(reply, at, time.time_ns(), at - begun)
