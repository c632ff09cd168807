"""The roles of `deploy/nats`: each can do its work on a real server, and nothing else."""

import json
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.login import NatsSettings, is_denial, new_client, options
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.events import LastTradePrice
from polybus_protocol.stream import Stream
from polybus_services.client import ControlClient, NatsUnreachable, NotPermitted
from polybus_services.config import Config
from polybus_services.doctor.bus import examine
from polybus_services.nats_server import NatsServer, find_nats_server, nats_server
from polybus_services.simulator import SimulatorOptions, running_simulator

from ..support.nats_keys import Key
from ..support.rig import running_gateway
from .terminal import polybus, running

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

NATS = Path(__file__).parents[2] / "deploy" / "nats"

ROLES = ("gateway", "controller", "consumer", "replay", "provisioner", "alice")

STREAMS = {
    "POLYBUS_MARKET": ["polymarket.v1.market.>"],
    "POLYBUS_USER": ["polymarket.v1.user.>"],
    "POLYBUS_PUBLIC": [f"polymarket.v1.{family}.>" for family in ("activity", "comments", "price", "sports")],
    "POLYBUS_BOOKS": ["polymarket.v1.books.>"],
}

OF_ALICE = "polymarket.v1.user.alice.0x1.trade"
OF_BOB = "polymarket.v1.user.bob.0x1.trade"


class Guarded:
    """A server that knows the roles, and the keys to each."""

    def __init__(self, server: NatsServer, folder: Path) -> None:
        self.server = server
        self._folder = folder

    def settings(self, role: str) -> NatsSettings:
        """How a role logs in."""
        return NatsSettings(
            url=self.server.url, nkey=str(self._folder / f"{role}.nk"), inbox_prefix=f"_INBOX_{role}"
        )

    def variables(self, role: str) -> dict[str, str]:
        """The same for a process."""
        return {
            "NATS_URL": self.server.url,
            "NATS_NKEY": str(self._folder / f"{role}.nk"),
            "POLYBUS_NATS__INBOX_PREFIX": f"_INBOX_{role}",
        }

    @asynccontextmanager
    async def client(self, role: str) -> AsyncIterator["Actor"]:
        """Somebody who acts in a role."""
        settings, denied = self.settings(role), list[str]()

        async def note(error: Exception) -> None:
            denied.append(str(error))

        client = new_client(settings)
        await client.connect(error_cb=note, **options(settings))
        yield Actor(client, denied)
        await client.close()


class Actor:
    """A client, and what the server has denied it."""

    def __init__(self, client: Client, denied: list[str]) -> None:
        self.client = client
        self.denied = denied

    async def may(self, act: str, subject: str) -> bool:
        """Whether the server lets it publish or subscribe."""
        self.denied.clear()
        if act == "publish":
            await self.client.publish(subject, b"{}")
        else:
            await self.client.subscribe(subject)
        # The second round trip is behind what the first one may have overtaken.
        await self.client.flush()
        await self.client.flush()
        assert all(is_denial(said) for said in self.denied)
        return not self.denied

    async def api(self, subject: str, **body: Any) -> dict[str, Any]:
        """Ask JetStream."""
        answer = await self.client.request(f"$JS.API.{subject}", json.dumps(body).encode(), timeout=5)
        told: dict[str, Any] = json.loads(answer.data)
        return told


@pytest.fixture
async def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    """A server as `deploy/nats` sets it up, provisioned by its provisioner."""
    for role in ROLES:
        key = Key()
        (tmp_path / f"{role}.nk").write_text(key.seed)
        monkeypatch.setenv(f"POLYBUS_{role.upper()}", key.public)
    async with nats_server(config=NATS / "authorization.conf") as server:
        guarded = Guarded(server, tmp_path)
        with anyio.fail_after(10):
            async with guarded.client("provisioner") as provisioner:
                js = provisioner.client.jetstream()
                for name, subjects in STREAMS.items():
                    await js.add_stream(name=name, subjects=subjects, allow_direct=True)
                await js.create_key_value(bucket="polybus_subscriptions", history=1)
        yield guarded


