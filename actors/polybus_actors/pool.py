"""The pool actor: the connections of one feed, and which of them carries which key.

It is told what leads from the active keys to the wanted ones (`Apply`), opens and closes connections for
that, and knows of every key whether it is live, and if not, why.  The streams belong to it, so that they
outlive every connection.  A connection that keeps failing takes the pool, and with it the gateway, down:
that is a bug, and nothing in here could mend it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import anyio
import msgspec
from anyio.abc import TaskGroup

from polybus_protocol.assignment import Assignment
from polybus_protocol.commons import Commons
from polybus_protocol.describe import describe
from polybus_protocol.directory import MarketDirectory
from polybus_protocol.events import ConnectionState, type_of
from polybus_protocol.feeds.dialect import Dialect
from polybus_protocol.interest import Steps
from polybus_protocol.profile import FeedProfile
from polybus_protocol.replies import Missing
from polybus_protocol.session import Live, Overdue, Signal, Tapped
from polybus_protocol.stream import Stream

from .connection import Carry, Connection, Doubt, Drop, Phase, Stop
from .mailbox import ActorStopped, Mailbox
from .outbox import Outbox
from .pacer import DialPacer
from .supervisor import Supervisor
from .tally import Tally

logger = logging.getLogger("polybus.pool")
event_logger = logging.getLogger("polybus.events")


class Apply(msgspec.Struct, frozen=True):
    """Message: go from the active keys to the wanted ones."""

    steps: Steps
    remembered: bool = False
    """The keys were wanted before this process: their streams begin with a gap."""


class Lost(msgspec.Struct, frozen=True):
    """Message: events of these streams may have reached nobody; ask for fresh snapshots."""

    streams: list[Stream]
    reason: str


type Message = Apply | Lost


class Pool:
    """See the module.

    Args:
        replica: the gateway's name, which every connection's id begins with.
        profile: the feed's settings.
        make_dialect: makes the language of one connection.
        outbox: where publications go.
        system: the stream of connection states and notices.
        directory: remembers the pairs of market and asset that pass by.
        supervisor: restarts connections that fail.
        prefix: of all subjects.
    """

    def __init__(
        self,
        replica: str,
        profile: FeedProfile,
        make_dialect: Callable[[], Dialect],
        outbox: Outbox,
        system: Stream,
        directory: MarketDirectory,
        supervisor: Supervisor,
        prefix: str,
    ) -> None:
        self.feed = make_dialect().feed
        self._quiet_keys = make_dialect().quiet_keys
        self.profile = profile
        self.mailbox: Mailbox[Message] = Mailbox()
        self.streams: dict[str, Stream] = {}
        self.connections: dict[int, Connection] = {}
        self.commons = Commons(self.feed, prefix)
        self.overdue: set[str] = set()
        """Keys that were asked for more than once and delivered nothing."""
        self.reconnects = 0
        self.last_reconnect_time: int | None = None

        self._replica = replica
        self._make_dialect = make_dialect
        self._outbox = outbox
        self._system = system
        self._directory = directory
        self._supervisor = supervisor
        self._prefix = prefix
        self._pacer = DialPacer(profile.dial_interval_s)
        self._assignment = Assignment(profile.assets_per_connection)
        self._incarnations: dict[int, int] = {}
        self._taps: Mapping[str, Collection[str]] = {}
        self._leaving: list[Connection] = []
        self._past = Tally()
        self._past_events: Counter[str] = Counter()
        self._progress = anyio.Event()
        self._draining = False

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.mailbox, anyio.create_task_group() as tasks:
            async for message in self.mailbox:
                match message:
                    case _ if self._draining:
                        pass  # every connection is closing, and none is to be opened
                    case Apply(steps, remembered):
                        await self._remove(steps.remove)
                        await self._add(steps.add, tasks, remembered=remembered)
                    case Lost(streams, reason):
                        await self._doubt(streams, reason)

    async def drain(self) -> None:
        """Announce the end on every live stream, close every socket with 1000, and let nobody wait any longer."""
        self._draining = True
        self._tell_waiters()
        async with anyio.create_task_group() as tasks:
            for connection in list(self.connections.values()):
                tasks.start_soon(self._stop, connection)

    def tap(self, taps: Mapping[str, Collection[str]]) -> None:
        """Log each event of these types of these keys, and no other."""
        self._taps = taps
        for key, stream in self.streams.items():
            stream.tapped = key in taps

    # --- what is known -----------------------------------------------------------------------------

    def carrier_of(self, key: str) -> Connection | None:
        """The connection that carries a key."""
        number = self._assignment.carrier_of(key)
        return None if number is None else self.connections.get(number)

    def tally(self) -> Tally:
        """What the sockets of all connections have brought, of those that are gone too."""
        return sum((c.tally for c in (*self.connections.values(), *self._leaving)), self._past)

    def events(self) -> Counter[str]:
        """Events published so far, by type."""
        total = self._past_events + self.commons.counts()
        for stream in self.streams.values():
            total += stream.counts()
        return total

    def matched(self, keys: Iterable[str], types: Collection[str]) -> int:
        """Events of these types (of all if none is named) published for these keys so far, gaps apart."""
        counts: Counter[str] = Counter()
        for key in keys:
            if (stream := self.streams.get(key)) is not None:
                counts += stream.counts()
            if key in self._quiet_keys:
                counts += self.commons.counts()
        return sum(counts[type_] for type_ in types or counts if type_ not in ("gap", "unknown"))

    def why_not(self, key: str) -> str | None:
        """Why a key is not live, as a sentence; None if it is."""
        stream, connection = self.streams.get(key), self.carrier_of(key)
        if self._draining:
            return "the gateway is shutting down"
        if stream is None or connection is None:
            return "no connection carries it yet"
        if stream.live:
            return None
        if connection.phase not in (Phase.OPEN, Phase.LIVE):
            because = f": {connection.reason}" if connection.reason else ""
            return f"its connection {connection.id} is {connection.phase.value}{because}"
        if key in self.overdue:
            return (
                "the venue was asked more than once and sent nothing: "
                "an unknown, closed or frozen asset looks just like that"
            )
        return "the venue was asked and has sent nothing yet"

    async def wait(self, keys: Collection[str], level: str, timeout_s: float) -> list[Missing]:
        """Wait until the venue was asked for all keys (`sent`), or all have delivered (`data`).

        Returns:
            The keys that did not get that far in time, and why; none as a rule.
        """
        missing = [key for key in keys if not self._has_reached(key, level)]
        with anyio.move_on_after(timeout_s):
            while missing and not self._draining:
                await self._progress.wait()
                missing = [key for key in missing if not self._has_reached(key, level)]
        # Looked at once more, because what is missing now need not be missing any more.
        missing = [key for key in missing if not self._has_reached(key, level)]
        return [
            Missing(key, self.why_not(key) or "it was live and has just been interrupted") for key in missing
        ]

    def _has_reached(self, key: str, level: str) -> bool:
        if level == "sent":
            connection = self.carrier_of(key)
            return connection is not None and connection.has_asked_for(key)
        return key in self.streams and self.streams[key].live

    # --- what is wanted ----------------------------------------------------------------------------

    async def _add(self, keys: Iterable[str], tasks: TaskGroup, *, remembered: bool) -> None:
        for number, assigned in self._assignment.assign(keys).items():
            streams = [(key, self._open_stream(key, remembered=remembered)) for key in assigned]
            if (connection := self.connections.get(number)) is not None:
                await connection.mailbox.put(Carry(streams))
            else:
                connection = self.connections[number] = self._new_connection(number)
                connection.streams.update(streams)
                tasks.start_soon(self._run, number, connection)

    async def _remove(self, keys: Iterable[str]) -> None:
        for number, released in self._assignment.release(keys).items():
            connection = self.connections[number]
            self.overdue.difference_update(released)
            if number in self._assignment.connections:
                await connection.mailbox.ask(Drop(released))
            else:
                # A market socket without assets is closed by the venue sooner or later.
                self._leaving.append(self.connections.pop(number))
                self._incarnations[number] = connection.incarnation
                await connection.mailbox.ask(Stop("unsubscribed"))
            for key in released:
                # Its last events are counted: from here on nothing comes for it.
                self._past_events += self.streams.pop(key).counts()

    async def _doubt(self, streams: Iterable[Stream], reason: str) -> None:
        doubted = set(streams)
        for connection in list(self.connections.values()):
            if keys := [key for key, stream in connection.streams.items() if stream in doubted]:
                await connection.mailbox.put(Doubt(keys, reason))

    def _open_stream(self, key: str, *, remembered: bool) -> Stream:
        ids = (None, None) if key in self._quiet_keys else (self._directory.market_of(key), key)
        stream = self.streams[key] = Stream(
            self.feed, "market", ids, remembered=remembered, prefix=self._prefix
        )
        stream.tapped = key in self._taps
        if remembered:
            self._outbox.put(stream.interrupt("restart", time.time_ns()))
        return stream

    # --- connections -------------------------------------------------------------------------------

    def _new_connection(self, number: int) -> Connection:
        return Connection(
            f"{self._replica}-{self.feed}-{number}",
            self.profile,
            self._make_dialect(),
            self._outbox,
            self._pacer,
            self.commons,
            self._directory,
            on_signals=self._heed,
            on_phase=self._report,
            # A number may be used again; its incarnations go on counting, so that each socket has one name.
            incarnation=self._incarnations.get(number, 0),
        )

    async def _run(self, number: int, connection: Connection) -> None:
        try:
            await self._supervisor.supervise(connection.id, connection.run)
        finally:
            await connection.close()
            self._past += connection.tally
            if connection in self._leaving:
                self._leaving.remove(connection)
            elif self.connections.get(number) is connection:
                del self.connections[number]

    async def _stop(self, connection: Connection) -> None:
        try:
            await connection.mailbox.ask(Stop("shutdown"))
            await connection.stopped.wait()
        except ActorStopped:
            pass

    def _heed(self, signals: list[Signal]) -> None:
        for signal in signals:
            match signal:
                case Live(key):
                    self.overdue.discard(key)
                case Overdue(key, waited_s):
                    if key not in self.overdue:
                        logger.warning("no data for asset %s in %.0f s; asking again", key, waited_s)
                    self.overdue.add(key)
                case Tapped(key, event):
                    if type_of(event) in self._taps.get(key, ()):
                        event_logger.info("%s", describe(event))
        self._tell_waiters()

    def _report(self, connection: Connection) -> None:
        """A connection has changed its phase: say so on the system subject."""
        now = time.time_ns()
        if connection.phase is Phase.OPEN and connection.incarnation > 1:
            self.reconnects += 1
            self.last_reconnect_time = now
        event = ConnectionState(
            self._replica,
            connection.id,
            connection.incarnation,
            self.feed,
            self.profile.url,
            connection.phase.value,
            connection.reason,
            len(connection.streams),
            connection.retry_in_s,
        )
        begun = [] if self._system.live else self._system.begin(event, now, None)
        self._outbox.put([*begun, self._system.publish(event, now, None)])
        self._tell_waiters()

    def _tell_waiters(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()
