"""Probes over real sockets: three questions, each about one thing."""

import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec
import pytest

from polybus_actors.gateway import Gateway, GatewaySettings
from polybus_actors.publishing.login import NatsSettings
from polybus_services.config import HttpConfig
from polybus_services.health import CLIENTS, CannotListen, Health
from polybus_services.pulse import BEAT_S, Pulse

from ..support.http_get import get
from ..support.rig import Rig, rigged
from ..support.until import a_moment, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

HERE = HttpConfig(port=0)


@pytest.fixture
async def idle() -> AsyncIterator[Gateway]:
    """A gateway that does not run."""
    gateway = Gateway(GatewaySettings(), NatsSettings(), {})
    async with AsyncExitStack() as mailboxes:
        for owner in (gateway.registry, *gateway.pools):
            await mailboxes.enter_async_context(owner.mailbox)
        yield gateway


def health_of(gateway: Gateway, config: HttpConfig = HERE) -> Health:
    return Health(config, gateway, Pulse(), lambda: b"polybus_up 1\n")


@asynccontextmanager
async def asking(health: Health) -> AsyncIterator[str]:
    """Its address, with a guard on everything that is asked."""
    with anyio.fail_after(20):
        async with health.serving() as url:
            yield url


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/live", 200, {"live": True, "because": []}),
        (
            "/startup",
            503,
            {
                "started": False,
                "because": ["it has not reached NATS, or not taken up what was wanted, yet"],
            },
        ),
        ("/ready", 503, {"ready": False, "because": ["NATS is not connected"], "wanted": 0}),
        ("/nothing", 404, {"error": "there are /live, /startup, /ready, /metrics"}),
    ],
)
async def test_a_gateway_that_has_just_begun(
    idle: Gateway, path: str, status: int, says: dict[str, Any]
) -> None:
    """It is alive without NATS, and neither started nor ready; each answer says why."""
    async with asking(health_of(idle)) as url:
        answer = await get(url, path)
        assert answer.status == status
        assert msgspec.json.decode(answer.body, type=dict[str, Any]).items() >= says.items()


async def test_metrics_are_text(idle: Gateway) -> None:
    """What Prometheus reads, under the type it expects."""
    async with asking(health_of(idle)) as url:
        answer = await get(url, "/metrics")
        assert (answer.status, answer.body) == (200, b"polybus_up 1\n")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_started_is_for_good(idle: Gateway) -> None:
    """From when commands are answered."""
    health = health_of(idle)
    health.startup_done()
    async with asking(health) as url:
        assert (await get(url, "/startup")).status == 200


async def test_only_reading(idle: Gateway) -> None:
    """Nothing can be changed here."""
    async with asking(health_of(idle)) as url:
        assert (await get(url, "/live", method="POST")).status == 405


async def test_a_fault_of_ours_is_an_answer(idle: Gateway) -> None:
    """What fails behind a path is logged and answered with 500; the gateway does not notice."""

    def fail() -> bytes:
        raise RuntimeError("a secret")

    health = Health(HERE, idle, Pulse(), fail)
    async with asking(health) as url:
        answer = await get(url, "/metrics")
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert (await get(url, "/live")).status == 200


async def test_a_loop_that_stood_still(idle: Gateway) -> None:
    """Once it turns again and is asked before it has caught up, it admits to it; and a pulse shows how late it was."""
    health, pulse = health_of(idle, HttpConfig(port=0, live_within_s=0.001)), Pulse()
    async with asking(health) as url:
        # Its pulse never beats.
        answer = await get(url, "/live")
        assert answer.status == 503
        assert b"the event loop has not turned" in answer.body
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pulse.beat)
        await anyio.wait_all_tasks_blocked()
        time.sleep(BEAT_S + 0.1)  # noqa: ASYNC251  a loop that stands still is what this is about
        await until(lambda: pulse.lag.count, 10)
        assert pulse.lag.sum >= 0.1
        assert pulse.age_s < 10
        tasks.cancel_scope.cancel()


async def test_an_address_that_is_taken(idle: Gateway) -> None:
    """Is an error that says which."""
    async with asking(health_of(idle)) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(CannotListen, match=f"http: cannot listen on 127.0.0.1:{port}: .*in use"):
            async with health_of(idle, HttpConfig(port=port)).serving():
                pass


async def test_only_so_many_clients(idle: Gateway) -> None:
    """One more than `CLIENTS` is hung up on, and finds a place once another has left."""
    async with asking(health_of(idle)) as url:
        port = int(url.rpartition(":")[2])
        silent = [await anyio.connect_tcp("127.0.0.1", port) for _ in range(CLIENTS)]
        async with await anyio.connect_tcp("127.0.0.1", port) as late:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await late.receive()
        for stream in silent:
            await stream.aclose()
        while True:
            with contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                assert (await get(url, "/live")).status == 200
                break


# --- readiness is about data -----------------------------------------------------------------------


async def _readiness(rig: Rig, share: float = 0.8) -> tuple[int, dict[str, Any]]:
    async with asking(health_of(rig.gateway, HttpConfig(port=0, ready_share=share))) as url:
        answer = await get(url, "/ready")
        return answer.status, msgspec.json.decode(answer.body)


async def test_ready_means_data() -> None:
    """Ready with nothing wanted; with enough of it live; not without NATS, nor while draining: it says what is missing."""
    with anyio.fail_after(40):
        async with rigged() as rig:
            assert (await _readiness(rig))[0] == 200
            four = rig.assets[:4]
            await rig.subscribe(*four)
            status, told = await _readiness(rig)
            assert (status, told["wanted"], told["live"], told["missing"]) == (200, 4, 4, [])

            # One in five may be missing, one in two may not.
            await rig.consumer.ask("subscribe", assets=["1"], id="unknown")
            await rig.consumer.ask("subscribe", assets=["1"], id="again", wait="sent")
            status, told = await _readiness(rig)
            assert (status, told["wanted"], told["live"], told["needed"]) == (200, 5, 4, 4)
            assert [missing["asset"] for missing in told["missing"]] == ["1"]
            assert told["missing"][0]["reason"]
            status, told = await _readiness(rig, share=1.0)
            assert (status, told["because"]) == (503, ["4 of 5 wanted keys are live, and 5 must be"])

            # A league may have no game on: that it was asked for is all there is to want.
            await rig.consumer.ask("subscribe", feed="sports", id="scores", wait="sent")
            status, told = await _readiness(rig)
            assert (status, told["wanted"], told["live"]) == (200, 6, 5)

            await rig.nats.terminate()
            while (await _readiness(rig))[1]["nats_connected"]:
                await a_moment()
            status, told = await _readiness(rig)
            assert (status, told["because"]) == (503, ["NATS is not connected"])
            await rig.nats.start()
            while (await _readiness(rig))[0] != 200:
                await a_moment()

            rig.gateway.stop()
            await rig.ended.wait()
            status, told = await _readiness(rig)
            assert status == 503
            assert "it is draining" in told["because"]
