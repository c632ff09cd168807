"""The book of one asset as a consumer keeps it: from events as they come, and knowing when it must not be believed.

Nothing here asks or waits.  Whoever feeds it (`polybus_services.consumer`, or a program with a NATS client of its own)
gives it each event of the asset, and where it `is_astray` what the gateway says its book is: an answer to the verb
`book`, or a `last_book` event.  What comes in between is held, and applied from the place that was told.
"""

from collections import deque

import msgspec

from polybus_protocol.books.book import OrderBook
from polybus_protocol.books.liveness import Trust
from polybus_protocol.books.side import BadLevel
from polybus_protocol.control.replies import BookReply
from polybus_protocol.events import GAP_REASONS, AnyEvent, Book, Gap, LastBook, TickSizeChange
from polybus_services.order import LOST_ON_THE_WAY, Place, Track

__all__ = ["LocalBook", "TrustChanged"]

HELD = 1_000
"""Events held of an asset while its place is not known: seconds of the busiest one, for an answer that takes
milliseconds.  When full, the oldest goes; an answer that is older than what is left helps nobody, and the next is
awaited."""

TRUSTED = frozenset(trust.value for trust in Trust if trust.is_believed)
"""What the gateway says of a book that may be believed."""

type Told = BookReply | LastBook
"""The gateway's own book, with all its levels, and the place of the last event in it."""


class TrustChanged(msgspec.Struct, frozen=True, tag="trust_changed"):
    """Whether a book may be believed has changed: said by the consumer kit, never on NATS."""

    asset: str
    """Token id."""
    trusted: bool
    """Whether it may be, from here on."""
    why: str | None
    """Why not, as a sentence; None if it may."""


