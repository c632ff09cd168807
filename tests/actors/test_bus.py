"""The way to NATS: servers that die, freeze, change their mind or are not there; and the bucket of what is wanted."""

import logging
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.edges import UNREAD_TIMEOUT_S
from polybus_actors.publishing.login import NatsSettings, NatsUnreachable
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.events import LastTradePrice
from polybus_protocol.stream import Stream
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.simulator import SimulatorOptions

from ..support.consumer import consuming
from ..support.proxy import proxy_to
from ..support.rig import Rig, rigged
from ..support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue talks all the time."""
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=200)) as running:
            yield running


async def is_sound_again(rig: Rig) -> None:
    """Commands are answered, every asset goes on, and nothing is missing without a gap."""
    await rig.consumer.until_status(lambda status: status["nats"]["connected"])
    marks = {asset: len(rig.consumer.of(asset).events) for asset in rig.assets}
    await rig.consumer.until(
        lambda: all(
            len(rig.consumer.of(asset).events) > marks[asset] + 3 and rig.consumer.of(asset).is_trusted
            for asset in rig.assets
        )
    )
    await rig.settle()
    rig.consumer.check()


def losses(rig: Rig) -> list[dict[str, Any]]:
    """The gaps that stand for what was lost on the way to NATS."""
    return [gap for asset in rig.assets for gap in rig.consumer.of(asset).gaps if gap["lost"] is not None]


def has_fresh_books(rig: Rig) -> bool:
    """Whether after every such gap a book has come, which is where trust begins again."""
    for asset in rig.assets:
        events = rig.consumer.of(asset).events
        last = max((i for i, e in enumerate(events) if e.get("lost") is not None), default=None)
        if last is not None and not any(event["type"] == "book" for event in events[last:]):
            return False
    return True


async def test_nats_is_killed_and_comes_back(rig: Rig) -> None:
    """SIGKILL and restart: the gateway recovers by itself, with its commands, and remembers what is wanted."""
    await rig.subscribe(*rig.assets)
    await rig.consumer.until(lambda: rig.consumer.received > 500)
    rig.nats.kill()
    await rig.nats.restart()
    await is_sound_again(rig)
    status = await rig.consumer.ask("status")
    assert status["nats"]["reconnects"] == 1
    assert (await rig.subscribe(rig.assets[0], id="after"))["durable"] is True
    assert status["restarts"] == 0


async def test_the_line_to_nats_is_cut() -> None:
    """What was on its way when the connection broke is covered by gaps, to the last event, then come fresh books."""
    with anyio.fail_after(180):
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=200), proxied=True) as rig:
            await rig.subscribe(*rig.assets)
            for _ in range(3):
                received = rig.consumer.received
                await rig.consumer.until(lambda r=received: rig.consumer.received > r + 500)  # type: ignore[misc]
                uncertain = rig.gateway.bus.published
                rig.proxy.hold()
                await until(lambda u=uncertain: rig.gateway.bus.published >= u + 200)  # type: ignore[misc]
                rig.proxy.cut()
                await is_sound_again(rig)
                await rig.admin.ask("POST", "/resume")
            await rig.consumer.until(lambda: has_fresh_books(rig))
            assert sum(gap["lost"] for gap in losses(rig)) >= 3 * 200
            assert {gap["reason"] for gap in losses(rig)} == {"nats_connection_lost"}
            status = await rig.consumer.ask("status")
            assert status["nats"]["reconnects"] == 3
            assert status["nats"]["uncertain"] >= sum(gap["lost"] for gap in losses(rig))


async def test_nats_freezes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen server under load is given up in time; when it thaws, every lost event is covered by a gap."""
    monkeypatch.setattr("polybus_actors.publishing.bus.MARKER_TIMEOUT_S", 1.0)
    monkeypatch.setattr("polybus_actors.publishing.bus.CLOSE_TIMEOUT_S", 0.3)
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=4, seed=5, rate=300)) as rig:
            await rig.subscribe(*rig.assets)
            await rig.consumer.until(lambda: rig.consumer.received > 1000)
            rig.nats.freeze()
            try:
                # Until the gateway has noticed; then a new client finds nobody either.
                await until(lambda: rig.gateway.bus.client is None)
            finally:
                rig.nats.thaw()
            await is_sound_again(rig)
            await rig.admin.ask("POST", "/resume")
            await rig.consumer.until(lambda: has_fresh_books(rig))
            assert sum(gap["lost"] for gap in losses(rig)) > 100
            status = await rig.consumer.ask("status")
            assert status["nats"]["uncertain"] > 100
            assert status["restarts"] == 0


