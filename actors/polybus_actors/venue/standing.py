"""How the keys of a pool stand: who carries them, what may be believed of them, and if they are not live, why not."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import anyio

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.liveness import Trust
from polybus_protocol.control.replies import Missing
from polybus_protocol.conversation.assignment import Assignment
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.feeds.market import VENUE
from polybus_protocol.stream import Stream

from .connection import Connection, Phase
from .roster import Roster

SILENCE_OF_AN_ACCOUNT = (
    "the venue was asked and has sent nothing yet. It never says whether credentials are accepted, so this can "
    "mean that the account has done nothing since; that the key, secret or passphrase is wrong (a socket that is "
    "closed again and again shortly after the opening points to that); or that they are builder credentials, "
    "which this feed does not take: it wants the API credentials derived for trading"
)
"""What the silence of the user feed can mean (clob-client issue 303, py-clob-client issues 204 and 206)."""


class Standing:
    """See the module.

    Args:
        roster: who is there.
        assignment: which number carries which key.
        streams: of the keys that are streams.
        commons: the streams that answer no single key.
        makes_no_answer: the venue never says whether it accepts who asks.
    """

    def __init__(
        self,
        roster: Roster,
        assignment: Assignment,
        streams: Mapping[str, Stream],
        commons: Commons,
        *,
        makes_no_answer: bool,
    ) -> None:
        self.overdue: set[str] = set()
        """Keys that were asked for more than once and delivered nothing."""
        self.declined: dict[str, str] = {}
        """Keys that the venue does not want to serve, and why."""
        self.is_draining = False
        self._roster = roster
        self._assignment = assignment
        self._streams = streams
        self._commons = commons
        self._makes_no_answer = makes_no_answer
        self._progress = anyio.Event()

    def carrier_of(self, key: str) -> Connection | None:
        """The connection that carries a key."""
        number = self._assignment.carrier_of(key)
        return None if number is None else self._roster.speaker(number)

    def streams_of(self, key: str) -> list[Stream]:
        """The streams that answer a key."""
        connection = self.carrier_of(key)
        return [] if connection is None else connection.cargo.streams_of(key)

    def matched(self, keys: Iterable[str], types: Collection[str]) -> int:
        """Events of these types (of all if none is named) published for these keys so far, gaps apart."""
        counts: Counter[str] = Counter()
        for key in keys:
            if (stream := self._streams.get(key)) is not None:
                counts += stream.counts()
            if key == VENUE:
                counts += self._commons.counts()
            if (connection := self.carrier_of(key)) is not None:
                counts += connection.cargo.heard.get(key, Counter())
        return sum(counts[type_] for type_ in types or counts if type_ not in ("gap", "unknown"))

    def why_not(self, key: str) -> str | None:
        """Why a key is not live, as a sentence; None if it is."""
        connection = self.carrier_of(key)
        if self.is_draining:
            return "the gateway is shutting down"
        if connection is None:
            return "no connection carries it yet"
        if self.is_live(key):
            return None
        if connection.phase not in (Phase.OPEN, Phase.LIVE):
            because = f": {connection.reason}" if connection.reason else ""
            return f"its connection {connection.id} is {connection.phase.value}{because}"
        if key in self.declined:
            return self.declined[key]
        if key in self.overdue:
            return (
                "the venue was asked more than once and sent nothing: "
                "an unknown, closed or frozen asset looks just like that"
            )
        if self._makes_no_answer:
            return SILENCE_OF_AN_ACCOUNT
        return "the venue was asked and has sent nothing yet"

    def is_live(self, key: str) -> bool:
        """Whether a key has delivered in the current epoch of one of its streams, and its socket still stands.

        The stream of a price may be live by the word of another feed.
        """
        connection = self.carrier_of(key)
        return connection is not None and connection.is_live(key)

    def state_of(self, key: str) -> str:
        """What may be believed of a key, in a word."""
        if not self.is_live(key):
            stream = self._streams.get(key)
            is_frozen = isinstance(stream, AssetStream) and stream.trust is Trust.FROZEN
            return Trust.FROZEN.value if is_frozen else Trust.WAITING.value
        stream = self._streams.get(key)
        return stream.trust.value if isinstance(stream, AssetStream) else Trust.LIVE.value

    async def wait(self, keys: Collection[str], level: str, timeout_s: float) -> list[Missing]:
        """Wait until the venue was asked for all keys (`sent`), or all have delivered (`data`).

        Returns:
            The keys that did not get that far in time, and why; none as a rule.
        """
        missing = [key for key in keys if not self._has_reached(key, level)]
        with anyio.move_on_after(timeout_s):
            while missing and not self.is_draining:
                await self._progress.wait()
                missing = [key for key in missing if not self._has_reached(key, level)]
        # Looked at once more, because what is missing now need not be missing any more.
        missing = [key for key in missing if not self._has_reached(key, level)]
        return [
            Missing(key, self.why_not(key) or "it was live and has just been interrupted") for key in missing
        ]

    def _has_reached(self, key: str, level: str) -> bool:
        if level == "sent":
            connection = self.carrier_of(key)
            return connection is not None and connection.has_asked_for(key)
        return self.is_live(key)

    def tell_waiters(self) -> None:
        """Let whoever waits look again."""
        self._progress.set()
        self._progress = anyio.Event()
