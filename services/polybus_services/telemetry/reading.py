"""How the metrics are read from a gateway: where it runs, since nothing of it is locked."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import msgspec

from polybus_actors.facts import FeedFacts, Readiness
from polybus_actors.gateway import Gateway
from polybus_actors.histogram import Histogram
from polybus_actors.venue.connection import Phase
from polybus_actors.watcher import OK, Watcher
from polybus_protocol.books.liveness import Trust
from polybus_protocol.control.asking import ASKING
from polybus_protocol.control.requests import VERBS
from polybus_services.pulse import Pulse

CHECKS = (
    *("hash_proved", "hash_unknown", "hash_mismatch", "top_mismatch", "crossed", "complement_mismatch"),
    *("second_looks", "witness_same", "witness_stale", "witness_differs"),
    *("resubscribed", "resubscribed_helped", "given_up"),
)
"""What is checked and tried for assets often enough to be there with 0; other names appear when they occur."""

FAILED = "500"
"""The outcome of a command that the gateway failed to answer: there with 0, so that the first one is an increase."""

RECORD_STATES = ("ready", "differs", "absent", "unavailable", "unknown")
"""States of a stream that records; see `polybus_protocol.control.replies.StreamInfo`."""

MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where the two versions of Linux' control groups tell a container its limit."""


class Buckets(NamedTuple):
    """A histogram at one moment."""

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float


type Attributes = dict[str, str]
type Values = Iterable[tuple[float, Attributes]]
type Distributions = Iterable[tuple[Buckets, Attributes]]


class View(msgspec.Struct):
    """What is looked at."""

    gateway: Gateway
    pulse: Pulse
    feeds: Mapping[str, FeedFacts]
    readiness: Readiness
    failures: Mapping[str, int]
    """Exports that failed, by signal."""


def one(read: Callable[[View], float]) -> Callable[[View], Values]:
    """One value."""
    return lambda view: [(read(view), {})]


def flag(read: Callable[[View], bool]) -> Callable[[View], Values]:
    """A yes or no."""
    # OTLP takes no booleans.
    return lambda view: [(int(read(view)), {})]


def by_feed(read: Callable[[FeedFacts], float]) -> Callable[[View], Values]:
    """A value of each feed."""
    return lambda view: [(read(facts), {"feed": feed}) for feed, facts in view.feeds.items()]


def buckets(histogram: Histogram) -> Buckets:
    """A histogram as it is now."""
    return Buckets(histogram.bounds, list(histogram.counts), histogram.sum)


def latencies(read: Callable[[Watcher], Mapping[str, Histogram]]) -> Callable[[View], Distributions]:
    """A histogram of each feed."""
    return lambda view: [(buckets(read(view.gateway.watcher)[feed]), {"feed": feed}) for feed in view.feeds]


def events(view: View) -> Values:
    """Events, by feed and type."""
    for feed, facts in view.feeds.items():
        # Types that have not occurred yet are there with 0, or their first event would be no increase to Prometheus.
        for type_ in dict.fromkeys((*ASKING[feed].types, "gap", *facts.events)):
            yield facts.events[type_], {"feed": feed, "type": type_}


def connections(view: View) -> Values:
    """Connections, by feed and state."""
    for feed, facts in view.feeds.items():
        for phase in Phase:
            yield facts.phases[phase.value], {"feed": feed, "state": phase.value}


def trust(view: View) -> Values:
    """Assets, by what may be believed of them."""
    assets = Counter(stream.trust for pool in view.gateway.pools for stream in pool.asset_streams())
    return [(assets[state], {"trust": state.value}) for state in Trust]


def checks(view: View) -> Values:
    """Checks, by what they found."""
    counts = sum((pool.checks for pool in view.gateway.pools), Counter[str]())
    return counted(counts, CHECKS, "check")


def record(view: View) -> Values:
    """Streams of the record, by state."""
    states = Counter(state.state for state in view.gateway.streams.states.values())
    return [(states[state], {"state": state}) for state in RECORD_STATES]


def counted(counts: Mapping[str, int], known: Iterable[str], attribute: str) -> Values:
    """Those that have not occurred yet are there with 0, or the first would be no increase to Prometheus."""
    return [(count, {attribute: name}) for name, count in (dict.fromkeys(known, 0) | dict(counts)).items()]


def commands(view: View) -> Values:
    """Commands, by verb and outcome."""
    counts = dict.fromkeys(product(VERBS, (OK, FAILED)), 0) | view.gateway.watcher.commands
    return [(count, {"verb": verb, "outcome": outcome}) for (verb, outcome), count in counts.items()]


def memory(_view: View) -> Values:
    """Resident memory."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return []  # only Linux has it
    return [(int(pages) * os.sysconf("SC_PAGE_SIZE"), {})]


def memory_limit(_view: View) -> Values:
    """What memory there may be at most."""
    try:
        machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return []
    limits = [machine]
    for file in MEMORY_LIMITS:
        try:
            limits.append(int(file.read_text(encoding="ascii")))
        except (OSError, ValueError):  # of the other version; or `max`, for none
            continue
    return [(min(limits), {})]
