"""Delivery: how each family of events gets into its JetStream stream, and how we know that it did.

`core` publishes and counts; whether a stream stores it is nobody's business here.

`sampled` asks the stream for an ack with every n-th message, and at least four times a second while there are any.
The acks come in order and say how far the stream has come, so one of them vouches for all since the ack before: if the
stream has grown by less than was handed over, all that lies between is in doubt.  The first ack after a trouble has
nothing to compare with, so it is asked for at once, and vouches for its own message alone.

`acked` asks with each message, repeats what is not acknowledged in time under the same `Nats-Msg-Id`, and gives
nothing up; see `polybus_actors.publishing.lane`.

Core subscribers get everything at once in either case.  What the stream may lack is remembered as one range per
stream key, and announced as a gap as soon as the stream acknowledges again: it is kept there, and seen by everybody.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Annotated, Literal, override

import msgspec
from msgspec import Meta

from polybus_protocol.stream import Publication

from .losses import Losses

Mode = Literal["core", "sampled", "acked"]

UNRECORDED = "not_recorded"

ASK_INTERVAL_S = 0.25
"""Seconds after which the next message asks for an ack, however few there were: so a quiet stream is sampled fully."""

MOST_ASKED = 256
"""Acks a sampled stream may owe; one that owes more lags by seconds, and is as good as silent."""


class DeliverySettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[delivery]`: the mode of each family of events, and its numbers."""

    market: Mode = "sampled"
    books: Mode = "sampled"
    user: Mode = "acked"
    activity: Mode = "sampled"
    price: Mode = "sampled"
    comments: Mode = "sampled"
    sports: Mode = "sampled"
    every: Annotated[int, Meta(ge=1, le=10_000)] = 100
    """Of how many messages one asks for an ack, where they are `sampled`."""
    ack_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 2.0
    """Seconds until an ack is overdue: the message is repeated, or the stream counts as silent.  On a healthy server it
    takes under a millisecond; the election of a leader takes 4 to 7 seconds."""


class PubAck(msgspec.Struct):
    """What JetStream answers to a message that it stored, or did not."""

    class Error(msgspec.Struct):
        """Why not."""

        description: str = "no reason given"

    seq: int = 0
    duplicate: bool = False
    error: Error | None = None


_decode_ack = msgspec.json.Decoder(PubAck).decode


class Recording(ABC):
    """One family on its way into the stream that records it.

    Args:
        family: of the subjects.
        ack_timeout_s: seconds until an ack is overdue.
    """

    mode: Mode = "core"

    def __init__(self, family: str, ack_timeout_s: float) -> None:
        self.family = family
        self.is_there = False
        """Whether the stream exists, as far as is known; until then events are delivered `core`."""
        self.acks = 0
        self.duplicates = 0
        """Messages that the stream had already, by its own word."""
        self.repeated = 0
        self.reason: str | None = "the stream has not been looked for yet"
        """Why the stream does not store, or may not; None while it does."""
        self.on_doubt: Callable[[], None] = _nothing
        """Called when the stream falls silent."""
        self._missed = Losses()
        self._ack_timeout_s = ack_timeout_s

    @property
    def missed(self) -> int:
        """Events that the stream may lack and that no gap has told of yet."""
        return self._missed.count

    def appear(self) -> None:
        """The stream is there."""
        if not self.is_there:
            self.is_there, self.reason = True, None

    def vanish(self, reason: str) -> None:
        """The stream is not there: deliver `core` from here on."""
        self.is_there, self.reason = False, reason

    def doubt(self) -> None:  # noqa: B027 - most have nothing to do then
        """The stream was made anew: whether it had stored what it has not acknowledged does not matter any more."""

    @abstractmethod
    def hand(self, publication: Publication, now: float) -> int:
        """Take note of a publication that is about to be handed to NATS.

        Args:
            publication: which.
            now: seconds, on any clock that does not go back.

        Returns:
            The number of the ack to ask for; 0 for none.
        """

    def hear(self, number: int, data: bytes) -> None:
        """Take in the answer to the request of that number."""
        try:
            ack = _decode_ack(data)
        except msgspec.DecodeError:
            # An empty message: NATS itself says that nobody listens on the subject, so no stream does.
            self._refuse(number, "no stream takes in this subject")
            return
        if ack.error is not None:
            self._refuse(number, ack.error.description)
            return
        self.acks += 1
        self.duplicates += ack.duplicate
        self._confirm(number, ack)

    @abstractmethod
    def nap(self, seconds: float) -> None:
        """So many seconds of ours have passed, in which we were not standing still ourselves."""

    @abstractmethod
    def break_off(self) -> list[Publication]:
        """The connection is gone, and with it all acks under way.

        Returns:
            What may have reached nobody.
        """

    def reckon(self) -> Losses | None:
        """What the stream lacks, once it stores again; to be told to everybody."""
        if not (self.is_there and self.reason is None and len(self._missed)):
            return None
        missed, self._missed = self._missed, Losses()
        return missed

    @abstractmethod
    def _confirm(self, number: int, ack: PubAck) -> None: ...

    @abstractmethod
    def _refuse(self, number: int, reason: str) -> None: ...


