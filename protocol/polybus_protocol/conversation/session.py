"""One connection's conversation with a feed; the same machine for all feeds, `states.TABLE` is its plan.

It never reads a clock, sleeps or touches a socket.  The caller hands in what arrived (`receive`) and
what is wanted (`subscribe`, `unsubscribe`, `resync`), calls `handle_deadline` when `next_deadline` has
passed, and after each of these publishes what was returned, writes what `data_to_send` hands out and
passes on what `take_signals` tells.  A session is for one socket: reconnecting takes a new one, over
the same streams.

Everywhere `now` is the caller's clock in seconds from any fixed point, for deadlines, and `time` is
nanoseconds since the epoch, for what is published.
"""

from collections.abc import Iterable, Mapping

from ..books.asset_stream import AssetStream
from ..books.liveness import Rung, Trust
from ..events import LOSSY_KINDS, Book, Event, MarketEvent, Unknown, VenueMarketEvent
from ..feeds.dialect import Proof
from ..feeds.reading import Aside, Meaning, Reply, Upstream, Word, stray_word, unknown
from ..stream import Publication, Stream
from ..websocket.backoff import Verdict
from .actions import Actions
from .loss import concerned
from .signals import Declined, Signal, Tapped
from .states import Input, State

_JSON_BEGINS = (b"{", b"[")
"""What is no JSON is a word."""


class Session(Actions):
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

    def receive(self, frames: Iterable[bytes], now: float, time: int) -> list[Publication]:
        """Take in text frames that arrived together: the hot path, from the frame to what goes out on NATS.

        Returns:
            What to publish, in order; nothing once closed.
        """
        publications: list[Publication] = []
        publish, closed, watch = publications.append, State.CLOSED, self._watch
        read, streams, taps, connection = self._dialect.read, self.streams, self.cargo.taps, self._connection
        has_data = False
        for frame in frames:
            if self.state is closed:
                break
            watch.frame_at = now
            if frame[:1] not in _JSON_BEGINS:
                publications += self._receive_word(frame.strip(), now, time)
                continue
            self.frames += 1
            if frame == self._last_frame and b'hash":' in frame:
                # Content hash and time are the same, back to back: it was said twice, not done twice.
                self.duplicates += 1
                continue
            self._last_frame = frame

            for key, event in read(frame):
                if key is None:
                    publications += self._publish_shared(event, now, time)
                    continue
                stream = streams.get(key) or self._adopt(key, event)
                if stream is None:
                    continue
                has_data = True
                if stream.pair is not None:
                    publications += self._share(key, stream, event, now, time)
                    continue
                if not stream.live or (event.__class__ is Book and key in self._waits):
                    publications += self._begin(key, stream, event, time)
                publish(stream.publish(event, time, connection))
                if taps and key in taps and key in streams:
                    self._signals.append(Tapped((key,), event))
                if (doubt := stream.absorb(event)) is not None:
                    publications += self.resync([key], doubt.reason, now, time, doubt.detail)
        watch.heard(now, data=has_data)
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
            # The book that gave it away stands in until the venue answers.
            return [*self.resync([key], "frozen", now, time), *self.witnessed(key, book, now, time)]
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

    def hold(self) -> None:
        """Nobody reads from here on: no silence counts, pings go on, and the caller says `go_on` some time."""
        self._watch.is_held = True

    def go_on(self, now: float) -> None:
        """What comes is read again."""
        self._watch.go_on(now)

    @property
    def is_held(self) -> bool:
        """Whether nobody reads."""
        return self._watch.is_held

    # --- what the caller should do -----------------------------------------------------------------

    def data_to_send(self) -> list[str]:
        """Hand out the messages to write, in order; each is handed out once."""
        return self._voice.drain()

    def take_signals(self) -> list[Signal]:
        """Hand out what the connection's owner should know; each is handed out once."""
        signals, self._signals = self._signals, []
        return signals

    # --- beside the hot path -----------------------------------------------------------------------

    def _receive_word(self, frame: bytes, now: float, time: int) -> list[Publication]:
        if frame[:1] in _JSON_BEGINS:
            return self.receive([frame], now, time)  # there were blanks around it
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
        if event.__class__ is Book and key in self._waits:
            self._tell_live(key)
        assert isinstance(stream, AssetStream)
        assert isinstance(event, MarketEvent)
        return self._sharing.hear(key, stream, event, now, time)

    def _skip(self, event: Event) -> None:
        self.unwanted += 1
        if isinstance(event, MarketEvent) and self._directory.market_of(event.asset) is None:
            self._directory.learn(event.market, event.asset)

    def _heed(self, aside: Aside, now: float, time: int) -> list[Publication]:
        """Take in what the venue says beside its events."""
        if isinstance(aside, Upstream):
            return self._heed_count(aside, time)
        if isinstance(aside, Reply):
            match aside.meaning:
                case Meaning.ADMITTED:
                    return self._on(Input.ADMITTED, now, time)
                case Meaning.REJECTED:
                    reason = f"the venue does not accept the credentials ({aside.code}): check the account"
                    return self._on(Input.REJECTED, reason, Verdict.NEVER, time)
                case Meaning.REFUSED:
                    reason = f"the venue declined: {aside.code or 'it does not say why'}"
                    self._signals.append(Declined(self._dialect.asked_by(aside), reason))
                case Meaning.NOTED:
                    return self._heed_renewal(self._dialect.asked_by(aside), time)
        return []

    def _heed_renewal(self, keys: Iterable[str], time: int) -> list[Publication]:
        """Keys that were asked for again were taken back first: what was said in between reached nobody."""
        renewed = [key for key in keys if key in self._repeated]
        self._repeated.difference_update(renewed)
        return [
            gap
            for key in renewed
            for stream in self.cargo.streams_of(key)
            for gap in stream.interrupt("resync", time, connection=self._connection)
        ]

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
            self._watch.heard(now, data=True)
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