async def test_the_backlog_overflows() -> None:
    """NATS is away for longer than the backlog can bridge: the oldest goes, and its gap says how much it was."""
    with anyio.fail_after(60):
        options = SimulatorOptions(markets=4, seed=5, paused=True)
        async with rigged(options, backlog_messages=50, proxied=True) as rig:
            await rig.subscribe(*rig.assets)
            await rig.admin.step(20)
            await rig.settle()
            rig.proxy.sever()
            await until(lambda: not rig.gateway.bus.is_connected)
            await rig.admin.step(300)
            await until(lambda: rig.gateway.outbox.dropped)
            rig.proxy.restore()
            consumer = rig.consumer
            await consumer.until(
                lambda: all("backlog_overflow" in consumer.of(a).reasons for a in rig.assets)
            )
            await consumer.until(lambda: has_fresh_books(rig))
            consumer.check()
            status = await consumer.ask("status")
            # States of the connection may be among what was dropped, but carry no gaps.
            counted = status["nats"]["dropped"] + status["nats"]["uncertain"]
            assert counted >= sum(gap["lost"] for gap in losses(rig)) > 200


async def test_our_own_goodbye_is_no_loss(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """Shutting down says nothing of a lost connection, for it is none."""
    await rig.subscribe(rig.assets[0])
    with caplog.at_level(logging.INFO):
        rig.gateway.stop()
        await rig.consumer.until(lambda: "shutdown" in rig.consumer.of(rig.assets[0]).reasons)
        with anyio.fail_after(60):
            await rig.ended.wait()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_client_that_closes_for_good_is_replaced(rig: Rig) -> None:
    """nats-py closes for good on any unexpected error: a new client takes over, commands and streams with it."""
    await rig.subscribe(*rig.assets)
    client = rig.gateway.bus.client
    assert client is not None
    await client.close()
    await is_sound_again(rig)
    assert rig.gateway.bus.client is not client
    # Written through the new client, and answered by it.
    reply = await rig.subscribe(rig.assets[0], id="after")
    assert reply["durable"] is True


@pytest.fixture
def outbox() -> Outbox:
    return Outbox(1000, 10**8)


async def no_loss(_streams: list[Stream]) -> None:
    pass


async def test_nobody_there(outbox: Outbox) -> None:
    """NATS must be there at the start: one sentence says where it was looked for, without the password."""
    async with nats_server(jetstream=False) as server:
        port = server.port
    settings = NatsSettings(url=f"nats://me:secret@127.0.0.1:{port}", connect_timeout_s=0.5)
    with (
        pytest.raises(NatsUnreachable, match=f"127.0.0.1:{port} cannot be reached") as raised,
        anyio.fail_after(60),
    ):
        await Bus(settings, outbox, no_loss).connect()
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(settings)


@pytest.mark.parametrize("content", [None, "", "-----BEGIN NATS USER JWT-----\n"])
async def test_credentials_that_cannot_be_used(outbox: Outbox, tmp_path: Path, content: str | None) -> None:
    """A credentials file without its blocks, which would freeze nats-py, is named instead."""
    file = tmp_path / "user.creds"
    if content is not None:
        file.write_text(content)
    with pytest.raises(NatsUnreachable, match=r"nats\.creds"), anyio.fail_after(60):
        await Bus(NatsSettings(creds=str(file)), outbox, no_loss).connect()


async def test_the_servers_version(nats: NatsServer, outbox: Outbox) -> None:
    """The version is told as the server tells it; none while there is no connection."""
    bus = Bus(NatsSettings(url=nats.url), outbox, no_loss)
    assert bus.server is None
    await bus.connect()
    assert bus.client is not None
    assert bus.server == bus.client._server_info["version"]
    await bus.client.close()


def of_market_1(size: str = "1") -> LastTradePrice:
    return LastTradePrice(market="0x1", asset="1", price="0.5", size=size, side="BUY")


async def test_an_event_larger_than_nats_takes(nats: NatsServer, outbox: Outbox) -> None:
    """It is lost alone, with a gap in its place; its neighbours go out."""
    bus = Bus(NatsSettings(url=nats.url), outbox, no_loss)
    stream = Stream("market", "market", ("0x1", "1"))
    with anyio.fail_after(60):
        await bus.connect()
        async with consuming(nats.url) as consumer, anyio.create_task_group() as tasks:
            stream.begin(of_market_1(), 1, None)
            outbox.put([stream.publish(of_market_1(size), 1, None) for size in ("1", "2" * 2_000_000, "3")])
            tasks.start_soon(bus.run, lambda _client: anyio.sleep_forever())
            await consumer.until(lambda: consumer.received == 3)
            events = consumer.of("1").events
            assert [event.get("size") or event["lost"] for event in events] == ["1", 1, "3"]
            consumer.check()
            assert await bus.flush(5)
            tasks.cancel_scope.cancel()


async def test_cancelled_while_nats_py_waits(nats: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """nats-py swallows a cancellation while it waits for a peer: the bus ends all the same, and forgets nothing."""
    monkeypatch.setattr("polybus_actors.publishing.bus.CLOSE_TIMEOUT_S", 0.2)
    outbox, stream = Outbox(100_000, 10**9), Stream("market", "market", ("0x1", "1"))
    stream.begin(of_market_1(), 1, None)
    with anyio.fail_after(60):
        async with proxy_to(nats.port) as proxy:
            bus = Bus(NatsSettings(url=proxy.url), outbox, no_loss)
            await bus.connect()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(bus.run, lambda _client: anyio.sleep_forever())
                outbox.put([stream.publish(of_market_1(), 1, None)])
                assert await bus.flush(5)
                proxy.clog()
                # More than the kernel, asyncio and nats-py hold, so that publishing must wait.
                outbox.put([stream.publish(of_market_1("2" * 10_000), 1, None) for _ in range(3_000)])
                assert not await bus.flush(0.3)
                tasks.cancel_scope.cancel()
    assert len(outbox._queue) > 0
    assert outbox.uncertain > 0
    assert len(outbox._queue) + outbox.uncertain == 3_000


async def test_the_kernel_gives_up_a_peer_that_reads_nothing(nats: NatsServer, outbox: Outbox) -> None:
    """The socket has its own deadline, the one after a reconnect too: nats-py would wait a quarter of an hour."""

    def deadline_ms() -> int:
        assert bus.client is not None
        raw = bus.client._transport._io_writer.get_extra_info("socket")  # type: ignore[union-attr]
        return int(raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    async with proxy_to(nats.port) as proxy, anyio.create_task_group() as tasks:
        bus = Bus(NatsSettings(url=proxy.url), outbox, no_loss)
        with anyio.fail_after(60):
            await bus.connect()
            tasks.start_soon(bus.run, lambda _client: anyio.sleep_forever())
            assert deadline_ms() == UNREAD_TIMEOUT_S * 1000
            proxy.cut()
            await until(lambda: bus.reconnects)
            assert deadline_ms() == UNREAD_TIMEOUT_S * 1000
        tasks.cancel_scope.cancel()
