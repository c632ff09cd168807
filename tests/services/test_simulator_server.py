"""The simulator over real sockets: what a client sees, and what the ledger says it saw."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import ANY
from urllib.parse import urlsplit

import anyio
import anyio.abc
import anyio.lowlevel
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
from polybus_services.simulator import Simulator, SimulatorOptions, ready_line, running_simulator
from polybus_services.simulator.ledger import Fate

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
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
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
    assert parts.hostname
    assert parts.port
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


async def sent(simulator: Simulator, connection: str) -> dict[str, dict[tuple[str, str], int]]:
    """The ledger of one connection: fate -> (asset, type) -> count."""
    _, ledger = await request(simulator.admin + "/sent")
    shown: dict[str, dict[tuple[str, str], int]] = {}
    for subject, fates in ledger["connections"][connection]["assets"].items():
        for fate, kinds in fates.items():
            for kind, count in kinds.items():
                shown.setdefault(fate, {})[subject, kind] = count
    return shown


async def step(simulator: Simulator, events: int) -> None:
    status, answer = await request(simulator.admin + "/step", "POST", {"events": events})
    assert (status, answer["unflushed"]) == (200, [])


async def switch_on(simulator: Simulator, fault: str, **parameters: object) -> dict[str, Any]:
    status, answer = await request(f"{simulator.admin}/faults/{fault}", "PUT", parameters)
    assert status == 200, answer
    return dict(answer)


async def test_ready_line_says_where_everything_is(simulator: Simulator) -> None:
    """The line scripts rely on is JSON with feeds, rest, admin and markets, and leads to the books."""
    ready = json.loads(json.dumps(ready_line(simulator)))
    assert list(ready) == ["feeds", "rest", "admin", "markets"]
    assert len(ready["markets"]) == 6
    asset = ready["markets"][0]["assets"][0]
    status, book = await request(f"{ready['rest']}/book?token_id={asset}")
    assert (status, book["market"]) == (200, ready["markets"][0]["market"])
    assert book["hash"] == book_hash(
        book["market"],
        asset,
        book["timestamp"],
        [(level["price"], level["size"]) for level in book["bids"]],
        [(level["price"], level["size"]) for level in book["asks"]],
        min_order_size=book["min_order_size"],
        tick_size=book["tick_size"],
        neg_risk=book["neg_risk"],
        last_trade_price=book["last_trade_price"],
    )
    _, books = await request(ready["rest"] + "/books", "POST", [{"token_id": asset}, {"token_id": "404"}])
    assert [found["asset_id"] for found in books] == [asset]


@pytest.mark.parametrize("path", ["/ws/", "/ws", "/ws/user", "/"])
async def test_no_feed_at_another_path(simulator: Simulator, path: str) -> None:
    """An upgrade anywhere but at a feed's path is answered with 404."""
    with pytest.raises(Refused) as refused:
        async with connected(simulator.rest.replace("http", "ws") + path):
            pass
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("GET", "/ws/market", None, 426, "WebSocket"),
        ("GET", "/admin/nothing", None, 404, "/admin/nothing"),
        ("GET", "/admin/step", None, 404, "try POST"),
        ("GET", "/admin/book", None, 400, "which asset"),
        ("GET", "/admin/book?asset=404", None, 404, "No orderbook"),
        ("GET", "/book?token_id=404", None, 404, "No orderbook"),
        ("POST", "/admin/step", {"events": -1}, 400, "events"),
        ("POST", "/admin/step", None, 400, "body"),
        ("PUT", "/admin/faults/gremlins", {}, 404, "there are: drop, stall, freeze-asset"),
        ("PUT", "/admin/faults/stall", {"second": 1}, 400, "its parameters are: seconds, connection"),
        ("PUT", "/admin/faults/stall", [], 400, "object"),
        ("PUT", "/admin/faults/freeze-asset", {}, 400, "assets"),
        ("PUT", "/admin/faults/freeze-asset", {"assets": ["404"]}, 404, "no asset 404"),
        ("PUT", "/admin/faults/duplicate", {"probability": 2}, 400, "probability"),
        ("DELETE", "/admin/faults/gremlins", None, 404, "gremlins"),
        ("POST", "/admin/happen", {"event": "rain"}, 400, "rain"),
        ("POST", "/admin/happen", {"event": "trade", "market": "0x0"}, 404, "0x0"),
        ("POST", "/books", {"token_id": "1"}, 400, "array"),
    ],
)
async def test_wrong_requests(
    simulator: Simulator, method: str, path: str, content: object, status: int, words: str
) -> None:
    """What is wrong is said in a sentence, as JSON."""
    got, answer = await request(simulator.rest + path, method, content)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("PING", 1008, "invalid subscription payload"),
        ({"assets_ids": ["1"] * 501, "type": "market"}, 1009, "message too big"),
    ],
)
async def test_closing_for_a_bad_beginning(
    simulator: Simulator, message: object, code: int, reason: str
) -> None:
    """An early PING or too many ids end the connection, and the ledger says why."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(message)
        assert await client.hear() is None
        assert client.closed is not None
        assert (client.closed.code, client.closed.reason) == (code, reason)
        await client.gone()
    _, ledger = await request(simulator.admin + "/sent")
    closed = ledger["connections"]["market-1"]["closed"]
    assert (closed["by"], closed["code"], closed["reason"]) == ("simulator", code, reason)


async def test_the_ledger_agrees_with_the_clients(simulator: Simulator) -> None:
    """What each client counted is what the ledger says was sent or mirrored to it, per asset and type."""
    assets = simulator.assets
    async with connected(simulator.feeds["market"]) as first, connected(simulator.feeds["market"]) as second:
        clients = {"market-1": first, "market-2": second}
        await first.say(opening(*assets[:3], custom_feature_enabled=True))
        await second.say(opening(*assets[2:9]))
        for client in clients.values():
            await client.hear_until_pong()
        await step(simulator, 4_000)
        for market in simulator.markets[:2]:
            await request(simulator.admin + "/happen", "POST", {"event": "trade", "market": market["market"]})
        for name, client in clients.items():
            await client.hear_until_pong()
            told = await sent(simulator, name)
            assert set(told) <= {"sent", "mirrored"}
            assert told["sent"].keys().isdisjoint(told["mirrored"])
            assert told["sent"] | told["mirrored"] == client.seen
        assert {asset for asset, _ in (await sent(simulator, "market-1"))["mirrored"]} == {assets[3]}


async def test_drop_cuts_without_a_close_frame(simulator: Simulator) -> None:
    """`drop` ends the connection meant at once and leaves the other alone."""
    async with connected(simulator.feeds["market"]) as first, connected(simulator.feeds["market"]) as second:
        for client in (first, second):
            await client.say(opening(simulator.assets[0]))
            await client.hear_until_pong()
        assert (await switch_on(simulator, "drop", connection="market-1"))["struck"] == 1
        assert await first.hear() is None
        assert (first.closed, first.cut) == (None, True)
        await step(simulator, 50)
        assert await second.hear_until_pong()


async def test_drop_at_the_next_frame(simulator: Simulator) -> None:
    """With `count`, `drop` waits for a data frame, and is over when it has happened so often."""
    await switch_on(simulator, "drop", count=1)
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(simulator.assets[0]))
        assert await client.hear() is None
        assert client.cut
    _, faults = await request(simulator.admin + "/faults")
    assert faults["faults"]["drop"]["on"] is False


async def test_stall_is_silence_with_pongs(simulator: Simulator) -> None:
    """`stall`: PONGs and nothing else; afterwards data again, and what was withheld is on record."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await switch_on(simulator, "stall")
        await step(simulator, 100)
        assert await client.hear_until_pong() == []
        await request(simulator.admin + "/faults/stall", "DELETE")
        await step(simulator, 100)
        assert await client.hear_until_pong() != []
        told = await sent(simulator, "market-1")
        assert told["sent"] == client.seen
        assert sum(told["withheld"].values()) >= 200  # both assets of each market are followed


