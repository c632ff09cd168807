"""A stream that two connections carry at once: who they are, and what their `Twin` makes of what both say.

Connections come and go by name; the pool makes a pair before the second one asks, and says when one of them is
to be enough again.  The pair is part of the stream, so that a stream with one carrier costs a look at None.
"""

import enum
from collections import Counter

from ..books.book import OrderBook
from ..events import Book, MarketEvent
from .twin import NOTHING, Ruling, Twin, Verdict

AGREE_AFTER_S = 1.0
"""Seconds a newcomer's snapshot lies beside our book, and both are quiet, until equal books align it: sockets are
fractions of a second apart."""

ASK_AGAIN_S = 5.0
"""Seconds until a newcomer that has not met the stream is asked for another snapshot: something was said while the
first was on its way, and nothing since."""

SPLIT_S = 2.0
"""Seconds one of two may hold what the other has not said, before neither is believed."""

DIFFERENCES = 2
"""Snapshots of a quiet asset that must differ from our book, in a row, before it is doubted."""


class Care(enum.Enum):
    """What a connection has to do for a pair."""

    NONE = "nothing"
    ASK = "ask for a snapshot"
    DOUBT = "break the stream's epoch, and ask for a snapshot"


class Pair:
    """See the module.

    Args:
        checks: counts twins removed, events missed and doubts; shared.
        has_snapshot: whether the stream is built on snapshots; of one that may be silent for ever, being asked for
            is all there is.
        leader: the connection that carries the stream so far, if the stream is live.
    """

    __slots__ = (
        "_checks",
        "_counted",
        "_differences",
        "_has_snapshot",
        "_is_closed",
        "_since",
        "_slots",
        "_split",
        "_twin",
        "lasting",
    )

    def __init__(self, checks: Counter[str], *, has_snapshot: bool = True, leader: str | None = None) -> None:
        self.lasting = True
        """Whether two connections are to carry the stream; once not, the pair is dropped when it is over."""
        self._checks = checks
        self._counted = (0, 0, 0)
        self._has_snapshot = has_snapshot
        self._is_closed = False
        self._slots: dict[str, int] = {} if leader is None else {leader: 0}
        self._twin = Twin(None if leader is None else 0)
        self._since = [0.0, 0.0]
        """By slot: when it was asked, or told its snapshot."""
        self._differences = [0, 0]
        self._split: tuple[float, int] | None = None
        """Since when the two have not met, and how many twins there were then."""

    # --- who carries the stream --------------------------------------------------------------------

    def join(self, connection: str, now: float) -> None:
        """A connection is asking for the stream; of one that is here already nothing happens.

        Raises:
            LocalProtocolError: there are two already.
        """
        if self._is_closed or connection in self._slots:
            return
        slot = 1 if 0 in self._slots.values() else 0
        self._twin.join(slot)
        self._slots[connection] = slot
        self._since[slot], self._differences[slot] = now, 0

    def leave(self, connection: str) -> Ruling:
        """A connection is gone; see `Twin.leave`."""
        slot = self._slots.pop(connection, None)
        ruling = NOTHING if slot is None else self._twin.leave(slot)
        self._count()
        return ruling

    def close(self) -> None:
        """The stream ends: nothing that either says counts any more."""
        self._is_closed = True
        self._count()
        self._slots.clear()
        self._twin, self._counted = Twin(), (0, 0, 0)

    def other(self, connection: str) -> str | None:
        """The name of the other connection, if there is one."""
        return next((name for name in self._slots if name != connection), None)

    def is_first(self, connection: str) -> bool:
        """Whether this is the one of the two that looks after the stream."""
        return next(iter(self._slots), None) == connection

    def is_ready(self, connection: str) -> bool:
        """Whether the other may leave without a gap."""
        slot = self._slots.get(connection)
        return slot is not None and (not self._has_snapshot or self._twin.is_ready(slot))

    @property
    def is_carried(self) -> bool:
        """Whether the stream is built on any of its carriers."""
        return self._twin.is_standing if self._has_snapshot else bool(self._slots)

    @property
    def is_over(self) -> bool:
        """Whether the stream needs the pair no longer."""
        if self.lasting or self._is_closed:
            return False
        return self._twin.is_over if self._has_snapshot else len(self._slots) < 2

    # --- what they say -----------------------------------------------------------------------------

    def hear(self, connection: str, event: MarketEvent, now: float) -> Ruling:
        """Take in one event of one connection; see `Twin.admit`.  One that has given up starts over."""
        slot = self._slots.get(connection)
        if slot is None:
            return NOTHING
        if event.__class__ is Book:
            self._since[slot] = now
        ruling = self._twin.admit(slot, event)
        if ruling.verdict is Verdict.GIVE_UP:
            self._checks["twins_given_up"] += 1
            del self._slots[connection]
            self.join(connection, now)
        return ruling

    def restart(self) -> None:
        """The stream has been interrupted: the next book of either begins it."""
        self._twin.restart()
        self._split = None

    def excuse(self, connection: str, now: float) -> bool:
        """A connection may have lost something: if the other is enough, it starts over as a newcomer.

        Returns:
            Whether that is so; then ask for a snapshot, and the stream goes on.
        """
        other = self.other(connection)
        if other is None or connection not in self._slots or not self.is_ready(other):
            return False
        self.leave(connection)
        self.join(connection, now)
        return True

    def tend(self, connection: str, book: OrderBook, now: float) -> Care:
        """Look after one of the two: about once a second.

        Args:
            connection: whose turn it is.
            book: the stream's.
            now: the session's clock, in seconds.
        """
        self._count()
        slot, twin = self._slots.get(connection), self._twin
        if slot is None or not self._has_snapshot or not twin.is_standing:
            return Care.NONE
        if twin.is_split:
            if self._split is None or self._split[1] != twin.removed:
                self._split = now, twin.removed
            return Care.DOUBT if now >= self._split[0] + SPLIT_S else Care.NONE
        self._split = None
        if twin.is_ready(slot):
            self._differences[slot] = 0
            return Care.NONE
        waited_s, snapshot = now - self._since[slot], twin.snapshot_of(slot)
        if snapshot is None:
            is_time = waited_s >= ASK_AGAIN_S and self.excuse(connection, now)
            return Care.ASK if is_time else Care.NONE
        if waited_s < AGREE_AFTER_S:
            return Care.NONE
        if book.equals(snapshot):
            twin.agree(slot)
            return Care.NONE
        differences = self._differences[slot] + 1
        if differences == DIFFERENCES:
            self._differences[slot] = differences
            return Care.DOUBT
        if not self.excuse(connection, now):
            return Care.NONE
        self._differences[slot] = differences
        return Care.ASK

    def _count(self) -> None:
        """Add what is new to the shared counts."""
        counts = self._twin.removed, sum(self._twin.missed.values()), self._twin.doubts
        if counts != self._counted:
            for name, now, before in zip(COUNTS, counts, self._counted, strict=True):
                self._checks[name] += now - before
            self._counted = counts


COUNTS = ("twins_removed", "twins_missed", "twin_doubts")
"""Events that were not published a second time; events one of two connections did not say; disagreements that ended
trust."""
