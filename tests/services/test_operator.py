"""Each fault, as whoever is on call meets it: `docs/faults.md` says what shows, and that is what shows.

The second half takes minutes and is run by `make faults`.
"""

import os
import re

import anyio
import pytest

from polybus_services.vitals import ALERTS

from ..support.monitoring import ROOT, panels, rules
from ..support.new_operator import ALL, watch

WITHIN_S = 60.0
"""In which the cause is to be found."""

SILENT_TO_TOP = ("duplicate", "late-data", "bucket deleted")
"""Faults about which `polybus top` says nothing: no harm, or what `status` does not measure."""

UNANSWERED = ("NatsDisconnected", "GatewayDown")
"""What stands there in place of everything else."""


def rows() -> dict[str, list[str]]:
    """The cells of the table, by fault: what `polybus top` says, the alert, the panel, where the cause stands."""
    text = (ROOT / "docs/faults.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| `?([A-Za-z0-9 -]+?)`? \|(.+)\|$", text, re.MULTILINE)
    return {fault: [cell.strip() for cell in cells.split("|")] for fault, cells in found if fault in ALL}


def named(cell: str) -> list[str]:
    """The names in backquotes that begin with a capital: of alerts."""
    return re.findall(r"`([A-Z]\w+)`", cell)


def test_every_fault_has_a_row() -> None:
    """What is named there exists: hints, alerts, panels; what no panel shows the doctor finds."""
    table = rows()
    alerts = {rule.get("alert") for rule in rules()}
    titles = {panel["title"] for panel in panels()}
    assert set(table) == set(ALL)
    for fault, (top, alert, panel, cause) in table.items():
        assert set(named(top)) <= {*ALERTS, *UNANSWERED}, fault
        assert bool(named(top)) == (fault not in SILENT_TO_TOP), fault
        assert set(named(alert)) <= alerts, fault
        shown = set(re.findall(r"\*([^*]+)\*", panel))
        assert shown <= titles, (fault, shown)
        assert shown or "polybus doctor" in cause, fault
        assert cause, fault


@pytest.mark.anyio
@pytest.mark.skipif("POLYBUS_FAULTS" not in os.environ, reason="takes minutes: `make faults` runs it")
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
async def test_top_says_what_the_table_says() -> None:
    """Within a minute, of a gateway with its usual patience; several at a time."""
    wrong = []
    limit = anyio.CapacityLimiter(4)

    async def look(fault: str, top: str) -> None:
        async with limit:
            seen = await watch(fault, WITHIN_S, frozenset(named(top)))
        if not set(named(top)) <= set(seen):
            wrong.append(f"{fault}: {top}, and not {seen}")

    async with anyio.create_task_group() as tasks:
        for fault, (top, *_) in rows().items():
            if named(top):
                tasks.start_soon(look, fault, top)
    assert wrong == []
