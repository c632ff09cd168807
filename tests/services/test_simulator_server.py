"""The simulator over real sockets: what a client sees, and what the ledger says it saw."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h11
import pytest
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)

from polybus_protocol.book_hash import book_hash
from polybus_services.simulator import MarketLimits, Simulator, SimulatorOptions, ready_line, running_simulator

pytestmark = pytest.mark.anyio

GUARD_S = 20.0


class Refused(Exception):
    """The upgrade was answered with something else than 101."""

    def __init__(self, event: RejectConnection) -> None:
        super().__init__(event.status_code)
        self.status = event.status_code
        self.headers = {bytes(name).lower(): bytes(value) for name, value in event.headers}


class Client:
    """A WebSocket client that keeps books, as a bot would."""

    def __init__(self, stream: anyio.abc.ByteStream) -> None:
        self.stream = stream
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.texts: list[str] = []
        self.closed: CloseConnection | None = None
        self.cut = False
        self.books: dict[str, dict[str, Any]] = {}
        self.seen = Counter[tuple[str, str]]()
        self._text = ""

    async def say(self, message: object) -> None:
        text = message if isinstance(message, str) else json.dumps(message)
        await self.stream.send(self.ws.send(TextMessage(text)))

    async def hear(self) -> str | None:
        """The next text; None once the connection is over."""
        while not self.texts and not (self.closed or self.cut):
            await self.receive()
        return self.texts.pop(0) if self.texts else None

    async def receive(self) -> None:
        try:
            self.ws.receive_data(await self.stream.receive())
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self.cut = True
            return
        for event in self.ws.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.texts.append(self._text)
                    self._text = ""
            elif isinstance(event, CloseConnection):
                self.closed = event
                await self.stream.send(self.ws.send(event.response()))

    async def hear_until_pong(self) -> list[Any]:
        """All data up to the answer of a PING: what was sent before it has come by then."""
        await self.say("PING")
        events: list[Any] = []
        while (text := await self.hear()) != "PONG":
            assert text is not None, "the connection ended before its PONG"
            events += self.take_in(text)
        return events

    def take_in(self, text: str) -> list[Any]:
        """Keep books from one frame; its events.  What does not decode is an event of its own."""
        try:
            decoded = json.loads(text)
        except json.JSONDecodeError:
            return [{"event_type": "undecodable", "text": text}]
        events = decoded if isinstance(decoded, list) else [decoded]
        for event in events:
            kind = event["event_type"]
            if kind == "book":
                self.books[event["asset_id"]] = {
                    side: {level["price"]: level["size"] for level in event[side]} for side in ("bids", "asks")
                }
            if kind == "price_change":
                for change in event["price_changes"]:
                    self.seen[change["asset_id"], kind] += 1
                    self._change(change)
            else:
                self.seen[event.get("asset_id", event.get("market")), kind] += 1
        return events

    def _change(self, change: dict[str, str]) -> None:
        if change["asset_id"] not in self.books:
            return
        side = self.books[change["asset_id"]]["bids" if change["side"] == "BUY" else "asks"]
        if change["size"] == "0":
            del side[change["price"]]
        else:
            side[change["price"]] = change["size"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
        client = Client(stream)
        await stream.send(client.ws.send(Request(host=parts.netloc, target=parts.path)))
        while True:
            client.ws.receive_data(await stream.receive())
            for event in client.ws.events():
                if isinstance(event, RejectConnection):
                    raise Refused(event)
                if isinstance(event, AcceptConnection):
                    yield client
                    return
                assert not isinstance(event, RejectData)


async def request(url: str, method: str = "GET", content: object = None) -> tuple[int, Any]:
    """One HTTP request: its status and decoded body."""
    parts = urlsplit(url)
    assert parts.hostname and parts.port
    http = h11.Connection(h11.CLIENT)
    body = b"" if content is None else json.dumps(content).encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = h11.Request(
        method=method,
        target=target,
        headers=[("Host", parts.netloc), ("Content-Length", str(len(body))), ("Connection", "close")],
    )
    async with await anyio.connect_tcp(parts.hostname, parts.port) as stream:
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            await stream.send(http.send(event) or b"")
        status, answer = 0, b""
        while True:
            reply = http.next_event()
            if reply is h11.NEED_DATA:
                try:
                    http.receive_data(await stream.receive())
                except anyio.EndOfStream:
                    http.receive_data(b"")
            elif isinstance(reply, h11.Response):
                status = reply.status_code
            elif isinstance(reply, h11.Data):
                answer += bytes(reply.data)
            elif isinstance(reply, h11.EndOfMessage):
                return status, json.loads(answer)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with six markets: a test lets things happen by hand."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=6, seed=3, paused=True)) as running:
            yield running


def opening(*assets: str, **more: object) -> dict[str, object]:
    return {"assets_ids": list(assets), "type": "market", **more}


async def test_snapshot_then_deltas_give_the_book(simulator: Simulator) -> None:
    """A book kept from the first array and the deltas is the exchange's book, at every asset."""
    assets = simulator.assets  # before it opens new markets
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*assets))
        await client.hear_until_pong()
        assert set(client.books) == set(assets)

        status, answer = await request(simulator.admin + "/step", "POST", {"events": 3000})
        assert (status, answer) == (200, {"facts": 3000, "unflushed": []})
        await client.hear_until_pong()
        for asset in assets:
            _, book = await request(f"{simulator.admin}/book?asset={asset}")
            for side in ("bids", "asks"):
                assert client.books[asset][side] == {level["price"]: level["size"] for level in book[side]}
