"""`polybus demo`."""

import click


@click.command()
def demo() -> None:
    """See it all work, on this machine."""
