"""Books under random faults: at every checkpoint each is the venue's own of that moment, or is marked untrusted.

`POLYBUS_BOOKSOAK_SECONDS` says how long, `POLYBUS_BOOKSOAK_ASSETS` how many assets, `POLYBUS_BOOKSOAK_SEED` which
faults, `POLYBUS_BOOKSOAK_FAULTS` of which kinds (all of `FAULTS` if empty); `make booksoak SECONDS=180 ASSETS=1000`.

A frame that was lost as the very last shows with the next one, so a book is compared with the venue's as it was
when it had the hash that came last.
"""

import os
import random
from collections import Counter
from collections.abc import Collection
from contextlib import suppress

import anyio
import msgspec
import pytest

from polybus_services.simulator import SimulatorOptions
from polybus_services.simulator.probe import AdminError

from ..support.books import BELIEVED, book_of, is_right, stream_of
from ..support.rig import QUICK, Rig, market_of, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

SECONDS = float(os.environ.get("POLYBUS_BOOKSOAK_SECONDS") or 2)
ASSETS = int(os.environ.get("POLYBUS_BOOKSOAK_ASSETS") or 40)
SEED = int(os.environ.get("POLYBUS_BOOKSOAK_SEED") or 1)

BOOKS_PER_TURN = 20
"""Books compared before everybody else gets a turn: some tens of milliseconds."""

HEALING_S = 60 + ASSETS * 0.1
"""Seconds until all must be believed again: venue, gateway and consumer share one event loop here, and a thousand books that are
asked for anew are several megabytes, with a hash to compute for each."""

RATE = min(max(ASSETS * 1.5, 150.0), 300.0)
"""Facts a second: venue, gateway and consumer share one processor here."""

OF_SOCKETS = ("drop", "close-1013", "stall")
OF_FRAMES = ("duplicate", "reorder", "lost-frame", "corrupt-frame")
OF_REST = ("rest-stale", "rest-down", "rest-429")
FAULTS = tuple(filter(None, (os.environ.get("POLYBUS_BOOKSOAK_FAULTS") or "").split(","))) or (
    *OF_SOCKETS,
    *OF_FRAMES,
    *OF_REST,
    "freeze-asset",
    "tick-change",
)

IMPATIENT = msgspec.structs.replace(
    QUICK,
    check_interval_s=0.4,
    shortest_silence_s=1.5,
    data_timeout_s=3.0,
    asset_silence_s=6.0,
    # So that there is always another socket to go to.
    assets_per_connection=max(ASSETS // 4, 1),
)


async def harm(rig: Rig, fault: str, dice: random.Random) -> None:
    """Let one thing go wrong somewhere; most of it is over by itself."""
    admin, victim = rig.admin, dice.choice(rig.links("market") or [None])
    if victim is None:
        return  # all sockets are being dialled anew
    if fault == "tick-change":
        with suppress(AdminError):  # it has the fine one already
            await admin.happen("tick_size_change", market_of(rig, dice.choice(rig.assets)))
    elif fault == "freeze-asset":
        few = dice.sample(rig.assets, max(len(rig.assets) // 50, 2))
        await admin.fault_on(fault, assets=few, seconds=dice.uniform(1, 5))
    elif fault in OF_REST:
        await admin.fault_on(fault, seconds=dice.uniform(1, 5))
    elif fault == "stall":
        await admin.fault_on(fault, connection=victim.id, seconds=dice.uniform(0.5, 5))
    elif fault in OF_SOCKETS:
        await admin.fault_on(fault, connection=victim.id)
    else:
        await admin.fault_on(fault, connection=victim.id, count=dice.randrange(1, 6), probability=0.5)


async def told_of(rig: Rig, asset: str) -> str:
    """What may be believed of an asset, and how it came to that."""
    book, moments = await book_of(rig, asset), stream_of(rig, asset).history
    carriers = [c.id for c in rig.connections if c.feed == "market" and asset in c.cargo.streams]
    told = [moment.what for moment in moments][-8:]
    return f"{book.trust} ({book.why}), {book.proof}, on {book.connection} of {carriers}, {told}"


async def look(
    rig: Rig, tally: Counter[str], wrong: list[str], assets: Collection[str], unhealed: set[str]
) -> None:
    """Lay each book that is to be believed beside the venue's, and take the right ones out of the unhealed.

    Args:
        rig: see there.
        tally: counts what was found.
        wrong: what is wrong comes here, at once, because the look may be cut short.
        assets: whose books.
        unhealed: see above.
    """
    for number, asset in enumerate(assets):
        # A thousand books take seconds, in which the venue and the gateway would be deaf to each other.
        if number % BOOKS_PER_TURN == 0:
            await anyio.lowlevel.checkpoint()
        # From here on nothing else runs between the answer and the comparison.
        book = await book_of(rig, asset)
        if book.trust not in BELIEVED:
            tally[book.trust] += 1
            # The verb looks by itself; those who hear of trust over NATS have to wait for the next look.
            tally["not looked at yet"] += stream_of(rig, asset).trust.value in BELIEVED
            continue
        right = is_right(rig, book)
        tally["right" if right else "forgotten" if right is None else "wrong"] += 1
        tally[book.proof] += 1
        if right:
            unhealed.discard(asset)
        if right is False:
            wrong.append(f"{asset[:8]} is wrong at {book.seq}: {await told_of(rig, asset)}")


async def test_books_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """Under faults no book is believed that is not the venue's own; and afterwards all are believed again."""
    dice, happened, tally, wrong = random.Random(SEED), Counter[str](), Counter[str](), list[str]()
    options = SimulatorOptions(markets=ASSETS // 2, seed=SEED, rate=RATE)
    with anyio.fail_after(SECONDS + HEALING_S + 60):
        async with rigged(options, IMPATIENT) as rig:
            await rig.subscribe(*rig.assets)
            begun = anyio.current_time()
            while anyio.current_time() < begun + SECONDS:
                fault = dice.choice(FAULTS)
                await harm(rig, fault, dice)
                happened[fault] += 1
                await anyio.sleep(dice.uniform(0, 0.3))
                tally["checkpoints"] += 1
                await look(rig, tally, wrong, rig.assets, set())
            for fault in (*OF_FRAMES, *OF_REST, *OF_SOCKETS, "freeze-asset"):
                await rig.admin.fault_off(fault)
            mended_at, unhealed = anyio.current_time(), set(rig.assets)
            with anyio.move_on_after(HEALING_S):
                while unhealed and not wrong:
                    await look(rig, tally, wrong, sorted(unhealed), unhealed)
                    await rig.consumer.ask("status")
            healed_s = anyio.current_time() - mended_at
            await look(rig, tally, wrong, rig.assets, set())
            wrong += [f"{asset[:8]} has not healed: {await told_of(rig, asset)}" for asset in unhealed]
            status = await rig.consumer.ask("status")
    report = [f"books of {ASSETS} assets for {SECONDS:g} s, seed {SEED}: {happened.total()} faults"]
    report += [f"  faults  {dict(happened)}", f"  books   {dict(tally)}"]
    report += [f"  checks  {status['checks']}", f"  gaps {status['gaps']}, all healed in {healed_s:.1f} s"]
    with capsys.disabled():
        print("", *report, *wrong[:10], sep="\n")
    assert wrong == []
    assert status["restarts"] == 0
    assert tally["right"] > 5 * ASSETS
