"""The control client: typed answers, and a sentence for everything that can go wrong."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import msgspec
import nats as nats_py
import pytest
from nats.aio.msg import Msg

from polybus_actors.publishing.login import NatsSettings
from polybus_protocol.control.replies import ErrorBody, ErrorReply, UnsubscribeReply
from polybus_services.client import ControlClient, NatsUnreachable, NoGateway, ServiceRefused
from polybus_services.nats_server import NatsServer, nats_server

pytestmark = pytest.mark.anyio

PATIENCE_S = 20.0


@asynccontextmanager
async def answering(url: str, answer: Callable[[Msg], Awaitable[None]]) -> AsyncIterator[None]:
    """Something on NATS that answers control requests its own way."""
    client = await nats_py.connect(url)
    await client.subscribe("polymarket.v1.control.*", cb=answer)
    await client.flush()
    yield
    await client.close()


async def complaint(where: NatsSettings | str) -> str:
    """What is said when one tries to connect."""
    with pytest.raises(NatsUnreachable) as caught, anyio.fail_after(PATIENCE_S):
        async with ControlClient.connect(where):
            pass
    return str(caught.value)


async def test_an_answer_has_its_type(nats: NatsServer) -> None:
    """The request goes out as JSON without what was left out, the answer comes back as a struct."""
    heard: list[bytes] = []

    async def answer(message: Msg) -> None:
        heard.append(message.data)
        await message.respond(b'{"ids": ["a"], "of_a_later_version": 1}')

    async with answering(nats.url, answer), ControlClient.connect(nats.url) as client:
        assert await client.unsubscribe(id="a", owner=None) == UnsubscribeReply(ids=["a"])
    (told,) = [msgspec.json.decode(payload) for payload in heard]
    assert 0 < told.pop("deadline") - time.time_ns() <= 5 * 10**9
    assert told.pop("request_id")
    assert told == {"id": "a"}


async def test_a_refusal_has_its_code_and_field(nats: NatsServer) -> None:
    """The body says what went wrong; without a readable one, the headers do."""
    body = msgspec.json.encode(ErrorReply(ErrorBody(400, "assets: 'x' is not a token id", "assets")))
    bodies = [body, b"?"]

    async def answer(message: Msg) -> None:
        headers = {"Nats-Service-Error-Code": "503", "Nats-Service-Error": "draining"}
        await message._client.publish(message.reply, bodies.pop(0), headers=headers)

    async with answering(nats.url, answer), ControlClient.connect(nats.url) as client:
        with pytest.raises(ServiceRefused, match="not a token id") as first:
            await client.subscribe(assets=["x"])
        with pytest.raises(ServiceRefused, match="draining") as second:
            await client.status()
    assert (first.value.code, first.value.field) == (400, "assets")
    assert (second.value.code, second.value.field) == (503, None)


async def test_nobody_there_and_nonsense_are_told_apart(nats: NatsServer) -> None:
    """No gateway at all, and something that answers but is none."""

    async def answer(message: Msg) -> None:
        await message.respond(b"[]")

    async with ControlClient.connect(nats.url) as client:
        with pytest.raises(NoGateway, match=r"no gateway answers on polymarket\.v1\.control\.status"):
            await client.status()
        async with answering(nats.url, answer):
            with pytest.raises(NoGateway, match="not a gateway of this version"):
                await client.status()


async def test_a_gateway_that_is_silent_is_given_up(
    nats: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a deadline of our own, with a word that the request may still be carried out."""
    monkeypatch.setattr("polybus_services.client.ANSWER_WITHIN_S", 0.05)

    async def answer(message: Msg) -> None:
        pass

    async with answering(nats.url, answer), ControlClient.connect(nats.url) as client:
        with pytest.raises(NoGateway, match="may still be carried out"):
            await client._request("status", {}, UnsubscribeReply, 0.05)


async def test_why_nats_cannot_be_reached() -> None:
    """Nothing listens, no such name, or silence: at once, or within the time given."""
    assert await complaint("nats://127.0.0.1:1") == (
        "NATS at nats://127.0.0.1:1 cannot be reached: nothing listens there"
    )
    assert "nothing listens" in await complaint("nats://127.0.0.1:1,nats://127.0.0.1:2")
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        config = NatsSettings(url=f"nats://u:secret@127.0.0.1:{port}", connect_timeout_s=0.2)
        said = await complaint(config)
    assert said == f"NATS at nats://***@127.0.0.1:{port} does not answer within 0.2 s"


async def test_a_frozen_server_holds_nobody_up(nats: NatsServer) -> None:
    """Neither who connects, nor who leaves."""
    async with ControlClient.connect(nats.url):
        nats.freeze()
        said = await complaint(NatsSettings(url=nats.url, connect_timeout_s=0.2))
        assert "does not answer within 0.2 s" in said
    nats.thaw()


async def test_messages_come_in_order_from_the_moment_of_listening(nats: NatsServer) -> None:
    """Entering the block is enough: what is published afterwards arrives, all of it."""
    async with (
        ControlClient.connect(nats.url) as client,
        client.listen("a.>") as messages,
        ControlClient.connect(nats.url) as other,
    ):
        for number in range(3000):  # more than the queue holds
            await other._nats.publish("a.b", b"%d" % number)
        with anyio.fail_after(PATIENCE_S):
            heard = [int((await messages.receive()).data) for _ in range(3000)]
    assert heard == list(range(3000))


async def test_a_server_that_comes_and_goes_is_noticed(nats: NatsServer) -> None:
    """Whoever listens is told, and goes on listening."""
    came, went = anyio.Event(), anyio.Event()

    def changed(*, connected: bool) -> None:
        (came if connected else went).set()

    async with (
        ControlClient.connect(nats.url, on_connection=changed) as client,
        client.listen("a") as messages,
    ):
        with anyio.fail_after(PATIENCE_S):
            nats.kill()
            await went.wait()
            await nats.restart()
            await came.wait()
            await client._nats.publish("a", b"again")
            assert (await messages.receive()).data == b"again"


async def test_the_port_of_a_server_that_left_is_told_of_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """No line of nats-py's own reaches the log, whatever fails."""
    async with nats_server(jetstream=False) as server:
        url = server.url
    await complaint(url)

    assert not caplog.records
