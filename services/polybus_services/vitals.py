"""How a gateway is doing right now, out of what `status` says again and again: rates, silences, and hints.

A hint is for the eye what an alert is for the pager, and bears the alert's name: `deploy/monitoring/runbooks.md` says
what to do.  Nothing here asks anybody or looks at a clock.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from textwrap import shorten

import msgspec

from polybus_protocol.control.replies import ConnectionInfo, StatusReply

RATE_S = 5.0
"""Rates are those of so many seconds: of one second they would jump about too much to be read."""

MEMORY_S = 60.0
"""For so long a count that rose is worth a hint."""

SILENT_S = 30.0
"""Since the last data of a feed of which something is wanted, until it is worth a hint; as for the alert."""

LIVE_SHARE = 0.8
SUSPECT_SHARE = 0.05
"""Of what is wanted, and of all assets; as for the alerts."""

BACKLOG = 1000
"""Events that wait for NATS, until it is worth a hint if they become more: 0.1 s of a busy venue."""

REASON_CHARS = 160
"""Of a reason that is shown: what the venue says may be a page."""

AWAY = ("absent", "unavailable")

_RISING: Mapping[str, tuple[str, str]] = {
    "dropped": ("EventsDropped", "events were given up before NATS"),
    "denied": ("PublishDenied", "publishes or subscriptions were denied by NATS"),
    "too_large": ("EventsTooLarge", "events were larger than NATS takes"),
    "uncertain": ("EventsUncertain", "events were never confirmed by NATS"),
    "unrecorded": ("EventsUnrecorded", "events may not have been recorded"),
    "unknown": ("UnreadableEvents", "frames or events could not be read"),
    "errors": ("ConnectionsUnstable", "dials failed, or sockets were lost"),
    "restarts": ("ActorRestarted", "parts of the gateway failed and were started again"),
    "disagreements": ("BooksDisagree", "looks found a book that is not the venue's"),
    "gaps": ("GapsKeepOpening", "gaps opened; `polybus tail --family system` says why"),
}
"""Counts that should stand still: the alert, and what happened so many times."""

DISAGREEMENTS = ("hash_mismatch", "top_mismatch", "crossed", "complement_mismatch")
"""Checks that speak against a book."""

TOLERATED = {"disagreements": 2, "gaps": 2}
"""Of these so many in a minute are no news: a lost frame or socket mends itself."""


class Hint(msgspec.Struct, frozen=True):
    """Something that wants to be looked at."""

    alert: str
    """The section of the runbooks."""
    words: str


class FeedVitals(msgspec.Struct):
    """One feed."""

    feed: str
    states: dict[str, int]
    """Connections by state."""
    wanted: int
    live: int
    """Keys that are wanted, and that have delivered since their last gap."""
    frames_per_s: float | None
    """None until there is something to compare with; so for all rates."""
    silent_s: float | None
    """Since the last data on any of its connections; None if there was none."""
    errors: int
    """Failed dials and lost sockets, since the gateway started."""


class Vitals(msgspec.Struct):
    """One look."""

    time: int
    """Nanoseconds since the epoch."""
    replica: str
    version: str
    state: str
    up_s: float
    answered_in_s: float
    """From asking for `status` to having it: NATS there and back, and the turn of the gateway's event loop."""
    events_per_s: float | None
    events_per_s_by_type: dict[str, float]
    published_per_s: float | None
    """Messages written to NATS."""
    gaps: int
    gaps_per_min: float | None
    feeds: list[FeedVitals]
    trust: dict[str, int]
    nats_connected: bool
    nats_server: str | None
    backlog: int
    """Events that wait for NATS."""
    rose: dict[str, int]
    """Counts that should stand still, and by how much they rose in the last minute."""
    streams: dict[str, str]
    """The record: each stream's state."""
    hints: list[Hint]


class Unanswered(msgspec.Struct):
    """A look at which nobody answered."""

    time: int
    """Nanoseconds since the epoch."""
    error: str


class _Look(msgspec.Struct):
    at: float
    reply: StatusReply


