"""The venue's REST books over real sockets: their shape, their hashes, and what goes wrong with them."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from polybus_protocol.books.book_hash import book_hash
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient, AdminError, connected, opening, request

pytestmark = pytest.mark.anyio

GUARD_S = 20.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with three markets: a test lets things happen by hand."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=3, seed=3, paused=True)) as running:
            yield running


async def books(simulator: Simulator, *assets: str) -> list[Any]:
    """What `POST /books` has."""
    status, found = await request(
        simulator.rest + "/books", "POST", [{"token_id": asset} for asset in assets]
    )
    assert status == 200
    assert isinstance(found, list)
    return found


async def test_the_shape_and_the_hash(simulator: Simulator) -> None:
    """Keys as on the venue, levels worst to best, and a hash of all that is shown; one or several, the same."""
    await AdminClient(simulator.admin).step(200)
    asset = simulator.assets[1]
    status, book = await request(f"{simulator.rest}/book?token_id={asset}")
    assert status == 200
    assert list(book) == [
        "market",
        "asset_id",
        "timestamp",
        "hash",
        "bids",
        "asks",
        "min_order_size",
        "tick_size",
        "neg_risk",
        "last_trade_price",
    ]
    bids, asks = ([(level["price"], level["size"]) for level in book[side]] for side in ("bids", "asks"))
    assert [float(price) for price, _ in bids] == sorted(float(price) for price, _ in bids)
    assert [float(price) for price, _ in asks] == sorted((float(price) for price, _ in asks), reverse=True)
    assert book["hash"] == book_hash(
        book["market"],
        asset,
        book["timestamp"],
        bids,
        asks,
        min_order_size=book["min_order_size"],
        tick_size=book["tick_size"],
        neg_risk=book["neg_risk"],
        last_trade_price=book["last_trade_price"],
    )
    assert await books(simulator, asset, "404") == [book]


async def test_rest_and_stream_tell_one_book(simulator: Simulator) -> None:
    """Time and hash are those of the last thing the stream said of it, and stay while nothing happens."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).step(300)
        last: dict[str, tuple[str, str]] = {}
        for event in await client.hear_until_pong():
            for said in event.get("price_changes", [event] if event["event_type"] == "book" else []):
                last[said["asset_id"]] = (event["timestamp"], said["hash"])
        assert set(last) == set(simulator.assets)
        for _ in range(2):
            for book in await books(simulator, *simulator.assets):
                assert (book["timestamp"], book["hash"]) == last[book["asset_id"]]
                for side in ("bids", "asks"):
                    kept = client.books[book["asset_id"]][side]
                    assert {level["price"]: level["size"] for level in book[side]} == kept


async def test_the_book_at_a_point(simulator: Simulator) -> None:
    """Who stopped listening finds the book he had, though the exchange went on."""
    admin = AdminClient(simulator.admin)
    asset = simulator.assets[0]
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(asset))
        (first,) = await client.hear_until_pong()
        then = await admin.book(asset, first["timestamp"], first["hash"])
        assert {side: first[side] for side in ("bids", "asks")} == {
            side: then[side] for side in ("bids", "asks")
        }
        await admin.step(60)
        *_, last = [event for event in await client.hear_until_pong() if "price_changes" in event]
    (told,) = [each for each in last["price_changes"] if each["asset_id"] == asset]
    await admin.step(300)
    then = await admin.book(asset, last["timestamp"], told["hash"])
    for side in ("bids", "asks"):
        assert {level["price"]: level["size"] for level in then[side]} == client.books[asset][side]
    with pytest.raises(AdminError, match=r"404: no book of .* had the hash"):
        await admin.book(asset, last["timestamp"], "0" * 40)
    with pytest.raises(AdminError, match="400: timestamp"):
        await admin.book(asset, "soon")
    with pytest.raises(AdminError, match="400: timestamp"):
        await admin.ask("GET", f"/book?asset={asset}&hash={told['hash']}")


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "words"),
    [
        ("GET", "/book", None, 400, "Invalid token id"),
        ("GET", "/book?token_id=404", None, 404, "No orderbook exists for the requested token id"),
        ("POST", "/books", {"token_id": "1"}, 400, "Invalid payload"),
        ("POST", "/books", [{"token_id": "1"}] * 501, 400, "Payload exceeds the limit"),
    ],
)
async def test_wrong_requests(
    simulator: Simulator, method: str, path: str, content: object, status: int, words: str
) -> None:
    """The venue's own status and words."""
    got, answer = await request(simulator.rest + path, method, content)
    assert (got, list(answer)) == (status, ["error"])
    assert words in answer["error"]


async def test_a_decided_market_has_no_book(simulator: Simulator) -> None:
    """Once decided it is as if it had never been."""
    market, assets = simulator.markets[0]["market"], simulator.assets
    await AdminClient(simulator.admin).happen("market_resolved", str(market))
    assert [book["asset_id"] for book in await books(simulator, *assets)] == assets[2:]


async def test_rest_stale(simulator: Simulator) -> None:
    """`rest-stale`: the books of when it began, each with the hash it had then; afterwards those of now."""
    admin = AdminClient(simulator.admin)
    before = await books(simulator, *simulator.assets)
    await admin.fault_on("rest-stale", assets=simulator.assets[:4])
    await admin.step(100)
    stale = await books(simulator, *simulator.assets)
    assert stale[:4] == before[:4]
    assert stale[4] != before[4]
    await admin.fault_off("rest-stale")
    now = await books(simulator, *simulator.assets)
    assert all(one != other for one, other in zip(now[:4], before[:4], strict=True))
    assert now[4:] == stale[4:]


async def test_rest_429(simulator: Simulator) -> None:
    """`rest-429`: refused with Retry-After, as often as said; the sockets are not concerned."""
    admin = AdminClient(simulator.admin)
    await admin.fault_on("rest-429", count=1, retry_after_s=7)
    async with connected(simulator.feeds["market"]):
        status, answer = await request(f"{simulator.rest}/book?token_id={simulator.assets[0]}")
        assert (status, answer) == (429, {"error": "Too Many Requests"})
        assert await books(simulator, simulator.assets[0])


async def test_rest_down(simulator: Simulator) -> None:
    """`rest-down`: 503, or the connection cut, or no answer; the admin side goes on."""
    admin, url = AdminClient(simulator.admin), f"{simulator.rest}/book?token_id={simulator.assets[0]}"
    await admin.fault_on("rest-down")
    assert await request(url) == (503, {"error": "Service Unavailable"})
    await admin.fault_on("rest-down", mode="hang")
    with anyio.move_on_after(0.05) as waiting:
        await request(url)
    assert waiting.cancelled_caught
    await admin.fault_on("rest-down", mode="cut", count=1)
    async with await anyio.connect_tcp("127.0.0.1", int(simulator.rest.rpartition(":")[2])) as stream:
        await stream.send(f"GET /book?token_id={simulator.assets[0]} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    assert (await request(url))[0] == 200
