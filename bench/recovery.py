"""How long a fault of the market feed goes unnoticed, and how long until a consumer has a book again.

Venue, gateway, NATS and consumer are in this one process, all real; times are a consumer's, from the moment the
fault begins: *noticed* when the first gap arrives, *back* when every gap is closed again.  The settings are the
defaults but for what is told in the table's title.  `python -m bench.recovery [--runs N] [--json]`.
"""

import argparse
import json
import statistics
from collections.abc import Awaitable, Callable

import anyio
import msgspec
from rich.console import Console
from rich.table import Table
from tests.support.rig import Rig, market_of, rigged

from polybus_protocol.profile import PROFILES
from polybus_services.simulator import SimulatorOptions

RUNS = 5
MARKETS = 20
RATE = 200.0
"""Facts a second: each asset speaks about ten times a second, so that it shows soon when one does not."""

PATIENCE_S = 120.0
"""Seconds after which a run has failed: twice the silence that makes a socket dead."""

type Harm = Callable[[Rig, str], Awaitable[object]]


def _fault(name: str, *, per_asset: bool = False, **parameters: object) -> Harm:
    async def harm(rig: Rig, asset: str) -> object:
        if per_asset:
            return await rig.admin.fault_on(name, assets=[asset], **parameters)
        carrier = rig.pool("market").standing.carrier_of(asset)
        assert carrier is not None
        return await rig.admin.fault_on(name, connection=rig.link_of(carrier).id, **parameters)

    return harm


async def _tick_change(rig: Rig, asset: str) -> object:
    return await rig.admin.happen("tick_size_change", market_of(rig, asset))


FAULTS: dict[str, Harm] = {
    "drop": _fault("drop"),
    "close-1013": _fault("close-1013"),
    "stall": _fault("stall"),
    "freeze-asset": _fault("freeze-asset", per_asset=True),
    "lost-frame": _fault("lost-frame", per_asset=True, count=1),
    "corrupt-frame": _fault("corrupt-frame", per_asset=True, count=1),
    "tick-change": _tick_change,
}
"""Those that make a book wrong or silent; a repeated or overtaken frame does neither for longer than a look."""


class Times(msgspec.Struct, frozen=True):
    """Seconds from the beginning of the fault."""

    noticed_s: float
    back_s: float


async def run_once(fault: str) -> Times:
    """One fault on a fresh gateway."""
    options = SimulatorOptions(markets=MARKETS, seed=1, rate=RATE)
    async with rigged(options, PROFILES["market"]) as rig:
        await rig.subscribe(*rig.assets)
        asset, consumer = rig.assets[0], rig.consumer
        # Until it is known how often the asset speaks.
        await consumer.until_status(lambda _: len(consumer.of(asset).events) >= 50, within_s=60)
        begun = anyio.current_time()
        await FAULTS[fault](rig, asset)
        record = consumer.of(asset)
        await consumer.until(lambda: bool(record.gaps), within_s=PATIENCE_S)
        noticed = anyio.current_time()
        await consumer.until(lambda: record.is_trusted, within_s=PATIENCE_S)
        return Times(noticed - begun, anyio.current_time() - begun)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="only this; may be repeated")
    options = parser.parse_args()
    measured = {
        fault: [anyio.run(run_once, fault) for _ in range(options.runs)] for fault in options.fault or FAULTS
    }
    if options.json:
        print(json.dumps({fault: msgspec.to_builtins(times) for fault, times in measured.items()}))
        return
    table = Table(
        title=f"{2 * MARKETS} assets, {RATE:g} facts/s, default settings; {options.runs} runs; seconds"
    )
    for column in ("fault", "noticed: median", "worst", "book again: median", "worst"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for fault, times in measured.items():
        noticed, back = [each.noticed_s for each in times], [each.back_s for each in times]
        figures = (statistics.median(noticed), max(noticed), statistics.median(back), max(back))
        table.add_row(fault, *(f"{seconds:.2f}" for seconds in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
