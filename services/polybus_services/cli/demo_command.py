"""`polybus demo`."""

import click


@click.command()
def demo() -> None:
    """Run nats-server, the simulator and the gateway here, and watch what a consumer receives."""
