"""Whether one asset's stream may be believed right now, and what is tried when not.

Its owner looks at it about once a second; on the hot path nothing of this runs.  Silence is measured against how
often this very asset usually speaks, so that a busy one is doubted within seconds and an idle one is let be.
"""

import enum
import math
from collections import Counter

import msgspec


class Trust(enum.Enum):
    """What a consumer may believe about a stream."""

    WAITING = "waiting"
    """Asked for, or broken: no data in the current epoch yet."""
    LIVE = "live"
    """Data has arrived in the current epoch, and no check speaks against it."""
    QUIET = "quiet"
    """Silent for longer than usual, and a second look has shown that nothing happened."""
    SUSPECT = "suspect"
    """Silent for longer than usual, or a check has failed: not confirmed either way yet."""
    FROZEN = "frozen"
    """The venue moved on and the stream did not, or everything was tried and nothing came."""

    @property
    def is_believed(self) -> bool:
        """Whether the book may be acted on."""
        return self is Trust.LIVE or self is Trust.QUIET


class Rung(enum.IntEnum):
    """What is tried, one after another, to bring a stream back."""

    NONE = 0
    RESUBSCRIBED = 1
    """Asked for again, on the same socket."""
    MOVED = 2
    """Asked for on another socket that is open."""
    NEW_SOCKET = 3
    """Asked for on a socket of its own."""
    GIVEN_UP = 4
    """Said loudly; asked for again ever more seldom."""


class Budgets(msgspec.Struct, frozen=True):
    """How long an asset may be silent."""

    shortest_s: float = 15.0
    """Seconds that any asset may be silent: less would be doubting a pause between two trades."""
    first_s: float = 30.0
    """Seconds, while it is not known how often the asset speaks: half of what a socket may be silent."""
    longest_s: float = 600.0
    """Seconds after which even an idle asset is asked for again."""


USUAL_TIMES = 4.0
"""How many of its usual pauses an asset may be silent."""

FORGETTING = 0.9
"""What remains of the longest pause with each pause after it: some twenty pauses make a habit."""

FAILURES_IN_A_ROW = 2
"""Looks in a row with a failed check after which the book is asked for again.

One can be innocent: the messages of a trade cross each other (poly-websockets issue 25), and the price of the
last trade, an input of the hash, can be used before it is told (py-clob-client-v2 issue 117).
"""

RELOOK_S = 2.0
"""Seconds after a second look that found another book until the next one: what is on its way arrives by then."""

FIRST_RETRY_S = 10.0
"""Seconds from a resync because of a failed check to the next one; doubles each time, up to `longest_s`."""


