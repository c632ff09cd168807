"""Two connections carry one asset: the machine that makes one ordered stream of what both say.

The venue tells each connection the same events in the same order, one sooner than the other, and numbers
nothing.  So the first to say an event wins, and content tells the twin.  What was published is remembered for a
while, with a cursor for each source: all before it this source has said, or missed.

- What is found *ahead* of the cursor is a twin.  Only ahead, because the same content may occur twice; what the
  cursor passes over, this source has missed.
- What is not found is new if the cursor is at the end: it is published.
- What is not found while the other source is ahead is *held*: one of the two has missed something, and what they
  say next tells who.  If the other says it too, this one had missed what stands between, and the rest of what
  it holds follows.  If they meet at something later, the stream lacks what is held: a doubt.

A newcomer has no cursor, for its snapshot is of a moment before or after where the stream is now.  It holds all
it says until it meets the stream in the same two ways: at what was published, or at what is being published.
What it holds before that point can only be older than our memory; else it is a doubt, too.

The order of all types counts: a venue that tells trades and levels in another order on each socket is doubted.
"""

import enum
from collections import deque
from collections.abc import Sequence

import msgspec

from ..errors import LocalProtocolError
from ..events import Book, MarketEvent
from .identity import Identity, Recent, identity_of

MEMORY_EVENTS = 512
"""Events remembered, and events held, per asset: ten seconds of the busiest tokens measured (229,256 changes on
eight of them in ten minutes), while two sockets are fractions of a second apart."""

MISSED_BY_ONE = "one of two connections told what the other did not"
"""Why a stream is doubted that may lack something: nobody can tell which of the two is right."""


class Verdict(enum.Enum):
    """What the caller has to do."""

    PUBLISH = "publish"
    """Publish the events: none for a twin."""
    BEGIN = "begin"
    """Interrupt the stream, if it is not waiting already, and publish the events, of which the first is a book,
    as the beginning of a new epoch."""
    DOUBT = "doubt"
    """Interrupt the stream and ask either source for a fresh snapshot; nothing is published until it is here."""
    GIVE_UP = "give up"
    """The source could not be aligned and has left: take the asset from it.  The stream goes on."""


class Ruling(msgspec.Struct, frozen=True):
    """What becomes of what was said."""

    verdict: Verdict
    events: Sequence[MarketEvent] = ()
    """In order; none for `DOUBT` and `GIVE_UP`."""
    reason: str | None = None
    """A sentence for people; None for `PUBLISH`."""


NOTHING = Ruling(Verdict.PUBLISH)
"""A twin, or held, or of no use: nothing goes out."""


class _Source:
    """What one connection has said, as far as it matters."""

    __slots__ = ("agrees", "awaits", "cursor", "held", "name", "since", "skipped", "snapshot")

    def __init__(self, name: int, memory: int, since: int, *, awaits: bool) -> None:
        self.name = name
        self.since = since
        """The number of the next event when it was asked for its snapshot, which is not older."""
        self.awaits = awaits
        """Its subscription has not been answered: what it says before the answer is of no use."""
        self.cursor: int | None = None
        """The number of the published event that it will say next; None while it is not aligned."""
        self.agrees = False
        """Not aligned by an event, but its snapshot is the book that the stream stands at."""
        self.snapshot: Book | None = None
        """Of a newcomer, until it is aligned."""
        self.held: list[tuple[Identity, MarketEvent]] = []
        self.skipped: deque[Identity] = deque(maxlen=memory)
        """What it has missed.  Said after all, it stands elsewhere in its order than in ours."""

    @property
    def stands(self) -> bool:
        """Whether the stream is built on it."""
        return self.cursor is not None or self.agrees

    def align(self, cursor: int | None) -> None:
        """It stands at that event from now on; at an unknown one if None."""
        self.cursor, self.agrees, self.snapshot = cursor, False, None

    def forget(self) -> None:
        """What it has said is of no use any more."""
        self.align(None)
        self.held.clear()
        self.skipped.clear()


