"""How long a fault of the market feed goes unnoticed, and how long until a consumer has a book again.

Venue, gateway, NATS and consumer are in this one process, all real.  Times are from the moment the fault begins:
*noticed* when the book is no longer to be believed (a gap, or doubt), *back* when no gap is open and nothing speaks
against the book.  The settings are the defaults but for what is told in the table's title.
`python -m bench.recovery [--runs N] [--fault NAME] [--json]`.
"""

import argparse
import json
import statistics
from collections.abc import Awaitable, Callable

import anyio
import msgspec
from rich.console import Console
from rich.table import Table
from tests.support.books import BELIEVED, book_of, is_right, stream_of
from tests.support.rig import Rig, market_of, rigged

from polybus_protocol.profile import PROFILES
from polybus_services.simulator import SimulatorOptions

RUNS = 5
MARKETS = 20
RATE = 200.0
"""Facts a second: each asset speaks about ten times a second, so that it shows soon when one does not."""

PATIENCE_S = 120.0
"""Seconds after which a run has failed: twice the silence that makes a socket dead."""

STEP_S = 0.01
"""Seconds from one look of ours to the next."""

HARM_S = 1.0
"""Seconds in which a lost frame must have made the book wrong: at ten frames a second the next one shows it."""

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
    """What came of one run."""

    noticed_s: float
    """Seconds from the beginning of the fault."""
    back_s: float
    """The same."""
    gaps: int
    """How many were told: none where the book was right again before it was asked for anew."""
    unseen: int
    """Lost frames before this one that did no harm, or whose harm a later frame undid before the next look."""


class Onlooker:
    """Sees what a consumer sees of one asset, and whether its book is the venue's."""

    def __init__(self, rig: Rig, asset: str) -> None:
        self._rig, self._asset = rig, asset
        self._record, self._stream = rig.consumer.of(asset), stream_of(rig, asset)
        self._before = len(self._record.gaps)

    @property
    def gaps(self) -> int:
        """The gaps since the beginning."""
        return len(self._record.gaps) - self._before

    def has_noticed(self) -> bool:
        """Whether there was a gap, or the book is in doubt."""
        return self.gaps > 0 or self._stream.trust.value not in BELIEVED

    def is_back(self) -> bool:
        """Whether a book may be used again, be it one of REST that closed the gap."""
        return self._record.is_trusted and (self.gaps > 0 or self._stream.trust.value in BELIEVED)

    async def is_wrong(self) -> bool:
        """Whether the gateway holds another book than the venue did; an empty one is none."""
        book = await book_of(self._rig, self._asset)
        return book.source_time is not None and is_right(self._rig, book) is False


async def until(is_so: Callable[[], bool]) -> float:
    """Wait until something is so; when that was."""
    with anyio.fail_after(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  trust has no event to wait for
            await anyio.sleep(STEP_S)
    return anyio.current_time()


async def lose_until_noticed(rig: Rig, asset: str, onlooker: Onlooker) -> tuple[float, int]:
    """Lose one frame after another until the harm of one is noticed.

    Not every frame is missed: those of the best prices tell nothing new, and the next snapshot, or the next change
    to the same price, undoes what a lost change did.

    Returns:
        When the book became wrong, and how many frames were lost before that.
    """
    unseen = 0
    while True:
        await FAULTS["lost-frame"](rig, asset)
        begun = None
        with anyio.move_on_after(HARM_S):
            while not await onlooker.is_wrong():  # noqa: ASYNC110  nobody tells of it
                await anyio.sleep(STEP_S)
            begun = anyio.current_time()
        while begun is not None and await onlooker.is_wrong():
            if onlooker.has_noticed():
                return begun, unseen
            await anyio.sleep(STEP_S)
        unseen += 1


async def run_once(fault: str) -> Times:
    """One fault on a fresh gateway."""
    options = SimulatorOptions(markets=MARKETS, seed=1, rate=RATE)
    async with rigged(options, PROFILES["market"]) as rig:
        await rig.subscribe(*rig.assets)
        asset, consumer = rig.assets[0], rig.consumer
        # Until it is known how often the asset speaks.
        await consumer.until_status(lambda _: len(consumer.of(asset).events) >= 50, within_s=60)
        onlooker, begun, unseen = Onlooker(rig, asset), anyio.current_time(), 0
        if fault == "lost-frame":
            begun, unseen = await lose_until_noticed(rig, asset, onlooker)
        else:
            await FAULTS[fault](rig, asset)
        noticed, back = await until(onlooker.has_noticed), await until(onlooker.is_back)
        return Times(noticed - begun, back - begun, onlooker.gaps, unseen)


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
    for column in ("fault", "noticed: median", "worst", "book again: median", "worst", "with a gap"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    for fault, times in measured.items():
        noticed, back = [each.noticed_s for each in times], [each.back_s for each in times]
        figures = (statistics.median(noticed), max(noticed), statistics.median(back), max(back))
        told = sum(each.gaps > 0 for each in times)
        table.add_row(fault, *(f"{seconds:.2f}" for seconds in figures), f"{told} of {len(times)}")
    Console().print(table)


if __name__ == "__main__":
    main()
