"""Two sockets for one asset, from the venue to a consumer: for the time of a rotation, and all the time.

The simulator counts what it sends to each of the two, so its ledger has every event twice.  What a consumer must
receive is told by an outsider, whose socket nothing happens to.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from polybus_protocol.proof import Verdict
from polybus_services.simulator import SimulatorOptions

from ..support.rig import QUICK, Rig, rigged
from ..support.witness import Witness, agrees, watching

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

TWO = msgspec.structs.replace(QUICK, twin_connections=True)


@asynccontextmanager
async def busy(profile: Any = QUICK) -> AsyncIterator[tuple[Rig, Witness]]:
    """A rig whose venue talks, with all assets followed, and an outsider who follows them from before."""
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=400, paused=True), profile) as rig:
            asked = {"type": "market", "assets_ids": rig.assets, "custom_feature_enabled": True}
            async with (
                watching(rig.simulator, "market", asked) as witness,
                anyio.create_task_group() as tasks,
            ):
                tasks.start_soon(witness.listen)
                await rig.subscribe(*rig.assets)
                await rig.admin.ask("POST", "/resume")
                yield rig, witness
                tasks.cancel_scope.cancel()


async def until_done(rig: Rig, count: int = 1) -> None:
    """So many rotations are over, and the old sockets with them."""
    await rig.consumer.until_status(lambda s: s["checks"].get("rotations_done", 0) >= count)


async def until_ready(rig: Rig) -> None:
    """Either of the two sockets could go on alone."""
    with anyio.fail_after(15):
        while True:
            connections = rig.pool("market").connections
            first, second = connections.get(1), connections.get(-1)
            if first and second and first.can_replace(second) and second.can_replace(first):
                return
            await anyio.sleep(0.01)


async def heard_all(rig: Rig, witness: Witness) -> dict[str, int]:
    """Settle; each event that the outsider was told was published once and in order.

    Returns:
        The status's checks.
    """
    await rig.settle()
    facts = await witness.facts()
    assert sum(map(len, facts.values())) > 100, "too little happened to prove anything"
    for asset in rig.assets:
        record = rig.consumer.of(asset)
        assert record.gaps == []
        told = rig.consumer.events("market", asset)
        # Each was given a snapshot of its own; from there on they were told the same.
        expected = facts[asset][1:]
        assert told[0]["type"] == "book"
        assert len(told) - 1 == len(expected), (asset, len(told) - 1, len(expected))
        assert all(map(agrees, expected, told[1:]))
    for stream in rig.pool("market").asset_streams():
        assert stream.prove() is not Verdict.MISMATCH
        assert (await rig.consumer.ask("book", asset=stream.asset))["trust"] == "live"
    return dict((await rig.consumer.ask("status"))["checks"])


async def test_a_rotation_shows_nowhere() -> None:
    """Under load, one socket replaces another: no gap, nothing twice, nothing missing, and the old one is closed."""
    async with busy() as (rig, witness):
        for count in (1, 2):
            rig.pool("market").rotate(1)
            await until_done(rig, count)
        checks = await heard_all(rig, witness)
        assert checks["twins_removed"] > 0
        assert checks.get("twin_doubts", 0) == 0
        (told,) = (await rig.consumer.ask("status"))["connections"]
        assert told["id"] == "gw0-market-1"
        assert (await rig.consumer.ask("status"))["reconnects"] == 0
        ours = [each for each in (await rig.admin.ledger())["connections"].values() if each["closed"]]
        assert [(each["closed"]["by"], each["closed"]["code"]) for each in ours] == [("client", 1000)] * 2


async def test_sockets_that_grow_old_are_replaced() -> None:
    """By the profile, and also where assets are quiet: equal books are enough."""
    with anyio.fail_after(60):
        async with rigged(profile=msgspec.structs.replace(QUICK, rotate_after_s=0.5)) as rig:
            await rig.subscribe(*rig.assets)
            await until_done(rig)
            assert all(rig.consumer.of(asset).gaps == [] for asset in rig.assets)
            assert all(rig.consumer.of(asset).count("book") == 1 for asset in rig.assets)