async def test_each_role_does_its_work(guarded: Guarded) -> None:
    """A whole polybus under the roles, its command line included, without one thing denied."""
    with anyio.fail_after(60):
        async with (
            running_simulator(SimulatorOptions(markets=2, seed=5, rate=200)) as simulator,
            running_gateway(guarded.settings("gateway"), {"market": simulator.feeds["market"]}) as (
                gateway,
                _,
            ),
            guarded.client("replay") as consumer,
        ):
            asset = next(iter(simulator.venue.exchange.assets))
            tail = ["tail", "--feed", "market", "--json", "--count", "5"]
            told = await polybus(
                "subscribe", asset, "--wait", "data", "--json", **guarded.variables("controller")
            )
            assert told.status == 0, told.err
            assert (told.json()["durable"], told.json()["missing"]) == (True, [])
            async with running(tail, **guarded.variables("consumer")) as listening:
                heard = [await listening.json() for _ in range(5)]
            assert {event["asset"] for event in heard} == {asset}
            ordered = await consumer.client.jetstream().subscribe(
                "polymarket.v1.market.>", stream="POLYBUS_MARKET", ordered_consumer=True
            )
            assert json.loads((await ordered.next_msg(5)).data)["seq"] == 1
            async with ControlClient.connect(guarded.settings("controller")) as controller:
                assert (await controller.status()).nats.denied == 0
            assert gateway.bus.denied == 0
            assert consumer.denied == []


@pytest.mark.parametrize("act", ["tail", "subscribe"])
async def test_the_wrong_role_is_told_so(guarded: Guarded, act: str) -> None:
    """Who may not listen, or may not command, learns it at once, and which subject it is about."""
    with anyio.fail_after(20):
        if act == "tail":
            async with ControlClient.connect(guarded.settings("controller")) as client:
                with pytest.raises(NotPermitted, match=r"polymarket\.v1\.market"):
                    async with client.listen("polymarket.v1.market.>"):
                        pass
        else:
            async with ControlClient.connect(guarded.settings("consumer")) as client:
                with pytest.raises(NotPermitted, match=r"polymarket\.v1\.control\.status"):
                    await client.status()


@pytest.mark.parametrize(("role", "verdict"), [("gateway", "ok"), ("provisioner", "warn")])
async def test_the_doctor_knows_the_role(guarded: Guarded, role: str, verdict: str) -> None:
    """The gateway's role is all that it needs; another may not even ask.  A server before 2.10 tells nobody."""
    with anyio.fail_after(20):
        async with guarded.client(role) as actor:
            version = actor.client.connected_server_version
        findings = await examine(Config(nats=guarded.settings(role)))
    is_told = (version.major, version.minor) >= (2, 10)
    assert [one.verdict for one in findings if one.check == "permissions"] == [verdict if is_told else "warn"]


async def test_a_gateway_that_is_denied_says_so(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    """Events that the server does not take from us are counted, and told of once, not each."""
    outbox, stream = Outbox(10, 10_000), Stream("market", "market", ("0x1", "1"), prefix="elsewhere")
    event = LastTradePrice(market="0x1", asset="1", price="0.5", size="1", side="BUY")
    stream.begin(event, 1, None)
    outbox.put([stream.publish(event, 1, None) for _ in range(3)])
    bus = Bus(guarded.settings("gateway"), outbox, no_loss)
    with anyio.fail_after(10):
        await bus.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.run, lambda _client: anyio.sleep_forever())
            assert await bus.flush(5)
            tasks.cancel_scope.cancel()
    assert bus.denied == 3
    (said,) = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
    assert "does not permit" in said
    assert "elsewhere.market.0x1.1.last_trade_price" in said


async def no_loss(_streams: list[Stream]) -> None:
    pass