async def test_freeze_asset_silences_some(simulator: Simulator) -> None:
    """`freeze-asset`: no first book and no event for it, while even its other half goes on."""
    frozen, other = simulator.assets[:2]
    await switch_on(simulator, "freeze-asset", assets=[frozen])
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(frozen, other))
        await client.hear_until_pong()
        await step(simulator, 300)
        await client.hear_until_pong()
        assert {asset for asset, _ in client.seen} == {other}
        told = await sent(simulator, "market-1")
        assert told["sent"] == client.seen
        assert told["withheld"][frozen, "book"] >= 1
        assert told["withheld"][frozen, "price_change"] == told["sent"][other, "price_change"]


async def test_refuse_429(simulator: Simulator) -> None:
    """`refuse-429`: upgrades are refused with Retry-After, as often as said, and counted."""
    await switch_on(simulator, "refuse-429", count=2, retry_after_s=7)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            async with connected(simulator.feeds["market"]):
                pass
        assert (refused.value.status, refused.value.headers[b"retry-after"]) == (429, b"7")
    async with connected(simulator.feeds["market"]):
        pass
    _, ledger = await request(simulator.admin + "/sent")
    assert (ledger["refused"], ledger["opened"]) == (2, 1)


async def test_duplicate_sends_twice(simulator: Simulator) -> None:
    """`duplicate`: the frame comes twice in a row; the second time is counted apart."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await switch_on(simulator, "duplicate", count=1)
        await step(simulator, 1)
        first, second = await client.hear_until_pong()
        assert first == second
        told = await sent(simulator, "market-1")
        assert sum(told["duplicated"].values()) == 2


@pytest.mark.parametrize("mode", ["cut", "flip"])
async def test_corrupt_frame_does_not_decode(simulator: Simulator, mode: str) -> None:
    """`corrupt-frame`: the WebSocket goes on, the JSON in one frame is broken."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await switch_on(simulator, "corrupt-frame", count=1, mode=mode)
        await step(simulator, 2)
        events = await client.hear_until_pong()
        kinds = [event["event_type"] for event in events]
        assert kinds[0] == "undecodable"
        assert "undecodable" not in kinds[1:]
        assert sum((await sent(simulator, "market-1"))["corrupted"].values()) == 2


