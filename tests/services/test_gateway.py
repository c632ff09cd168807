"""A gateway as a whole: how it starts, carries much, drains, and comes back after a crash."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
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
from ..support.rig import QUICK, Rig, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


# --- in this process -------------------------------------------------------------------------------


async def test_a_drain() -> None:
    """At the end every live stream gets its gap, and nothing after it; sockets close with 1000; all published."""
    with anyio.fail_after(30):
        async with rigged(SimulatorOptions(markets=6, seed=5, rate=2000)) as rig:
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
    options = SimulatorOptions(markets=1000, seed=5, rate=500)
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


class Process:
    """`polybus run` in a process of its own."""

    def __init__(self, process: anyio.abc.Process) -> None:
        self.process = process
        self.ready: dict[str, Any] = {}
        self.log = b""

    async def listen(self) -> None:
        """Read its log, or it would stand still when the pipe is full."""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self.log += chunk


@asynccontextmanager
async def gateway_process(
    nats_url: str, feed_url: str, folder: Path, profile: FeedProfile = QUICK
) -> AsyncIterator[Process]:
    """A gateway process that is ready, killed at the end of the block if it is still there."""
    settings = msgspec.to_builtins(profile)
    backoff = settings.pop("backoff")
    lines = [f"{key} = {json.dumps(value)}" for key, value in (settings | {"url": feed_url}).items()]
    lines += ["[feeds.market.backoff]", *(f"{key} = {value}" for key, value in backoff.items())]
    config = folder / "gateway.toml"
    config.write_text("\n".join([f'[nats]\nurl = "{nats_url}"', "[feeds.market]", *lines]))
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("POLYBUS_", "NATS_"))}
    process = await anyio.open_process(
        [sys.executable, "-m", "polybus_services", "run", "--json", "--config", str(config)],
        stdin=subprocess.DEVNULL,
        env=environment | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    running = Process(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(running.listen)
        try:
            with anyio.fail_after(20):
                assert process.stdout is not None
                line = b""
                while b"\n" not in line:
                    line += await process.stdout.receive()
                running.ready = json.loads(line)
            yield running
        finally:
            if process.returncode is None:
                process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await process.aclose()


async def test_sigterm(nats: NatsServer, tmp_path: Path) -> None:
    """SIGTERM drains: gaps on every stream, sockets closed with 1000, exit status 0, within ten seconds."""
    with anyio.fail_after(60):
        async with (
            running_simulator(SimulatorOptions(markets=4, seed=5, rate=300)) as simulator,
            consuming(nats.url) as consumer,
            gateway_process(nats.url, simulator.feeds["market"], tmp_path) as gateway,
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
            closed = [c["closed"] for c in connections.values()]
            # The first one was only to see whether the venue can be reached.
            assert [(c["by"], c["code"]) for c in closed[1:]] == [("client", 1000)]
            assert b"Traceback" not in gateway.log


async def test_kill_9_and_restart(nats: NatsServer, tmp_path: Path) -> None:
    """A gateway that was killed resumes without a command: the streams go on, after a gap that says `restart`."""
    with anyio.fail_after(90):
        async with (
            running_simulator(SimulatorOptions(markets=4, seed=5, rate=300)) as simulator,
            consuming(nats.url) as consumer,
        ):
            *assets, dropped = simulator.assets[:7]
            async with gateway_process(nats.url, simulator.feeds["market"], tmp_path) as gateway:
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
            async with gateway_process(nats.url, simulator.feeds["market"], tmp_path) as gateway:
                assert gateway.ready["restored"] >= 1
                await consumer.until(
                    lambda: all(len(consumer.of(asset).events) > marks[asset] + 5 for asset in assets)
                )
                for asset in assets:
                    gap, book, *_ = consumer.of(asset).events[marks[asset] :]
                    assert (gap["type"], gap["reason"], gap["seq"]) == ("gap", "restart", 1)
                    assert book["type"] == "book"
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
