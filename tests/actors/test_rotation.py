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

from polybus_protocol.books.proof import Verdict
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
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=150, paused=True), profile) as rig:
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
    with anyio.fail_after(60):
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


async def test_the_old_socket_dies_while_its_successor_is_not_ready() -> None:
    """The ordinary gap, then all is complete again; and the rotation goes on to its end."""
    with anyio.fail_after(60):
        async with rigged() as rig:
            await rig.subscribe(*rig.assets)
            pool = rig.pool("market")
            (old,) = rig.connections
            refused = await rig.admin.fault_on("refuse-429", feed="market", retry_after_s=0, count=1)
            assert refused
            pool.rotate(1)
            await rig.consumer.until(lambda: any(each["id"].endswith("b") for each in rig.consumer.system))
            await rig.admin.fault_on("drop", connection=rig.link_of(old).id)
            await rig.consumer.until(
                lambda: all(rig.consumer.of(asset).reasons == ["connection_lost"] for asset in rig.assets)
            )
            await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))
            await until_done(rig)
            await rig.admin.step(200)
            await rig.settle()
            assert all(rig.consumer.of(asset).reasons == ["connection_lost"] for asset in rig.assets)


async def test_of_two_sockets_one_may_die() -> None:
    """Either of them, one after the other, under load: nobody notices, and they are two again."""
    async with busy(TWO) as (rig, witness):
        pool = rig.pool("market")
        await until_ready(rig)
        for number in (1, -1):
            victim = pool.connections[number]
            incarnation = victim.incarnation
            await rig.admin.fault_on("drop", connection=rig.link_of(victim).id)
            await rig.consumer.until(lambda v=victim, i=incarnation: v.incarnation > i)  # type: ignore[misc]
            await until_ready(rig)
        pool.rotate(1)
        await until_done(rig)
        await until_ready(rig)
        checks = await heard_all(rig, witness)
        assert checks["twins_removed"] > 0
        assert checks.get("twin_doubts", 0) == 0


@pytest.mark.parametrize("fault", ["lost-frame", "duplicate", "corrupt-frame"])
async def test_of_two_sockets_one_may_be_bad(fault: str) -> None:
    """What one of them loses, repeats or garbles, the other says: no gap, and nothing twice."""
    async with busy(TWO) as (rig, witness):
        await until_ready(rig)
        link = rig.link_of(rig.pool("market").connections[-1])
        for _ in range(5):
            await rig.admin.fault_on(fault, connection=link.id, count=1)
            before = sum(rig.consumer.counts().values())
            await rig.consumer.until(lambda b=before: sum(rig.consumer.counts().values()) > b + 100)  # type: ignore[misc]
        checks = await heard_all(rig, witness)
        if fault == "lost-frame":
            assert checks["twins_missed"] > 0


async def test_two_sockets_come_and_go_with_what_is_wanted() -> None:
    """Both carry what is added, both let go of what is not wanted any more, and the last one closes both."""
    with anyio.fail_after(60):
        async with rigged(profile=TWO) as rig:
            keep, leave = rig.assets[0], rig.assets[2]
            await rig.subscribe(keep, id="keep")
            await rig.subscribe(leave, id="leave")
            await until_ready(rig)
            assert [len(each.cargo.keys) for each in rig.connections] == [2, 2]
            await rig.consumer.ask("unsubscribe", id="leave")
            await rig.admin.step(100)
            await rig.settle()
            assert rig.consumer.of(leave).reasons == ["unsubscribed"]
            assert rig.consumer.of(leave).events[-1]["reason"] == "unsubscribed"
            assert rig.consumer.of(keep).gaps == []
            await rig.consumer.ask("unsubscribe", id="keep")
            assert (await rig.consumer.ask("status"))["connections"] == []
            assert rig.consumer.of(keep).reasons == ["unsubscribed"]
