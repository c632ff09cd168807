"""What was received, laid beside what an outsider heard: between two gaps nothing may be missing."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import groupby
from typing import Any

import anyio

from polybus_services.simulator import Simulator

from .consumer import Consumer
from .five import said
from .witness import Fact, Witness, agrees, watching


@asynccontextmanager
async def witnesses(simulator: Simulator, feeds: Iterable[str]) -> AsyncIterator[dict[str, Witness]]:
    """Second clients that nothing goes wrong with, by feed, and by account where it has one."""
    async with AsyncExitStack() as stack:
        watched: dict[str, Witness] = {}
        for feed in feeds:
            labels = [f"user/{told['label']}" for told in simulator.accounts] if feed == "user" else [feed]
            for name, messages in zip(labels, said(simulator, feed), strict=True):
                witness = await stack.enter_async_context(watching(simulator, feed, *messages))
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


type Received = dict[str, list[dict[str, Any]]]
"""By stream, as the venue's ledger calls it: events and gaps, in the order of their places."""


def received_of(consumer: Consumer) -> Received:
    """What a consumer received."""
    # A gap of an asset whose market is not known yet comes again where its events come.
    streams = {key: record for key, record in consumer.streams.items() if ".market._." not in key}
    return {consumer.stream_of(key): record.events for key, record in streams.items()}


def judge(
    received: Received, heard: dict[str, dict[str, list[Fact]]]
) -> tuple[dict[str, Counter[str]], list[str]]:
    """What became of each feed's events, and what is wrong with it.

    Args:
        received: by whom it is about.
        heard: by an outsider: by feed, or account of it, and stream.
    """
    tallies, faults = dict[str, Counter[str]](), list[str]()
    for name, streams in heard.items():
        feed, _, label = name.partition("/")
        tally = tallies[name] = Counter[str]()
        for stream, facts in streams.items():
            events = received.get(f"{label}/{stream}" if label else stream, [])
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
