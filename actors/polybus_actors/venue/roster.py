"""The connections of a pool: who is there, who comes and goes, and what those who are gone have counted.

A connection has a number.  A second one beside it, that carries the same keys, has the same number below zero: its
successor while it is replaced, or its twin all the time.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import anyio
from anyio.abc import TaskGroup

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.stream import Stream
from polybus_protocol.twins.pair import Pair

from ..mailbox import ActorStopped
from ..supervisor import Supervisor
from .connection import Connection
from .orders import Carry, Drop, Stop
from .tally import Tally

type Make = Callable[[str, int], Connection]
"""Makes a connection of a name, whose sockets are counted on from a number."""


class Roster:
    """See the module.

    Args:
        name: that the connections' names begin with.
        make: makes a connection.
        supervisor: restarts connections that fail.
        checks: what is checked and tried, and how often.
        has_twins: whether there are always two for the same keys.
    """

    def __init__(
        self, name: str, make: Make, supervisor: Supervisor, checks: Counter[str], *, has_twins: bool
    ) -> None:
        self.connections: dict[int, Connection] = {}
        self.has_twins = has_twins
        self._past_events: Counter[str] = Counter()
        """Events of streams that are gone, by type."""
        self._name = name
        self._make = make
        self._supervisor = supervisor
        self._checks = checks
        self._leaving: list[Connection] = []
        self._incarnations: dict[str, int] = {}
        self._past = Tally()

    def __iter__(self) -> Iterator[Connection]:
        """All that still count, those that are leaving too."""
        return iter([*self.connections.values(), *self._leaving])

    def tally(self) -> Tally:
        """What the sockets of all connections have brought, of those that are gone too."""
        return sum((connection.tally for connection in self), self._past)

    def events(self) -> Counter[str]:
        """Events of streams that belong to a connection, or are gone, by type."""
        total = self._past_events.copy()
        for connection in self:
            total += connection.cargo.adopted_events()
        return total

    def speaker(self, number: int) -> Connection | None:
        """Of two connections with the same keys the one whose socket is open; the first if both are, or none."""
        first, second = self.connections.get(number), self.connections.get(-number)
        if second is not None and second.stands and (first is None or not first.stands):
            return second
        return first

    def speakers(self) -> list[Connection]:
        """One connection for each set of keys."""
        found = (self.speaker(number) for number in self.connections if number > 0)
        return [connection for connection in found if connection is not None]

    # --- coming and going --------------------------------------------------------------------------

    async def give(self, number: int, wanted: Mapping[str, Stream | None], tasks: TaskGroup) -> None:
        """Let a number carry these keys, with a new connection if there is none, and so its twin."""
        numbers = [number, -number] if self.has_twins or -number in self.connections else [number]
        if len(numbers) == 2:
            self.pair(wanted, None)
        for each in numbers:
            if (connection := self.connections.get(each)) is not None:
                await connection.mailbox.put(Carry(dict(wanted)))
            else:
                self.open(each, wanted, tasks)

    def open(self, number: int, wanted: Mapping[str, Stream | None], tasks: TaskGroup) -> None:
        """Start a new connection with these keys."""
        id_, other = f"{self._name}-{abs(number)}", self.connections.get(-number)
        if other is not None and other.id == id_:
            id_ += "b"
        # A number may be used again; its incarnations go on counting, so that each socket has one name.
        connection = self.connections[number] = self._make(id_, self._incarnations.get(id_, 0))
        connection.cargo.take(wanted)
        tasks.start_soon(self._run, connection)

    async def drop(self, number: int, keys: list[str], reason: str) -> None:
        """Let a number carry these keys no longer."""
        for each in (number, -number):
            if (connection := self.connections.get(each)) is not None:
                await connection.mailbox.ask(Drop(keys, reason))

    async def dismiss(self, number: int, reason: str) -> None:
        """Close the connections that carry nothing: the venue would sooner or later."""
        for each in (number, -number):
            if each in self.connections:
                await self.let_go(each).mailbox.ask(Stop(reason))

    def let_go(self, number: int) -> Connection:
        """A connection is leaving, or has been told to."""
        connection = self.connections.pop(number)
        self._leaving.append(connection)
        self._incarnations[connection.id] = connection.incarnation
        return connection

    async def stop(self) -> None:
        """Close every socket with 1000."""
        async with anyio.create_task_group() as tasks:
            for connection in list(self.connections.values()):
                tasks.start_soon(self._stop, connection)

    async def _stop(self, connection: Connection) -> None:
        try:
            await connection.mailbox.ask(Stop("shutdown"))
            await connection.stopped.wait()
        except ActorStopped:
            pass

    async def _run(self, connection: Connection) -> None:
        try:
            await self._supervisor.supervise(connection.id, connection.run)
        finally:
            await connection.close()
            self._past += connection.tally
            self._past_events += connection.cargo.adopted_events()
            if connection in self._leaving:
                self._leaving.remove(connection)
            for number in [number for number, each in self.connections.items() if each is connection]:
                del self.connections[number]

    # --- two connections with the same keys --------------------------------------------------------

    def pair(self, wanted: Mapping[str, Stream | None], leader: Connection | None) -> None:
        """Streams are going to have two carriers; some may have one already, the leader."""
        for key, stream in wanted.items():
            if stream is None:
                continue
            if stream.pair is None:
                name = leader.name if leader is not None and leader.has_asked_for(key) else None
                has_snapshot = isinstance(stream, AssetStream)
                stream.pair = Pair(
                    self._checks,
                    has_snapshot=has_snapshot,
                    leader=name if stream.live and has_snapshot else None,
                )
                if name is not None:
                    stream.pair.join(name, anyio.current_time())
            stream.pair.lasting = True

    def unpair(self, streams: Iterable[Stream | None]) -> None:
        """One carrier is enough again."""
        for stream in streams:
            if stream is not None and stream.pair is not None:
                stream.pair.lasting = False
                if stream.pair.is_over:
                    stream.pair = None