DENIED = [
    # Forged events, commands where none are due, answers in others' names.
    ("controller", "publish", "polymarket.v1.market.0x1.1.book"),
    ("controller", "publish", OF_ALICE),
    ("controller", "publish", "_INBOX_gateway.x"),
    ("controller", "publish", "_INBOX_consumer.x"),
    ("consumer", "publish", "polymarket.v1.market.0x1.1.book"),
    ("consumer", "publish", "polymarket.v1.control.subscribe"),
    ("consumer", "publish", "_INBOX_gateway.x"),
    ("consumer", "publish", "_INBOX_controller.x"),
    ("consumer", "publish", "$KV.polybus_subscriptions.gw0.x"),
    ("alice", "publish", OF_ALICE),
    ("alice", "publish", "polymarket.v1.control.subscribe"),
    ("provisioner", "publish", "polymarket.v1.market.0x1.1.book"),
    ("provisioner", "publish", "polymarket.v1.control.subscribe"),
    ("provisioner", "publish", "$KV.polybus_subscriptions.gw0.x"),
    ("gateway", "publish", "polymarket.v1.control.subscribe"),
    ("gateway", "publish", "_INBOX_controller.x"),
    ("replay", "publish", "polymarket.v1.market.0x1.1.book"),
    ("replay", "publish", "_INBOX_consumer.x"),
    ("replay", "subscribe", "polymarket.v1.user.>"),
    # Others' secrets: an account's events, answers, commands, subscriptions.
    ("controller", "subscribe", "polymarket.v1.user.>"),
    ("controller", "subscribe", "polymarket.v1.control.>"),
    ("controller", "subscribe", "_INBOX_gateway.>"),
    ("controller", "subscribe", "_INBOX.>"),
    ("controller", "subscribe", ">"),
    ("consumer", "subscribe", "polymarket.v1.user.>"),
    ("consumer", "subscribe", "polymarket.v1.user.alice.>"),
    ("consumer", "subscribe", "polymarket.v1.*.alice.>"),
    ("consumer", "subscribe", "polymarket.v1.>"),
    ("consumer", "subscribe", ">"),
    ("consumer", "subscribe", "polymarket.v1.control.>"),
    ("consumer", "subscribe", "_INBOX_controller.>"),
    ("consumer", "subscribe", "$KV.>"),
    ("consumer", "subscribe", "$JS.>"),
    ("alice", "subscribe", "polymarket.v1.user.*.>"),
    ("alice", "subscribe", "polymarket.v1.user.bob.>"),
    ("alice", "subscribe", "_INBOX_consumer.>"),
    ("provisioner", "subscribe", "polymarket.v1.market.>"),
    ("provisioner", "subscribe", "polymarket.v1.user.>"),
    ("gateway", "subscribe", "polymarket.v1.user.>"),
    ("gateway", "subscribe", "_INBOX_controller.>"),
    # Around the subjects, through JetStream.
    ("replay", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER"),
    ("replay", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER.x.polymarket.v1.user.alice.>"),
    ("replay", "publish", "$JS.API.DIRECT.GET.POLYBUS_USER.polymarket.v1.user.alice.0x1.trade"),
    ("replay", "publish", "$JS.API.STREAM.MSG.GET.POLYBUS_USER"),
    ("replay", "publish", "$JS.API.DIRECT.GET.KV_polybus_subscriptions"),
    ("replay", "publish", "$JS.API.STREAM.PURGE.POLYBUS_MARKET"),
    ("replay", "publish", "$JS.API.STREAM.DELETE.POLYBUS_MARKET"),
    ("replay", "publish", "$JS.API.STREAM.CREATE.MINE"),
    ("consumer", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_MARKET"),
    ("consumer", "publish", "$JS.API.DIRECT.GET.POLYBUS_MARKET.polymarket.v1.market.0x1.1.book"),
    ("controller", "publish", "$JS.API.STREAM.CREATE.MINE"),
    ("alice", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER"),
    ("alice", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER.alice"),
    ("alice", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER.alice.polymarket.v1.user.bob.>"),
    ("alice", "publish", "$JS.API.CONSUMER.DURABLE.CREATE.POLYBUS_USER.alice"),
    ("alice", "publish", "$JS.API.CONSUMER.MSG.NEXT.POLYBUS_USER.bob"),
    ("alice", "publish", "$JS.API.DIRECT.GET.POLYBUS_USER"),
    ("alice", "publish", f"$JS.API.DIRECT.GET.POLYBUS_USER.{OF_BOB}"),
    ("alice", "publish", "$JS.API.STREAM.MSG.GET.POLYBUS_USER"),
    ("provisioner", "publish", "$JS.API.STREAM.DELETE.POLYBUS_MARKET"),
    ("provisioner", "publish", "$JS.API.STREAM.CREATE.MINE"),
    ("provisioner", "publish", "$JS.API.CONSUMER.CREATE.POLYBUS_USER"),
    ("gateway", "publish", "$JS.API.STREAM.CREATE.MINE"),
    ("gateway", "publish", "$JS.API.STREAM.PURGE.POLYBUS_USER"),
    ("gateway", "publish", "$JS.API.STREAM.DELETE.KV_polybus_subscriptions"),
]

ALLOWED = [
    ("gateway", "publish", "polymarket.v1.market.0x1.1.book"),
    ("gateway", "publish", OF_ALICE),
    ("controller", "publish", "polymarket.v1.control.subscribe"),
    ("consumer", "subscribe", "polymarket.v1.market.*.1.>"),
    ("alice", "subscribe", "polymarket.v1.user.alice.0x1.>"),
]


async def test_the_example_of_a_server_is_sound(guarded: Guarded) -> None:
    """The server takes the whole configuration, of which the other tests use the roles."""
    checked = await anyio.run_process([find_nats_server(), "-t", "-c", NATS / "nats-server.conf"])
    assert checked.returncode == 0


async def test_nothing_else(guarded: Guarded) -> None:
    """Forged events, commands and answers, others' events and replies: all denied, and the connection stays."""
    wrong = []
    with anyio.fail_after(30):
        for role in ROLES:
            async with guarded.client(role) as actor:
                for who, act, subject in DENIED + ALLOWED:
                    if who == role and await actor.may(act, subject) != ((who, act, subject) in ALLOWED):
                        wrong.append((who, act, subject))
                assert actor.client.is_connected
    assert wrong == []


async def test_replay_may_bother_others_and_not_lie_to_them(guarded: Guarded) -> None:
    """Who may create consumers can have JetStream send its messages to anybody: genuine ones, under their own names."""
    heard: list[str] = []

    async def hear(message: Msg) -> None:
        heard.append(message.subject)

    places = {
        "gateway": "polymarket.v1.control.subscribe",
        "controller": "_INBOX_controller.x",
        "alice": OF_ALICE,
    }
    with anyio.fail_after(20):
        async with AsyncExitStack() as stack:
            actors = {role: await stack.enter_async_context(guarded.client(role)) for role in ROLES}
            js = actors["replay"].client.jetstream()
            for role, place in places.items():
                await actors[role].client.subscribe(place, cb=hear)
                config = {"deliver_subject": place, "ack_policy": "none"}
                create = "CONSUMER.CREATE.POLYBUS_MARKET"
                await actors["replay"].api(create, stream_name="POLYBUS_MARKET", config=config)
            await actors["gateway"].client.publish("polymarket.v1.market.0x1.1.book", b"{}")
            mine = await js.subscribe(
                "polymarket.v1.market.>", stream="POLYBUS_MARKET", ordered_consumer=True
            )
            await mine.next_msg(5)
            for role in places:
                await actors[role].may("publish", f"_INBOX_{role}.x")
    assert set(heard) == {"polymarket.v1.market.0x1.1.book"}


async def test_who_has_no_key_gets_nowhere(guarded: Guarded) -> None:
    """There is no way in without a key."""
    with anyio.fail_after(20), pytest.raises(NatsUnreachable, match="refuses the login"):
        async with ControlClient.connect(guarded.server.url):
            pass


async def test_an_account_replays_its_own_events_only(guarded: Guarded) -> None:
    """Alice reads her past from the stream of all accounts; what she asks for beyond is refused by JetStream."""
    mine = "CONSUMER.CREATE.POLYBUS_USER.alice.polymarket.v1.user.alice.>"
    with anyio.fail_after(20):
        async with guarded.client("gateway") as gateway, guarded.client("alice") as alice:
            for subject in (OF_BOB, OF_ALICE, OF_BOB):
                await gateway.client.publish(subject, subject.encode())
            await gateway.client.flush()
            for filters in ({"filter_subject": "polymarket.v1.user.bob.>"}, {}):
                config = {"name": "alice", "ack_policy": "none", **filters}
                told = await alice.api(mine, stream_name="POLYBUS_USER", config=config)
                assert "error" in told, filters
            both = {"filter_subjects": ["polymarket.v1.user.alice.>", "polymarket.v1.user.bob.>"]}
            told = await alice.api(mine, stream_name="POLYBUS_USER", config={"name": "alice", **both})
            assert "error" in told
            js = alice.client.jetstream()
            await js._jsm.add_consumer(
                "POLYBUS_USER",
                ConsumerConfig(
                    name="alice", durable_name="alice", filter_subject="polymarket.v1.user.alice.>"
                ),
            )
            pull = await js.pull_subscribe_bind("alice", "POLYBUS_USER")
            assert [message.data for message in await pull.fetch(1)] == [OF_ALICE.encode()]
            with pytest.raises(nats.errors.TimeoutError):
                await pull.fetch(1, timeout=0.2)
            assert alice.denied == []
