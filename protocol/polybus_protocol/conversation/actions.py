"""What `states.TABLE` names: the actions of a session, and what they share; `session` has what leads to them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable

import msgspec

from ..books.asset_stream import AssetStream
from ..books.inspection import Inspector
from ..events import Book, Event, MarketEvent
from ..feeds.dialect import Dialect, Proof
from ..profile import FeedProfile
from ..stream import Publication, Stream
from ..twins.sharing import Sharing
from ..websocket.backoff import Verdict
from .cargo import Cargo
from .commons import Commons
from .directory import MarketDirectory
from .sequence import ChannelSequence
from .signals import Doubtful, Live, Orphaned, Overdue, Signal, Tapped
from .states import TABLE, Input, State
from .voice import Voice
from .waits import Waits
from .watch import LOOKS, Watch


class Ended(msgspec.Struct, frozen=True):
    """Why a session ended, and whether to dial again."""

    reason: str
    verdict: Verdict


class Actions:
    """See the module; the arguments are those of `Session`."""

    def __init__(
        self,
        profile: FeedProfile,
        dialect: Dialect,
        connection: str,
        commons: Commons,
        directory: MarketDirectory,
        now: float,
        cargo: Cargo | None = None,
        checks: Counter[str] | None = None,
    ) -> None:
        self.state = State.FRESH
        self.ended: Ended | None = None
        self.cargo = cargo or Cargo(dialect)
        """The keys and the streams this connection carries."""
        self.streams = self.cargo.streams
        self.frames = 0
        """JSON frames received; words such as PONG are not among them."""
        self.duplicates = 0
        """Frames that repeated the one before to the letter, content hash and time included."""
        self.unwanted = 0
        """Events about keys this connection does not carry, such as mirrored `price_change` entries."""
        self.unknown: Counter[str] = Counter()
        """What could not be read, by kind."""

        self._dialect = dialect
        self._connection = connection
        self._commons = commons
        self._directory = directory
        self._sequence = ChannelSequence()
        self._watch = Watch(profile, now, has_books=dialect.has_books)
        self._turn = 0
        self._inspector = Inspector(directory, checks if checks is not None else Counter())
        self._waits = Waits(profile.asset_timeout_s)
        self._voice = Voice(dialect, profile.ids_per_frame)
        self._repeated: set[str] = set()
        """Keys that were asked for again, until the venue says that it did as asked."""
        self._signals: list[Signal] = []
        self._last_frame = b""
        self._sharing = Sharing(
            connection, self.streams, self._begin, self.resync, self._ask_afresh, self._tap
        )

    def resync(
        self, keys: Iterable[str], reason: str, now: float, time: int, detail: str | None = None
    ) -> list[Publication]:
        """Break the epoch of these keys and ask for fresh snapshots; those not carried are skipped.

        Args:
            keys: of streams.
            reason: a key of `GAP_REASONS`.
            now: see `session`.
            time: see `session`.
            detail: a sentence for people.
        """
        carried = [key for key in dict.fromkeys(keys) if key in self.streams]
        return self._on(Input.DOUBTED, carried, reason, detail, now, time)

    # --- the actions of the table ------------------------------------------------------------------

    def _on(self, input_: Input, *details: object) -> list[Publication]:
        """Look the input up in the table, enter the next state and do what it says."""
        if (entry := TABLE.get((self.state, input_))) is None:
            return []
        name, self.state = entry
        action: Callable[..., list[Publication]] = getattr(self, name)
        return action(*details)

    def _prove(self, wanted: dict[str, Stream | None], now: float, time: int) -> list[Publication]:
        self._watch.opened(now)
        self._voice.say(self._dialect.admission())
        return self._note(wanted, now, time)

    def _note(self, wanted: dict[str, Stream | None], _now: float, _time: int) -> list[Publication]:
        self.cargo.take(wanted)
        return []

    def _open_noted(self, now: float, time: int) -> list[Publication]:
        return self._open(dict.fromkeys(self.cargo.keys), now, time)

    def _open(self, wanted: dict[str, Stream | None], now: float, time: int) -> list[Publication]:
        self._watch.opened(now)
        self._voice.open(wanted)
        return self._carry(wanted, now, time)

    def _ask(self, wanted: dict[str, Stream | None], now: float, time: int) -> list[Publication]:
        self._voice.ask(wanted)
        return self._carry(wanted, now, time)

    def _take_back(self, keys: Collection[str]) -> list[Publication]:
        self._voice.take_back(keys)
        return self._forget(keys)

    def _forget(self, keys: Collection[str]) -> list[Publication]:
        self.cargo.leave(keys)
        for key in keys:
            self._waits.forget(key)
            self._repeated.discard(key)
        return []

    def _ask_again(
        self, keys: Collection[str], reason: str, detail: str | None, now: float, time: int
    ) -> list[Publication]:
        gaps = [
            gap
            for key in keys
            for gap in self.streams[key].interrupt(reason, time, detail=detail, connection=self._connection)
        ]
        for key in keys:
            if (pair := self.streams[key].pair) is not None:
                pair.restart()
        if self._dialect.has_snapshots:
            self._ask_afresh(dict.fromkeys(key for own in keys for key in self.cargo.keys_of(own)), now)
        return gaps + self._stand(keys, time)

    def _ping(self, now: float, _time: int) -> list[Publication]:
        self._watch.pinged(now)
        self._voice.say(self._dialect.ping)
        return []

    def _report_overdue(self, now: float, _time: int) -> list[Publication]:
        self._signals += [Overdue(key, waited_s) for key, waited_s in self._waits.overdue(now).items()]
        self._repeat(self._waits.due(now), now)
        return []

    def _look(self, now: float, time: int) -> list[Publication]:
        """Look at a part of the books."""
        self._watch.looked(now)
        self._turn = (self._turn + 1) % LOOKS
        keys, gaps = self._sharing.tend(list(self.streams)[self._turn :: LOOKS], now, time)
        findings = self._inspector.look(keys, self.streams, self.frames, now, time)
        if findings.doubtful:
            self._signals.append(Doubtful(tuple(findings.doubtful)))
        for key, reason, detail in findings.resync:
            gaps += self.resync([key], reason, now, time, detail)
        return gaps

    def _break(self, reason: str, verdict: Verdict, time: int) -> list[Publication]:
        self.ended = Ended(reason, verdict)
        publications: list[Publication] = []
        for key, stream in self.streams.items():
            gaps, is_orphan = self._sharing.part(key, stream, reason, time)
            publications += gaps
            if is_orphan:
                self._signals.append(Orphaned(key))
        return publications

    def _begin_with(self, wanted: dict[str, Stream | None], now: float, time: int) -> list[Publication]:
        must_prove = self.state is State.FRESH and self._dialect.proof is Proof.ANSWERED
        return self._on(Input.ADMISSION_DUE if must_prove else Input.WANTED, wanted, now, time)

    # --- their tools -------------------------------------------------------------------------------

    def _carry(self, wanted: dict[str, Stream | None], now: float, time: int) -> list[Publication]:
        if not self.cargo.expects_data:
            self._watch.expects(now)
        self.cargo.take(wanted)
        self._sharing.join(wanted, now)
        self._waits.asked(self.cargo.awaited(wanted), now)
        return self._stand(wanted, time)

    def _stand(self, keys: Iterable[str], time: int) -> list[Publication]:
        """Streams that may be silent for ever are live as soon as they are asked for."""
        return [
            closing
            for key in keys
            if self._dialect.is_quiet(key) and (stream := self.streams.get(key)) is not None
            for closing in stream.begin(None, time, self._connection)
        ]

    def _ask_afresh(self, keys: Iterable[str], now: float) -> None:
        """Ask for snapshots of keys once more, though not too often."""
        self._repeat(self._waits.doubted(self.cargo.awaited(keys), now), now)

    def _repeat(self, keys: Collection[str], now: float) -> None:
        self._voice.repeat(keys)
        self._waits.asked(keys, now)
        self._repeated.update(keys)
        # The answer of a book at rest may be what came last, to the letter: it is no duplicate.
        self._last_frame = b""

    def _begin(self, key: str, stream: Stream, event: Event, time: int) -> list[Publication]:
        if isinstance(event, MarketEvent) and isinstance(stream, AssetStream):
            self._directory.learn(event.market, event.asset)
            stream.facts = self._directory.facts_of(event.market)
            if not isinstance(event, Book):
                # Without a snapshot no book follows from it; it is passed on all the same.
                return stream.ready(event, time, self._connection)
        if key in self.streams:
            self._tell_live(key)
        if stream.live:
            return []  # by a book of REST: the venue has answered, too
        return stream.begin(event, time, self._connection, self._dialect.closed_by)

    def _tap(self, key: str, event: Event) -> None:
        if key in self.cargo.taps:
            self._signals.append(Tapped((key,), event))

    def _tell_live(self, key: str) -> None:
        self._waits.delivered(key)
        self._signals.append(Live(key))
