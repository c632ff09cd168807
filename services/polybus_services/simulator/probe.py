"""A client of the simulator, for tests: it keeps books, counts what it hears, and speaks to the admin side.

Not a client for the venue: it never reconnects, has no watchdog and trusts what it is told.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.abc
import h11
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, RejectConnection, Request, TextMessage


class Refused(Exception):
    """The upgrade was answered with something else than 101.

    Attributes:
        status: of the answer.
        headers: of the answer, names in lower case.
    """

    def __init__(self, event: RejectConnection) -> None:
        super().__init__(event.status_code)
        self.status = event.status_code
        self.headers = {bytes(name).lower(): bytes(value) for name, value in event.headers}


class Client:
    """A WebSocket client that keeps books, as a bot would.

    Attributes:
        books: asset id -> "bids" and "asks", each price -> size as they came.
        seen: (asset or market id, event type) -> how many events, counted as the ledger counts.
        closed: the server's close frame.
        cut: whether the TCP connection is over.
    """

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
        """Send text, or what is to become JSON."""
        text = message if isinstance(message, str) else json.dumps(message)
        await self.stream.send(self.ws.send(TextMessage(text)))

    async def hear(self) -> str | None:
        """The next text; None once the connection is over."""
        while not self.texts and not (self.closed or self.cut):
            await self.receive()
        return self.texts.pop(0) if self.texts else None

    async def receive(self) -> None:
        """Take in one chunk, answering a close frame."""
        try:
            data = await self.stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self.cut = True
            return
        self.ws.receive_data(data)
        for event in self.ws.events():
            if isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    self.texts.append(self._text)
                    self._text = ""
            elif isinstance(event, CloseConnection):
                self.closed = event
                if self.ws.state is ConnectionState.REMOTE_CLOSING:
                    await self.stream.send(self.ws.send(event.response()))

    async def gone(self) -> None:
        """Wait until the server has hung up; by then the ledger has its last entry."""
        while not self.cut:
            await self.receive()

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
                    side: {level["price"]: level["size"] for level in event[side]}
                    for side in ("bids", "asks")
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
            # Not `del`: after a stall a client is told of levels to remove that it never heard of.
            side.pop(change["price"], None)
        else:
            side[change["price"]] = change["size"]


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A client with its upgrade accepted.

    Raises:
        Refused: it was not.
    """
    parts = urlsplit(url)
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
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


async def request(url: str, method: str = "GET", content: object = None) -> tuple[int, Any]:
    """One HTTP request: its status and decoded body."""
    parts = urlsplit(url)
    http = h11.Connection(h11.CLIENT)
    body = b"" if content is None else json.dumps(content).encode()
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    head = h11.Request(
        method=method,
        target=target,
        headers=[("Host", parts.netloc), ("Content-Length", str(len(body))), ("Connection", "close")],
    )
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
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


def opening(*assets: str, **more: object) -> dict[str, object]:
    """The opening message of the market feed."""
    return {"assets_ids": list(assets), "type": "market", **more}


class AdminError(Exception):
    """The admin side refused."""


class AdminClient:
    """The admin side of a simulator.

    Args:
        url: as in the ready line.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def ask(self, method: str, path: str, content: object = None) -> Any:
        """One request under the admin URL; the decoded answer.

        Raises:
            AdminError: the status was not 200.
        """
        status, answer = await request(self._url + path, method, content)
        if status != 200:
            raise AdminError(f"{method} {path}: {status}: {answer['error']}")
        return answer

    async def step(self, events: int) -> None:
        """Let so many facts happen, and wait until they are written."""
        answer = await self.ask("POST", "/step", {"events": events})
        if answer["unflushed"]:
            raise AdminError(f"these do not read: {', '.join(answer['unflushed'])}")

    async def pass_time(self, seconds: float) -> None:
        """Let so long pass for all but the exchange, and wait until what happens is written."""
        await self.ask("POST", "/step", {"seconds": seconds})

    async def happen(self, event: str, market: str | None = None, account: str | None = None) -> Any:
        """Let one rare thing happen, or let an account do something."""
        return await self.ask("POST", "/happen", {"event": event, "market": market, "account": account})

    async def fault_on(self, name: str, **parameters: object) -> Any:
        """Switch a fault on."""
        return await self.ask("PUT", f"/faults/{name}", parameters)

    async def fault_off(self, name: str) -> Any:
        """Switch a fault off."""
        return await self.ask("DELETE", f"/faults/{name}")

    async def book(self, asset: str, timestamp: int | str | None = None, hash_: str | None = None) -> Any:
        """The book of an asset: as it is, or as it was when a message with this time and hash told of it."""
        point = "" if timestamp is None else f"&timestamp={timestamp}"
        return await self.ask("GET", f"/book?asset={asset}{point}" + (f"&hash={hash_}" if hash_ else ""))

    async def ledger(self) -> Any:
        """All that was sent and was not."""
        return await self.ask("GET", "/sent")

    async def sent(self, connection: str) -> dict[str, dict[tuple[str, str], int]]:
        """The ledger of one connection: fate -> (asset or market id, event type) -> count."""
        shown: dict[str, dict[tuple[str, str], int]] = {}
        for subject, fates in (await self.ledger())["connections"][connection]["assets"].items():
            for fate, kinds in fates.items():
                for kind, count in kinds.items():
                    shown.setdefault(fate, {})[subject, kind] = count
        return shown