class LocalBook(OrderBook):
    """An order book that follows its stream; see the module, and `OrderBook` for its levels.

    While it is not `trusted` its levels may be old, of some moment in between, or none.
    """

    __slots__ = (
        "_ahead",
        "_held",
        "_track",
        "asset",
        "is_astray",
        "market",
        "must_be_told",
        "place",
        "proof",
        "tick_size",
        "trust",
        "why",
    )

    def __init__(self, asset: str) -> None:
        super().__init__()
        self.asset = asset
        self.market: str | None = None
        """Condition id; None while it is not known."""
        self.tick_size: str | None = None
        """The price grid's step, in dollars per share; None while it is not known."""
        self.place: Place | None = None
        """Epoch and `seq` of the last event that is in it."""
        self.trust = "waiting"
        """The gateway's word: `waiting`, `live`, `quiet`, `suspect` or `frozen`."""
        self.proof = "unknown"
        """What the venue's hash said of it when the gateway was last asked: `proved`, `unknown` or `mismatch`."""
        self.why: str | None = "nothing has come yet"
        """What speaks against it, as a sentence; None if nothing does."""
        self.is_astray = True
        """Whether events are missing here: a whole book must come, or what the gateway tells of its own."""
        self.must_be_told = False
        """Whether only `align` with an answer to the verb `book` helps."""
        self._held: deque[AnyEvent] = deque(maxlen=HELD)
        self._track = Track()
        self._ahead: Place | None = None

    @property
    def trusted(self) -> bool:
        """Whether this is the book as the gateway has it, and the gateway believes it."""
        return self.is_live and not self.is_astray and self.trust in TRUSTED

    def hear(self, event: AnyEvent, *, may_repeat: bool = False) -> None:
        """Take in the next event of the asset.

        Args:
            event: of the asset's subjects, or its `last_book`.
            may_repeat: its message has an id, so it may say what was said before.
        """
        if isinstance(event, LastBook):
            if not self.must_be_told:
                self.align(event)
            return
        place = event.epoch, event.seq
        if not event.seq or (self.place is not None and place <= self.place):
            return  # it has no place in the sequence, or is in the book already
        self.market = getattr(event, "market", None) or self.market
        wrong = self._track.take(place, event, may_repeat=may_repeat)
        lost = isinstance(event, Gap) and event.reason in LOST_ON_THE_WAY
        opens = isinstance(event, Gap) and event.closed_by is None and not lost
        # Nothing before a whole book matters, nor before a gap, which one follows.
        if (isinstance(event, Book) or opens) and not self.must_be_told:
            self._found(place)
        elif self.is_astray or lost or wrong is not None:
            self._held.append(event)
            if lost:
                self.stray("events were lost on the way to NATS")
            elif not self.is_astray:
                self.stray(wrong or "")
            return
        self._go_on(event, place)

    def align(self, told: Told, *, settled: bool = False) -> None:
        """Take in what the gateway says its book is.

        Astray, this is where to go on from, unless events between it and those held are missing.  Else it is a check:
        at the same place the books must be equal.

        Args:
            told: all levels of it.
            settled: no event is known to be on its way, and some time has passed since this was last said: who
                is behind the place he was told of then has lost what came before it.
        """
        place = told.epoch, told.seq
        if not self.is_astray:
            self._compare(told, place, settled=settled)
            return
        rest = [event for event in self._held if (event.epoch, event.seq) > place]
        if told.epoch and not rest and self._track.last is not None and self._track.last > place:
            return  # older than what has been heard
        self._found(place if told.epoch else self.place)
        self.market, self.tick_size = told.market or self.market, told.tick_size or self.tick_size
        if told.trust == "waiting":
            self.clear()
        elif not self._starts_from(told):
            return
        self._believe(told)
        for event in rest:  # if some are missing before the first, they are held again
            self.hear(event)

    def stray(self, why: str, *, must_be_told: bool = False) -> None:
        """Events may be missing from here on: the book is not to be believed before a whole one has come.

        Args:
            why: a sentence.
            must_be_told: only an answer to the verb `book` helps, as what still comes may be of the time before.
        """
        self.is_astray, self.trust, self.proof, self.why = True, "waiting", "unknown", why
        self.must_be_told = self.must_be_told or must_be_told

    def _found(self, place: Place | None) -> None:
        """What was before this place does not matter any more."""
        self.is_astray, self.must_be_told, self.place, self._ahead = False, False, place, None
        self._held.clear()
        self._track = Track()
        self._track.last = place

    def _go_on(self, event: AnyEvent, place: Place) -> None:
        try:
            self.take(event)
        except BadLevel as error:
            self.stray(f"a level cannot be read: {error}")
            return
        self.place = place
        match event:
            case Book():
                self.tick_size = event.tick_size or self.tick_size
                if event.origin is not None:
                    # One read over REST is no proof that the stream is alive; the gateway says so when it is.
                    self.trust, self.why = "suspect", "read over REST; the stream has not spoken yet"
                elif self.trust == "waiting":  # other doubts are the gateway's to end
                    self.trust, self.why = "live", None
            case Gap(closed_by=None):
                self.trust, self.why = "waiting", event.detail or GAP_REASONS.get(event.reason, event.reason)
            case TickSizeChange():
                self.tick_size = event.new_tick_size
                self.trust, self.why = "waiting", "the price grid changed"
            case _:
                pass

    def _compare(self, told: Told, place: Place, *, settled: bool) -> None:
        here = self.place or (0, 0)
        if place == here:
            if told.trust != "waiting" and not self.equals(_snapshot(told)):
                self.stray("it is not the gateway's book")
                self.align(told)
                return
            self._believe(told)
        elif place > here:
            # As a rule the events up to there are on their way.
            if settled and self._ahead is not None and here < self._ahead:
                self.stray("the last events did not arrive")
                self.align(told)
                return
            if settled:
                self._ahead = place
        if place[0] == here[0] and self.is_live:
            self._believe(told)

    def _believe(self, told: Told) -> None:
        self.trust = told.trust
        self.proof = told.proof if isinstance(told, BookReply) else self.proof
        why = getattr(told, "why", None)
        if told.trust == "waiting":
            self.why = why or "the gateway has no book of it yet"
        else:
            self.why = None if told.trust in TRUSTED else why or f"the gateway says it is {told.trust}"

    def _starts_from(self, told: Told) -> bool:
        try:
            self.take(_snapshot(told))
        except BadLevel as error:
            self.stray(f"a level cannot be read: {error}")
            return False
        return True


def _snapshot(told: Told) -> Book:
    return Book(told.market or "", told.asset, told.bids, told.asks, told.hash, source_time=told.source_time)