class Liveness:
    """See the module.

    Args:
        budgets: how long the asset may be silent.
        tried: counts what was tried, by `Rung` name and outcome; shared with others.
    """

    __slots__ = (
        "_budget_s",
        "_budgets",
        "_failures",
        "_has_begun",
        "_heard_at",
        "_is_confirmed",
        "_look_at",
        "_refuted",
        "_retry_at",
        "_retry_s",
        "_tried",
        "_usual_s",
        "odd_at",
        "rung",
        "trust",
        "why",
    )

    def __init__(self, budgets: Budgets, tried: Counter[str]) -> None:
        self.trust = Trust.WAITING
        self.why: str | None = None
        """What speaks against it, as a sentence; None if nothing does."""
        self.rung = Rung.NONE
        self.odd_at = math.inf
        """When the silence becomes odd, so that there may be something to do about it."""
        self._budgets = budgets
        self._tried = tried
        self._has_begun = False
        self._usual_s: float | None = None
        self._budget_s = budgets.first_s
        self._heard_at: float | None = None
        self._look_at = 0.0
        self._failures = 0
        self._is_confirmed = False
        self._refuted = False
        self._retry_at = 0.0
        self._retry_s = FIRST_RETRY_S

    def begun(self, *, by_witness: bool = False) -> None:
        """The stream is live; by a book read over REST it is only as good as suspect, until the stream speaks."""
        self._has_begun = True
        self._heard_at, self.odd_at = None, math.inf
        self._failures = 0
        self._refuted = False
        if by_witness:
            self._doubt("the book was read over REST; the stream itself has not spoken yet")
            return
        self._revive()

    def interrupted(self) -> None:
        """A gap has opened."""
        self._has_begun = False
        self._failures = 0
        self.trust, self.why = Trust.WAITING, None

    def heard(self, now: float) -> None:
        """The asset has spoken since the last look; without a snapshot in its epoch that is nothing to go by."""
        if not self._has_begun:
            return
        if self._heard_at is not None:
            pause_s, budgets = now - self._heard_at, self._budgets
            self._usual_s = pause_s if self._usual_s is None else max(self._usual_s * FORGETTING, pause_s)
            # Half of the longest, so that there is time for a second look before patience is over.
            self._budget_s = min(max(self._usual_s * USUAL_TIMES, budgets.shortest_s), budgets.longest_s / 2)
        self._heard_at = self._look_at = now
        self.odd_at = now + self._budget_s
        self._refuted = False
        if not self._failures:
            self._revive()

    def is_overdue(self, now: float) -> bool:
        """Whether the silence has become odd, and a second look is due.  Saying so starts the next wait."""
        if self.trust is Trust.WAITING or self.silence_s(now) < self._budget_s or now < self._look_at:
            return False
        self._look_at = now + min(max(self._budget_s, self.silence_s(now)), self._budgets.longest_s)
        if self.trust is Trust.LIVE:
            self._doubt(f"it has said nothing for {self.silence_s(now):.0f} s, which is unusual")
        elif self.trust is Trust.QUIET and not self._is_confirmed:
            self._doubt(
                f"it has said nothing for {self.silence_s(now):.0f} s, and the last second look failed"
            )
        self._is_confirmed = False
        return True

    def is_out_of_patience(self, now: float) -> bool:
        """Whether a silence that nobody could confirm has lasted for as long as any may."""
        return self.trust is Trust.SUSPECT and self.silence_s(now) >= self._budgets.longest_s

    def confirmed(self) -> None:
        """A second look has shown the very book we have: nothing has happened."""
        self._refuted, self._is_confirmed = False, True
        if self._has_begun and self.trust in (Trust.SUSPECT, Trust.FROZEN) and not self._failures:
            self.trust, self.why = Trust.QUIET, None

    def refuted(self, now: float) -> bool:
        """A second look has shown another, later book.

        Returns:
            Whether that was so twice, with no word from the stream between: then it is frozen.
        """
        twice, self._refuted = self._refuted, True
        if twice:
            self.trust, self.why = Trust.FROZEN, "the venue's book moved on, and the stream did not"
        else:
            self._doubt("the venue's book is not ours; looking again")
            self._look_at = now + RELOOK_S
        return twice

    def passed(self) -> None:
        """No check speaks against the book any more."""
        if self._failures:
            self._failures = 0
            self.trust, self.why = Trust.LIVE, None

    def failed(self, why: str, now: float) -> bool:
        """A check speaks against the book.

        Returns:
            Whether it is time to ask for a fresh one; then say `retried` when that is done.
        """
        self._failures += 1
        self._doubt(why)
        return self._failures >= FAILURES_IN_A_ROW and now >= self._retry_at

    def retried(self, now: float) -> None:
        """A fresh book is being asked for: not again too soon."""
        self._retry_at = now + self._retry_s
        self._retry_s = min(self._retry_s * 2, self._budgets.longest_s)

    def proved(self) -> None:
        """The book is right beyond doubt, with changes since its snapshot: the next resync need not wait."""
        self._retry_at, self._retry_s = 0.0, FIRST_RETRY_S
        self.passed()

    def climb(self) -> Rung:
        """The next thing to try; the last one for ever once it is reached."""
        return self.climb_to(Rung(min(self.rung + 1, Rung.GIVEN_UP)))

    def climb_to(self, rung: Rung) -> Rung:
        """Try this, unless more than that was tried already."""
        if rung <= self.rung:
            return self.rung
        self.rung = rung
        self._tried[self.rung.name.lower()] += 1
        if self.rung is Rung.GIVEN_UP:
            self.trust, self.why = Trust.FROZEN, "everything was tried, and nothing came"
        return self.rung

    def silence_s(self, now: float) -> float:
        """Seconds since the asset has last spoken."""
        return 0.0 if self._heard_at is None else now - self._heard_at

    @property
    def usual_s(self) -> float | None:
        """The longest pause that is usual, in seconds; None while not known."""
        return self._usual_s

    @property
    def is_failing(self) -> bool:
        """Whether the last look found a check that failed."""
        return self._failures > 0

    def _revive(self) -> None:
        if self.rung:
            self._tried[f"{self.rung.name.lower()}_helped"] += 1
            self.rung = Rung.NONE
        self.trust, self.why = Trust.LIVE, None

    def _doubt(self, why: str) -> None:
        self.trust, self.why = Trust.SUSPECT, why
