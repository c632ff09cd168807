"""The second look, against the simulator's REST books and against servers that make no sense."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.abc
import pytest

from polybus_actors.venue import witness as witness_module
from polybus_actors.venue.witness import Failure, Testimony, Witness, WitnessFailure, _Bucket
from polybus_protocol.books.book_hash import book_hash
from polybus_protocol.events import Book
from polybus_services.http import Request, Response, serve_http
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient

pytestmark = pytest.mark.anyio

GUARD_S = 20.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator: a test lets things happen by hand."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=3, seed=3, paused=True)) as running:
            yield running


@asynccontextmanager
async def answering(status: int, content: object) -> AsyncIterator[str]:
    """A server that has one answer to everything; its URL."""

    async def answer(_request: Request) -> Response:
        return Response(status, content)

    async def serve(stream: anyio.abc.ByteStream) -> None:
        await serve_http(stream, answer)

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


def failure(said: Testimony) -> WitnessFailure:
    assert isinstance(said, WitnessFailure)
    return said


def wire_book(asset: str, **other: object) -> dict[str, Any]:
    return {"market": "0x1", "asset_id": asset, "bids": [], "asks": [], "timestamp": "1", **other}


async def test_books_of_many_assets(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each asset asked for once, so many to a request; best level first, with all that its hash wants."""
    monkeypatch.setattr(witness_module, "ASSETS_PER_REQUEST", 4)
    async with Witness(simulator.rest) as witness:
        said = await witness.books([*simulator.assets, simulator.assets[0]])
        assert list(said) == simulator.assets
        assert witness.requests == 2
        assert not witness.failures
    for asset, book in said.items():
        assert isinstance(book, Book)
        prices = [float(level.price) for level in book.bids]
        assert prices == sorted(prices, reverse=True)
        assert book.asset == asset
        assert book.neg_risk is not None
        assert book.hash == book_hash(
            book.market,
            asset,
            str(book.source_time),
            [(level.price, level.size) for level in reversed(book.bids)],
            [(level.price, level.size) for level in reversed(book.asks)],
            min_order_size=book.min_order_size or "",
            tick_size=book.tick_size or "",
            neg_risk=book.neg_risk,
            last_trade_price=book.last_trade_price or "",
        )


async def test_no_questions_no_requests(simulator: Simulator) -> None:
    """Who asks for nothing disturbs nobody."""
    async with Witness(simulator.rest) as witness:
        assert await witness.books([]) == {}
        assert witness.requests == 0


async def test_who_has_no_book(simulator: Simulator) -> None:
    """An asset that is unknown or decided has none, and its neighbours are not harmed."""
    decided, known = simulator.markets[0], simulator.assets[2]
    await AdminClient(simulator.admin).happen("market_resolved", str(decided["market"]))
    gone = simulator.venue.exchange.markets[str(decided["market"])].listing.assets[0]
    async with Witness(simulator.rest) as witness:
        said = await witness.books(["404", known, gone])
        assert [failure(said[asset]).reason for asset in ("404", gone)] == [Failure.UNKNOWN] * 2
        assert isinstance(said[known], Book)
        assert witness.failures == {Failure.UNKNOWN: 2}


async def test_a_stale_witness_is_believable(simulator: Simulator) -> None:
    """What it shows is old and its hash fits: only who knows better can tell."""
    admin, asset = AdminClient(simulator.admin), simulator.assets[0]
    async with Witness(simulator.rest) as witness:
        before = await witness.books([asset])
        await admin.fault_on("rest-stale")
        await admin.happen("trade", str(simulator.markets[0]["market"]))
        assert await witness.books([asset]) == before
        await admin.fault_off("rest-stale")
        now = (await witness.books([asset]))[asset]
        assert isinstance(now, Book)
        assert now.hash == (await admin.book(asset))["hash"]
        assert now != before[asset]


@pytest.mark.parametrize(
    ("fault", "parameters", "reason", "words"),
    [
        ("rest-down", {"mode": "refuse"}, Failure.REFUSED, "the answer was 503"),
        ("rest-down", {"mode": "cut"}, Failure.UNREACHABLE, "no answer: Server disconnected"),
        ("rest-down", {"mode": "hang"}, Failure.UNREACHABLE, "no answer within 0.3 s"),
        ("rest-429", {"retry_after_s": 0}, Failure.RATE_LIMITED, "the answer was 429"),
    ],
)
async def test_each_fault(
    simulator: Simulator, fault: str, parameters: dict[str, object], reason: Failure, words: str
) -> None:
    """Nothing is raised; every asset of the request is answered for; the next question is asked as ever."""
    assets = simulator.assets[:2]
    async with Witness(simulator.rest, timeout_s=0.3) as witness:
        await AdminClient(simulator.admin).fault_on(fault, count=1, **parameters)
        said = await witness.books(assets)
        assert [failure(said[asset]).reason for asset in assets] == [reason] * 2
        assert words in failure(said[assets[0]]).detail
        assert witness.failures == {reason: 2}
    async with Witness(simulator.rest) as witness:
        assert all(isinstance(book, Book) for book in (await witness.books(assets)).values())