@pytest.mark.parametrize("inside", [True, False])
async def test_unknown_event_stands_beside_known_ones(simulator: Simulator, inside: bool) -> None:
    """`unknown-event`: an event of a new type, in the same array or in a frame of its own."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await switch_on(simulator, "unknown-event", count=1, inside=inside)
        await step(simulator, 1)
        await client.say("PING")
        texts = [await client.hear()]
        while texts[-1] != "PONG":
            texts.append(await client.hear())
        assert len(texts) == (2 if inside else 3)
        kinds = [event["event_type"] for text in texts[:-1] for event in client.take_in(text or "")]
        assert kinds == ["price_change", "some_future_event"]
        told = await sent(simulator, "market-1")
        assert sum(told["unknown"].values()) == 1


async def test_close_1013_by_name(simulator: Simulator) -> None:
    """`close-1013`: closed as a slow consumer would be."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(simulator.assets[0]))
        await client.hear_until_pong()
        await switch_on(simulator, "close-1013")
        assert await client.hear() is None
        assert client.closed is not None
        assert (client.closed.code, client.closed.reason) == (1013, "slow consumer: send buffer full")


async def test_a_reader_that_does_not_read_is_closed(simulator: Simulator) -> None:
    """A client that reads nothing fills its buffer; it is cut off with 1013 and the rest is on record."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        record = simulator.venue.ledger.record("market-1")
        while not any(tally.fate is Fate.DISCARDED for tally in record.counts):
            simulator.venue.step(500)
            await anyio.lowlevel.checkpoint()
        # What the kernel held comes first, the close frame behind it.
        while (text := await client.hear()) is not None:
            client.take_in(text)
        assert client.closed is not None
        assert (client.closed.code, client.closed.reason) == (1013, "slow consumer: send buffer full")
        await client.gone()
        assert await sent(simulator, "market-1") == {"sent": client.seen, "discarded": ANY}


async def test_thousands_of_assets() -> None:
    """2,400 assets over six connections, subscribed a hundred at a time: every one gets its book and its events."""
    options = SimulatorOptions(markets=1_200, seed=1, paused=True)
    with anyio.fail_after(60):
        async with running_simulator(options) as simulator:
            assets = simulator.assets

            async def follow(share: list[str]) -> None:
                async with connected(simulator.feeds["market"]) as client:
                    await client.say(opening())
                    for start in range(0, len(share), 100):
                        await client.say({"operation": "subscribe", "assets_ids": share[start : start + 100]})
                    await client.hear_until_pong()
                    assert set(client.books) == set(share)
                    ready.append(client)
                    if len(ready) == 6:
                        await step(simulator, 5_000)
                        stepped.set()
                    await stepped.wait()
                    await client.hear_until_pong()

            ready: list[Client] = []
            stepped = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(follow, assets[number * 400 : (number + 1) * 400])
            _, ledger = await request(simulator.admin + "/sent")
            seen = sum((client.seen for client in ready), Counter[tuple[str, str]]())
            assert ledger["totals"]["sent"] == seen.total()
            assert len(ledger["assets"]) == 2_400


async def test_the_flow_stops_and_goes_on() -> None:
    """Left alone, events flow; after `pause` nothing more comes, after `resume` it does."""
    options = SimulatorOptions(markets=4, rate=2_000)
    with anyio.fail_after(GUARD_S):
        async with running_simulator(options) as simulator, connected(simulator.feeds["market"]) as client:
            await client.say(opening(*simulator.assets))
            while client.seen.total() < 100:
                client.take_in(await client.hear() or "")
            _, paused = await request(simulator.admin + "/pause", "POST")
            assert paused["unflushed"] == []
            await client.hear_until_pong()
            before = client.seen.total()
            assert before == sum((await sent(simulator, "market-1"))["sent"].values())
            assert await client.hear_until_pong() == []
            _, status = await request(simulator.admin + "/status")
            assert (status["paused"], status["facts"]) == (True, paused["facts"])
            await request(simulator.admin + "/resume", "POST")
            client.take_in(await client.hear() or "")
            assert client.seen.total() > before


@pytest.mark.parametrize(
    ("event", "kinds"),
    [
        ("trade", ["book", "book", "last_trade_price"]),
        ("tick_size_change", ["tick_size_change", "tick_size_change", "book", "book"]),
        ("new_market", ["new_market"]),
        ("market_resolved", ["market_resolved"]),
    ],
)
async def test_things_happen_on_demand(simulator: Simulator, event: str, kinds: list[str]) -> None:
    """`/admin/happen` makes a rare thing happen now."""
    market = simulator.markets[0]
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets, custom_feature_enabled=True))
        await client.hear_until_pong()
        wish = {"event": event} if event == "new_market" else {"event": event, "market": market["market"]}
        status, _ = await request(simulator.admin + "/happen", "POST", wish)
        assert status == 200
        heard = [found["event_type"] for found in await client.hear_until_pong()]
        assert [kind for kind in heard if kind != "best_bid_ask"] == kinds
    if event in ("tick_size_change", "market_resolved"):
        status, answer = await request(simulator.admin + "/happen", "POST", wish)
        assert (status, "already" in answer["error"]) == (400, True)


async def test_stopping_says_goodbye() -> None:
    """A simulator that is stopped closes its WebSockets with 1001."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=1)) as simulator:
            stack = connected(simulator.feeds["market"])
            client = await stack.__aenter__()
            await client.say(opening(*simulator.assets))
            assert await client.hear()
        while not (client.closed or client.cut):
            await client.receive()
        assert client.closed is not None
        assert client.closed.code == 1001
        await stack.__aexit__(None, None, None)
