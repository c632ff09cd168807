"""The command line `polybus`.

Exit status: 0 done, 1 failed, 2 wrong usage or configuration, 3 something needed was unreachable (NATS, a gateway),
130 interrupted.  Whatever goes wrong is one sentence on standard error, or with `--json` one object there.
"""

import os
import sys
from collections.abc import Sequence
from typing import override

import click

from polybus_protocol import __version__
from polybus_services.cli.config_command import config_command
from polybus_services.cli.control_commands import status, subscribe, subscriptions, unsubscribe
from polybus_services.cli.demo_command import demo
from polybus_services.cli.process_commands import run, simulate
from polybus_services.cli.support import Invocation, common_options, first_error, report
from polybus_services.cli.tail_command import tail

EPILOG = """\b
Start here:
  polybus demo                          everything at once, on this machine
  polybus run                           the gateway: the venue's feeds onto NATS
  polybus subscribe TOKEN_ID --wait data
  polybus tail

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


for command in (demo, run, simulate, subscribe, unsubscribe, subscriptions, status, tail, config_command):
    polybus.add_command(command)


def main(args: Sequence[str] | None = None) -> None:
    """Run one command and leave the process with its exit status."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        status_code = polybus.main(arguments, prog_name="polybus", standalone_mode=False, obj=Invocation())
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, BaseExceptionGroup) as raised:  # noqa: BLE001 - the last stop: nobody wants a traceback
        error = first_error(raised)
        if isinstance(error, BrokenPipeError):
            # Who read our output has enough (`| head`).  Python would complain again when it closes stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        sys.exit(report(error, as_json="--json" in arguments))
    sys.exit(status_code if isinstance(status_code, int) else 0)
