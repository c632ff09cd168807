"""A gateway as a whole: how it starts, carries much, drains, and comes back after a crash."""

import signal
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
import nats.errors
import pytest

from polybus_protocol.profile import FeedProfile
from polybus_services.nats_server import NatsServer
from polybus_services.simulator import SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient

from ..support.consumer import Consumer, Refused, consuming
from ..support.five import venue
from ..support.process import gateway_process
from ..support.rig import Rig, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


# --- in this process -------------------------------------------------------------------------------


async def test_a_drain() -> None:
    """At the end every live stream gets its gap, and nothing after it; sockets close with 1000; all published."""
    with anyio.fail_after(30):
        async with rigged(SimulatorOptions(markets=6, seed=5, rate=150)) as rig:
            await rig.subscribe(*rig.assets)
            await rig.consumer.until(lambda: rig.consumer.received > 1000)
            begun = anyio.current_time()
            rig.gateway.stop()
            await rig.consumer.until(
                lambda: all("shutdown" in rig.consumer.of(asset).reasons for asset in rig.assets)
            )
            with anyio.fail_after(10):
                await rig.ended.wait()
            assert anyio.current_time() - begun < 10
            await rig.consumer.client.flush()
            for asset in rig.assets:
                assert rig.consumer.of(asset).events[-1]["reason"] == "shutdown"
                assert rig.consumer.of(asset).reasons == ["shutdown"]
            assert rig.gateway.bus.published == rig.consumer.received
            connections = (await rig.admin.ledger())["connections"]
            assert {(c["closed"]["by"], c["closed"]["code"]) for c in connections.values()} == {
                ("client", 1000)
            }


async def test_a_drain_answers_everybody() -> None:
    """Who waits for data when the end begins is told so at once; who asks later is refused with 503."""
    with anyio.fail_after(30):
        async with rigged() as rig:
            await rig.subscribe(*rig.assets)
            answers: list[Any] = []

            async def wait_for_data() -> None:
                request: dict[str, Any] = {
                    "assets": ["1"],
                    "wait": "data",
                    "wait_timeout_s": 60,
                    "id": "patient",
                }
                answers.append(await rig.consumer.ask("subscribe", **request))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait_for_data)
                await rig.consumer.until_status(lambda s: s["subscriptions"]["total"] == 2)
                # The venue's close takes a moment, in which there is still somebody to ask.
                rig.gateway.stop()
                refused = await _refusal(rig)
                assert refused.code == 503
                assert refused.error["retry_after_s"] > 0
            assert answers[0]["state"] == "accepted"
            assert answers[0]["missing"] == [{"asset": "1", "reason": "the gateway is shutting down"}]


async def _refusal(rig: Rig) -> Refused:
    while True:
        try:
            await rig.consumer.ask("subscribe", assets=rig.assets[:1], id="late", within_s=2)
        except Refused as refused:
            return refused


async def test_a_drain_without_nats() -> None:
    """If NATS is gone when the end comes, the gateway ends all the same, and in time."""
    with anyio.fail_after(30):
        async with rigged(drain_timeout_s=3.0) as rig:
            await rig.subscribe(*rig.assets)
            await rig.nats.terminate()
            begun = anyio.current_time()
            rig.gateway.stop()
            with anyio.fail_after(3):
                await rig.ended.wait()
            assert anyio.current_time() - begun < 3


async def test_two_thousand_assets() -> None:
    """One request for 2,000 assets: ten connections, all live, and every event of the venue accounted for."""
    patient = msgspec.structs.replace(
        FeedProfile(url=""), dial_interval_s=0.05, ping_interval_s=0.5, first_data_timeout_s=10
    )
    options = SimulatorOptions(markets=1000, seed=5, rate=150)
    with anyio.fail_after(60):
        async with rigged(options, patient) as rig:
            assets = rig.assets
            assert len(assets) == 2000
            begun = anyio.current_time()
            reply = await rig.consumer.ask("subscribe", assets=assets, wait="data", wait_timeout_s=30)
            seconds = anyio.current_time() - begun
            assert reply["missing"] == []
            assert reply["assets"] == 2000
            status = await rig.consumer.ask("status")
            assert [c["live_assets"] for c in status["connections"]] == [200] * 10
            count = rig.consumer.received
            await rig.consumer.until(lambda: rig.consumer.received > count + 2000, within_s=20)
            await rig.received_all()
            assert all(rig.consumer.of(asset).count("book") for asset in assets)
            assert (await rig.consumer.ask("status"))["nats"]["uncertain"] == 0
            print(f"2,000 assets live after {seconds:.2f} s")


# --- as a process ----------------------------------------------------------------------------------


async def test_sigterm(nats: NatsServer, tmp_path: Path) -> None:
    """SIGTERM drains: gaps on every stream, sockets closed with 1000, exit status 0, within ten seconds."""
    with anyio.fail_after(60):
        async with (
            running_simulator(SimulatorOptions(markets=4, seed=5, rate=150)) as simulator,
            consuming(nats.url) as consumer,
            gateway_process(nats.url, simulator.feeds, tmp_path) as gateway,
        ):
            assert gateway.ready["restored"] == 0
            assets = simulator.assets
            await consumer.ask("subscribe", assets=assets, wait="data")
            await consumer.until(lambda: consumer.received > 200)
            gateway.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(10):
                assert await gateway.process.wait() == 0
            await consumer.client.flush()
            for asset in assets:
                assert consumer.of(asset).events[-1]["reason"] == "shutdown"
            consumer.check()
            connections = (await AdminClient(simulator.admin).ledger())["connections"]
            closed = [c["closed"] for c in connections.values() if c["feed"] == "market"]
            # The first one was only to see whether the venue can be reached.
            assert [(c["by"], c["code"]) for c in closed[1:]] == [("client", 1000)]
            assert b"Traceback" not in gateway.log


