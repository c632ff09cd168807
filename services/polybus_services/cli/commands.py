"""All commands of `polybus`, and what its help says first."""

from typing import override

import click

from polybus_protocol import __version__
from polybus_services.cli.book_commands import book, explain
from polybus_services.cli.config_command import config_command
from polybus_services.cli.contract_command import contract_command
from polybus_services.cli.control_commands import status, subscribe, subscriptions, unsubscribe
from polybus_services.cli.demo_command import demo
from polybus_services.cli.doctor_command import doctor
from polybus_services.cli.process_commands import run, simulate
from polybus_services.cli.support import common_options
from polybus_services.cli.tail_command import tail
from polybus_services.cli.top_command import top

EPILOG = """\b
Start here:
  polybus demo                          everything at once, on this machine
  polybus run                           the gateway: the venue's feeds onto NATS
  polybus subscribe TOKEN_ID --wait data
  polybus tail
  polybus book TOKEN_ID

Settings come from a file (--config, ./polybus.toml or $POLYBUS_CONFIG) and from variables such as
POLYBUS_NATS__URL; `polybus config` shows them all.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 something needed was unreachable.
"""


class Group(click.Group):
    """Commands in the order in which one meets them, not by the alphabet."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
)
@click.version_option(__version__, message="polybus %(version)s")
@common_options(hidden=False)
def polybus() -> None:
    """Polymarket's real-time feeds on NATS: ordered, gap-marked events for any number of consumers."""


for command in (
    demo,
    run,
    simulate,
    subscribe,
    unsubscribe,
    subscriptions,
    status,
    tail,
    book,
    explain,
    top,
    doctor,
    config_command,
    contract_command,
):
    polybus.add_command(command)
