"""The demo: what it knows, what it concludes, and that it leaves nothing behind."""

import contextlib
import http.client
import os
import signal
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

import anyio
import msgspec
import pytest

from polybus_protocol import (
    BestBidAsk,
    Book,
    Change,
    Event,
    Gap,
    LastTradePrice,
    Level,
    MarketResolved,
    PriceChange,
    subject_for,
)
from polybus_protocol.replies import NatsInfo, StatusReply, SubscriptionTotals
from polybus_services.demo.picture import MarketRow, Picture
from polybus_services.demo.reckoning import reckon
from polybus_services.demo.venue import Sent

from .terminal import Running, polybus, running

MARKET, YES, NO = "0x" + "1" * 64, "1", "2"


def book(asset: str = YES, last: str | None = None) -> Event:
    levels = [Level("0.4", "1")], [Level("0.5", "1")]
    return Book(market=MARKET, asset=asset, bids=levels[0], asks=levels[1], hash=None, last_trade_price=last)


def gap(asset: str, reason: str = "connection_lost") -> Event:
    return Gap(feed="market", market=MARKET, asset=asset, reason=reason)


def looking_at(*events: Event) -> tuple[Picture, MarketRow]:
    """The picture after these events."""
    picture = Picture({MARKET: [YES, NO]}, now=0.0)
    for event in events:
        picture.see(subject_for(event), event)  # type: ignore[arg-type]
    picture.count(now=2.0)
    return picture, picture.rows[MARKET]


@pytest.mark.parametrize(
    ("event", "best_bid", "best_ask", "last"),
    [
        (book(last="0.45"), "0.4", "0.5", "0.45"),
        (
            PriceChange(
                market=MARKET,
                asset=YES,
                changes=[
                    Change("0.1", "5", "BUY", None, "0.41", "0.5"),
                    Change("0.2", "5", "BUY", None, "0.42", "0.5"),
                ],
            ),
            "0.42",
            "0.5",
            "0.3",
        ),
        (BestBidAsk(market=MARKET, asset=YES, best_bid=None, best_ask="0.6"), None, "0.6", "0.3"),
        (LastTradePrice(market=MARKET, asset=YES, price="0.44", size="1", side="BUY"), "0.4", "0.5", "0.44"),
        (LastTradePrice(market=MARKET, asset=NO, price="0.56", size="1", side="BUY"), "0.4", "0.5", "0.3"),
    ],
    ids=["book", "price change", "best", "trade", "the other outcome"],
)
def test_a_row_shows_the_first_outcome(
    event: Event, best_bid: str | None, best_ask: str | None, last: str
) -> None:
    """Its top of the book and last trade, as the newest event says; both outcomes are counted."""
    _, row = looking_at(book(last="0.3"), event)

    assert (row.best_bid, row.best_ask, row.last_trade) == (best_bid, best_ask, last)
    assert (row.events, row.events_per_s) == (2, 1.0)


@pytest.mark.parametrize(
    ("events", "trust"),
    [
        ((), "waiting"),
        ((book(YES),), "waiting"),
        ((book(YES), book(NO)), "live"),
        ((book(YES), book(NO), gap(NO)), "gap"),
        ((book(YES), book(NO), gap(NO), book(NO)), "live"),
        ((book(YES), book(NO), MarketResolved(market=MARKET, assets_ids=[YES, NO]), gap(NO)), "resolved"),
    ],
)
def test_trust_is_that_of_the_worse_outcome(events: tuple[Event, ...], trust: str) -> None:
    """Live from a book on, until a gap; back at the next book."""
    assert looking_at(*events)[1].trust == trust


def status(**counts: int) -> StatusReply:
    """A gateway's status with these counts, all else being well."""
    values = {"frames": 0, "total_events": 0, "gaps": 0, "duplicates": 0} | counts
    return StatusReply(
        replica="demo",
        version="0",
        started=0,
        state="running",
        running=True,
        durable=True,
        connections=[],
        subscriptions=SubscriptionTotals(1, {}),
        events_by_type={},
        unwanted=0,
        unknown={},
        unknown_fields={},
        connection_errors=0,
        reconnects=0,
        last_reconnect_time=None,
        restarts=0,
        nats=NatsInfo(
            connected=True, url="", server=None, published=0, backlog=0, dropped=0, uncertain=0, reconnects=0
        ),
        **values,
    )


TWO_BOOKS = (book(YES), book(NO))


@pytest.mark.parametrize(
    ("sent", "said", "events", "verdict"),
    [
        (Sent(1, {"sent": 2}), status(frames=1, total_events=2), TWO_BOOKS, "every event"),
        (Sent(1, {"sent": 2}), status(frames=3, total_events=2), TWO_BOOKS, "every event"),
        (Sent(2, {"sent": 3}), status(frames=2, total_events=2, duplicates=1), TWO_BOOKS, "every event"),
        (
            Sent(9, {"sent": 9}),
            status(frames=1, total_events=2, gaps=1),
            (*TWO_BOOKS, gap(YES)),
            "marked by gaps (1 connection_lost)",
        ),
        (
            Sent(9, {"sent": 9}),
            status(frames=1, total_events=2, gaps=1),
            (*TWO_BOOKS, gap(YES, "tick_size_change")),
            "no gap says why",
        ),
        (
            Sent(1, {"sent": 2}),
            status(frames=1, total_events=3),
            TWO_BOOKS,
            "published 3 events and the consumer",
        ),
        (Sent(1, {"sent": 2}), status(frames=1, total_events=2, gaps=1), TWO_BOOKS, "published 1 gaps"),
        (Sent(2, {"sent": 2}), status(frames=1, total_events=2), TWO_BOOKS, "no gap says why"),
    ],
    ids=["all", "pongs", "twice", "gaps", "tick", "lost to nats", "gap lost", "frame lost"],
)
def test_the_verdict(sent: Sent, said: StatusReply, events: tuple[Event, ...], verdict: str) -> None:
    """Numbers agree if everything arrived, or gaps say why not; in words either way."""
    summary = reckon(sent, said, looking_at(*events)[0], seconds=1.0)

    assert verdict in summary.verdict
    assert summary.agree is summary.verdict.startswith("The numbers agree: ")


