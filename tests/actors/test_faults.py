"""Each fault by name, from the venue to a consumer: what it saw is complete, or a gap stands in the right place."""

from collections.abc import AsyncIterator

import anyio
import msgspec
import pytest

from polybus_services.simulator import SimulatorOptions

from ..support.rig import QUICK, Rig, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue is paused: a test lets things happen by hand."""
    with anyio.fail_after(60):
        async with rigged() as running:
            yield running


async def test_without_a_fault(rig: Rig) -> None:
    """Everything sent is received, per asset and type, in order and without a gap."""
    await rig.subscribe(*rig.assets)
    await rig.admin.step(500)
    await rig.received_all()
    assert all(rig.consumer.of(asset).gaps == [] for asset in rig.assets)
    assert sum(rig.consumer.counts().values()) > 900


async def test_drop(rig: Rig) -> None:
    """A cut socket: one gap per asset, right where the epoch breaks; then a fresh book, and all is complete."""
    await rig.subscribe(*rig.assets)
    await rig.admin.step(50)
    await rig.settle()
    before = {asset: rig.consumer.of(asset).last for asset in rig.assets}
    await rig.admin.fault_on("drop")
    await rig.consumer.until(lambda: all(rig.consumer.of(asset).reasons for asset in rig.assets))
    await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))
    await rig.admin.step(50)
    await rig.received_all()
    for asset in rig.assets:
        (gap,) = rig.consumer.of(asset).gaps
        assert gap["reason"] == "connection_lost"
        assert (gap["last_epoch"], gap["last_seq"]) == before[asset]
        at = rig.consumer.of(asset).events.index(gap)
        closing, after = rig.consumer.of(asset).events[at + 1 : at + 3]
        assert (closing["type"], closing["closed_by"], after["type"]) == ("gap", "snapshot", "book")
    status = await rig.consumer.ask("status")
    assert (status["reconnects"], status["connection_errors"]) == (1, 1)


async def test_stall() -> None:
    """An open socket that answers pings and delivers nothing is given up: a gap, and no silence taken for health."""
    impatient = msgspec.structs.replace(QUICK, data_timeout_s=0.5)
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=120), impatient) as rig:
            await rig.subscribe(*rig.assets)
            await rig.admin.fault_on("stall")
            # Only this socket is in a hurry: on a busy machine the next would be given up with what is unread in it.
            (connection,) = rig.connections
            connection.profile = msgspec.structs.replace(
                connection.profile, data_timeout_s=QUICK.data_timeout_s
            )
            await rig.consumer.until(lambda: all(rig.consumer.of(asset).reasons for asset in rig.assets))
            for asset in rig.assets:
                assert not rig.consumer.of(asset).is_trusted
                assert "no data" in rig.consumer.of(asset).gaps[0]["detail"]
            await rig.admin.fault_off("stall")
            await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))
            await rig.received_all()


async def test_stall_from_the_first_moment() -> None:
    """A subscription that never delivers is not live: the connection is given up, and `wait: data` says so."""
    impatient = msgspec.structs.replace(QUICK, first_data_timeout_s=0.3)
    with anyio.fail_after(60):
        async with rigged(profile=impatient) as rig:
            await rig.admin.fault_on("stall")
            asset = rig.assets[0]
            reply = await rig.subscribe(asset, wait="sent", id="s")
            assert (reply["state"], reply["missing"]) == ("sent", [])
            reply = await rig.consumer.ask(
                "subscribe", assets=[asset], id="s", wait="data", wait_timeout_s=0.8
            )
            assert (reply["created"], reply["state"]) == (False, "accepted")
            assert [missing["asset"] for missing in reply["missing"]] == [asset]
            assert (await rig.consumer.ask("status"))["connection_errors"] >= 1
            await rig.admin.fault_off("stall")
            await rig.subscribe(asset, id="s")


async def test_freeze_asset() -> None:
    """One asset falls silent among others: its silence ends its trust, while its siblings go on undisturbed."""
    impatient = msgspec.structs.replace(QUICK, asset_silence_s=0.8)
    # So that nobody but the frozen one is silent for so long.
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=2, seed=5, rate=150), impatient) as rig:
            frozen, *others = rig.assets
            await rig.subscribe(*rig.assets)
            await rig.admin.fault_on("freeze-asset", assets=[frozen])
            await rig.consumer.until(lambda: "silent" in rig.consumer.of(frozen).reasons)
            assert all("silent" not in rig.consumer.of(asset).reasons for asset in others)
            (told,) = (await rig.consumer.ask("subscriptions"))["subscriptions"]
            states = {asset["asset"]: asset["state"] for asset in told["assets"]}
            assert states[frozen] in ("waiting", "suspect"), "suspect if REST has told its book meanwhile"
            await rig.admin.fault_off("freeze-asset")
            await rig.consumer.until(lambda: rig.consumer.of(frozen).is_trusted)
            await rig.received_all()


async def test_refuse_429() -> None:
    """A refusal with `Retry-After` is a minimum: nobody dials again before, and the streams have their gap."""
    with anyio.fail_after(60):
        async with rigged() as rig:
            await rig.subscribe(*rig.assets)
            await rig.admin.fault_on("refuse-429", retry_after_s=1, count=1)
            begun = anyio.current_time()
            await rig.admin.fault_on("drop")
            await rig.consumer.until(lambda: all(rig.consumer.of(a).reasons for a in rig.assets))
            await rig.consumer.until(lambda: all(rig.consumer.of(a).is_trusted for a in rig.assets))
            assert anyio.current_time() - begun >= 1.0
            assert (await rig.admin.ledger())["refused"] == 1
            waiting, dialing = [e for e in rig.consumer.system if "429" in (e["reason"] or "")]
            assert (waiting["state"], dialing["state"]) == ("waiting", "dialing")
            assert waiting["retry_in_s"] >= 1.0


async def test_duplicate(rig: Rig) -> None:
    """A frame that is said twice is published once, and counted."""
    await rig.subscribe(*rig.assets)
    await rig.admin.fault_on("duplicate")
    await rig.admin.step(100)
    await rig.received_all()
    status = await rig.consumer.ask("status")
    assert status["duplicates"] >= 100
    assert status["gaps"] == 0


@pytest.mark.parametrize("mode", ["cut", "flip"])
async def test_corrupt_frame(rig: Rig, mode: str) -> None:
    """A frame that cannot be read is passed on raw, and whom it may have concerned gets a gap and a fresh book."""
    await rig.subscribe(*rig.assets)
    await rig.admin.fault_on("corrupt-frame", mode=mode, count=1)
    await rig.admin.step(1)
    await rig.consumer.until(lambda: any(rig.consumer.of(a).reasons for a in rig.assets))
    doubted = [asset for asset in rig.assets if rig.consumer.of(asset).reasons]
    await rig.consumer.until(lambda: all(rig.consumer.of(a).is_trusted for a in doubted))
    await rig.admin.step(100)
    received, ledger = await rig.settle()
    assert {asset for asset, _ in ledger["corrupted"]} <= set(doubted)
    for asset in doubted:
        assert rig.consumer.of(asset).reasons[0] == "undecodable_frame"
    # The corrupted events are the only ones that are missing.
    await rig.received_all()
    assert received.total() >= sum(ledger["sent"].values())
    assert [event["kind"] in ("not_json", "malformed") for event in rig.consumer.unknown] == [True]


@pytest.mark.parametrize("inside", [True, False])
async def test_unknown_event(rig: Rig, inside: bool) -> None:
    """An event nobody knows is passed on raw and harms no neighbour."""
    await rig.subscribe(*rig.assets)
    await rig.admin.fault_on("unknown-event", inside=inside, count=20)
    await rig.admin.step(100)
    await rig.received_all()
    assert (await rig.consumer.ask("status"))["unknown"] == {"event": 20}
    assert [event["kind"] for event in rig.consumer.unknown] == ["event"] * 20
    assert all(rig.consumer.of(asset).gaps == [] for asset in rig.assets)


async def test_close_1013(rig: Rig) -> None:
    """Dropped as a slow reader: what the venue discarded lies in a hole that a gap covers, and says why."""
    await rig.subscribe(*rig.assets)
    await rig.admin.fault_on("close-1013", count=1)
    await rig.admin.step(20)
    await rig.consumer.until(lambda: all(rig.consumer.of(asset).reasons for asset in rig.assets))
    await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))
    await rig.admin.step(50)
    await rig.received_all()
    (gap,) = rig.consumer.of(rig.assets[0]).gaps
    assert "1013" in gap["detail"]
    assert "slow" in gap["detail"]
