"""Five feeds side by side and one fault after another: each event is received, or lies in a hole that a gap covers.

`POLYBUS_SOAK_SECONDS` says how long, `POLYBUS_SOAK_SEED` which faults; `make soak SECONDS=600` sets the first.
"""

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from typing import Any

import anyio
import msgspec
import pytest

from polybus_actors.venue.connection import Phase
from polybus_services.simulator import PolyboltChoices

from ..support.five import FEEDS, follow, is_served, said, venue
from ..support.rig import QUICK_FEEDS, Rig, rigged
from ..support.witness import Fact, Witness, agrees, watching

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

SECONDS = float(os.environ.get("POLYBUS_SOAK_SECONDS") or 8)
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


@asynccontextmanager
async def witnesses(rig: Rig) -> AsyncIterator[dict[str, Witness]]:
    """Second clients that nothing goes wrong with, by feed, and by account where it has one."""
    async with AsyncExitStack() as stack:
        watched: dict[str, Witness] = {}
        for feed in FEEDS:
            labels = (
                [f"user/{told['label']}" for told in rig.simulator.accounts] if feed == "user" else [feed]
            )
            for name, messages in zip(labels, said(rig, feed), strict=True):
                witness = await stack.enter_async_context(watching(rig.simulator, feed, *messages))
                watched[name] = witness
        async with anyio.create_task_group() as tasks:
            for witness in watched.values():
                tasks.start_soon(witness.listen)
            yield watched
            tasks.cancel_scope.cancel()


def account_for(facts: list[Fact], events: list[dict[str, Any]], tally: Counter[str]) -> list[str]:
    """Lay what a consumer received of one stream beside all there was.

    Between two gaps nothing may be missing, so each run of events must be a run of facts.  What a stream has to
    tell begins with its first event: what came before was nobody's yet.

    Args:
        facts: what the witness heard, in order.
        events: what was received, in order, gaps included.
        tally: counts events received, covered by a gap, and said twice.

    Returns:
        Where something is missing without a gap in its place, or was never said.
    """
    # What is said again in the same words, as a price that stands still, cannot be told from what it repeats.
    times = [len(list(same)) for _, same in groupby(facts)]
    facts = [fact for fact, _ in groupby(facts)]
    runs: list[list[dict[str, Any]]] = [[]]
    for event in events:
        if event["type"] == "gap":
            runs.append([])
        else:
            runs[-1].append(event)
    is_open = bool(runs[-1])
    runs = [run for run in runs if run]
    place = 0
    for number, run in enumerate(runs):
        # The last run goes on to the end, if no gap stands after it.
        must_end = is_open and number == len(runs) - 1
        first = place - 1 if place and times[place - 1] > 1 else place
        fits = ((at, end) for at in range(first, len(facts)) if (end := end_of(run, facts, at)) is not None)
        found = next((fit for fit in fits if not must_end or fit[1] == len(facts)), None)
        if found is None:
            return [f"{len(run)} events without a gap are not all there was, after {place} facts: {run[0]}"]
        start, end = found
        tally["covered"] += max(start - place, 0) if number else 0
        tally["received"] += end - start
        tally["twice"] += len(run) - (end - start)
        place = end
    tally["covered"] += len(facts) - place if runs else 0
    return []


def end_of(run: list[dict[str, Any]], facts: list[Fact], at: int) -> int | None:
    """Where a run ends that begins at a fact; None if it does not fit there."""
    end = at
    for event in run:
        if end < len(facts) and agrees(facts[end], event):
            end += 1
        elif end == at or not agrees(facts[end - 1], event):
            return None
    return end


async def test_soak(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever goes wrong on whichever feed, nothing is missing without a gap in its place."""
    dice, happened = random.Random(SEED), Counter[str]()
    # The witnesses are simple: they do not answer a ping of WebSocket's own, as the gateway does.
    forgiving = PolyboltChoices(pongs_missed=1_000_000)
    options = venue(seed=SEED, paused=False, rate=300, markets=6, polybolt=forgiving)
    with anyio.fail_after(SECONDS + 120):
        async with rigged(options, IMPATIENT["market"], feeds=IMPATIENT, proxied=True) as rig:
            await rig.admin.ask("POST", "/pause")
            await follow(rig, *FEEDS)
            async with witnesses(rig) as watched:
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
            tallies, faults = judge(rig, heard)
            status = await rig.consumer.ask("status")
    report = [f"soak of {SECONDS:g} s, seed {SEED}: {happened.total()} faults, {status['gaps']} gaps"]
    report += [f"  {name:<9} {dict(tally)}" for name, tally in tallies.items()]
    with capsys.disabled():
        print("", *report, f"  {dict(happened)}", sep="\n")
    assert faults == []
    assert status["restarts"] == 0
    for name, tally in tallies.items():
        assert tally["received"] > 20, f"so few of {name} prove nothing"


def judge(rig: Rig, heard: dict[str, dict[str, list[Fact]]]) -> tuple[dict[str, Counter[str]], list[str]]:
    """What became of each feed's events, and what is wrong with it."""
    tallies, faults = dict[str, Counter[str]](), list[str]()
    for name, streams in heard.items():
        feed, _, label = name.partition("/")
        tally = tallies[name] = Counter[str]()
        told = {rig.consumer.stream_of(key): record for key, record in rig.consumer.streams.items()}
        for stream, facts in streams.items():
            record = told.get(f"{label}/{stream}" if label else stream)
            events = [] if record is None else record.events
            mine = [
                event
                for event in events
                if (event["closed_by"] is None if event["type"] == "gap" else event.get("feed", feed) == feed)
            ]
            comparable = [fact for fact in facts if not is_an_answer(fact)]
            wanted = [event for event in from_the_answers_on(mine) if not is_an_answer(event)]
            for source in {source_of(fact) for fact in comparable}:
                found = account_for(
                    [fact for fact in comparable if source_of(fact) == source],
                    [event for event in wanted if event["type"] == "gap" or source_of(event) == source],
                    tally,
                )
                faults += [f"{name} {stream}: {fault}" for fault in found]
    return tallies, faults


def from_the_answers_on(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what stands between a gap and the answer that was asked for after it.

    To ask anew is to unsubscribe first, and what happens until the answer is said by it alone: trust begins there.
    """
    kept: list[dict[str, Any]] = []
    since_gap = 0
    for event in events:
        if event["type"] == "gap":
            kept.append(event)
            since_gap = len(kept)
        elif is_an_answer(event) and event["type"] != "best_bid_ask":
            del kept[since_gap:]
        else:
            kept.append(event)
    return kept


def is_an_answer(event: dict[str, Any]) -> bool:
    """Whether an event answers a question of one client, so that no other hears it; or cannot be told from others.

    A first book has the tick size in it; the tops of books come again and again with the same words.
    """
    kind = event["type"]
    if kind == "gap":
        return False
    return kind in ("snapshot", "best_bid_ask") or (kind == "book" and event.get("tick_size") is not None)


def source_of(event: dict[str, Any]) -> tuple[Any, ...]:
    """Who an event is from, where several topics meet on one stream.

    After a gap each of them begins with its own first event: they are asked for one after another.
    """
    return event.get("venue_symbol"), event.get("window_s")


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
