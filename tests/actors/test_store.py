"""The bucket of what is wanted: shared, watched, never trusted blindly, and there again after whatever happens to it."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
import nats as nats_py
import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.kv import KeyValue

from polybus_actors.control.store import Store
from polybus_protocol.control.interest import Subscription
from polybus_services.nats_server import NatsServer, nats_server

from ..support.proxy import proxy_to
from ..support.rig import rigged
from ..support.until import a_moment, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

BUCKET = "bucket"


@pytest.fixture
async def nats_client(nats: NatsServer) -> AsyncIterator[Client]:
    """A client of a server with JetStream."""
    client = await nats_py.connect(nats.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
    yield client
    await client.close()


def subscription(id_: str, asset: str = "1") -> Subscription:
    return Subscription(id=id_, owner="me", feed="market", assets=[asset], created=1)


def entry(id_: str, asset: str = "1") -> bytes:
    return msgspec.json.encode(subscription(id_, asset))


async def bucket_of(client: Client, name: str = BUCKET) -> KeyValue:
    """The bucket, for another hand."""
    return await client.jetstream().key_value(name)


class Follower:
    """A store at work, and what it has told of others' changes."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.heard: dict[str, Subscription | None] = {}
        self._news = anyio.Event()
        store.on_news = self._take

    async def _take(self) -> None:
        self.heard |= self.store.news()
        self._news.set()
        self._news = anyio.Event()

    async def until(self, is_so: Callable[[], bool]) -> None:
        while not is_so():
            await self._news.wait()


@asynccontextmanager
async def following(
    client: Client, replica: str = "gw", *, of: Client | None = None
) -> AsyncIterator[Follower]:
    """A store of a replica for the length of a block, loaded with the one client, and run with another if there is one."""
    follower = Follower(Store(BUCKET, replica))
    for found in await follower.store.load(client):
        follower.heard[found.id] = found
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follower.store.run, of or client)
        yield follower
        tasks.cancel_scope.cancel()


async def test_two_replicas_share_a_bucket(nats_client: Client) -> None:
    """Each replica finds its own subscriptions, whatever the names: one may begin like the other."""
    with anyio.fail_after(60):
        for replica in ("gw", "gw-1", "gw_1"):
            async with following(nats_client, replica) as follower:
                assert follower.heard == {}
                store = follower.store
                assert await store.save(subscription(f"of-{replica}"))
                assert await store.save(subscription("gone"))
                assert await store.forget("gone")
        for replica in ("gw", "gw-1", "gw_1"):
            (found,) = await Store(BUCKET, replica).load(nats_client)
            assert found == subscription(f"of-{replica}")


UNSOUND = {
    "cut": b'{"id": "cut"',
    "partial": b'{"id": "partial"}',
    "empty": b"",
    "binary": b"\xff\x00\xfe",
    "deep": b"[" * 100_000,
    "weather": msgspec.json.encode(msgspec.structs.replace(subscription("weather"), feed="weather")),
    "asset": entry("asset", "0x12"),
    "other": entry("another"),
}


