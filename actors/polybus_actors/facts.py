"""How a gateway is doing, in numbers: taken at one moment, for those who look from time to time.

Nothing in here is kept up to date: counts that the actors have anyway are added up when somebody asks.
"""

from collections import Counter
from typing import TYPE_CHECKING

import anyio
import msgspec

from polybus_protocol.control.replies import Missing

from .venue.connection import Connection, Phase
from .venue.pool import Pool
from .venue.tally import Tally

if TYPE_CHECKING:
    from .gateway import Gateway

MISSING_SHOWN = 20
"""Keys that are named, of those that are not live: enough to see what they have in common."""


class FeedFacts(msgspec.Struct):
    """One feed, all its accounts together."""

    events: Counter[str] = msgspec.field(default_factory=Counter)
    """Published so far, by type; gaps included."""
    tally: Tally = Tally()
    phases: Counter[str] = msgspec.field(default_factory=Counter)
    """Connections by phase."""
    subscriptions: int = 0
    wanted: int = 0
    """Keys that somebody wants."""
    live: int = 0
    """Those of them that are live; of the quiet ones, which may be silent for ever, those that were asked for."""
    overdue: int = 0
    """Those of them that were asked for more than once and delivered nothing."""
    reconnects: int = 0
    silence_s: float = 0.0
    """Seconds since the last data, on the open connection that has waited longest of those that should have some."""

    def add(self, pool: Pool, waiting: int) -> None:
        """Add one of the feed's pools, of which so many keys are not live."""
        self.events += pool.events()
        self.tally += pool.tally()
        self.tally += Tally(duplicates=pool.commons.duplicates)
        self.phases.update(connection.phase.value for connection in pool.connections.values())
        self.subscriptions += len(pool.interest.subscriptions)
        self.wanted += len(pool.interest.wanted)
        self.live += len(pool.interest.wanted) - waiting
        self.overdue += len(pool.standing.overdue)
        self.reconnects += pool.reconnects
        silences = map(_silence_s, pool.connections.values())
        self.silence_s = max([self.silence_s, *silences])


class Readiness(msgspec.Struct, frozen=True):
    """Whether a gateway does what it is wanted for, and if not, why."""

    ready: bool
    because: list[str]
    """What it lacks, a sentence each; nothing if it is ready."""
    nats_connected: bool
    draining: bool
    wanted: int
    """Keys that somebody wants: assets, markets, topics, symbols."""
    live: int
    needed: int
    """How many of them must be live."""
    missing: list[Missing]
    """The first of those that are not, and why."""


type Waiting = list[tuple[Pool, list[str]]]
"""Each pool, and its wanted keys that are not live."""


def waiting_keys(gateway: "Gateway") -> Waiting:
    """Look for the keys that are not live; the one look here that takes long, 5 ms for ten thousand keys."""
    return [(pool, _waiting(pool)) for pool in gateway.pools]


def facts_by_feed(waiting: Waiting) -> dict[str, FeedFacts]:
    """Add up the pools; a feed without any, for want of an account, is not there."""
    facts: dict[str, FeedFacts] = {}
    for pool, keys in waiting:
        facts.setdefault(pool.feed, FeedFacts()).add(pool, len(keys))
    return facts


def readiness(gateway: "Gateway", waiting: Waiting, share: float) -> Readiness:
    """Judge a gateway.

    Args:
        gateway: which.
        waiting: its keys that are not live.
        share: of the wanted keys that must be live, 0 to 1.
    """
    wanted = sum(len(pool.interest.wanted) for pool, _ in waiting)
    missing = [(pool, key) for pool, keys in waiting for key in keys]
    live = wanted - len(missing)
    needed = -int(-wanted * share // 1)
    because: list[str] = []
    if gateway.verbs.draining:
        because.append("it is draining")
    if not gateway.bus.is_connected:
        because.append("NATS is not connected")
    if live < needed:
        because.append(f"{live} of {wanted} wanted keys are live, and {needed} must be")
    return Readiness(
        ready=not because,
        because=because,
        nats_connected=gateway.bus.is_connected,
        draining=gateway.verbs.draining,
        wanted=wanted,
        live=live,
        needed=needed,
        missing=[
            Missing(key, pool.standing.why_not(key) or "it has just become live")
            for pool, key in missing[:MISSING_SHOWN]
        ],
    )


def _waiting(pool: Pool) -> list[str]:
    """The keys that are not live, those apart that may be silent for ever and were asked for."""
    # Most keys are streams, and live: those need no closer look.
    live = {
        key
        for connection in pool.connections.values()
        if connection.phase in (Phase.OPEN, Phase.LIVE)
        for key, stream in connection.cargo.streams.items()
        if stream.live
    }
    rest = [key for key in pool.interest.wanted if key not in live and not pool.standing.is_live(key)]
    quiet = {key for connection in pool.connections.values() for key in connection.cargo.quiet_keys}
    return [key for key in rest if not (key in quiet and _has_asked_for(pool, key))]


def _has_asked_for(pool: Pool, key: str) -> bool:
    connection = pool.standing.carrier_of(key)
    return connection is not None and connection.has_asked_for(key)


def _silence_s(connection: Connection) -> float:
    session = connection.session
    if (
        session is None
        or connection.phase not in (Phase.OPEN, Phase.LIVE)
        or not connection.cargo.expects_data
    ):
        return 0.0
    return anyio.current_time() - session.last_data_at
