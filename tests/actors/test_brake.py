"""Feeds whose events are never given up, while NATS is away and there is no room for more."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from polybus_actors.publishing.brake import HELD_BACK
from polybus_actors.venue.connection import Connection

from ..support.chaos import Chaos, chaos
from ..support.five import is_served
from ..support.until import a_moment

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
    # What nats-py has opened and a killed server has not answered, it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

DRAIN_S = 5.0


@pytest.fixture
async def held(tmp_path: Path) -> AsyncIterator[Chaos]:
    """NATS is away, and the feeds of accounts are held back."""
    with anyio.fail_after(90):
        async with chaos(tmp_path, backlog_messages=100, drain_timeout_s=DRAIN_S) as subject:
            await subject.until_well()
            subject.server.kill()
            while not subject.gateway.outbox.brake.is_on:
                await subject.says(50)
            yield subject


def of_accounts(held: Chaos) -> list[Connection]:
    return [one for one in held.rig.connections if one.feed == "user"]


async def test_the_venue_hangs_up_meanwhile(held: Chaos) -> None:
    """Nobody dials until there is room; the gap stands after what was read, and nothing of that is missing."""
    await held.rig.admin.fault_on("drop", feed="user")
    while any(one.session is not None or one.reason != HELD_BACK for one in of_accounts(held)):
        # It is noticed by what is said to the venue: pings.
        await held.says(1)
    await held.rig.admin.fault_off("drop")
    dials = [one.incarnation for one in of_accounts(held)]
    await held.server.restart()
    while not all(one.stands for one in of_accounts(held)):
        await a_moment()
    assert [one.incarnation for one in of_accounts(held)] == [dial + 1 for dial in dials]
    await is_served(held.rig, "user")
    await held.until_well(times=2)
    await held.stands_still()
    assert await held.bus.flush(15)
    record = await held.read_record()
    for key, said in held.said.items():
        if ".user." in key:
            told = record.streams[key]
            assert told.faults() == []
            assert said.keys() == told.events.keys()
            gaps = [e for e in told.events.values() if e["type"] == "gap" and e["closed_by"] is None]
            assert "connection_lost" in {gap["reason"] for gap in gaps}


async def test_who_is_held_back_and_the_end_of_the_process(
    held: Chaos, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections of accounts, which say why, and no others; the end waits no longer for NATS, and says what is lost."""
    while any(one.reason != HELD_BACK for one in of_accounts(held)):
        await a_moment()
    outbox = held.gateway.outbox
    dropped, kept = outbox.dropped, outbox.kept
    assert kept >= 100
    while outbox.dropped == dropped:
        await held.says(10)
    assert outbox.kept == kept
    assert [one.reason for one in held.rig.connections if one.feed == "market"] == [None]
    with anyio.fail_after(DRAIN_S + 5):
        held.gateway.stop()
        await held.rig.ended.wait()
    (said,) = [one.getMessage() for one in caplog.records if "lost with this process" in one.getMessage()]
    assert int(said.split(" lost with this process, ")[1].split()[0]) >= kept
