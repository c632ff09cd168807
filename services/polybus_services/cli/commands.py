"""All commands of `polybus`, and what its help says first."""

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import override

import click

from polybus_protocol import __version__
from polybus_services.cli.support import common_options

COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "demo": ("demo_command", "See it all work, on this machine."),
        "run": ("process_commands", "Run the gateway: the venue's feeds onto NATS."),
        "simulate": ("process_commands", "Run the venue in a box, to test against."),
        "subscribe": ("control_commands", "Ask for events, and learn which NATS subjects carry them."),
        "unsubscribe": ("control_commands", "Drop one subscription by its ID, or all of an owner's."),
        "subscriptions": ("control_commands", "List subscriptions with what each has received."),
        "status": ("control_commands", "How the gateway is doing."),
        "tail": (
            "tail_command",
            "Show events from NATS, live or out of the record, and whether any is missing.",
        ),
        "book": ("book_commands", "The book of an asset, drawn live."),
        "explain": ("book_commands", "Why an asset is, or is not, live, and what happened to it."),
        "top": ("top_command", "Connections, rates, trust, gaps and backlog of a gateway, every second."),
        "doctor": (
            "doctor_command",
            "Look at DNS, TLS, clocks, the venue, credentials, NATS, its permissions and streams.",
        ),
        "config": ("config_command", "Show the effective configuration."),
        "contract": (
            "contract_command",
            "Write down what this version promises: subjects, events, control verbs.",
        ),
    }
)
"""By name, in the order in which one meets them: the module that has it, and the first sentence of its help."""

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
    """Imports a command when it is called: all of them take half a second, which `--help` would wait for, too."""

    @override
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"polybus_services.cli.{module}"), cmd_name)
        return command

    @override
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, sentence) for name, (_, sentence) in COMMANDS.items()])


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=EPILOG,
)
@click.version_option(__version__, message="polybus %(version)s")
@common_options(hidden=False)
def polybus() -> None:
    """Polymarket's real-time feeds on NATS: ordered, gap-marked events for any number of consumers."""
