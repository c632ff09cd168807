"""The one table of all metrics: names, units, attributes, and how each is read from a gateway.

`docs/metrics.md` says the same to operators; a test compares it with this and with what a running gateway exposes.
No attribute is an asset, a market or a slug: there are tens of thousands of them, and each would be a series.
"""

import asyncio
import enum
import time
from collections.abc import Callable, Mapping

import msgspec

from polybus_actors.facts import facts_by_feed, readiness, waiting_keys
from polybus_actors.gateway import Gateway
from polybus_protocol.events.system import CLOSED_BY, GAP_REASONS
from polybus_services.pulse import Pulse

from .environment import SIGNALS
from .reading import (
    Attributes,
    Buckets,
    Distributions,
    Values,
    View,
    buckets,
    by_feed,
    checks,
    commands,
    connections,
    counted,
    events,
    flag,
    latencies,
    memory,
    memory_limit,
    one,
    record,
    trust,
)


class Kind(enum.Enum):
    """What may be done with a value."""

    COUNTER = "counter"
    """It only rises: ask for its rate."""
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Metric(msgspec.Struct, frozen=True):
    """A row of the table."""

    name: str
    kind: Kind
    unit: str
    """In UCUM, as OpenTelemetry wants it."""
    meaning: str
    read: Callable[[View], Values | Distributions]
    attributes: tuple[str, ...] = ()


type Snapshot = dict[str, list[tuple[float | Buckets, Attributes]]]
"""The values of all metrics at one moment, by name: plain data that any thread may read."""


def snapshot(gateway: Gateway, pulse: Pulse, ready_share: float, failures: Mapping[str, int]) -> Snapshot:
    """Read all metrics; to be called where the gateway runs, since nothing of it is locked."""
    waiting = waiting_keys(gateway)
    view = View(gateway, pulse, facts_by_feed(waiting), readiness(gateway, waiting, ready_share), failures)
    return {metric.name: list(metric.read(view)) for metric in METRICS}


COUNTER, GAUGE, HISTOGRAM = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
FEED = ("feed",)