# --- end to end ------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_two_seconds_of_everything() -> None:
    """Snapshots once a second with all markets live, then a summary whose numbers agree; status 0, no noise."""
    outcome = await polybus("demo", "--seconds", "2.5", "--markets", "4", "--speed", "20", "--json")

    assert (outcome.status, outcome.err) == (0, "")
    *snapshots, summary = map(msgspec.json.decode, outcome.out.splitlines())
    assert [snapshot["type"] for snapshot in snapshots] == ["snapshot"] * len(snapshots)
    assert len(snapshots) >= 1
    last = snapshots[-1]
    assert [row["trust"] for row in last["markets"]] == ["live"] * 4
    assert all(row["best_bid"] or row["best_ask"] for row in last["markets"])
    assert {"nats-server", "simulator", "gateway"} <= set(last["processes"])
    assert summary["type"] == "summary"
    assert summary["agree"]
    assert summary["events_sent"] - summary["repeated"] == summary["events_published"] > 0
    assert summary["events_published"] == summary["events_received"]
    assert summary["frames_sent"] == summary["frames_received"] - summary["words"] > 0
    assert summary["jumps"] == 0
    assert all(gone(process["pid"]) for process in last["processes"].values())


@pytest.mark.anyio
async def test_a_broken_connection_is_marked_and_the_numbers_still_agree() -> None:
    """With a fault switched on meanwhile, what is missing shows as gaps; Ctrl-C is the ordinary end."""
    async with running(["demo", "--markets", "4", "--json"]) as demo:
        snapshot = await demo.json()
        switch_on(snapshot["processes"]["simulator"]["admin"], "drop")
        while snapshot["gaps"] < 8:
            snapshot = await demo.json()
        demo.process.send_signal(signal.SIGINT)
        while snapshot["type"] != "summary":
            snapshot = await demo.json()
        assert await demo.end() == (0, "")

    assert snapshot["agree"]
    assert "connection_lost" in snapshot["verdict"]


@pytest.mark.anyio
async def test_plain_lines_where_there_is_no_terminal() -> None:
    """Progress and the summary as text; SIGTERM ends it like Ctrl-C."""
    async with running(["demo", "--markets", "2"]) as demo:
        lines = [await demo.line()]
        while "events received" not in lines[-1]:
            lines.append(await demo.line())
        demo.process.send_signal(signal.SIGTERM)
        while "The numbers agree" not in lines[-1]:
            lines.append(await demo.line())
        assert await demo.end() == (0, "")
    assert lines[0].startswith("starting nats-server")


@pytest.mark.anyio
async def test_a_gateway_that_dies_ends_the_demo() -> None:
    """With a sentence and status 1; the other processes end too."""
    async with running(["demo", "--markets", "2", "--json"]) as demo:
        processes = (await demo.json())["processes"]
        os.kill(processes["gateway"]["pid"], signal.SIGKILL)
        with contextlib.suppress(anyio.IncompleteRead):  # a snapshot may still come
            await demo.json()
        status_, err = await demo.end()

    assert status_ == 1
    assert "the gateway ended by itself (killed by SIGKILL)" in msgspec.json.decode(err)["error"]["message"]
    assert all(gone(process["pid"]) for process in processes.values())


async def impatient(demo: Running) -> None:
    """Ctrl-C twice."""
    demo.process.send_signal(signal.SIGINT)
    demo.process.send_signal(signal.SIGTERM)
    await demo.end()


async def crash(demo: Running) -> None:
    """End without a chance to tidy up."""
    demo.process.kill()
    await demo.process.wait()


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends processes with their parent")
@pytest.mark.parametrize("end", [impatient, crash])
async def test_no_process_is_left_behind(end: Callable[[Running], object]) -> None:
    """However the demo ends."""
    async with running(["demo", "--markets", "2", "--json"]) as demo:
        processes = (await demo.json())["processes"]
        handles = [os.pidfd_open(processes[name]["pid"]) for name in ("nats-server", "simulator", "gateway")]
        await end(demo)  # type: ignore[misc]
        for handle in handles:
            await anyio.wait_readable(handle)  # until the process has ended
            os.close(handle)


@pytest.mark.anyio
async def test_without_a_nats_server_one_sentence_says_so() -> None:
    """Status 3: something needed is not there."""
    outcome = await polybus("demo", "--json", NATS_SERVER_BIN="/nowhere")

    assert (outcome.status, outcome.out) == (3, "")
    assert "NATS_SERVER_BIN=/nowhere" in msgspec.json.decode(outcome.err)["error"]["message"]


def switch_on(admin: str, fault: str) -> None:
    parts = urlsplit(admin)
    connection = http.client.HTTPConnection(parts.netloc)
    connection.request("PUT", f"{parts.path}/faults/{fault}")
    assert connection.getresponse().status == 200
    connection.close()


def gone(pid: int) -> bool:
    """Whether a process that is not ours has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
