"""A lane: where events of one family stay until their stream has stored them; the mode `acked` of `delivery`.

Of each stream key one event is under way at a time: a repetition could otherwise be stored after its successors,
and the record would be out of order.
"""

import hashlib
from collections import deque
from typing import override

import msgspec

from polybus_protocol.stream import Publication, Stream

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

    __slots__ = ("id", "number", "publication", "under_way", "waited_s")

    def __init__(self, publication: Publication, number: int, id_: str) -> None:
        self.publication = publication
        self.number = number
        self.id = id_
        """The `Nats-Msg-Id`, the same for each repetition."""
        self.under_way = False
        self.waited_s = 0.0


class Acked(Recording):
    """See the module.  The outbox puts in, the bus ships what is `due`."""

    mode = "acked"

    def __init__(self, family: str, ack_timeout_s: float) -> None:
        super().__init__(family, ack_timeout_s)
        self.bytes = 0
        self._number = 0
        self._count = 0
        self._queues: dict[Stream, deque[Shipment]] = {}
        self._free: dict[Stream, None] = {}
        """The streams whose first event can go out, in order."""
        self._under_way: dict[int, Shipment] = {}
        self._contents: dict[str, tuple[int, float]] = {}
        """How often a content has occurred, and when last, oldest first."""
        self._clock_s = 0.0

    def __len__(self) -> int:
        return self._count

    @property
    def is_due(self) -> bool:
        """Whether something can go out."""
        return self.is_there and bool(self._free) and len(self._under_way) < MOST_UNDER_WAY

    def put(self, publication: Publication) -> None:
        """Add an event at the end."""
        self._queue(publication).append(self._shipment(publication))

    def put_first(self, publication: Publication) -> None:
        """Put an event before all that has not gone out yet."""
        queue = self._queue(publication)
        queue.insert(1 if queue and queue[0].under_way else 0, self._shipment(publication))

    def due(self) -> list[Shipment]:
        """What is to be published now; each of them is under way from here on."""
        due = []
        for stream in list(self._free)[: MOST_UNDER_WAY - len(self._under_way)]:
            shipment = self._queues[stream][0]
            shipment.under_way, shipment.waited_s = True, 0.0
            self._under_way[shipment.number] = shipment
            del self._free[stream]
            due.append(shipment)
        return due

    def return_(self, shipments: list[Shipment]) -> None:
        """These could not be published."""
        for shipment in shipments:
            self._land(shipment)

    def take_out(self, shipment: Shipment) -> None:
        """This one can never be published: forget it."""
        self._settle(shipment)

    def drain(self) -> list[Publication]:
        """Take everything out, oldest first: there is no stream that could store it."""
        drained = [shipment.publication for queue in self._queues.values() for shipment in queue]
        self._queues.clear()
        self._free.clear()
        self._count = self.bytes = 0
        return drained

    def give_up(self) -> Publication | None:
        """Take the first event out that is not under way; None if there is none."""
        for queue in self._queues.values():
            for index, shipment in enumerate(queue):
                if not shipment.under_way:
                    del queue[index]
                    self._took_out(shipment.publication)
                    return shipment.publication
        return None

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
        for shipment in list(self._under_way.values()):
            shipment.waited_s += seconds
            if shipment.waited_s > self._ack_timeout_s:
                if self.reason is None:
                    self.reason = f"no ack for {self._ack_timeout_s:g} s"
                    self.on_doubt()
                self.repeated += 1
                self._land(shipment)

    @override
    def break_off(self) -> list[Publication]:
        for shipment in list(self._under_way.values()):
            self.repeated += 1
            self._land(shipment)
        return []

    @override
    def _confirm(self, number: int, ack: PubAck) -> None:
        if self.is_there:
            self.reason = None
        shipment = self._under_way.get(number)
        if shipment is not None:
            self._settle(shipment)

    @override
    def _refuse(self, number: int, reason: str) -> None:
        # It is repeated once its time is over, not at once: whatever is wrong may last.
        if self.is_there and number in self._under_way:
            if self.reason is None:
                self.on_doubt()
            self.reason = reason

    def _queue(self, publication: Publication) -> deque[Shipment]:
        stream = publication.stream
        queue = self._queues.get(stream)
        if queue is None:
            queue = self._queues[stream] = deque()
            self._free[stream] = None
        return queue

    def _shipment(self, publication: Publication) -> Shipment:
        self._number += 1
        self._count += 1
        self.bytes += len(publication.payload)
        return Shipment(publication, self._number, self._id_of(publication))

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

    def _land(self, shipment: Shipment) -> None:
        """It is not under way any more, and the next to go out of its stream."""
        if self._under_way.pop(shipment.number, None) is not None:
            shipment.under_way = False
            self._free[shipment.publication.stream] = None

    def _settle(self, shipment: Shipment) -> None:
        """It is done with; the next one of its stream may go."""
        del self._under_way[shipment.number]
        stream = shipment.publication.stream
        queue = self._queues[stream]
        queue.popleft()
        self._took_out(shipment.publication)
        if queue:
            self._free[stream] = None

    def _took_out(self, publication: Publication) -> None:
        self._count -= 1
        self.bytes -= len(publication.payload)
        if not self._queues[publication.stream]:
            del self._queues[publication.stream]
            self._free.pop(publication.stream, None)


def content_of(publication: Publication) -> str:
    """A digest of what the venue said, and where it is published; of a gap, which is ours, of all of it."""
    fields = msgspec.json.decode(publication.payload, type=dict[str, msgspec.Raw])
    left_out = () if publication.subject.endswith(".gap") else ENVELOPE
    digest = hashlib.blake2b(publication.subject.encode(), digest_size=16)
    for name, value in fields.items():
        if name not in left_out:
            digest.update(name.encode() + b"\0" + bytes(value) + b"\0")
    return digest.hexdigest()