METRICS: tuple[Metric, ...] = (
    Metric(
        "polybus.events",
        COUNTER,
        "{event}",
        "Events made ready for NATS, by type; `gap` is the record of a possible loss",
        events,
        ("feed", "type"),
    ),
    Metric(
        "polybus.events.unwanted",
        COUNTER,
        "{event}",
        "Events about keys that their connection does not carry; left out",
        by_feed(lambda facts: facts.tally.unwanted),
        FEED,
    ),
    Metric(
        "polybus.events.unreadable",
        COUNTER,
        "{event}",
        "What could not be read and was passed on raw, as `unknown`: has the venue changed something?",
        by_feed(lambda facts: facts.tally.unknown.total()),
        FEED,
    ),
    Metric(
        "polybus.fields.unknown",
        COUNTER,
        "{field}",
        "Fields that we do not know, in what could be read all the same",
        by_feed(lambda facts: facts.tally.unknown_fields.total()),
        FEED,
    ),
    Metric(
        "polybus.event.arrival.duration",
        HISTOGRAM,
        "s",
        "From the venue's clock to our socket, sampled; both clocks' errors are in it, and below 0 counts as 0",
        latencies(lambda watcher: watcher.arrival),
        FEED,
    ),
    Metric(
        "polybus.event.publishing.duration",
        HISTOGRAM,
        "s",
        "From our socket to the write to NATS, sampled: of the oldest event in a batch",
        latencies(lambda watcher: watcher.publishing),
        FEED,
    ),
    Metric(
        "polybus.frames",
        COUNTER,
        "{frame}",
        "Data frames that arrived",
        by_feed(lambda facts: facts.tally.frames),
        FEED,
    ),
    Metric(
        "polybus.frames.repeated",
        COUNTER,
        "{frame}",
        "What the venue said twice; published once",
        by_feed(lambda facts: facts.tally.duplicates),
        FEED,
    ),
    Metric(
        "polybus.connections",
        GAUGE,
        "{connection}",
        "Connections to the venue, by state: dialing, open (no data yet), live, waiting, refused, stopped",
        connections,
        ("feed", "state"),
    ),
    Metric(
        "polybus.connection.errors",
        COUNTER,
        "{error}",
        "Dials that failed, and sockets that ended without our asking",
        by_feed(lambda facts: facts.tally.errors),
        FEED,
    ),
    Metric(
        "polybus.connection.reconnects",
        COUNTER,
        "{reconnect}",
        "Sockets that opened in place of one that was lost",
        by_feed(lambda facts: facts.reconnects),
        FEED,
    ),
    Metric(
        "polybus.feed.silence",
        GAUGE,
        "s",
        "Since the last data, on the open connection that has waited longest of those that should have some",
        by_feed(lambda facts: facts.silence_s),
        FEED,
    ),
    Metric(
        "polybus.subscriptions",
        GAUGE,
        "{subscription}",
        "Subscriptions that stand",
        by_feed(lambda facts: facts.subscriptions),
        FEED,
    ),
    Metric(
        "polybus.keys.wanted",
        GAUGE,
        "{key}",
        "Keys (assets, markets, topics, symbols, leagues) that somebody wants",
        by_feed(lambda facts: facts.wanted),
        FEED,
    ),
    Metric(
        "polybus.keys.live",
        GAUGE,
        "{key}",
        "Wanted keys that have delivered since their last gap; the quiet ones, which need not, once they were asked for",
        by_feed(lambda facts: facts.live),
        FEED,
    ),
    Metric(
        "polybus.keys.overdue",
        GAUGE,
        "{key}",
        "Wanted keys that were asked for more than once and delivered nothing",
        by_feed(lambda facts: facts.overdue),
        FEED,
    ),
    Metric(
        "polybus.assets",
        GAUGE,
        "{asset}",
        "Assets of the market feed, by what may be believed of them: waiting, live, quiet, suspect, frozen",
        trust,
        ("trust",),
    ),
    Metric(
        "polybus.checks",
        COUNTER,
        "{check}",
        "What was checked and tried for assets: the book against the venue's hash and prices, second looks, remedies",
        checks,
        ("check",),
    ),
    Metric(
        "polybus.gaps.open",
        GAUGE,
        "{stream}",
        "Streams whose gap is open now: nothing of them may be believed",
        one(lambda view: view.gateway.ledger.open),
    ),
    Metric(
        "polybus.gaps.opened",
        COUNTER,
        "{gap}",
        "Gaps that opened, by reason",
        lambda view: counted(view.gateway.ledger.opened, GAP_REASONS, "reason"),
        ("reason",),
    ),
    Metric(
        "polybus.gaps.closed",
        COUNTER,
        "{gap}",
        "Gaps that closed, by what brought trust back",
        lambda view: counted(view.gateway.ledger.closed, CLOSED_BY, "closed_by"),
        ("closed_by",),
    ),
    Metric(
        "polybus.backlog.size",
        GAUGE,
        "{event}",
        "Events that wait for NATS",
        one(lambda view: len(view.gateway.outbox)),
    ),
    Metric(
        "polybus.backlog.utilization",
        GAUGE,
        "1",
        "How full the backlog is, 0 to 1; from 1 on the oldest events are given up",
        one(lambda view: view.gateway.outbox.utilization),
    ),
    Metric(
        "polybus.backlog.dropped",
        COUNTER,
        "{event}",
        "Events given up because the backlog was full; each shows in a gap",
        one(lambda view: view.gateway.outbox.dropped),
    ),
    Metric(
        "polybus.backlog.held",
        GAUGE,
        "1",
        "1 while feeds whose events are never given up are held back, for want of room in the backlog, else 0",
        flag(lambda view: view.gateway.outbox.brake.is_on),
    ),
    Metric(
        "polybus.backlog.holds",
        COUNTER,
        "{hold}",
        "Times they were held back",
        one(lambda view: view.gateway.outbox.brake.times),
    ),
    Metric(
        "polybus.nats.connected",
        GAUGE,
        "1",
        "1 while NATS can be written to, else 0",
        flag(lambda view: view.gateway.bus.is_connected),
    ),
    Metric(
        "polybus.nats.published",
        COUNTER,
        "{message}",
        "Messages written to NATS",
        one(lambda view: view.gateway.bus.published),
    ),
    Metric(
        "polybus.nats.reconnects",
        COUNTER,
        "{reconnect}",
        "Connections to NATS after the first",
        one(lambda view: view.gateway.bus.reconnects),
    ),
    Metric(
        "polybus.nats.too_large",
        COUNTER,
        "{event}",
        "Events that NATS does not take, for their size; each shows in a gap",
        one(lambda view: view.gateway.outbox.too_large),
    ),
    Metric(
        "polybus.nats.uncertain",
        COUNTER,
        "{event}",
        "Events written to NATS whose arrival was never confirmed; each shows in a gap",
        one(lambda view: view.gateway.outbox.uncertain),
    ),
    Metric(
        "polybus.nats.unrecorded",
        COUNTER,
        "{event}",
        "Events that NATS took in and JetStream may not have stored; each shows in a gap",
        one(lambda view: view.gateway.outbox.unrecorded),
    ),
    Metric(
        "polybus.record.streams",
        GAUGE,
        "{stream}",
        "JetStream streams that record the events, by state: ready, differs (from `[streams]`), absent, unavailable",
        record,
        ("state",),
    ),
    Metric(
        "polybus.nats.denied",
        COUNTER,
        "{refusal}",
        "Publishes and subscriptions that our permissions on the server do not allow: those events reach nobody",
        one(lambda view: view.gateway.bus.denied),
    ),
    Metric(
        "polybus.commands",
        COUNTER,
        "{command}",
        "Commands answered; the outcome is `ok`, or the code of the refusal",
        commands,
        ("verb", "outcome"),
    ),
    Metric(
        "polybus.command.duration",
        HISTOGRAM,
        "s",
        "From a command's arrival to its answer; `subscribe` may wait for data in it",
        lambda view: [
            (buckets(each), {"verb": verb}) for verb, each in view.gateway.watcher.answering.items()
        ],
        ("verb",),
    ),
    Metric(
        "polybus.actors.restarts",
        COUNTER,
        "{restart}",
        "Parts of the gateway that failed and were started again: each is a bug, please report it",
        one(lambda view: view.gateway.supervisor.restarts),
    ),
    Metric(
        "polybus.ready",
        GAUGE,
        "1",
        "1 while `/ready` says yes, else 0",
        flag(lambda view: view.readiness.ready),
    ),
    Metric(
        "polybus.draining",
        GAUGE,
        "1",
        "1 from SIGTERM on",
        flag(lambda view: view.readiness.draining),
    ),
    Metric(
        "polybus.loop.lag",
        HISTOGRAM,
        "s",
        "How late the event loop woke us, twice a second: its processor is busy, or something blocks it",
        lambda view: [(buckets(view.pulse.lag), {})],
    ),
    Metric(
        "polybus.loop.tasks",
        GAUGE,
        "{task}",
        "Tasks of the event loop: some five for each connection; a number that only rises is a leak",
        one(lambda _view: len(asyncio.all_tasks())),
    ),
    Metric(
        "polybus.telemetry.failures",
        COUNTER,
        "{export}",
        "OTLP exports that failed",
        lambda view: [(view.failures.get(signal, 0), {"signal": signal}) for signal in SIGNALS],
        ("signal",),
    ),
    Metric(
        "process.cpu.time",
        COUNTER,
        "s",
        "Processor time of the process",
        one(lambda _view: time.process_time()),
    ),
    Metric(
        "process.memory.usage",
        GAUGE,
        "By",
        "Resident memory of the process; on Linux only",
        memory,
    ),
    Metric(
        "process.memory.limit",
        GAUGE,
        "By",
        "What it may take: its container's limit, or else all there is; on Linux only",
        memory_limit,
    ),
)
