"""`polybus run` and `polybus simulate`: the processes that stay."""

import logging
from typing import Any

import click

from polybus_services.cli.support import (
    UNREACHABLE,
    Failure,
    Invocation,
    async_command,
    common_options,
    first_error,
    json_option,
    pass_invocation,
    print_json,
    until_stopped,
)

logger = logging.getLogger("polybus.run")


@click.command(
    epilog="""\b
Examples:
  polybus run                                    the venue's feeds, NATS on this machine
  polybus run --nats nats://nats.internal:4222 --config gateway.toml
  POLYBUS_FEEDS__MARKET__URL=ws://127.0.0.1:8765/ws/market polybus run
  POLYBUS_ACCOUNTS__ALICE__SECRET_FILE=/run/secrets/alice polybus run     and so on, for user and polybolt
  polybus run --json > gateway.json &            one line, once it is ready

It ends at SIGTERM or Ctrl-C: what it has is published, what was asked is answered, sockets are closed.
"""
)
@json_option
@common_options()
@pass_invocation
@async_command
async def run(invocation: Invocation, *, as_json: bool) -> None:
    """Run the gateway: the venue's feeds onto NATS.

    It publishes what is subscribed to (see `polybus subscribe`) until it is told to stop.
    """
    from polybus_services import logs
    from polybus_services.config import remarks
    from polybus_services.gateway import Unreachable, run_gateway
    from polybus_services.health import CannotListen

    config = invocation.config()
    logs.configure(config.log, as_json=as_json)
    for key, remark in remarks(config).items():
        logger.warning("%s: %s", key, remark)

    def on_ready(ready: dict[str, Any]) -> None:
        if as_json:
            print_json(ready)
        else:
            from polybus_services.present.ready import gateway_ready

            invocation.console().print(gateway_ready(ready))

    try:
        await run_gateway(config, on_ready=on_ready)
    except Unreachable as error:
        raise Failure(str(error), UNREACHABLE) from None
    except CannotListen as error:
        raise Failure(str(error)) from None


@click.command(
    epilog="""\b
Examples:
  polybus simulate                               20 markets on a free port
  polybus simulate --port 8765 --seed 7 --markets 1000 --speed 5
  polybus simulate --json > simulator.json &     one line with all addresses, ids and accounts, once it is ready
  curl -X PUT http://127.0.0.1:8765/admin/faults/drop     cut every connection

The same seed gives the same markets and the same story.
"""
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), help="Port to listen on  [default: a free one]."
)
@click.option("--seed", default=1, show_default=True, help="What decides all that happens.")
@click.option(
    "--speed",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="1 is about 2 changes a second and market.",
)
@click.option(
    "--markets",
    default=20,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="How many; each has two assets.",
)
@json_option
@common_options()
@pass_invocation
@async_command
async def simulate(
    invocation: Invocation, *, host: str, port: int, seed: int, speed: float, markets: int, as_json: bool
) -> None:
    """Run the venue in a box, to test against.

    All five feeds with real sockets, consistent with each other, accounts to log in with, and faults on demand.
    """
    import anyio

    from polybus_services.simulator import SimulatorOptions, ready_line, running_simulator

    options = SimulatorOptions(host=host, port=port, seed=seed, speed=speed, markets=markets)
    try:
        async with until_stopped(), running_simulator(options) as simulator:
            if as_json:
                print_json(ready_line(simulator))
            else:
                from polybus_services.present.ready import simulator_ready

                invocation.console().print(simulator_ready(ready_line(simulator), seed))
            await anyio.sleep_forever()
    except* OSError as group:
        reason = str(getattr(first_error(group), "strerror", None) or first_error(group))
        raise Failure(f"the simulator cannot listen on {host}:{port}: {reason.lower()}") from None
