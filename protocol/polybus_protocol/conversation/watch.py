"""When something falls due on one socket: the clocks of a session, and what their running out means."""

from collections.abc import Mapping
from types import MappingProxyType

from ..profile import FeedProfile
from .states import Input, State

LOOKS = 8
"""Into how many looks one round over all books is cut, so that none holds the socket up for long: a book that has
changed takes 40 us at best, those of 200 assets a millisecond a look."""

RELIEF = 2.0
"""How many times a silence that a second look has confirmed to be none of our fault a socket may be silent."""

NOTHING_DUE: Mapping[Input, float] = MappingProxyType({})


class Watch:
    """The clocks of one socket, all in the session's seconds.

    Args:
        profile: the feed's settings.
        now: when the socket opened.
        has_books: whether there are books to look at.
    """

    def __init__(self, profile: FeedProfile, now: float, *, has_books: bool) -> None:
        self.frame_at = now
        """When the last frame came."""
        self.data_at = now
        """When the last data came."""
        self.has_data = False
        """Whether any data has come; only that resets the backoff."""
        self.is_held = False
        """Whether nobody reads what comes: a silence is ours, then, and tells nothing of the venue."""
        self._profile = profile
        self._has_books = has_books
        self._opened_at = self._ping_at = self._look_at = self._expecting_since = now
        self._confirmed_at: float | None = None

    def heard(self, now: float, *, data: bool) -> None:
        """Something has come, and whether it was data."""
        if data:
            self.has_data, self.data_at = True, now

    def opened(self, now: float) -> None:
        """The first message is out."""
        self._opened_at = self._expecting_since = now
        self.pinged(now)
        self.looked(now)

    def go_on(self, now: float) -> None:
        """What comes is read again: every patience begins anew."""
        self.is_held = False
        self._opened_at = self._expecting_since = now
        self.looked(now)

    def expects(self, now: float) -> None:
        """From now on data should come."""
        self._expecting_since = now

    def pinged(self, now: float) -> None:
        """A ping is out."""
        self._ping_at = now + self._profile.ping_interval_s

    def looked(self, now: float) -> None:
        """A part of the books was looked at."""
        self._look_at = now + self._profile.check_interval_s / LOOKS

    def confirmed(self, now: float) -> None:
        """Somebody else has confirmed that there is nothing to be heard."""
        self._confirmed_at = now

    def refuted(self) -> None:
        """Somebody else has heard what we have not."""
        self._confirmed_at = None

    def deadlines(self, state: State, *, expects_data: bool, ask_at: float | None) -> Mapping[Input, float]:
        """When each input falls due, the gravest first.

        Args:
            state: the session's.
            expects_data: whether anything that is asked for must deliver.
            ask_at: when something has to be asked for again.
        """
        profile = self._profile
        if self.is_held:
            return {Input.PING_DUE: self._ping_at} if state is State.OPEN else NOTHING_DUE
        if state is State.PROVING:
            return {Input.UNANSWERED: self._opened_at + profile.first_data_timeout_s}
        if state is not State.OPEN:
            return NOTHING_DUE
        deadlines = {
            Input.NO_FRAME: max(self.frame_at, self._opened_at) + profile.silence_timeout_s,
            Input.PING_DUE: self._ping_at,
        }
        if self._has_books:
            deadlines[Input.CHECK_DUE] = self._look_at
        if expects_data:
            deadlines[Input.NO_DATA] = self._no_data_at()
        if ask_at is not None:
            deadlines[Input.OVERDUE] = ask_at
        return deadlines

    def reason_for(self, overdue: Input) -> str:
        """Why a connection is given up whose deadline has passed."""
        profile = self._profile
        match overdue:
            case Input.NO_FRAME:
                return f"no frame at all for {profile.silence_timeout_s:g} s"
            case Input.UNANSWERED:
                return f"the venue has not accepted our credentials in {profile.first_data_timeout_s:g} s"
            case _ if self.has_data:
                return f"no data for {profile.data_timeout_s:g} s, though the socket is open"
            case _:
                seconds = profile.first_data_timeout_s
                return f"no data at all since the subscription for {seconds:g} s, though the socket is open"

    def _no_data_at(self) -> float:
        profile = self._profile
        patience_s = profile.data_timeout_s if self.has_data else profile.first_data_timeout_s
        heard_at = max(self.data_at, self._expecting_since)
        if self._confirmed_at is None or self._confirmed_at <= heard_at:
            return heard_at + patience_s
        # Looks become rarer as the silence goes on, and each must come before its deadline.
        return self._confirmed_at + RELIEF * max(patience_s, self._confirmed_at - heard_at)
