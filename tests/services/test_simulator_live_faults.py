"""Each fault by name, as a client sees it over a real socket."""

from collections.abc import AsyncIterator
from unittest.mock import ANY

import anyio
import anyio.lowlevel
import pytest

from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.ledger import Fate
from polybus_services.simulator.probe import AdminClient, Refused, connected, opening

pytestmark = pytest.mark.anyio

GUARD_S = 20.0


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with six markets: a test lets things happen by hand."""
    with anyio.fail_after(GUARD_S):
        async with running_simulator(SimulatorOptions(markets=6, seed=3, paused=True)) as running:
            yield running


async def test_drop_cuts_without_a_close_frame(simulator: Simulator) -> None:
    """`drop` ends the connection meant at once and leaves the other alone."""
    async with connected(simulator.feeds["market"]) as first, connected(simulator.feeds["market"]) as second:
        for client in (first, second):
            await client.say(opening(simulator.assets[0]))
            await client.hear_until_pong()
        assert (await AdminClient(simulator.admin).fault_on("drop", connection="market-1"))["struck"] == 1
        assert await first.hear() is None
        assert (first.closed, first.cut) == (None, True)
        await AdminClient(simulator.admin).step(50)
        assert await second.hear_until_pong()


async def test_drop_at_the_next_frame(simulator: Simulator) -> None:
    """With `count`, `drop` waits for a data frame, and is over when it has happened so often."""
    await AdminClient(simulator.admin).fault_on("drop", count=1)
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(simulator.assets[0]))
        assert await client.hear() is None
        assert client.cut
    faults = await AdminClient(simulator.admin).ask("GET", "/faults")
    assert faults["faults"]["drop"]["on"] is False


async def test_stall_is_silence_with_pongs(simulator: Simulator) -> None:
    """`stall`: PONGs and nothing else; afterwards data again, and what was withheld is on record."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("stall")
        await AdminClient(simulator.admin).step(100)
        assert await client.hear_until_pong() == []
        await AdminClient(simulator.admin).fault_off("stall")
        await AdminClient(simulator.admin).step(100)
        assert await client.hear_until_pong() != []
        told = await AdminClient(simulator.admin).sent("market-1")
        assert told["sent"] == client.seen
        assert sum(told["withheld"].values()) >= 200  # both assets of each market are followed


async def test_freeze_asset_silences_some(simulator: Simulator) -> None:
    """`freeze-asset`: no first book and no event for it, while even its other half goes on."""
    frozen, other = simulator.assets[:2]
    await AdminClient(simulator.admin).fault_on("freeze-asset", assets=[frozen])
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(frozen, other))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).step(300)
        await client.hear_until_pong()
        assert {asset for asset, _ in client.seen} == {other}
        told = await AdminClient(simulator.admin).sent("market-1")
        assert told["sent"] == client.seen
        assert told["withheld"][frozen, "book"] >= 1
        assert told["withheld"][frozen, "price_change"] == told["sent"][other, "price_change"]


async def test_refuse_429(simulator: Simulator) -> None:
    """`refuse-429`: upgrades are refused with Retry-After, as often as said, and counted."""
    await AdminClient(simulator.admin).fault_on("refuse-429", count=2, retry_after_s=7)
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            async with connected(simulator.feeds["market"]):
                pass
        assert (refused.value.status, refused.value.headers[b"retry-after"]) == (429, b"7")
    async with connected(simulator.feeds["market"]):
        pass
    ledger = await AdminClient(simulator.admin).ledger()
    assert (ledger["refused"], ledger["opened"]) == (2, 1)


async def test_duplicate_sends_twice(simulator: Simulator) -> None:
    """`duplicate`: the frame comes twice in a row; the second time is counted apart."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("duplicate", count=1)
        await AdminClient(simulator.admin).step(1)
        first, second = await client.hear_until_pong()
        assert first == second
        told = await AdminClient(simulator.admin).sent("market-1")
        assert sum(told["duplicated"].values()) == 2


@pytest.mark.parametrize("mode", ["cut", "flip"])
async def test_corrupt_frame_does_not_decode(simulator: Simulator, mode: str) -> None:
    """`corrupt-frame`: the WebSocket goes on, the JSON in one frame is broken."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("corrupt-frame", count=1, mode=mode)
        await AdminClient(simulator.admin).step(2)
        events = await client.hear_until_pong()
        kinds = [event["event_type"] for event in events]
        assert kinds[0] == "undecodable"
        assert "undecodable" not in kinds[1:]
        assert sum((await AdminClient(simulator.admin).sent("market-1"))["corrupted"].values()) == 2


async def test_lost_frame_leaves_no_trace(simulator: Simulator) -> None:
    """`lost-frame`: the client's book differs from then on, the ledger knows; the next frame comes as ever."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("lost-frame", count=1)
        await AdminClient(simulator.admin).step(2)
        (event,) = await client.hear_until_pong()
        assert event["event_type"] == "price_change"
        told = await AdminClient(simulator.admin).sent("market-1")
        assert sum(told["withheld"].values()) == 2
        assert told["sent"] == client.seen


async def test_reorder_swaps_two_of_one_asset(simulator: Simulator) -> None:
    """`reorder`: a frame comes behind the next one about the same asset; those about others do not matter."""
    first, other = simulator.markets[:2]
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        admin = AdminClient(simulator.admin)
        await admin.fault_on("reorder", count=1)
        placed = [await admin.happen("order", str(each["market"]), "alice") for each in (first, other, first)]
        events = await client.hear_until_pong()
        assert [event["market"] for event in events] == [placed[at]["market"] for at in (1, 2, 0)]
        sizes = [float(event["price_changes"][0]["size"]) for event in events[1:]]
        assert sizes[0] > sizes[1], "the later of two orders at one price makes the level larger"
        assert (await admin.sent("market-1"))["sent"] == client.seen


async def test_reorder_does_not_wait_for_ever(simulator: Simulator) -> None:
    """Where nothing follows, the frame comes half a second late."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("reorder", count=1)
        await AdminClient(simulator.admin).step(1)
        assert await client.hear_until_pong() == []
        assert client.take_in(await client.hear() or "")


@pytest.mark.parametrize("inside", [True, False])
async def test_unknown_event_stands_beside_known_ones(simulator: Simulator, inside: bool) -> None:
    """`unknown-event`: an event of a new type, in the same array or in a frame of its own."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(*simulator.assets))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("unknown-event", count=1, inside=inside)
        await AdminClient(simulator.admin).step(1)
        await client.say("PING")
        texts = [await client.hear()]
        while texts[-1] != "PONG":
            texts.append(await client.hear())
        assert len(texts) == (2 if inside else 3)
        kinds = [event["event_type"] for text in texts[:-1] for event in client.take_in(text or "")]
        assert kinds == ["price_change", "some_future_event"]
        told = await AdminClient(simulator.admin).sent("market-1")
        assert sum(told["unknown"].values()) == 1


async def test_close_1013_by_name(simulator: Simulator) -> None:
    """`close-1013`: closed as a slow consumer would be."""
    async with connected(simulator.feeds["market"]) as client:
        await client.say(opening(simulator.assets[0]))
        await client.hear_until_pong()
        await AdminClient(simulator.admin).fault_on("close-1013")
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
        assert await AdminClient(simulator.admin).sent("market-1") == {"sent": client.seen, "discarded": ANY}
