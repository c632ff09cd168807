"""The pool actor: the connections of one feed (of one account), and which of them carries which key.

It is told what leads from the active keys to the wanted ones (`Apply`), opens and closes connections for
that, and knows of every key whether it is live, and if not, why.  The streams belong to it, so that they
outlive every connection.  A connection that keeps failing takes the pool, and with it the gateway, down:
that is a bug, and nothing in here could mend it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial

import anyio
import msgspec
from anyio.abc import TaskGroup

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.liveness import Trust
from polybus_protocol.control.interest import Interest, Steps
from polybus_protocol.conversation.assignment import Assignment
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.conversation.signals import Declined, Doubtful, Live, Orphaned, Overdue, Signal, Tapped
from polybus_protocol.describe import describe
from polybus_protocol.events import Book, ConnectionState, Notice, type_of
from polybus_protocol.feeds.dialect import Dialect, Proof
from polybus_protocol.feeds.market import FEED
from polybus_protocol.profile import FeedProfile
from polybus_protocol.stream import GapLedger, Stream, Totals

from ..mailbox import ActorStopped, Mailbox
from ..publishing.outbox import Outbox
from ..supervisor import Supervisor
from .connection import Connection, Phase
from .orders import Doubt, Retire
from .pacer import DialPacer
from .rescuer import Rescuer
from .roster import Roster
from .rotation import PutOff, Rotate, Rotator, Step, Swap
from .standing import Standing
from .stream_maker import StreamMaker
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


class Move(msgspec.Struct, frozen=True):
    """Message: let another connection carry a silent key."""

    key: str
    to_new: bool
    """Whether to a new one; else to one that is there, if any has room."""


type Message = Apply | Lost | Move | Step


class Pool:
    """See the module.

    Args:
        name: unlike that of any other pool: the feed, and the account where it has one.
        replica: the gateway's name, which every connection's id begins with.
        profile: the feed's settings.
        make_dialect: makes the language of one connection.
        outbox: where publications go.
        system: the stream of connection states and notices.
        unknown: the stream of what nobody can read.
        directory: remembers the pairs of market and asset that pass by.
        supervisor: restarts connections that fail.
        prices: the streams of prices, which more than one feed brings.
        ledger: counts the gaps.
        prefix: of all subjects.
        on_phase: told of each change of a connection's phase.
    """

    def __init__(
        self,
        name: str,
        replica: str,
        profile: FeedProfile,
        make_dialect: Callable[[], Dialect],
        outbox: Outbox,
        system: Stream,
        unknown: Stream,
        directory: MarketDirectory,
        supervisor: Supervisor,
        prices: dict[str, Stream],
        ledger: GapLedger,
        prefix: str,
        on_phase: Callable[[Connection], None],
    ) -> None:
        self.name = name
        dialect = make_dialect()
        self.feed = dialect.feed
        self.interest = Interest()
        """What is wanted of this pool."""
        self.profile = profile
        self.mailbox: Mailbox[Message] = Mailbox()
        self.streams: dict[str, Stream] = {}
        self.commons = Commons(self.feed, prefix, unknown)
        self.checks: Counter[str] = Counter()
        """What was checked and tried, and how often."""
        self.reconnects = 0
        self.last_reconnect_time: int | None = None

        self._replica = replica
        self._make_dialect = make_dialect
        self._outbox = outbox
        self._system = system
        self._directory = directory
        self._supervisor = supervisor
        self._on_phase = on_phase
        self._has_snapshots = dialect.has_snapshots
        self._pacer = DialPacer(profile.dial_interval_s)
        self._assignment = Assignment(profile.assets_per_connection)
        self._taps: Mapping[str, Collection[str]] = {}
        self._tasks: TaskGroup
        self._rescuer = Rescuer(
            profile.rest_url if self.feed == FEED else None,
            self.checks,
            self._testify,
            self._want_moved,
            partial(self._want_moved, to_new=True),
            self._give_up,
        )
        has_pairs = self.feed == FEED
        self._roster = Roster(
            f"{replica}-{name}",
            self._new_connection,
            supervisor,
            self.checks,
            has_twins=has_pairs and profile.twin_connections,
        )
        self.connections = self._roster.connections
        """By number; the one with the negative number carries the same keys as that with the positive."""
        self.standing = Standing(
            self._roster,
            self._assignment,
            self.streams,
            self.commons,
            makes_no_answer=dialect.proof is Proof.SILENT,
        )
        self._totals = Totals()
        self._maker = StreamMaker(
            self.feed, profile, prefix, outbox, directory, self.checks, prices, ledger, self._totals
        )
        self._rotator = Rotator(
            self.connections, profile.rotate_after_s if has_pairs else 0.0, self.mailbox.put
        )

    async def run(self) -> None:
        """Serve until cancelled."""
        async with self.mailbox, anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._supervisor.supervise, f"{self.name}-rescuer", self._rescuer.run)
            tasks.start_soon(self._supervisor.supervise, f"{self.name}-rotator", self._rotator.run)
            async for message in self.mailbox:
                match message:
                    case _ if self.standing.is_draining:
                        pass  # every connection is closing, and none is to be opened
                    case Apply(steps, remembered):
                        await self._remove(steps.remove)
                        await self._add(steps.add, tasks, remembered=remembered)
                    case Lost(streams, reason) if self._has_snapshots:
                        await self._doubt(streams, reason)
                    case Lost():
                        pass  # the gap that tells of the loss says all there is to say
                    case Move(key, to_new):
                        await self._move(key, tasks, to_new=to_new)
                    case Rotate(number):
                        self._rotate(number, tasks)
                    case Swap(number):
                        await self._swap(number, tasks)
                    case PutOff(number):
                        await self._put_off(number)

    async def drain(self) -> None:
        """Announce the end on every live stream, close every socket with 1000, and let nobody wait any longer."""
        self.standing.is_draining = True
        self._part(self.streams)
        self.standing.tell_waiters()
        await self._roster.stop()

    def tap(self, taps: Mapping[str, Collection[str]]) -> None:
        """Log each event of these types of these keys, and no other."""
        self._taps = taps
        for connection in self.connections.values():
            connection.cargo.taps = taps.keys()

    # --- what is known -----------------------------------------------------------------------------

    def tally(self) -> Tally:
        """What the sockets of all connections have brought, of those that are gone too."""
        return self._roster.tally()

    def events(self) -> Counter[str]:
        """Events published so far, by type."""
        return self._roster.events() + self.commons.counts() + self._totals.counts()

    def asset_streams(self) -> Iterator[AssetStream]:
        """The streams that have books."""
        return (stream for stream in self.streams.values() if isinstance(stream, AssetStream))

    # --- what is wanted ----------------------------------------------------------------------------

    async def _add(self, keys: Iterable[str], tasks: TaskGroup, *, remembered: bool) -> None:
        for number, assigned in self._assignment.assign(keys).items():
            wanted = {key: self._maker.of_key(key, remembered=remembered) for key in assigned}
            self.streams |= {key: stream for key, stream in wanted.items() if stream is not None}
            await self._roster.give(number, wanted, tasks)

    async def _remove(self, keys: Iterable[str]) -> None:
        for number, released in self._assignment.release(keys).items():
            self.standing.overdue.difference_update(released)
            self._part(released)
            for key in released:
                self.standing.declined.pop(key, None)
            if number in self._assignment.connections:
                await self._roster.drop(number, released, "unsubscribed")
            else:
                await self._roster.dismiss(number, "unsubscribed")
            for key in released:
                self.streams.pop(key, None)

    async def _move(self, key: str, tasks: TaskGroup, *, to_new: bool) -> None:
        stream = self.streams.get(key)
        if stream is None or Trust(self.standing.state_of(key)).is_believed:
            return
        if (moved := self._assignment.move(key, to_new=to_new)) is None:
            return
        old, new = moved
        self._part([key])
        if old in self._assignment.connections:
            await self._roster.drop(old, [key], "resync")
        else:
            await self._roster.dismiss(old, "resync")
        stream.pair = None
        await self._roster.give(new, {key: stream}, tasks)

    async def _doubt(self, streams: Iterable[Stream], reason: str) -> None:
        doubted = set(streams)
        for connection in self._roster.speakers():
            if keys := [key for key, stream in connection.cargo.streams.items() if stream in doubted]:
                await connection.mailbox.put(Doubt(keys, reason))

    # --- two connections with the same keys --------------------------------------------------------

    def _part(self, keys: Iterable[str]) -> None:
        """These streams end, and whichever of two carriers is told last must not bring them to life again."""
        for key in keys:
            if (stream := self.streams.get(key)) is not None and stream.pair is not None:
                stream.pair.close()

    def rotate(self, number: int) -> None:
        """Let a connection be replaced by a new one, without a gap; of one that is not there nothing happens."""
        self._tasks.start_soon(self.mailbox.put, Rotate(number))

    def _rotate(self, number: int, tasks: TaskGroup) -> None:
        if (old := self.connections.get(number)) is None or self.feed != FEED:
            return
        self.checks["rotations"] += 1
        if -number not in self.connections:
            wanted = self._streams_on(number)
            self._roster.pair(wanted, old)
            self._roster.open(-number, wanted, tasks)
        self._rotator.begun(number)

    async def _swap(self, number: int, tasks: TaskGroup) -> None:
        old, new = self.connections.get(number), self.connections.get(-number)
        if old is None or new is None or not await old.mailbox.ask(Retire(new)):
            return  # what has changed since it looked ready is seen by the next look
        self._roster.let_go(number)
        self.connections[number] = self.connections.pop(-number)
        self._rotator.ended(number)
        self.checks["rotations_done"] += 1
        if self._roster.has_twins:
            self._roster.open(-number, self._streams_on(number), tasks)
        else:
            self._roster.unpair(self._streams_on(number).values())

    async def _put_off(self, number: int) -> None:
        old, new = self.connections.get(number), self.connections.get(-number)
        if old is None or new is None:
            return
        if not self._roster.has_twins:
            if not await new.mailbox.ask(Retire(old)):
                return
            self._roster.let_go(-number)
            self._roster.unpair(self._streams_on(number).values())
        self._rotator.ended(number)
        self.checks["rotations_put_off"] += 1

    def _streams_on(self, number: int) -> dict[str, Stream | None]:
        carried = self._assignment.connections[number]
        return {key: stream for key, stream in self.streams.items() if key in carried}

    # --- connections -------------------------------------------------------------------------------

    def _new_connection(self, id_: str, incarnation: int) -> Connection:
        connection = Connection(
            id_,
            self.profile,
            self._make_dialect(),
            self._maker.of_event,
            self._outbox,
            self._pacer,
            self.commons,
            self._directory,
            self.checks,
            on_signals=self._heed,
            on_phase=self._report,
            incarnation=incarnation,
        )
        connection.cargo.taps = self._taps.keys()
        return connection

    def _heed(self, signals: list[Signal]) -> None:
        for signal in signals:
            match signal:
                case Live(key):
                    self.standing.overdue.discard(key)
                    self.standing.declined.pop(key, None)
                case Declined(keys, reason):
                    logger.warning("%s: %s", ", ".join(keys), reason)
                    self.standing.declined |= dict.fromkeys(keys, reason)
                case Overdue(key) if (found := self.streams.get(key)) and found.live and found.pair:
                    pass  # another connection brings it
                case Orphaned(key):
                    self._tasks.start_soon(self._mend, key)
                case Overdue(key, waited_s):
                    if key not in self.standing.overdue:
                        logger.warning("no data for asset %s in %.0f s; asking again", key, waited_s)
                    self.standing.overdue.add(key)
                    if isinstance(stream := self.streams.get(key), AssetStream):
                        self._rescuer.overdue(stream, waited_s, time.time_ns())
                case Doubtful(keys):
                    self._rescuer.look(keys)
                case Tapped(keys, event):
                    if any(type_of(event) in self._taps.get(key, ()) for key in keys):
                        event_logger.info("%s", describe(event))
        self.standing.tell_waiters()

    async def _mend(self, key: str) -> None:
        """A stream has lost one of two carriers, and with it its footing."""
        if (carrier := self.standing.carrier_of(key)) is not None:
            with suppress(ActorStopped):
                await carrier.mailbox.put(Doubt([key], "connection_lost"))

    def _testify(self, books: dict[str, Book]) -> None:
        """Let whoever carries the assets compare."""
        by_carrier: dict[Connection, dict[str, Book]] = {}
        for key, book in books.items():
            if (carrier := self.standing.carrier_of(key)) is not None:
                by_carrier.setdefault(carrier, {})[key] = book
        for carrier, its_books in by_carrier.items():
            carrier.compare(its_books)

    def _want_moved(self, key: str, *, to_new: bool = False) -> None:
        # Not from here: whoever asks is a connection's task, and the mailbox may be full.
        self._tasks.start_soon(self.mailbox.put, Move(key, to_new))

    def _give_up(self, key: str) -> None:
        text = (
            f"the venue sends nothing for asset {key}, whatever was tried; it is asked for ever more seldom"
        )
        logger.error("%s", text)
        self._say(Notice(self._replica, "error", text))

    def _report(self, connection: Connection) -> None:
        """A connection has changed its phase: say so on the system subject."""
        self._on_phase(connection)
        if connection.phase is Phase.OPEN and connection.has_reconnected:
            self.reconnects += 1
            self.last_reconnect_time = time.time_ns()
        event = ConnectionState(
            self._replica,
            connection.id,
            connection.incarnation,
            self.feed,
            self.profile.url,
            connection.phase.value,
            connection.reason,
            len(connection.cargo.keys),
            connection.retry_in_s,
        )
        self._say(event)
        self.standing.tell_waiters()

    def _say(self, event: ConnectionState | Notice) -> None:
        """Publish something on the system subject."""
        now = time.time_ns()
        begun = [] if self._system.live else self._system.begin(event, now, None)
        self._outbox.put([*begun, self._system.publish(event, now, None)])
