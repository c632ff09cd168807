"""A lane: where events of one family stay until their stream has stored them; the mode `acked` of `delivery`.

Each event goes out at once, so that core subscribers do not wait for the stream, and is repeated under the same
`Nats-Msg-Id` until it is acknowledged.  While the stream is silent only one is repeated, to see whether it is back.
Where it comes back in between, and stores an event before older ones of the same stream key, those are told of in a
gap, and then repeated all the same.
"""

import hashlib
from collections import deque
from typing import override

import msgspec

from polybus_protocol.stream import Publication

from .delivery import UNRECORDED, PubAck, Recording

MOST_UNDER_WAY = 1024
"""Messages of a lane that may wait for their acks at a time."""

SAME_S = 30.0
"""Seconds for which a content is remembered: no less than the longest duplicate window of a stream."""

MOST_CONTENTS = 100_000
"""Contents remembered at most: 3,000 a second, which no account comes near."""

ENVELOPE = ("received_time", "connection", "epoch", "seq")
"""What differs from replica to replica though the venue said the same."""


class Shipment:
    """An event that stays until it is stored."""

    __slots__ = ("id", "is_doubted", "is_repeated", "number", "publication", "waited_s")

    def __init__(self, publication: Publication, number: int, id_: str) -> None:
        self.publication = publication
        self.number = number
        """Rises in the order of the events."""
        self.id = id_
        """The `Nats-Msg-Id`, the same for each repetition."""
        self.waited_s = 0.0
        self.is_repeated = False
        """It has gone out before, and may be stored already."""
        self.is_doubted = False
        """A younger event of the stream key was stored before it."""