async def test_kill_9_and_restart(nats: NatsServer, tmp_path: Path) -> None:
    """A gateway that was killed resumes without a command: the streams go on, after a gap that says `restart`."""
    with anyio.fail_after(90):
        async with (
            running_simulator(SimulatorOptions(markets=4, seed=5, rate=150)) as simulator,
            consuming(nats.url) as consumer,
        ):
            *assets, dropped = simulator.assets[:7]
            async with gateway_process(nats.url, simulator.feeds, tmp_path) as gateway:
                reply = await consumer.ask("subscribe", assets=assets, wait="data", id="lasting", owner="me")
                assert reply["durable"] is True
                await consumer.ask("subscribe", assets=[dropped], id="given-up")
                await consumer.ask("unsubscribe", id="given-up")
                await consumer.ask("subscribe", assets=[dropped], id="short", ttl_s=0.5)
                await consumer.until(lambda: consumer.received > 200)
                gateway.process.kill()
                await gateway.process.wait()
            await _silence(consumer)
            marks = {asset: len(consumer.of(asset).events) for asset in assets}
            async with gateway_process(nats.url, simulator.feeds, tmp_path) as gateway:
                assert gateway.ready["restored"] >= 1
                await consumer.until(
                    lambda: all(len(consumer.of(asset).events) > marks[asset] + 5 for asset in assets)
                )
                for asset in assets:
                    gap, closing, book, *_ = consumer.of(asset).events[marks[asset] :]
                    assert (gap["type"], gap["reason"], gap["seq"]) == ("gap", "restart", 1)
                    assert (closing["closed_by"], book["type"]) == ("snapshot", "book")
                consumer.check()
                (told,) = (await consumer.ask("subscriptions"))["subscriptions"]
                assert (told["id"], told["owner"], told["live_count"]) == ("lasting", "me", 6)


async def _silence(consumer: Consumer) -> None:
    """Until all that was published before has come, and nobody answers any more."""
    with anyio.fail_after(10):
        while True:
            try:
                await consumer.client.request("$SRV.PING.polybus", timeout=0.5)
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
                break
    await consumer.client.flush()


async def test_five_feeds_resume(nats: NatsServer, tmp_path: Path) -> None:
    """What was wanted of every feed is wanted again after a kill; each stream of it begins with a `restart` gap."""
    wishes: list[dict[str, Any]] = [
        {"feed": "user", "account": "alice"},
        {"feed": "user", "account": "bob"},
        {"feed": "rtds", "topics": ["activity", "comments", "crypto_prices"]},
        {"feed": "polybolt", "symbols": ["btcusd", "ethusd"]},
        {"feed": "sports"},
    ]
    ids = ["market", "alice", "bob", "rtds", "polybolt", "sports"]
    with anyio.fail_after(90):
        async with (
            running_simulator(venue(paused=False, rate=150)) as simulator,
            consuming(nats.url) as consumer,
        ):
            admin, accounts = AdminClient(simulator.admin), simulator.accounts

            def families() -> set[str]:
                return {key.split(".")[2] for key in consumer.streams}

            async with gateway_process(nats.url, simulator.feeds, tmp_path, accounts) as gateway:
                wanted: list[dict[str, Any]] = [{"assets": simulator.assets}, *wishes]
                for id_, wish in zip(ids, wanted, strict=True):
                    await consumer.ask("subscribe", **wish, id=id_, wait="sent")
                await admin.ask("POST", "/step", {"seconds": 60})
                every = {"market", "user", "activity", "comments", "price", "sports"}
                await consumer.until(lambda: families() == every)
                gateway.process.kill()
                await gateway.process.wait()
            await _silence(consumer)
            marks = {key: len(record.events) for key, record in consumer.streams.items()}
            async with gateway_process(nats.url, simulator.feeds, tmp_path, accounts) as gateway:
                assert gateway.ready["restored"] == 6, gateway.log.decode()
                listed = (await consumer.ask("subscriptions"))["subscriptions"]
                assert sorted(s["id"] for s in listed) == sorted(ids)
                resumed: dict[str, list[Any]] = {}

                def has_resumed() -> bool:
                    for key, record in consumer.streams.items():
                        if since := record.events[marks.get(key, 0) :]:
                            resumed[key] = since
                    return {key.split(".")[2] for key in resumed} == every

                with anyio.fail_after(30):
                    while not has_resumed():
                        await admin.ask("POST", "/step", {"seconds": 10})
                for key, since in resumed.items():
                    is_remembered = not key.endswith("._") or ".market." not in key
                    if is_remembered:
                        told = (since[0]["type"], since[0].get("reason"), since[0]["seq"])
                        assert told == ("gap", "restart", 1), key
                consumer.check()
                secrets = [account[field] for account in accounts for field in ("secret", "passphrase")]
                assert not any(secret.encode() in gateway.log for secret in secrets)
                assert not any(secret in payload for secret in secrets for payload in consumer.payloads)
