"""Connections and the pool over the simulator: who carries what, how it is asked for, and how it ends."""

from collections.abc import AsyncIterator
from typing import Any

import anyio
import msgspec
import pytest

from polybus_protocol.control.requests import MAX_ASSETS
from polybus_services.simulator import MarketLimits, SimulatorOptions

from ..support.consumer import Refused
from ..support.rig import QUICK, Rig, rigged
from ..support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue is paused: a test lets things happen by hand."""
    with anyio.fail_after(60):
        async with rigged() as running:
            yield running


async def closings(rig: Rig) -> dict[str, Any]:
    """How each of the venue's connections ended: id -> (by whom, code); None while it is open."""
    connections = (await rig.admin.ledger())["connections"]
    return {
        name: (told["closed"]["by"], told["closed"]["code"]) if told["closed"] else None
        for name, told in connections.items()
    }


async def until_closed(rig: Rig, count: int) -> dict[str, Any]:
    """The closings, once so many connections have ended."""
    with anyio.fail_after(60):
        while True:
            ended = await closings(rig)
            if sum(closing is not None for closing in ended.values()) >= count:
                return ended


async def test_no_interest_no_connection(rig: Rig) -> None:
    """Nobody is dialled before somebody wants something: a market socket without assets gets closed."""
    assert (await rig.consumer.ask("status"))["connections"] == []
    assert (await rig.admin.ledger())["opened"] == 0


async def test_the_phases_of_a_connection(rig: Rig) -> None:
    """What the system subject tells of a connection, from the dial to data."""
    await rig.subscribe(rig.assets[0])
    await rig.consumer.until(lambda: len(rig.consumer.system) >= 3)
    assert [event["state"] for event in rig.consumer.system] == ["dialing", "open", "live"]
    assert {event["id"] for event in rig.consumer.system} == {"gw0-market-1"}
    (told,) = (await rig.consumer.ask("status"))["connections"]
    assert (told["state"], told["connected"], told["authenticated"]) == ("live", True, None)
    assert (told["assets"], told["live_assets"], told["incarnation"], told["errors"]) == (1, 1, 1, 0)
    assert told["url"] == rig.simulator.feeds["market"]


async def test_many_assets_travel_in_several_frames() -> None:
    """More ids than one frame may hold are asked for in pieces: a venue that takes 10 at a time never closes."""
    narrow = msgspec.structs.replace(QUICK, ids_per_frame=10)
    options = SimulatorOptions(markets=25, seed=5, paused=True, limits=MarketLimits(ids_per_frame=10))
    with anyio.fail_after(60):
        async with rigged(options, narrow) as rig:
            await rig.subscribe(*rig.assets)
            status = await rig.consumer.ask("status")
            assert [(c["live_assets"], c["incarnation"]) for c in status["connections"]] == [(50, 1)]
            await rig.admin.step(200)
            await rig.received_all()


async def test_a_full_connection_makes_room_for_another() -> None:
    """Connections are filled up to their bound; what comes later fills the room there is before a new one."""
    small = msgspec.structs.replace(QUICK, assets_per_connection=10)
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=16, seed=5, paused=True), small) as rig:
            first, then, last = rig.assets[:18], rig.assets[18:20], rig.assets[20:24]

            async def carried() -> list[int]:
                status = await rig.consumer.ask("status")
                return [connection["assets"] for connection in status["connections"]]

            await rig.subscribe(*first)
            assert await carried() == [10, 8]
            await rig.subscribe(*then)
            assert await carried() == [10, 10]
            await rig.subscribe(*last)
            assert await carried() == [10, 10, 4]
            # Nobody was disturbed by those who came later.
            assert all(rig.consumer.of(asset).gaps == [] for asset in rig.assets[:24])
            assert (await rig.consumer.ask("status"))["reconnects"] == 0
            await rig.admin.step(200)
            await rig.received_all()


async def test_what_nobody_wants_any_more_is_let_go(rig: Rig) -> None:
    """An unsubscribed asset ends with a gap and is not followed any more; the last one closes with 1000."""
    keep, leave = rig.assets[0], rig.assets[2]
    await rig.subscribe(keep, id="keep")
    await rig.subscribe(leave, id="leave")
    await rig.consumer.ask("unsubscribe", id="leave")
    await rig.consumer.until(lambda: rig.consumer.of(leave).reasons == ["unsubscribed"])
    await rig.admin.step(200)
    await rig.settle()
    assert rig.consumer.of(leave).events[-1]["reason"] == "unsubscribed"
    assert rig.consumer.of(keep).gaps == []
    await rig.consumer.ask("unsubscribe", id="keep")
    assert list((await until_closed(rig, 1)).values()) == [("client", 1000)]
    await rig.consumer.until(lambda: rig.consumer.of(keep).reasons == ["unsubscribed"])
    assert (await rig.consumer.ask("status"))["connections"] == []


async def test_events_on_their_way_do_not_revive_what_was_let_go() -> None:
    """While the venue talks on, an unsubscribed asset stays ended: its gap is the last that is heard of it."""
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=3, seed=5, rate=300)) as rig:
            await rig.subscribe(*rig.assets, id="all")
            await rig.subscribe(rig.assets[0], id="one")
            for _ in range(5):
                await rig.consumer.ask("unsubscribe", id="all")
                await rig.subscribe(*rig.assets, id="all")
            await rig.consumer.ask("unsubscribe", id="all")
            await rig.settle()
            for asset in rig.assets[1:]:
                assert rig.consumer.of(asset).events[-1]["reason"] == "unsubscribed"
            assert rig.consumer.of(rig.assets[0]).gaps == []