async def test_unsound_entries_at_the_start(nats_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """They harm no other, are told of one by one, and stay for whoever wants to look at them."""
    with anyio.fail_after(60):
        await Store(BUCKET, "gw").load(nats_client)
        kv = await bucket_of(nats_client)
        for id_, value in UNSOUND.items():
            await kv.put(f"gw.{id_}", value)
        await kv.put("gw.good", entry("good"))
        store = Store(BUCKET, "gw")
        assert await store.load(nats_client) == [subscription("good")]
        assert set(store.quarantined) == set(UNSOUND)
        told = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
        assert [line.split(" of ")[0] for line in told] == [f"the entry gw.{id_}" for id_ in UNSOUND]
        assert "'weather'" in store.quarantined["weather"]
        for id_, value in UNSOUND.items():
            assert ((await kv.get(f"gw.{id_}")).value or b"") == value


async def test_what_another_hand_does_is_followed(nats_client: Client) -> None:
    """Put, changed, deleted, spoilt and mended by hand: each is told once, our own changes never."""
    with anyio.fail_after(60):
        async with following(nats_client) as follower:
            store, heard = follower.store, follower.heard
            kv = await bucket_of(nats_client)
            assert await store.save(subscription("mine"))
            await kv.put("gw.theirs", entry("theirs"))
            await kv.put("other.theirs", entry("theirs", "7"))
            await follower.until(lambda: "theirs" in heard)
            assert heard == {"theirs": subscription("theirs")}
            await kv.put("gw.mine", entry("mine", "2"))
            await follower.until(lambda: "mine" in heard)
            assert heard["mine"] == subscription("mine", "2")

            # What is spoilt goes on as it was.
            heard.clear()
            await kv.put("gw.mine", b"{")
            await kv.put("gw.next", entry("next"))
            await follower.until(lambda: "next" in heard)
            assert (set(store.quarantined), set(heard)) == ({"mine"}, {"next"})
            await kv.put("gw.mine", entry("mine", "3"))
            await follower.until(lambda: "mine" in heard)
            assert (store.quarantined, heard["mine"]) == ({}, subscription("mine", "3"))

            heard.clear()
            await kv.delete("gw.mine")
            await kv.purge("gw.theirs")
            await follower.until(lambda: len(heard) == 2)
            assert heard == {"mine": None, "theirs": None}
            heard.clear()
            assert await store.save(subscription("mine"))
            assert await store.forget("next")
            await kv.put("gw.last", entry("last"))
            await follower.until(lambda: "last" in heard)
            assert set(heard) == {"last"}


@pytest.mark.parametrize(
    "how", ["restarted", "killed", "line cut", "store wiped", "bucket deleted", "purged"]
)
async def test_after_trouble_all_is_read_again(nats: NatsServer, nats_client: Client, how: str) -> None:
    """What was changed meanwhile is taken up; what vanished without being deleted is written again."""
    with anyio.fail_after(60):
        async with proxy_to(nats.port) as proxy:
            url = proxy.url if how in ("line cut", "purged") else nats.url
            ours = await nats_py.connect(url, reconnect_time_wait=0.05, max_reconnect_attempts=-1)
            async with following(ours) as follower:
                assert await follower.store.save(subscription("mine"))
                kv = await bucket_of(nats_client)
                await kv.put("gw.theirs", entry("theirs"))
                await follower.until(lambda: "theirs" in follower.heard)
                follower.heard.clear()
                match how:
                    case "restarted":
                        await nats.restart()
                    case "killed":
                        nats.kill()
                        await nats.restart()
                    case "line cut":
                        proxy.hold()
                        await kv.delete("gw.theirs")
                        proxy.cut()
                    case "store wiped":
                        await nats.terminate()
                        nats.wipe()
                        await nats.start()
                    case "bucket deleted":
                        await nats_client.jetstream().delete_key_value(BUCKET)
                    case _:
                        await nats_client.jetstream().purge_stream(f"KV_{BUCKET}")
                        proxy.cut()
                await until_it_holds(nats_client, "gw.mine", entry("mine"))
                kv = await bucket_of(nats_client)
                if how == "line cut":
                    await follower.until(lambda: "theirs" in follower.heard)
                    assert follower.heard == {"theirs": None}
                else:
                    await until_it_holds(nats_client, "gw.theirs", entry("theirs"))
                    assert follower.heard == {}
                await kv.put("gw.next", entry("next"))
                await follower.until(lambda: "next" in follower.heard)
                # What was read before it was written again is written once more.
                await until(lambda: follower.store.is_durable)
            await ours.close()


async def until_it_holds(client: Client, key: str, value: bytes) -> None:
    while True:
        try:
            if (await (await bucket_of(client)).get(key)).value == value:
                return
        except (NatsError, TimeoutError):
            await a_moment()


async def test_one_that_is_too_large_holds_up_no_other(
    nats_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """It says that it will not survive, once in the log; the next one is written."""
    with anyio.fail_after(60):
        async with following(nats_client) as follower:
            large = msgspec.structs.replace(subscription("large"), assets=["1" * 78] * 20_000)
            assert not await follower.store.save(large)
            assert await follower.store.save(subscription("small"))
            assert not follower.store.is_durable
            (told,) = [record.message for record in caplog.records if record.levelno >= logging.ERROR]
            assert "does not take the subscription large" in told
            assert await follower.store.forget("large")
            assert follower.store.is_durable


async def test_without_jetstream() -> None:
    """Subscriptions work and say that they will not survive; nothing hangs."""
    with anyio.fail_after(60):
        async with nats_server(jetstream=False) as server:
            client = await nats_py.connect(server.url)
            async with following(client) as follower:
                assert not await follower.store.save(subscription("s"))
                assert not follower.store.is_durable
            await client.close()


async def test_jetstream_comes_later(nats_client: Client) -> None:
    """What was wanted earlier is taken up once the bucket can be read; what was asked for meanwhile stands as asked."""
    with anyio.fail_after(60):
        async with following(nats_client) as early:
            for id_ in ("early", "both"):
                assert await early.store.save(subscription(id_))
        async with nats_server(jetstream=False) as bare:
            without = await nats_py.connect(bare.url)
            async with following(without, of=nats_client) as later:
                assert not await later.store.save(subscription("both", "2"))
                await later.until(lambda: "early" in later.heard)
                assert set(later.heard) == {"early"}
                await until_it_holds(nats_client, "gw.both", entry("both", "2"))
            await without.close()


async def test_the_gateway_follows_its_bucket() -> None:
    """By hand put, its events come; by hand deleted, they end; spoilt, `status` names it, and all else goes on."""
    with anyio.fail_after(60):
        async with rigged() as rig:
            kv = await bucket_of(rig.consumer.client, "polybus_subscriptions")
            await rig.subscribe(rig.assets[0], id="asked")
            for id_, asset in (("hand", rig.assets[1]), ("spoilt", rig.assets[2])):
                await kv.put(f"gw0.{id_}", entry(id_, asset))
            for asset in rig.assets[1:3]:
                await rig.consumer.until(lambda asset=asset: rig.consumer.of(asset).is_trusted)  # type: ignore[misc]
            await kv.put("gw0.spoilt", b"{}")
            await kv.put("gw0.spoilt-too", b"{}")
            await kv.delete("gw0.hand")
            status = await rig.consumer.until_status(lambda status: status["subscriptions"]["total"] == 2)
            assert set(status["quarantined"]) == {"spoilt", "spoilt-too"}
            ended = rig.consumer.of(rig.assets[1])
            await rig.consumer.until(lambda: ended.reasons[-1] == "unsubscribed")
            await rig.admin.step(50)
            await rig.settle()
            assert rig.consumer.of(rig.assets[2]).is_trusted
            # The same words again are a new wish.
            reply = await rig.subscribe(rig.assets[1], id="hand")
            assert (reply["created"], reply["durable"]) == (True, True)
