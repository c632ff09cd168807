"""`polybus demo`."""

import click

from polybus_services.cli.duration import DURATION
from polybus_services.cli.support import (
    FAILED,
    INTERRUPTED,
    Invocation,
    async_command,
    json_option,
    pass_invocation,
)


@click.command(
    epilog="""\b
Examples:
  polybus demo
  polybus demo --seconds 20 --markets 100 --speed 20
  polybus demo --seconds 5 --json | tail -1 | jq .verdict
  polybus demo > demo.log                        plain lines instead of the view

It starts a nats-server, the simulator and a gateway of its own, on free ports, and ends them again. Switch a
fault on while it runs, with the address it shows: curl -X PUT http://127.0.0.1:PORT/admin/faults/drop

Exit status 1: the numbers of the closing summary do not agree.
"""
)
@click.option("--seconds", type=DURATION, help="Stop after so long  [default: at Ctrl-C].")
@click.option(
    "--markets", default=8, show_default=True, type=click.IntRange(1, 2_000), help="How many to follow."
)
@click.option(
    "--speed",
    default=5.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="1 is about 2 changes a second and market.",
)
@click.option("--seed", default=1, show_default=True, help="What decides all that happens.")
@click.option("--no-color", is_flag=True, hidden=True)
@json_option
@pass_invocation
@async_command
async def demo(
    invocation: Invocation,
    *,
    seconds: float | None,
    markets: int,
    speed: float,
    seed: int,
    no_color: bool,
    as_json: bool,
) -> None:
    """See it all work, on this machine.

    Starts a nats-server, the simulator and a gateway, subscribes to the simulated markets and shows what a consumer
    receives from NATS; at the end it compares what was sent with what arrived.
    """
    from polybus_services.demo import DemoOptions, Interrupted, play
    from polybus_services.demo.screen import JsonOutput, LiveOutput, Output, PlainOutput

    if invocation.has_settings:
        raise click.UsageError(
            "the demo starts everything itself: --config, --nats and --prefix mean nothing to it",
            click.get_current_context(),
        )
    if no_color:
        invocation.remember("no_color", no_color)
    console = invocation.console()
    output: Output = (
        JsonOutput() if as_json else LiveOutput(console) if console.is_terminal else PlainOutput(console)
    )
    options = DemoOptions(seconds=seconds, markets=markets, speed=speed, seed=seed)
    try:
        summary = await play(options, output)
    except Interrupted:
        raise click.exceptions.Exit(INTERRUPTED) from None
    if not summary.agree:
        raise click.exceptions.Exit(FAILED)