class Chart:
    """Remembers a minute of looks at one gateway."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._reasons: dict[str, str] = {}
        """Why a feed's connections were last not live: one that dials at once is live again before the next look."""

    def look(self, reply: StatusReply, at: float, time_ns: int, answered_in_s: float) -> Vitals:
        """Take in what `status` says.

        Args:
            reply: what it said.
            at: seconds, by a clock that is never set.
            time_ns: nanoseconds since the epoch.
            answered_in_s: how long it took to say so.
        """
        if self._looks and self._looks[-1].reply.started != reply.started:
            self._looks.clear()  # another process: its counts begin anew
            self._reasons.clear()
        self._looks.append(_Look(at, reply))
        while self._looks[0].at < at - MEMORY_S:
            self._looks.popleft()
        before = next(look for look in self._looks if look.at >= at - RATE_S)
        rose = {
            name: count - _counts(self._looks[0].reply)[name]
            for name, count in _counts(reply).items()
            if count > _counts(self._looks[0].reply)[name]
        }
        self._reasons |= {one.feed: one.reason for one in reply.connections if one.reason is not None}
        unsteady = [
            feed for feed in _feeds(reply) if _errors(feed, reply) > _errors(feed, self._looks[0].reply)
        ]
        feeds = [_feed(feed, reply, before, at, time_ns) for feed in _feeds(reply)]
        nats = reply.nats
        gaps_per_s = _rate(reply.gaps, before.reply.gaps, at - before.at)
        vitals = Vitals(
            time=time_ns,
            replica=reply.replica,
            version=reply.version,
            state=reply.state,
            up_s=(time_ns - reply.started) / 1e9,
            answered_in_s=answered_in_s,
            events_per_s=_rate(reply.total_events, before.reply.total_events, at - before.at),
            events_per_s_by_type={
                type_: rate
                for type_, count in reply.events_by_type.items()
                if (rate := _rate(count, before.reply.events_by_type.get(type_, 0), at - before.at))
            },
            published_per_s=_rate(nats.published, before.reply.nats.published, at - before.at),
            gaps=reply.gaps,
            gaps_per_min=None if gaps_per_s is None else gaps_per_s * 60,
            feeds=feeds,
            trust=reply.trust,
            nats_connected=nats.connected,
            nats_server=nats.server,
            backlog=nats.backlog,
            rose=rose,
            streams={stream.name: stream.state for stream in reply.streams},
            hints=[],
        )
        grows = nats.backlog > max(BACKLOG, before.reply.nats.backlog)
        vitals.hints = list(
            _hints(vitals, reply, time_ns, _with_reasons(unsteady, self._reasons), grows=grows)
        )
        return vitals


def _feeds(reply: StatusReply) -> list[str]:
    return list(dict.fromkeys(connection.feed for connection in reply.connections))


def _of(feed: str, reply: StatusReply) -> list[ConnectionInfo]:
    return [connection for connection in reply.connections if connection.feed == feed]


def _with_reasons(feeds: Sequence[str], reasons: Mapping[str, str]) -> str:
    """The feeds and why, those together that have the same reason."""
    of_reason: dict[str, list[str]] = {}
    for feed in feeds:
        of_reason.setdefault(reasons.get(feed, ""), []).append(feed)
    return "; ".join(
        ", ".join(some) + (f" ({shorten(reason, REASON_CHARS)})" if reason else "")
        for reason, some in of_reason.items()
    )


def _errors(feed: str, reply: StatusReply) -> int:
    return sum(one.errors for one in _of(feed, reply))


def _feed(feed: str, reply: StatusReply, before: _Look, at: float, time_ns: int) -> FeedVitals:
    connections = _of(feed, reply)
    frames_before = {one.id: one.frames for one in _of(feed, before.reply)}
    # Of a connection that is gone, the frames are gone too.
    frames = sum(one.frames - min(frames_before.get(one.id, 0), one.frames) for one in connections)
    last = max((one.last_data_time for one in connections if one.last_data_time is not None), default=None)
    return FeedVitals(
        feed=feed,
        states=dict(Counter(one.state for one in connections)),
        wanted=sum(one.assets for one in connections),
        live=sum(one.live_assets for one in connections),
        frames_per_s=_rate(frames, 0, at - before.at),
        silent_s=None if last is None else max((time_ns - last) / 1e9, 0.0),
        errors=_errors(feed, reply),
    )


