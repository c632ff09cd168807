"""One connection's conversation with a feed; the same machine for all feeds, `states.TABLE` is its plan.

It never reads a clock, sleeps or touches a socket.  The caller hands in what arrived (`receive`) and
what is wanted (`subscribe`, `unsubscribe`, `resync`), calls `handle_deadline` when `next_deadline` has
passed, and after each of these publishes what was returned, writes what `data_to_send` hands out and
passes on what `take_signals` tells.  A session is for one socket: reconnecting takes a new one, over
the same streams.

Everywhere `now` is the caller's clock in seconds from any fixed point, for deadlines, and `time` is
nanoseconds since the epoch, for what is published.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

import msgspec

from .asset_stream import AssetStream
from .backoff import Verdict
from .cargo import Cargo
from .commons import Commons
from .directory import MarketDirectory
from .events import LOSSY_KINDS, Book, Event, MarketEvent, Unknown, VenueMarketEvent
from .feeds.dialect import Dialect, Proof
from .feeds.reading import Aside, Meaning, Reply, Upstream, Word, stray_word, unknown
from .inspection import Inspector
from .liveness import Rung, Trust
from .loss import concerned
from .profile import FeedProfile
from .sequence import ChannelSequence
from .sharing import Sharing
from .signals import Declined, Doubtful, Live, Orphaned, Overdue, Signal, Tapped
from .states import TABLE, Input, State
from .stream import Publication, Stream
from .voice import Voice
from .waits import Waits
from .watch import LOOKS, Watch


class Ended(msgspec.Struct, frozen=True):
    """Why a session ended, and whether to dial again."""

    reason: str
    verdict: Verdict


class Session:
    """See the module.

    Args:
        profile: the feed's settings.
        dialect: the feed's language.
        connection: id and incarnation, as published with each event.
        commons: the streams that all connections of the feed share.
        directory: remembers the market and asset pairs that pass by.
        now: see the module.
        checks: counts what the looks at the books found, over all sockets.
        cargo: what an earlier socket of the same connection carried; `resume` asks for it again.
    """

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
        self._signals: list[Signal] = []
        self._last_frame = b""
        self._sharing = Sharing(
            connection, self.streams, self._begin, self.resync, self._ask_afresh, self._tap
        )

    # --- what is wanted ----------------------------------------------------------------------------

    def subscribe(
        self, wanted: Iterable[tuple[str, Stream | None]], now: float, time: int
    ) -> list[Publication]:
        """Carry these keys, those that are carried already apart.

        Args:
            wanted: keys, each with its stream where the key is one.
            now: see the module.
            time: see the module.
        """
        new = {key: stream for key, stream in wanted if key not in self.cargo.keys}
        return self._begin_with(new, now, time) if new else []

    def resume(self, now: float, time: int) -> list[Publication]:
        """Ask for all that an earlier socket carried."""
        keys = self.cargo.keys
        return self._begin_with({key: self.streams.get(key) for key in keys}, now, time) if keys else []

    def unsubscribe(self, keys: Iterable[str]) -> None:
        """Stop carrying these keys, and the streams that answer them; those not carried are skipped."""
        carried = [key for key in dict.fromkeys(keys) if key in self.cargo.keys]
        if carried:
            self._on(Input.DROPPED, carried)

    def resync(
        self, keys: Iterable[str], reason: str, now: float, time: int, detail: str | None = None
    ) -> list[Publication]:
        """Break the epoch of these keys and ask for fresh snapshots; those not carried are skipped.

        Args:
            keys: of streams.
            reason: a key of `GAP_REASONS`.
            now: see the module.
            time: see the module.
            detail: a sentence for people.
        """
        carried = [key for key in dict.fromkeys(keys) if key in self.streams]
        return self._on(Input.DOUBTED, carried, reason, detail, now, time)

    @property
    def has_data(self) -> bool:
        """Whether any data has arrived; only that resets the backoff."""
        return self._watch.has_data

    @property
    def last_frame_at(self) -> float:
        """When the last frame arrived, by the caller's clock."""
        return self._watch.frame_at

    @property
    def last_data_at(self) -> float:
        """When the last data arrived, by the caller's clock."""
        return self._watch.data_at

    @property
    def is_authenticated(self) -> bool | None:
        """Whether the venue knows who we are; None where it need not, and while nothing tells."""
        match self._dialect.proof:
            case Proof.NONE:
                return None
            case Proof.SILENT:
                return self.has_data or None
            case Proof.ANSWERED:
                return self.state is State.OPEN

    # --- what arrives ------------------------------------------------------------------------------

    def receive(self, frame: bytes, now: float, time: int) -> list[Publication]:
        """Take in one text frame: the hot path, from the frame to what goes out on NATS.

        Returns:
            What to publish, in order; nothing once closed.
        """
        if self.state is State.CLOSED:
            return []
        watch = self._watch
        watch.frame_at = now
        if not frame.startswith((b"{", b"[")):
            return self._receive_word(frame.strip(), now, time)
        self.frames += 1
        if frame == self._last_frame and b'hash":' in frame:
            # Content hash and time are the same, back to back: it was said twice, not done twice.
            self.duplicates += 1
            return []
        self._last_frame = frame

        publications: list[Publication] = []
        streams, taps, connection, has_data = self.streams, self.cargo.taps, self._connection, False
        for key, event in self._dialect.read(frame):
            if key is None:
                publications += self._publish_shared(event, now, time)
                continue
            stream = streams.get(key) or self._adopt(key, event)
            if stream is None:
                continue
            if stream.pair is not None:
                publications += self._share(key, stream, event, now, time)
                continue
            if not stream.live or (event.__class__ is Book and key in self._waits):
                publications += self._begin(key, stream, event, time)
            publications.append(stream.publish(event, time, connection))
            has_data = True
            if key in taps and key in streams:
                self._signals.append(Tapped((key,), event))
            if isinstance(stream, AssetStream) and (doubt := stream.absorb(event)) is not None:
                publications += self.resync([key], doubt.reason, now, time, doubt.detail)
        if has_data:
            watch.has_data, watch.data_at = True, now
        return publications

    def witnessed(self, key: str, book: Book, now: float, time: int) -> list[Publication]:
        """What REST says of an asset's book: the start of an epoch that waits for one, else a second look."""
        stream = self.streams.get(key)
        if not isinstance(stream, AssetStream) or self.state is not State.OPEN:
            return []
        if not stream.live and stream.pair is not None:
            return []  # it begins with a book of either of its sockets
        if not stream.live:
            self._directory.learn(book.market, book.asset)
            stream.facts = self._directory.facts_of(book.market)
            book.origin = "witness"
            begun = stream.begin(book, time, self._connection, "witness")
            publications = [*begun, stream.publish(book, time, self._connection)]
            stream.absorb(book)
            # Only what comes after it is the stream's own word.
            stream.inspected_seq = stream.epoch, stream.seq
            return publications
        if self._inspector.second_look(stream, book, now, time):
            self._watch.refuted()
            stream.liveness.climb_to(Rung.RESUBSCRIBED)
            return self.resync([key], "frozen", now, time)
        if stream.trust is Trust.QUIET:
            self._watch.confirmed(now)
        return []

    def end(self, reason: str, time: int, verdict: Verdict = Verdict.RETRY) -> list[Publication]:
        """The connection is over: every live stream it carried gets its gap.

        Args:
            reason: a sentence for people.
            time: see the module.
            verdict: whether to dial again.
        """
        return self._on(Input.ENDED, reason, verdict, time)

    # --- time --------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When to call `handle_deadline`; None while there is nothing to wait for."""
        return min(self._deadlines().values(), default=None)

    def handle_deadline(self, now: float, time: int) -> list[Publication]:
        """Do what fell due by `now`.  Calling early is harmless."""
        publications: list[Publication] = []
        for due in [input_ for input_, at in self._deadlines().items() if now >= at]:
            is_end = due in (Input.NO_FRAME, Input.NO_DATA, Input.UNANSWERED)
            details = (self._watch.reason_for(due), Verdict.RETRY, time) if is_end else (now, time)
            publications += self._on(due, *details)
        return publications

    def _deadlines(self) -> Mapping[Input, float]:
        return self._watch.deadlines(
            self.state, expects_data=self.cargo.expects_data, ask_at=self._waits.next_deadline()
        )

    # --- what the caller should do -----------------------------------------------------------------

    def data_to_send(self) -> list[str]:
        """Hand out the messages to write, in order; each is handed out once."""
        return self._voice.drain()

    def take_signals(self) -> list[Signal]:
        """Hand out what the connection's owner should know; each is handed out once."""
        signals, self._signals = self._signals, []
        return signals

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
        findings = self._inspector.look(keys, self.streams, now, time)
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
        # The answer of a book at rest may be what came last, to the letter: it is no duplicate.
        self._last_frame = b""

    # --- beside the hot path -----------------------------------------------------------------------

    def _receive_word(self, frame: bytes, now: float, time: int) -> list[Publication]:
        if frame.startswith((b"{", b"[")):
            return self.receive(frame, now, time)  # there were blanks around it
        meaning = self._dialect.words.get(frame)
        if meaning is Word.PING:
            self._voice.say("pong" if frame.islower() else "PONG")
        if meaning is Word.REFUSAL:
            refused = unknown(self._dialect.feed, "refused", "the venue refused our last message", frame)
            return self._publish_shared(refused, now, time) + self._on(
                Input.REFUSED, f"the venue refused our last message: {refused.raw}", Verdict.RETRY, time
            )
        if meaning is not None:
            return []
        stray = unknown(self._dialect.feed, *stray_word(frame), frame)
        return self._publish_shared(stray, now, time)

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

    def _adopt(self, key: str, event: Event) -> Stream | None:
        """The stream of an event that is none of the keys; None, and counted, if nobody wants it (any more)."""
        # What stands in one frame behind a rejection comes too late: the streams have had their gaps.
        stream, wanted = (None, ()) if self.state is State.CLOSED else self.cargo.adopt(key, event)
        if stream is None:
            self._skip(event)
            return None
        for each in wanted:
            if not stream.live or each in self._waits:
                self._tell_live(each)
        if any(each in self.cargo.taps for each in wanted):
            self._signals.append(Tapped(wanted, event))
        return stream

    def _share(self, key: str, stream: Stream, event: Event, now: float, time: int) -> list[Publication]:
        """An event of an asset that another connection carries, too."""
        self._watch.has_data, self._watch.data_at = True, now
        if event.__class__ is Book and key in self._waits:
            self._tell_live(key)
        assert isinstance(stream, AssetStream)
        assert isinstance(event, MarketEvent)
        return self._sharing.hear(key, stream, event, now, time)

    def _tap(self, key: str, event: Event) -> None:
        if key in self.cargo.taps:
            self._signals.append(Tapped((key,), event))

    def _tell_live(self, key: str) -> None:
        self._waits.delivered(key)
        self._signals.append(Live(key))

    def _skip(self, event: Event) -> None:
        self.unwanted += 1
        if isinstance(event, MarketEvent) and self._directory.market_of(event.asset) is None:
            self._directory.learn(event.market, event.asset)

    def _heed(self, aside: Aside, now: float, time: int) -> list[Publication]:
        """Take in what the venue says beside its events."""
        if isinstance(aside, Upstream):
            return self._heed_count(aside, time)
        if isinstance(aside, Reply):
            if aside.meaning is Meaning.ADMITTED:
                return self._on(Input.ADMITTED, now, time)
            if aside.meaning is Meaning.REJECTED:
                reason = f"the venue does not accept the credentials ({aside.code}): check the account"
                return self._on(Input.REJECTED, reason, Verdict.NEVER, time)
            if aside.meaning is Meaning.REFUSED:
                reason = f"the venue declined: {aside.code or 'it does not say why'}"
                self._signals.append(Declined(self._dialect.asked_by(aside), reason))
        return []

    def _heed_count(self, upstream: Upstream, time: int) -> list[Publication]:
        """What the venue left out is a loss on every stream of the channel."""
        missing = self._sequence.missing(upstream)
        if not missing:
            return []
        detail = f"the venue left out {missing} frames of the channel {upstream.channel}"
        return [
            gap
            for own, stream in self.streams.items()
            if any(key.startswith(f"{upstream.channel}:") for key in self.cargo.keys_of(own))
            for gap in stream.interrupt("upstream_loss", time, detail=detail, connection=self._connection)
        ]

    def _publish_shared(self, event: Event, now: float, time: int) -> list[Publication]:
        """Publish what belongs to no stream of this connection alone; asides are not for publishing."""
        if isinstance(event, Aside):
            return self._heed(event, now, time)
        lost: list[Publication] = []
        if isinstance(event, VenueMarketEvent):
            self._watch.has_data, self._watch.data_at = True, now
            self._directory.learn(event.market, *event.assets_ids)
        elif isinstance(event, Unknown):
            self.unknown[event.kind] += 1
            if event.kind in LOSSY_KINDS:
                keys = concerned(event, self.streams, self._waits, self.cargo.quiet_keys)
                excused = self._sharing.excused(keys, now)
                keys = [key for key in keys if key not in excused]
                lost = self.resync(keys, "undecodable_frame", now, time, event.reason)
        stream = self._commons.stream_for(event)
        if stream is None:
            return lost
        for key in self.cargo.quiet_keys:
            if key in self.streams and key in self.cargo.taps:
                self._signals.append(Tapped((key,), event))
        begun = [] if stream.live else stream.begin(event, time, self._connection)
        return [*begun, stream.publish(event, time, self._connection), *lost]
