"""The simulator over real sockets: what a client sees, and what the ledger says it saw."""

import json
from collections import Counter
from collections.abc import AsyncIterator

import anyio
import pytest
from wsproto.events import CloseConnection

from polybus_services.simulator import Simulator, SimulatorOptions, ready_line, running_simulator
from polybus_services.simulator.probe import AdminClient, Client, Refused, connected, opening, request

pytestmark = pytest.mark.anyio

GUARD_S = 20.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with six markets: a test lets things happen by hand."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=6, seed=3, paused=True)) as running:
            yield running


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


async def test_ready_line_says_where_everything_is(simulator: Simulator) -> None:
    """The line scripts rely on is JSON with feeds, rest, admin, markets and accounts, and leads to the books."""
    ready = json.loads(json.dumps(ready_line(simulator)))
    assert list(ready) == ["feeds", "rest", "admin", "markets", "accounts"]
    assert len(ready["markets"]) == 6
    asset = ready["markets"][0]["assets"][0]
    status, book = await request(f"{ready['rest']}/book?token_id={asset}")
    assert (status, book["market"]) == (200, ready["markets"][0]["market"])


@pytest.mark.parametrize("path", ["/ws/", "/ws", "/ws/clob"])
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
        ("GET", "/admin/book", None, 400, "which one"),
        ("GET", "/admin/book?asset=404", None, 404, "no asset 404"),
        ("GET", "/nothing", None, 404, "/nothing"),
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
    ledger = await AdminClient(simulator.admin).ledger()
    closed = ledger["connections"]["market-1"]["closed"]
    assert (closed["by"], closed["code"], closed["reason"]) == ("simulator", code, reason)


async def test_a_malformed_frame_ends_the_connection(simulator: Simulator) -> None:
    """A frame that breaks the WebSocket's rules, here one without a mask, is answered with 1002."""
    async with connected(simulator.feeds["market"]) as client:
        await client.stream.send(b"\x81\x04PING")
        assert await client.hear() is None
        assert client.closed is not None
        assert client.closed.code == 1002


async def test_a_client_that_says_goodbye_is_answered(simulator: Simulator) -> None:
    """A client's close frame comes back, and the ledger says who left."""
    async with connected(simulator.feeds["market"]) as client:
        await client.stream.send(client.ws.send(CloseConnection(1000, "done")))
        await client.gone()
        assert client.closed is not None
        assert client.closed.code == 1000
    closed = (await AdminClient(simulator.admin).ledger())["connections"]["market-1"]["closed"]
    assert (closed["by"], closed["code"], closed["reason"]) == ("client", 1000, "done")


async def test_the_ledger_agrees_with_the_clients(simulator: Simulator) -> None:
    """What each client counted is what the ledger says was sent or mirrored to it, per asset and type."""
    assets = simulator.assets
    async with connected(simulator.feeds["market"]) as first, connected(simulator.feeds["market"]) as second:
        clients = {"market-1": first, "market-2": second}
        await first.say(opening(*assets[:3], custom_feature_enabled=True))
        await second.say(opening(*assets[2:9]))
        for client in clients.values():
            await client.hear_until_pong()
        await AdminClient(simulator.admin).step(1_500)
        for market in simulator.markets[:2]:
            await AdminClient(simulator.admin).happen("trade", str(market["market"]))
        for name, client in clients.items():
            await client.hear_until_pong()
            told = await AdminClient(simulator.admin).sent(name)
            assert set(told) <= {"sent", "mirrored"}
            assert told["sent"].keys().isdisjoint(told["mirrored"])
            assert told["sent"] | told["mirrored"] == client.seen
        assert {asset for asset, _ in (await AdminClient(simulator.admin).sent("market-1"))["mirrored"]} == {
            assets[3]
        }


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
                        await AdminClient(simulator.admin).step(2_000)
                        stepped.set()
                    await stepped.wait()
                    await client.hear_until_pong()

            ready: list[Client] = []
            stepped = anyio.Event()
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(follow, assets[number * 400 : (number + 1) * 400])
            ledger = await AdminClient(simulator.admin).ledger()
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
            assert before == sum((await AdminClient(simulator.admin).sent("market-1"))["sent"].values())
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