def _rate(count: int, before: int, seconds: float) -> float | None:
    return max(count - before, 0) / seconds if seconds > 0 else None


def _counts(reply: StatusReply) -> dict[str, int]:
    nats = reply.nats
    return {
        "dropped": nats.dropped,
        "denied": nats.denied,
        "too_large": nats.too_large,
        "uncertain": nats.uncertain,
        "unrecorded": nats.unrecorded,
        "unknown": sum(reply.unknown.values()),
        "errors": reply.connection_errors,
        "restarts": reply.restarts,
        "disagreements": sum(reply.checks.get(name, 0) for name in DISAGREEMENTS),
        "gaps": reply.gaps,
    }


def _hints(vitals: Vitals, reply: StatusReply, time_ns: int, unsteady: str, *, grows: bool) -> Iterator[Hint]:
    """What wants to be looked at, what is worst first."""
    if not vitals.nats_connected:
        yield Hint("NatsDisconnected", "NATS cannot be written to")
    for connection in reply.connections:
        if connection.state == "refused":
            yield Hint("ConnectionRefused", f"the venue refuses {connection.id}: {connection.reason}")
    for feed in vitals.feeds:
        yield from _feed_hints(feed, vitals)
    yield from _trust_hints(vitals.trust)
    if grows:
        yield Hint("BacklogFilling", f"{vitals.backlog:,} events wait for NATS, and they become more")
    if (since := reply.nats.held_since) is not None:
        held_s = max(time_ns - since, 0) / 1e9
        yield Hint(
            "FeedsHeldBack",
            f"feeds of accounts are not read, for {held_s:.0f} s: their events fill the backlog",
        )
    for name, count in vitals.rose.items():
        if count <= TOLERATED.get(name, 0):
            continue
        alert, words = _RISING[name]
        which = f": {unsteady}" if name == "errors" and unsteady else ""
        yield Hint(alert, f"in the last minute {count:,} {words}{which}")
    away = [name for name, state in vitals.streams.items() if state in AWAY]
    if away:
        yield Hint("RecordAway", f"nothing is recorded in {', '.join(away)}")


def _feed_hints(feed: FeedVitals, vitals: Vitals) -> Iterator[Hint]:
    silent_s = vitals.up_s if feed.silent_s is None else feed.silent_s
    # Quiet feeds, such as sports at night, are live all the same; of books somebody else has a second look.
    doubted = feed.feed == "market" and any(vitals.trust.get(word, 0) for word in ("suspect", "frozen"))
    if silent_s > SILENT_S and (feed.live < feed.wanted or doubted):
        since = "brought nothing yet" if feed.silent_s is None else f"been silent for {feed.silent_s:.0f} s"
        yield Hint("FeedSilent", f"the feed {feed.feed} has {since}")
    elif feed.live < feed.wanted * LIVE_SHARE:
        yield Hint("KeysNotLive", f"of the feed {feed.feed} {feed.live:,} of {feed.wanted:,} are live")


def _trust_hints(trust: Mapping[str, int]) -> Iterator[Hint]:
    if frozen := trust.get("frozen", 0):
        yield Hint("AssetsFrozen", f"{frozen:,} assets are frozen")
    if (suspect := trust.get("suspect", 0)) > SUSPECT_SHARE * sum(trust.values()):
        yield Hint("AssetsSuspect", f"{suspect:,} assets are suspect")


ALERTS: Sequence[str] = (
    *("NatsDisconnected", "ConnectionRefused", "FeedSilent", "KeysNotLive", "AssetsFrozen", "AssetsSuspect"),
    *("BacklogFilling", "FeedsHeldBack", *(alert for alert, _ in _RISING.values()), "RecordAway"),
)
"""All that a hint may be named after."""