class Sampled(Recording):
    """See the module.

    Args:
        family: of the subjects.
        ack_timeout_s: seconds until an ack is overdue.
        every: of how many messages one asks for an ack.
    """

    mode = "sampled"

    def __init__(self, family: str, ack_timeout_s: float, every: int) -> None:
        super().__init__(family, ack_timeout_s)
        self._every = every
        self._number = 0
        self._unasked: list[Publication] = []
        self._asked: deque[tuple[int, list[Publication]]] = deque()
        """What each ack that is owed vouches for."""
        self._count = 0
        self._ask_at = 0.0
        self._since_asked_s = 0.0
        """Seconds since an ack was asked for last; what nobody has asked for yet is hardly younger."""
        self._waited_s = 0.0
        self._last_seq = 0
        """Of the stream, when it last vouched; 0 if it did not yet since the last trouble."""
        self._first = 1
        """The first ack that is asked for since the last trouble: those before say nothing of what came after."""

    @override
    def hand(self, publication: Publication, now: float) -> int:
        if self.reason is None:
            self._unasked.append(publication)
        else:
            self._missed.add(publication, UNRECORDED)
            if not self.is_there:
                return 0
        self._count += 1
        if self._count < self._every and now < self._ask_at:
            return 0
        self._count, self._ask_at, self._since_asked_s = 0, now + ASK_INTERVAL_S, 0.0
        self._number += 1
        if self.reason is None:
            self._asked.append((self._number, self._unasked))
            self._unasked = []
            if len(self._asked) > MOST_ASKED:
                self._fall_silent("it lags behind")
        return self._number

    @override
    def vanish(self, reason: str) -> None:
        super().vanish(reason)
        self.doubt()

    @override
    def doubt(self) -> None:
        for _, publications in self._asked:
            self._doubt(publications)
        self._doubt(self._unasked)
        self._begin()

    @override
    def nap(self, seconds: float) -> None:
        self._since_asked_s += seconds
        self._waited_s = self._waited_s + seconds if self._asked else 0.0
        if self._waited_s > self._ack_timeout_s:
            self._fall_silent(f"no ack for {self._ack_timeout_s:g} s")

    @override
    def break_off(self) -> list[Publication]:
        lost = [publication for _, publications in self._asked for publication in publications]
        # What nobody has asked for yet may have been taken in and not stored: a server that ends forgets what waits
        # for its streams.  After a while the markers vouch for it, or the last words of a quiet stream would be in a gap
        # after each reconnect.
        if self._since_asked_s <= ASK_INTERVAL_S + self._ack_timeout_s:
            lost += self._unasked
        self._begin()
        return lost

    @override
    def _confirm(self, number: int, ack: PubAck) -> None:
        self._waited_s = 0.0
        if self.is_there and self.reason is not None:
            self.reason = None
            # What was handed over until now is told of already, and makes the stream grow all the same.
            self._begin()
        if number < self._first:
            return
        batches = list[list[Publication]]()
        while self._asked and self._asked[0][0] <= number:
            batches.append(self._asked.popleft()[1])
        # An ack that is missing is no harm where the stream has grown by all that was handed over.
        grown = ack.seq - self._last_seq if self._last_seq else 1
        if grown < sum(map(len, batches)):
            for publications in batches:
                self._doubt(publications)
        self._last_seq = ack.seq

    def _begin(self) -> None:
        """Count anew: what the next message asks for is the first ack that says something."""
        self._asked.clear()
        self._unasked, self._last_seq, self._waited_s = [], 0, 0.0
        self._first, self._ask_at = self._number + 1, 0.0

    @override
    def _refuse(self, number: int, reason: str) -> None:
        self._fall_silent(reason)

    def _fall_silent(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason
            self.on_doubt()
        self.doubt()

    def _doubt(self, publications: list[Publication]) -> None:
        for publication in publications:
            self._missed.add(publication, UNRECORDED)


def _nothing() -> None:
    pass