async def test_retry_after_is_respected(simulator: Simulator) -> None:
    """After a 429 nothing is asked until it is over, of no asset, and who asks is told how long."""
    one, other = simulator.assets[:2]
    await AdminClient(simulator.admin).fault_on("rest-429", count=1, retry_after_s=50)
    async with Witness(simulator.rest) as witness:
        assert failure((await witness.books([one]))[one]).retry_after_s == 50.0
        told = failure((await witness.books([other]))[other])
        assert told.reason is Failure.RATE_LIMITED
        assert 0.0 < (told.retry_after_s or 0.0) <= 50.0
        assert witness.requests == 1
        witness._closed_until = anyio.current_time()
        assert isinstance((await witness.books([other]))[other], Book)


async def test_a_429_that_does_not_say() -> None:
    """Without `Retry-After` it is the length of the venue's windows."""
    async with answering(429, {"error": "slow down"}) as url, Witness(url) as witness:
        told = failure((await witness.books(["1"]))["1"])
        assert told.retry_after_s == witness_module.RETRY_AFTER_S


async def test_too_many_questions(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that finds no place in time ends with a sentence; it does not queue for ever."""
    monkeypatch.setattr(witness_module, "MOST_WAIT_S", 0.05)
    monkeypatch.setattr(witness_module, "ASSETS_PER_REQUEST", 2)
    await AdminClient(simulator.admin).fault_on("rest-down", mode="hang")
    async with Witness(simulator.rest, concurrency=1, timeout_s=0.3) as witness:
        said = await witness.books(simulator.assets)
        reasons = [failure(each).reason for each in said.values()]
        assert reasons.count(Failure.UNREACHABLE) == 2
        assert reasons.count(Failure.RATE_LIMITED) == 4
        assert witness.requests == 1


async def test_the_bucket() -> None:
    """A second's worth at once; beyond it no more than the rate, however many wait."""
    bucket = _Bucket(50.0)
    begun = anyio.current_time()
    with anyio.fail_after(GUARD_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(60):
                tasks.start_soon(bucket.take)
    assert anyio.current_time() - begun >= 9 / 50


@pytest.mark.parametrize(
    ("status", "content", "reason", "words"),
    [
        (200, {"error": "soon"}, Failure.UNREADABLE, "no array of books"),
        (200, None, Failure.UNREADABLE, "no array of books"),
        (200, [], Failure.UNKNOWN, "no book"),
        (200, [7], Failure.UNREADABLE, "cannot be read"),
        (200, [wire_book("2")], Failure.UNKNOWN, "no book"),
        (200, [wire_book("1", bids=None, asks=7)], Failure.UNREADABLE, "asks"),
        (200, [wire_book("1", bids=[{"price": "NaN", "size": "1"}])], Failure.UNREADABLE, "no decimal"),
        (200, ["x" * 2_000], Failure.UNREADABLE, "longer than 1000 bytes"),
        (302, {}, Failure.REFUSED, "302"),
        (400, {"error": "Payload exceeds the limit"}, Failure.REFUSED, "Payload exceeds the limit"),
        (500, {"error": "\x1b[2J"}, Failure.REFUSED, "500"),
    ],
)
async def test_answers_that_make_no_sense(
    status: int, content: object, reason: Failure, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is answered, it becomes a sentence on one line, and nothing is raised."""
    monkeypatch.setattr(witness_module, "MOST_BYTES", 1_000)
    with anyio.fail_after(GUARD_S):
        async with answering(status, content) as url, Witness(url) as witness:
            told = failure((await witness.books(["1"]))["1"])
    assert told.reason is reason
    assert words in told.detail
    assert told.detail.isprintable()


async def test_a_bad_book_among_good_ones() -> None:
    """What can be read is; the others are said to be unreadable, since nobody knows whose it was."""
    async with answering(200, [wire_book("1"), {"asset_id": 2}]) as url, Witness(url) as witness:
        said = await witness.books(["1", "2"])
    assert isinstance(said["1"], Book)
    assert failure(said["2"]).reason is Failure.UNREADABLE


async def test_nobody_there() -> None:
    """A port where nobody listens is a sentence too."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with Witness(f"http://127.0.0.1:{port}/") as witness:
        told = failure((await witness.books(["1"]))["1"])
    assert (told.reason, told.detail) == (Failure.UNREACHABLE, "no answer: All connection attempts failed")