async def test_wanted_again(rig: Rig) -> None:
    """A connection that was closed and is needed again has a new incarnation, so each socket has one name."""
    asset = rig.assets[0]
    for _ in range(3):
        await rig.subscribe(asset, id="s")
        await rig.consumer.ask("unsubscribe", id="s")
    await rig.subscribe(asset, id="s")
    await rig.settle()
    names = [event["connection"] for event in rig.consumer.of(asset).events if event["type"] == "book"]
    assert names == [f"gw0-market-1#{number}" for number in (1, 2, 3, 4)]
    status = await rig.consumer.ask("status")
    # Closing was our wish: neither an error nor a reconnect.
    assert (status["connection_errors"], status["restarts"]) == (0, 0)


async def test_404_is_not_dialled_again() -> None:
    """A refusal that only a person can mend is shown, and not tried again and again."""
    with anyio.fail_after(60):
        async with rigged() as rig:
            pool = rig.pool("market")
            pool.profile = msgspec.structs.replace(pool.profile, url=rig.simulator.feeds["market"] + "s")
            reply = await rig.consumer.ask(
                "subscribe", assets=rig.assets[:1], wait="data", wait_timeout_s=0.3
            )
            (missing,) = reply["missing"]
            assert "refused" in missing["reason"]
            assert "404" in missing["reason"]
            (told,) = (await rig.consumer.ask("status"))["connections"]
            assert (told["state"], told["connected"], told["incarnation"]) == ("refused", False, 1)
            assert told["errors"] == 1
            # More interest does not make it dial either, and it can be let go.
            await rig.consumer.ask("subscribe", assets=rig.assets[1:2], id="more")
            (told,) = (await rig.consumer.ask("status"))["connections"]
            assert (told["assets"], told["incarnation"]) == (2, 1)
            await rig.consumer.ask("unsubscribe", owner="anonymous")
            assert (await rig.consumer.ask("status"))["connections"] == []


async def test_stop_while_dialling() -> None:
    """A connection that is no longer wanted ends at once, also in the middle of a dial that hangs."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(60):
        async with listener, rigged(profile=msgspec.structs.replace(QUICK, dial_timeout_s=60)) as rig:
            pool = rig.pool("market")
            pool.profile = msgspec.structs.replace(pool.profile, url=f"ws://127.0.0.1:{port}/ws/market")
            reply = await rig.consumer.ask(
                "subscribe", assets=rig.assets[:1], id="s", wait="sent", wait_timeout_s=0.2
            )
            assert "dialing" in reply["missing"][0]["reason"]
            with anyio.fail_after(2):
                await rig.consumer.ask("unsubscribe", id="s")
                assert (await rig.consumer.ask("status"))["connections"] == []


async def test_wait_data_says_what_is_missing_and_why(rig: Rig) -> None:
    """An id that the venue does not know looks like silence, and the answer says just that."""
    reply = await rig.consumer.ask(
        "subscribe", assets=[rig.assets[0], "12345"], wait="data", wait_timeout_s=1.5
    )
    assert reply["state"] == "accepted"
    (missing,) = reply["missing"]
    assert missing["asset"] == "12345"
    assert "unknown" in missing["reason"]


async def test_wait_sent_over_an_open_connection(rig: Rig) -> None:
    """`sent` is answered as soon as the venue was asked, also for an id that it does not know."""
    await rig.subscribe(rig.assets[0])
    with anyio.fail_after(2):
        reply = await rig.consumer.ask("subscribe", assets=["12345"], wait="sent")
    assert (reply["state"], reply["missing"]) == ("sent", [])


async def test_ping_keeps_the_connection(rig: Rig) -> None:
    """PINGs begin after the opening message, or the venue would have closed with 1008; PONGs are no data."""
    await rig.subscribe(rig.assets[0])
    (connection,) = rig.connections
    assert connection.session is not None
    session, frames = connection.session, connection.session.frames
    for _ in range(3):
        heard_at = session.last_frame_at
        await until(lambda at=heard_at: session.last_frame_at != at)  # type: ignore[misc]
    assert session.frames == frames
    assert await closings(rig) == {"market-1": None}
    assert (await rig.consumer.ask("status"))["total_events"] == 1


async def test_too_many_assets_for_one_request(rig: Rig) -> None:
    """The bound of a request is said in the refusal."""
    with pytest.raises(Refused, match=str(MAX_ASSETS)) as refused:
        await rig.consumer.ask("subscribe", assets=[str(n) for n in range(MAX_ASSETS + 1)])
    assert (refused.value.code, refused.value.error["field"]) == (400, "assets")


async def test_errors_count_what_they_say(rig: Rig) -> None:
    """`errors` are failed dials and sockets that ended unasked; `reconnects` are sockets that stand again."""
    await rig.subscribe(*rig.assets)
    await rig.admin.fault_on("refuse-429", retry_after_s=0, count=2)
    await rig.admin.fault_on("drop")
    status = await rig.consumer.until_status(lambda s: s["reconnects"] == 1)
    assert status["connection_errors"] == 3
    (told,) = status["connections"]
    assert (told["errors"], told["incarnation"]) == (3, 4)
    assert status["last_reconnect_time"] > status["started"]
    await rig.consumer.ask("unsubscribe", owner="anonymous")
    status = await rig.consumer.ask("status")
    assert status["connection_errors"] == 3
