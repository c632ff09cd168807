"""`polybus doctor`: what is between the gateway, the venue and NATS, and what to do about it."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from rich.console import Group, RenderableType
from rich.text import Text

from polybus_services import present
from polybus_services.cli.support import (
    Invocation,
    async_command,
    common_options,
    json_option,
    pass_invocation,
    print_json,
)

if TYPE_CHECKING:
    from polybus_services.doctor import Finding


@click.command(
    epilog="""\b
Examples:
  polybus doctor
  polybus doctor --config gateway.toml
  kubectl -n polybus exec deploy/gateway -- polybus doctor
  polybus doctor --json | jq '.findings[] | select(.verdict == "fail") | .check, .words, .remedy'

It uses the gateway's settings and login, changes nothing, and publishes no event; a gateway may be running or not.

Exit status: 0 where nothing failed, else what the first failure asks for: 1, 2 for a setting, 3 for something
that cannot be reached.
"""
)
@json_option
@common_options()
@pass_invocation
@async_command
async def doctor(invocation: Invocation, *, as_json: bool) -> None:
    """Look at DNS, TLS, clocks, the venue, credentials, NATS, its permissions and streams.

    Each is a line with a verdict and, where something is to be done, what.
    """
    from polybus_services.doctor import examine, exit_status

    config = invocation.config()
    # What those who are borrowed from the gateway would log is in the findings.
    logging.getLogger("polybus").addHandler(logging.NullHandler())
    findings = await examine(config)
    status = exit_status(findings)
    if as_json:
        print_json({"status": status, "findings": findings})
    else:
        invocation.console().print(shown(findings))
    raise click.exceptions.Exit(status)


def shown(findings: Sequence["Finding"]) -> RenderableType:
    """One row for each finding; what to do stands below what was seen."""
    grid = present.table("verdict", "check", "seen")
    for column in grid.columns[:2]:
        column.no_wrap = True
    for one in findings:
        seen = Text.assemble(f"{one.about}: ", one.words)
        if one.remedy is not None:
            seen.append(f"\n-> {one.remedy}", style="bold")
        grid.add_row(present.state(one.verdict), one.check, seen)
    counts = Counter(one.verdict for one in findings)
    return Group(grid, Text(", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])))


VERDICTS = ("ok", "warn", "fail", "skipped")