class Acked(Recording):
    """See the module.  The outbox puts in, the bus ships what is `due`."""

    mode = "acked"

    def __init__(self, family: str, ack_timeout_s: float) -> None:
        super().__init__(family, ack_timeout_s)
        self.bytes = 0
        self._number = 0
        self._fresh: deque[Shipment] = deque()
        """What has not gone out yet."""
        self._again: deque[Shipment] = deque()
        """What goes out before that: what is to be repeated, and gaps."""
        self._under_way: dict[int, Shipment] = {}
        self._stragglers: set[int] = set()
        """Numbers of those under way that are repeated."""
        self._probe = 0
        """Number of the one that is repeated while the stream is silent; 0 if none is."""
        self._stored_again: list[tuple[int, int, Shipment]] = []
        """What was acknowledged when it was repeated: where it is in the stream, and up to which number others were put by then."""
        self._contents: dict[str, tuple[int, float]] = {}
        """How often a content has occurred, and when last, oldest first."""
        self._clock_s = 0.0

    def __len__(self) -> int:
        return len(self._fresh) + len(self._again) + len(self._under_way)

    @property
    def is_due(self) -> bool:
        """Whether something can go out."""
        return (
            self.is_there
            and len(self._under_way) < MOST_UNDER_WAY
            and bool(self._fresh or (self._again and (self.reason is None or not self._probe)))
        )

    def put(self, publication: Publication) -> None:
        """Add an event at the end."""
        self._fresh.append(self._shipment(publication))

    def put_first(self, publication: Publication) -> None:
        """Put an event before all that is not under way."""
        self._again.appendleft(self._shipment(publication))

    def due(self) -> list[Shipment]:
        """What is to be published now, in order; each of them is under way from here on."""
        due = []
        while (
            self._again and len(self._under_way) < MOST_UNDER_WAY and (self.reason is None or not self._probe)
        ):
            due.append(self._depart(self._again.popleft()))
            if self.reason is not None:
                self._probe = due[-1].number
        while self._fresh and len(self._under_way) < MOST_UNDER_WAY:
            due.append(self._depart(self._fresh.popleft()))
        return due

    def return_(self, shipments: list[Shipment]) -> None:
        """These could not be published."""
        self._repeat([shipment for shipment in shipments if shipment.number in self._under_way])

    def take_out(self, shipment: Shipment) -> None:
        """This one can never be published: forget it."""
        self._settle(shipment)

    def drain(self) -> list[Publication]:
        """Take out what waits, oldest first: there is no stream that could store it."""
        drained = [shipment.publication for shipment in (*self._again, *self._fresh)]
        self._again.clear()
        self._fresh.clear()
        self.bytes = sum(len(one.publication.payload) for one in self._under_way.values())
        return drained

    @override
    def hand(self, publication: Publication, now: float) -> int:
        self._missed.add(publication, UNRECORDED)
        return 0

    @override
    def vanish(self, reason: str) -> None:
        super().vanish(reason)
        # These are out already: core subscribers have them, only the record has not.
        for shipment in list(self._under_way.values()):
            self._missed.add(shipment.publication, UNRECORDED)
            self._settle(shipment)

    @override
    def nap(self, seconds: float) -> None:
        self._clock_s += seconds
        overdue = []
        for shipment in self._under_way.values():
            shipment.waited_s += seconds
            if shipment.waited_s > self._ack_timeout_s:
                overdue.append(shipment)
        if overdue:
            self._repeat(overdue)
            if self.reason is None:
                self.reason = f"no ack for {self._ack_timeout_s:g} s"
                self.on_doubt()

    @override
    def break_off(self) -> list[Publication]:
        # Nothing is lost: all of it goes out again over the next connection.
        self._repeat(list(self._under_way.values()))
        return []

    @override
    def _confirm(self, number: int, ack: PubAck) -> None:
        if self.is_there:
            self.reason = None
        shipment = self._under_way.get(number)
        if shipment is None:
            return
        # As a rule acks come in order, and what is repeated goes out behind what is younger.
        in_order = not self._again and not self._stragglers and next(iter(self._under_way)) == number
        self._settle(shipment)
        for other in () if in_order else (*self._under_way.values(), *self._again):
            self._doubt(other, shipment)
        if shipment.is_repeated or self._stored_again:
            self._compare(shipment, ack)

    def _compare(self, shipment: Shipment, ack: PubAck) -> None:
        """Of a repetition only the place in the stream tells whether it was stored before older ones."""
        for seq, _, other in self._stored_again:
            if seq > ack.seq:
                self._doubt(other, shipment)
            else:
                self._doubt(shipment, other)
        self._stored_again.append((ack.seq, self._number, shipment))
        # Whoever was put after an event was stored cannot have been stored before it.
        out = [*self._under_way, *(other.number for other in self._again), *(o.number for o in self._fresh)]
        oldest = min(out, default=self._number + 1)
        self._stored_again = [late for late in self._stored_again if oldest <= late[1]]

    def _doubt(self, older: Shipment, stored: Shipment) -> None:
        """An event was stored before another, which a gap tells if that one is older and of the same stream key."""
        is_older = older.number < stored.number and older.publication.stream is stored.publication.stream
        if is_older and not older.is_doubted:
            older.is_doubted = True
            self._missed.add(older.publication, UNRECORDED)

    @override
    def _refuse(self, number: int, reason: str) -> None:
        # It is repeated once its time is over, not at once: whatever is wrong may last.
        if self.is_there and number in self._under_way:
            if self.reason is None:
                self.on_doubt()
            self.reason = reason

    def _shipment(self, publication: Publication) -> Shipment:
        self._number += 1
        self.bytes += len(publication.payload)
        return Shipment(publication, self._number, self._id_of(publication))

    def _depart(self, shipment: Shipment) -> Shipment:
        shipment.waited_s = 0.0
        self._under_way[shipment.number] = shipment
        if shipment.is_repeated:
            self._stragglers.add(shipment.number)
        return shipment

    def _repeat(self, shipments: list[Shipment]) -> None:
        """These are not under way any more, and the next to go out."""
        for shipment in shipments:
            del self._under_way[shipment.number]
            shipment.is_repeated = True
        self._stragglers.difference_update(shipment.number for shipment in shipments)
        self.repeated += len(shipments)
        self._again = deque(sorted((*shipments, *self._again), key=lambda shipment: shipment.number))
        self._probe = 0

    def _settle(self, shipment: Shipment) -> None:
        """It is done with."""
        del self._under_way[shipment.number]
        self._stragglers.discard(shipment.number)
        self.bytes -= len(shipment.publication.payload)
        if shipment.number == self._probe:
            self._probe = 0

    def _id_of(self, publication: Publication) -> str:
        """An id that any replica would give, and that two events of the same content do not share."""
        while self._contents:
            digest, (_, at) = next(iter(self._contents.items()))
            if at > self._clock_s - SAME_S and len(self._contents) < MOST_CONTENTS:
                break
            del self._contents[digest]
        digest = content_of(publication)
        times, _ = self._contents.pop(digest, (0, 0.0))
        self._contents[digest] = times + 1, self._clock_s
        return f"{digest}.{times}" if times else digest


def content_of(publication: Publication) -> str:
    """A digest of what the venue said, and where it is published; of a gap, which is ours, of all of it."""
    fields = msgspec.json.decode(publication.payload, type=dict[str, msgspec.Raw])
    left_out = () if publication.subject.endswith(".gap") else ENVELOPE
    digest = hashlib.blake2b(publication.subject.encode(), digest_size=16)
    for name, value in fields.items():
        if name not in left_out:
            digest.update(name.encode() + b"\0" + bytes(value) + b"\0")
    return digest.hexdigest()