class Twin:
    """One asset's stream out of two sources.

    Made when a second source comes, before that one asks for its snapshot, and dropped when `is_over`: an asset
    with one carrier needs none.  A source is named by any number the caller likes.

    Args:
        leader: the source that carries the stream so far; None if there is no stream yet, which then begins
            with the first book of either source.
        last: what was published last, unless it is a snapshot.  Without it, as after each snapshot of the leader, an
            event that the leader misses before the sources first meet is taken for one from before our memory.
        memory: how many events are remembered, and how many a source may hold.
    """

    def __init__(
        self, leader: int | None = None, last: MarketEvent | None = None, *, memory: int = MEMORY_EVENTS
    ) -> None:
        self.removed = 0
        """Twins that were not published."""
        self.doubts = 0
        """Disagreements that ended trust."""
        self.missed: dict[int, int] = {}
        """Published events that a source did not say, or too late, by source; also by those that have left."""
        self._memory = memory
        self._recent = Recent(memory)
        self._sources: dict[int, _Source] = {}
        if last is not None:
            self._recent.add(identity_of(last))
        if leader is not None:
            self._add(leader, awaits=False).align(self._recent.end)

    # --- who carries the asset ---------------------------------------------------------------------

    def join(self, source: int) -> None:
        """A source is being asked for the asset: its first book will be its snapshot.

        Raises:
            LocalProtocolError: it is here already, or there are two.
        """
        if source in self._sources or len(self._sources) == 2:
            raise LocalProtocolError(f"{source} cannot join {list(self._sources)}: two sources make a pair")
        self._add(source, awaits=True)

    def leave(self, source: int) -> Ruling:
        """A source is gone, by plan or by accident; what it still says is ignored.

        Returns:
            `PUBLISH` of nothing where the stream goes on; `BEGIN` with the snapshot and what came after it where
            the other source was not aligned; `DOUBT` where that one has no snapshot yet, or holds what does not go
            with what was published.  Of the last source to leave nothing is said.
        """
        own = self._sources.pop(source, None)
        other = next(iter(self._sources.values()), None)
        if own is None or other is None or not (own.stands or other.stands):
            return NOTHING
        if other.stands:
            return self._doubt(MISSED_BY_ONE) if other.held else NOTHING
        if other.snapshot is None:
            return self._doubt("the connection that led is gone, and the other has no snapshot")
        self._recent.clear()
        events = [other.snapshot, *self._follow(other)]
        return Ruling(Verdict.BEGIN, events, "the connection that led is gone before the other was aligned")

    def is_ready(self, source: int) -> bool:
        """Whether the other source may leave without a gap."""
        own = self._sources.get(source)
        return own is not None and own.stands and not own.held

    @property
    def is_standing(self) -> bool:
        """Whether there is a stream: any source that it is built on."""
        return any(each.stands for each in self._sources.values())

    @property
    def is_split(self) -> bool:
        """Whether an aligned source holds what the other has not said; if it lasts, `restart`."""
        return any(each.stands and each.held for each in self._sources.values())

    @property
    def is_over(self) -> bool:
        """Whether at most one source is left, and all it will say is new: this machine can be dropped."""
        each = next(iter(self._sources.values()), None)
        return each is None or (
            len(self._sources) == 1 and not each.agrees and each.cursor in (None, self._recent.end)
        )

    def restart(self) -> None:
        """The caller has interrupted the stream: nothing is published until the next book of either source."""
        self._recent.clear()
        for each in self._sources.values():
            each.forget()
            each.since = self._recent.end

    # --- what they say -----------------------------------------------------------------------------

    def admit(self, source: int, event: MarketEvent) -> Ruling:
        """Take in one event of one source.

        A book with a tick size answers a subscription.  It has no place in the order of events, so where the
        other source stands it is kept, not published.
        """
        if (own := self._sources.get(source)) is None:
            return NOTHING
        is_standing = self.is_standing
        if isinstance(event, Book) and (event.tick_size is not None or own.awaits or not is_standing):
            return self._take_snapshot(own, event)
        if own.awaits or not is_standing:
            return NOTHING
        identity = identity_of(event)
        if (number := self._recent.find(identity, own.cursor)) is not None:
            return self._meet(own, number, len(own.held))
        if identity in own.skipped:
            return self._doubt("two connections told the same events in a different order")
        if own.agrees or own.cursor == self._recent.end:
            return self._publish(own, identity, event)
        return self._hold(own, identity, event)

    def snapshot_of(self, source: int) -> Book | None:
        """What to compare with our book, for `agree`: the snapshot of a newcomer to an asset that is quiet.

        None if it, or the stream, has said something since it was asked: then only events can align it, for the
        same book may come again.
        """
        own = self._sources.get(source)
        return own.snapshot if own and not own.held and own.since == self._recent.end else None

    def agree(self, source: int) -> None:
        """Our book as published equals `snapshot_of` the newcomer, level for level: it is aligned without an event.

        To be said only after both were quiet for longer than sockets are apart: what the leader has still to
        say and no book shows, such as a trade, is lost if it leaves before.
        """
        if self.snapshot_of(source) is not None:
            self._sources[source].agrees = True

    # --- inside ------------------------------------------------------------------------------------

    def _add(self, source: int, *, awaits: bool) -> _Source:
        self.missed.setdefault(source, 0)
        own = self._sources[source] = _Source(source, self._memory, self._recent.end, awaits=awaits)
        return own

    def _other(self, own: _Source) -> _Source | None:
        return next((each for each in self._sources.values() if each is not own), None)

    def _meet(self, own: _Source, number: int, before: int) -> Ruling:
        """A source comes to a published event, of this number, and has said `before` of what it holds before it."""
        recent = self._recent
        if before and (own.cursor is not None or number > recent.first):
            return self._doubt("a connection told events that the stream lacks")
        if own.cursor is not None:
            own.skipped.extend(recent.between(own.cursor, number))
            self.missed[own.name] += number - own.cursor
        self.removed += before + 1
        own.align(number + 1)
        del own.held[: before + 1]
        return NOTHING

    def _publish(self, own: _Source, identity: Identity, event: MarketEvent) -> Ruling:
        """Nobody has said it yet; what the other source holds may follow."""
        recent = self._recent
        recent.add(identity)
        own.align(recent.end)
        published, other = Ruling(Verdict.PUBLISH, (event,)), self._other(own)
        if other is None:
            return published
        other.agrees = False
        before = next((place for place, (held, _) in enumerate(other.held) if held == identity), None)
        if before is not None:
            met = self._meet(other, recent.end - 1, before)
            return met if met is not NOTHING else Ruling(Verdict.PUBLISH, (event, *self._follow(other)))
        if other.cursor is not None and other.cursor < recent.first:
            # Further behind than we remember: if it has not stopped, it has to meet the stream again.
            if other.held:
                return self._doubt(MISSED_BY_ONE)
            self.missed[other.name] += recent.end - other.cursor
            other.forget()
        return published

    def _follow(self, own: _Source) -> list[MarketEvent]:
        """All that a source holds comes after what was published: it is the stream's new end."""
        events = [event for _, event in own.held]
        for identity, _ in own.held:
            self._recent.add(identity)
        own.held.clear()
        own.align(self._recent.end)
        return events

    def _hold(self, own: _Source, identity: Identity, event: MarketEvent) -> Ruling:
        """Keep what is neither known nor known to be new until the sources meet."""
        own.held.append((identity, event))
        if own.cursor is not None and (len(self._sources) == 1 or len(own.held) > self._memory):
            return self._doubt(MISSED_BY_ONE)
        if len(own.held) <= self._memory:
            return NOTHING
        del self._sources[own.name]
        return Ruling(Verdict.GIVE_UP, (), f"the stream holds none of the {self._memory} events it told")

    def _take_snapshot(self, own: _Source, book: Book) -> Ruling:
        """The answer to a subscription, or any book where there is no stream."""
        own.awaits = False
        own.forget()
        other = self._other(own)
        if other is not None and other.stands and not other.held:
            own.snapshot = book
            return NOTHING
        if other is not None and other.stands:
            other.align(None)
        self._recent.clear()
        own.align(self._recent.end)
        return Ruling(Verdict.BEGIN, (book,), "a snapshot begins the stream")

    def _doubt(self, reason: str) -> Ruling:
        self.doubts += 1
        self.restart()
        return Ruling(Verdict.DOUBT, (), reason)
