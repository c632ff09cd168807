"""Five feeds side by side and one fault after another: each event is received, or lies in a hole that a gap covers.

`POLYBUS_SOAK_SECONDS` says how long, `POLYBUS_SOAK_SEED` which faults; `make soak SECONDS=600` sets the first.
"""

import os
import random
from collections import Counter
from typing import Any

import anyio
import msgspec
import pytest

from polybus_actors.venue.connection import Phase
from polybus_services.simulator import PolyboltChoices

from ..support.five import FEEDS, follow, is_served, venue
from ..support.laid import account_for, judge, received_of, witnesses
from ..support.rig import QUICK_FEEDS, Rig, rigged
from ..support.witness import Fact

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

SECONDS = float(os.environ.get("POLYBUS_SOAK_SECONDS") or 6)
SEED = int(os.environ.get("POLYBUS_SOAK_SEED") or 1)

IMPATIENT = {
    feed: msgspec.structs.replace(
        profile,
        first_data_timeout_s=2.0,
        data_timeout_s=1.0 if feed in ("market", "rtds", "polybolt") else 60.0,
    )
    for feed, profile in QUICK_FEEDS.items()
}
"""So that a socket that goes quiet is given up soon; an account and a game may be quiet for long."""

FEWEST = 20
"""Faults, however long they take on a slow machine: with fewer, too little has happened to prove anything."""

ENDINGS = ("drop", "close-1013", "refuse-429")
"""What ends a socket, on any feed; the last one also keeps us out for a while."""

NOISES = ("corrupt-frame", "unknown-event", "duplicate")

OF_ONE_FEED: dict[str, tuple[str, ...]] = {
    "market": ("stall",),
    "user": (),
    "rtds": ("stall", "rtds-stale"),
    "polybolt": ("stall", "seq-gap", "dropped-count", "drain-4003", "slow-4002"),
    "sports": (),
}

GIVEN_UP = frozenset({"stall", "rtds-stale"})
"""What is only noticed by the silence that follows."""


async def harm(rig: Rig, dice: random.Random) -> str:
    """Let one thing go wrong with one of the gateway's connections, and wait until its consequences are over."""
    if dice.random() < 0.1:
        reconnects = rig.gateway.bus.reconnects
        rig.proxy.cut()
        await rig.consumer.until_status(
            lambda s: s["nats"]["reconnects"] > reconnects and s["nats"]["connected"]
        )
        return "NATS cut"
    feed = dice.choice(FEEDS)
    fault = dice.choice(ENDINGS + NOISES + OF_ONE_FEED[feed])
    connection = dice.choice([each for each in rig.connections if each.feed == feed])
    await rig.consumer.until(lambda: connection.phase in (Phase.OPEN, Phase.LIVE), 30)
    try:
        incarnation, victim = connection.incarnation, rig.link_of(connection).id
    except LookupError:
        return f"{feed}: ended by itself"
    if fault == "refuse-429":
        await rig.admin.fault_on(fault, feed=feed, retry_after_s=0, count=dice.randrange(1, 3))
        await rig.admin.fault_on("drop", connection=victim)
    elif fault in ENDINGS or fault in ("drain-4003", "slow-4002") or fault in GIVEN_UP:
        await rig.admin.fault_on(fault, connection=victim)
    else:
        await rig.admin.fault_on(fault, connection=victim, count=dice.randrange(1, 6))
    ends = fault not in NOISES and fault not in ("seq-gap", "dropped-count")
    if ends:
        # Each phase is told on the system subject, so there is news whenever it changes.
        await rig.consumer.until(
            lambda: connection.incarnation > incarnation and connection.phase in (Phase.OPEN, Phase.LIVE), 30
        )
    if fault in GIVEN_UP:
        await rig.admin.fault_off(fault)
    return f"{feed}: {fault}"


async def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong on whichever feed, nothing is missing without a gap in its place."""
    dice, happened = random.Random(SEED), Counter[str]()
    # The witnesses are simple: they do not answer a ping of WebSocket's own, as the gateway does.
    forgiving = PolyboltChoices(pongs_missed=1_000_000)
    options = venue(seed=SEED, paused=False, rate=150, markets=6, polybolt=forgiving)
    with anyio.fail_after(SECONDS + 120):
        async with rigged(options, IMPATIENT["market"], feeds=IMPATIENT, proxied=True) as rig:
            await rig.admin.ask("POST", "/pause")
            await follow(rig, *FEEDS)
            async with witnesses(rig.simulator, FEEDS) as watched:
                await rig.admin.ask("POST", "/resume")
                end = anyio.current_time() + SECONDS
                while anyio.current_time() < end or happened.total() < FEWEST:
                    happened[await harm(rig, dice)] += 1
                    # Between two faults time flies on the quiet feeds.
                    await rig.admin.ask("POST", "/step", {"events": 50, "seconds": 3})
                # A frame that is left out is only told of by the next one: now nothing is left out any more.
                for fault in (*NOISES, *OF_ONE_FEED["rtds"], *OF_ONE_FEED["polybolt"]):
                    await rig.admin.fault_off(fault)
                await is_served(rig, *FEEDS)
                await rig.admin.ask("POST", "/step", {"events": 300, "seconds": 10})
                await rig.settle()
                heard = {name: await witness.facts() for name, witness in watched.items()}
            tallies, faults = judge(received_of(rig.consumer), heard)
            status = await rig.consumer.ask("status")
    report = [f"soak of {SECONDS:g} s, seed {SEED}: {happened.total()} faults, {status['gaps']} gaps"]
    report += [f"  {name:<9} {dict(tally)}" for name, tally in tallies.items()]
    with capsys.disabled():
        print("", *report, f"  {dict(happened)}", sep="\n")
    assert faults == []
    assert status["restarts"] == 0
    for name, tally in tallies.items():
        assert tally["received"] > 20, f"so few of {name} prove nothing"


def heard(*values: int) -> list[Fact]:
    return [{"type": "update", "value": value} for value in values]


def received(*values: int | None) -> list[dict[str, Any]]:
    return [
        {"type": "gap"} if value is None else {"type": "update", "value": value, "seq": 1} for value in values
    ]


@pytest.mark.parametrize(
    ("facts", "events", "is_sound"),
    [
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 3], [2, 3], True),
        ([1, 2, 3], [1, 3], False),
        ([1, 2, 3], [1, None, 3], True),
        ([1, 2, 3], [1, 2], False),
        ([1, 2, 3], [1, 2, None], True),
        ([1, 2, 3], [1, 2, 2, 3], True),
        ([1, 2, 3], [1, 4, 2, 3], False),
        ([1, 2, 3], [2, 1, 3], False),
        ([1, 2, 1, 3], [None, 1, 3], True),
        ([1, 2, 2, 2, 3], [1, 2, None, 2, 3], True),
        ([1, 2, 2, 2, 3], [1, 2, None, 1, 3], False),
        ([1, 2, 1, 3, 4], [1, None, 1, 4], False),
    ],
)
def test_the_judge(facts: list[int], events: list[int | None], is_sound: bool) -> None:
    """The soak's own judge complains when something is missing without a gap, and only then."""
    assert (account_for(heard(*facts), received(*events), Counter()) == []) is is_sound
