"""The connection actor: sole owner of one socket, and of the session spoken on it.

It lives through many sockets: it dials, converses until the socket ends or is given up, backs off and
dials again, carrying the same streams.  Everything in here that touches the session runs between two
awaits of one task group, so there is nothing to lock.
"""

import enum
import logging
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import anyio

from polybus_protocol.conversation.cargo import Cargo, OpenStream
from polybus_protocol.conversation.commons import Commons
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.conversation.session import Session
from polybus_protocol.conversation.signals import Signal
from polybus_protocol.conversation.states import State
from polybus_protocol.events import Book
from polybus_protocol.feeds.dialect import Dialect, Proof
from polybus_protocol.profile import FeedProfile
from polybus_protocol.stream import Stream
from polybus_protocol.subjects import BRINGS
from polybus_protocol.websocket.backoff import Backoff, Verdict, close_reason, close_verdict
from polybus_protocol.websocket.framing import Farewell, ProtocolBroken

from ..mailbox import Mailbox
from ..publishing.brake import HELD_BACK, Brake
from ..publishing.outbox import Outbox
from .orders import Carry, Doubt, Drop, Order, Retire, Stop
from .pacer import DialPacer
from .suspicion import LONG_HELD_S, Suspicion
from .tally import Tally
from .transport import DialFailed, dial
from .wire import CHUNK_BYTES, Wire

logger = logging.getLogger("polybus.connection")

LONGEST_NAP_S = 0.25
"""Seconds between two looks at the session's deadlines, which may move closer while we sleep."""


class Phase(enum.Enum):
    """Where a connection stands, as `status` shows it."""

    DIALING = "dialing"
    OPEN = "open"
    """The socket is up and the venue was asked; no data yet."""
    LIVE = "live"
    """Data has arrived on this socket."""
    WAITING = "waiting"
    """Backing off until the next dial."""
    REFUSED = "refused"
    """Dialling again is pointless until a person changes something."""
    STOPPED = "stopped"


class Connection:
    """See the module.

    Args:
        id: names the connection for good.
        profile: the feed's settings.
        dialect: the feed's language.
        open_stream: makes the streams that open with their first event.
        outbox: where publications go.
        pacer: lets dials through one at a time.
        commons: the streams that the connections of a feed share.
        directory: remembers the pairs of market and asset that pass by.
        checks: counts what the looks at the books found.
        on_signals: told what the session signals, between two chunks.
        on_phase: told of each change of phase.
        incarnation: how many sockets a connection of this id has had before.
    """

    def __init__(
        self,
        id: str,  # noqa: A002  the field's own word
        profile: FeedProfile,
        dialect: Dialect,
        open_stream: OpenStream,
        outbox: Outbox,
        pacer: DialPacer,
        commons: Commons,
        directory: MarketDirectory,
        checks: Counter[str],
        on_signals: Callable[[list[Signal]], None],
        on_phase: Callable[["Connection"], None],
        incarnation: int = 0,
    ) -> None:
        self.id = id
        self.profile = profile
        self.mailbox: Mailbox[Order] = Mailbox()
        self.phase = Phase.WAITING
        self.reason: str | None = None
        """Why it is not live, as a sentence."""
        self.incarnation = incarnation
        """Which socket this is, counted from 1."""
        self.opened_at = 0.0
        """When its socket opened, by the clock of the event loop."""
        self.retry_in_s: float | None = None
        self.last_frame_time: int | None = None
        """Nanoseconds since the epoch."""
        self.cargo = Cargo(dialect, open_stream)
        """What it carries, through all its sockets."""
        self.session: Session | None = None
        self.stopped = anyio.Event()
        """Set when the actor has ended for good."""

        self._dialect = dialect
        self._outbox = outbox
        self._pacer = pacer
        self._commons = commons
        self._directory = directory
        self._checks = checks
        self._on_signals = on_signals
        self._on_phase = on_phase
        self._backoff = Backoff(profile.backoff, random.random)
        self._past = Tally()
        self._had_data = False
        self._suspicion = Suspicion()
        self._stopping = False
        self._earlier = incarnation
        self._wire: Wire | None = None
        self._brake = outbox.brake if outbox.brake.concerns(BRINGS[dialect.feed]) else None
        """What holds it back where its events are never given up."""

    @property
    def tally(self) -> Tally:
        """What all sockets so far have brought."""
        now = Tally() if self.session is None else Tally.of(self.session)
        return self._past + now + Tally.of_dialect(self._dialect)

    @property
    def feed(self) -> str:
        """The feed's name."""
        return self._dialect.feed

    @property
    def name(self) -> str:
        """Its id with the number of its socket, as published with each event."""
        return f"{self.id}#{self.incarnation}"

    @property
    def stands(self) -> bool:
        """Whether its socket is open."""
        return self.phase in (Phase.OPEN, Phase.LIVE)

    @property
    def has_reconnected(self) -> bool:
        """Whether it has had a socket before this one."""
        return self.incarnation > self._earlier + 1

    def can_replace(self, other: "Connection") -> bool:
        """Whether the other connection that carries the same streams may leave without a gap."""
        return (
            self.stands
            and all(map(self.has_asked_for, other.cargo.keys))
            and all(
                not stream.live or (stream.pair is not None and stream.pair.is_ready(self.name))
                for stream in other.cargo.streams.values()
            )
        )

    def has_asked_for(self, key: str) -> bool:
        """Whether the venue was asked for a key on the socket that is open now."""
        return self.session is not None and self.session.state is State.OPEN and key in self.cargo.keys

    def is_live(self, key: str) -> bool:
        """Whether the socket is open, and a stream that answers the key is live."""
        return self.stands and any(stream.live for stream in self.cargo.streams_of(key))

    def compare(self, books: dict[str, Book]) -> None:
        """Lay what REST says beside the books of the streams."""
        if self.session is not None:
            now, received_time = anyio.current_time(), time.time_ns()
            for key, book in books.items():
                self._outbox.put(self.session.witnessed(key, book, now, received_time))
            self._follow_up()

    async def run(self) -> None:
        """Serve until told to stop.  What fails in here is a bug, and the supervisor's to judge."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read_mailbox, tasks.cancel_scope)
            try:
                while True:
                    await self._live_once()
            finally:
                self._end_session("the connection's actor ended", Verdict.RETRY)

    async def close(self) -> None:
        """Refuse what is still in the mailbox; nothing is taken any more."""
        async with self.mailbox:
            self.stopped.set()

    # --- the life of a socket ----------------------------------------------------------------------

    async def _live_once(self) -> None:
        """Dial, converse, and wait as long as the policy says."""
        if self._brake is not None and self._brake.is_on:
            # A socket that nobody reads would only be one more that the venue has to end.
            await self._be_held(self._brake)
        self.incarnation += 1
        # Why the socket before it ended is why there is none now.
        self._enter(Phase.DIALING, self.reason)
        await self._pacer.turn()
        retry_after_s = None
        try:
            wire = await dial(
                self.profile.url,
                timeout_s=self.profile.dial_timeout_s,
                max_message_bytes=self.profile.max_message_bytes,
            )
        except DialFailed as failure:
            reason, verdict, retry_after_s = str(failure), failure.verdict, failure.retry_after_s
        else:
            reason, verdict = await self._converse(wire)
            is_mute = self._dialect.proof is Proof.SILENT and not self._had_data
            reason, verdict = self._suspicion.judge(reason, verdict, is_mute=is_mute)
        self._past += Tally(errors=1)
        if verdict is Verdict.NEVER:
            self._enter(Phase.REFUSED, reason)
            await anyio.sleep_forever()
        self.retry_in_s = self._backoff.next_delay(verdict, retry_after_s)
        self._enter(Phase.WAITING, reason)
        await anyio.sleep(self.retry_in_s)

    async def _converse(self, wire: Wire) -> tuple[str, Verdict]:
        """Hold one conversation to its end."""
        self._wire = wire
        session = self.session = Session(
            self.profile,
            self._dialect,
            self.name,
            self._commons,
            self._directory,
            anyio.current_time(),
            self.cargo,
            self._checks,
        )
        opened_at = self.opened_at = anyio.current_time()
        self._outbox.put(session.resume(opened_at, time.time_ns()))
        self._enter(Phase.OPEN, None)
        self._follow_up()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, wire, session)
                tasks.start_soon(self._keep_time, session, tasks.cancel_scope)
                await self._read(wire, session)
                tasks.cancel_scope.cancel()
        finally:
            self._end_session("the connection's actor ended", Verdict.RETRY)
            with anyio.CancelScope(shield=True):
                await wire.close(self.profile.close_timeout_s, polite=self._stopping)
        # Where silence is no sign of anything, a socket that held for long is as good as one that delivered.
        held = not session.cargo.expects_data and anyio.current_time() >= opened_at + LONG_HELD_S
        self._had_data = session.has_data or held
        if held:
            self._backoff.data_seen()
        assert session.ended is not None
        return session.ended.reason, session.ended.verdict

    async def _read(self, wire: Wire, session: Session) -> None:
        """The hot path: chunk, frames, decode, sequence, encode, outbox; no queue and no switch between."""
        receive, put = self._receiver(wire, session), self._outbox.put
        chunk = wire.trailing
        while session.state is not State.CLOSED:
            now, received_time = anyio.current_time(), time.time_ns()
            self.last_frame_time = received_time
            publications = session.receive(wire.frames.receive(chunk), now, received_time)
            if (farewell := wire.frames.farewell) is not None:
                reason, verdict = _judge(farewell)
                publications += session.end(reason, received_time, verdict)
            put(publications)
            self._follow_up()
            try:
                chunk = await receive(CHUNK_BYTES)
            except anyio.EndOfStream:
                put(session.end("the venue hung up without a close frame (1006)", time.time_ns()))
            except anyio.BrokenResourceError:
                put(session.end("the connection broke (1006)", time.time_ns()))

    def _receiver(self, wire: Wire, session: Session) -> Callable[[int], Awaitable[bytes]]:
        """What reads the socket; that of a feed whose events are never given up waits until there is room for more."""
        receive, brake = wire.stream.receive, self._brake
        if brake is None:
            return receive

        async def with_room(most_bytes: int) -> bytes:
            if brake.is_on:
                session.hold()
                await self._be_held(brake)
                session.go_on(anyio.current_time())
            return await receive(most_bytes)

        return with_room

    async def _be_held(self, brake: Brake) -> None:
        """Wait until the brake is off, and say so."""
        reason, self.reason = self.reason, HELD_BACK
        await brake.released()
        self.reason = reason

    async def _write(self, wire: Wire, session: Session) -> None:
        await wire.write(self.profile.frame_interval_s)
        if session.is_held:  # nobody reads, and so nobody else is told
            self._outbox.put(session.end("the venue hung up while it was held back", time.time_ns()))

    async def _keep_time(self, session: Session, scope: anyio.CancelScope) -> None:
        while session.state is not State.CLOSED:
            deadline = session.next_deadline()
            now = anyio.current_time()
            nap = LONGEST_NAP_S if deadline is None else min(max(deadline - now, 0.0), LONGEST_NAP_S)
            await anyio.sleep(nap)
            self._outbox.put(session.handle_deadline(anyio.current_time(), time.time_ns()))
            self._follow_up()
        scope.cancel()

    # --- what the pool wants -----------------------------------------------------------------------

    async def _read_mailbox(self, scope: anyio.CancelScope) -> None:
        async for message in self.mailbox:
            match message:
                case Carry(wanted):
                    if self.session is not None:
                        now, received_time = anyio.current_time(), time.time_ns()
                        self._outbox.put(self.session.subscribe(wanted.items(), now, received_time))
                        self._on_signals([])  # somebody may wait for just this
                    self.cargo.take(wanted)
                case Drop(keys=keys, reason=reason):
                    self._interrupt(self.cargo.leaving(keys), reason)
                    if self.session is not None:
                        self.session.unsubscribe(keys)
                    self.cargo.leave(keys)
                    message.answer.give(None)
                case Doubt(keys, reason):
                    self._doubt(keys, reason)
                case Stop(reason=reason):
                    self._stopping = True
                    self._interrupt(self.cargo.streams.values(), reason)
                    self._end_session("the gateway closed the connection", Verdict.NEVER)
                    self._enter(Phase.STOPPED, None)
                    message.answer.give(None)
                    scope.cancel()
                    return
                case Retire(other=other):
                    if other.can_replace(self):
                        self._stopping = True
                        self._end_session("another connection goes on with its streams", Verdict.NEVER)
                        self._enter(Phase.STOPPED, None)
                        message.answer.give(value=True)
                        scope.cancel()
                        return
                    message.answer.give(value=False)
            self._follow_up()

    def _interrupt(self, streams: Iterable[Stream], reason: str) -> None:
        """End streams.  In one step with what makes them silent, or one might come to life again in between."""
        now = time.time_ns()
        for stream in streams:
            self._outbox.put(stream.interrupt(reason, now))

    def _doubt(self, keys: list[str], reason: str) -> None:
        if self.session is not None:
            now, received_time = anyio.current_time(), time.time_ns()
            self._outbox.put(self.session.resync(keys, reason, now, received_time))

    # --- small things ------------------------------------------------------------------------------

    def _follow_up(self) -> None:
        """After each call to the session: write what it says, pass on what it signals."""
        session, wire = self.session, self._wire
        if session is None or wire is None:
            return
        if session.has_data and self.phase is Phase.OPEN:
            self._backoff.data_seen()
            self._enter(Phase.LIVE, None)
        if signals := session.take_signals():
            self._on_signals(signals)
        wire.say(session.data_to_send() if session.state is not State.CLOSED else ())

    def _end_session(self, reason: str, verdict: Verdict) -> None:
        """Whatever ended the session: its streams get their gaps, once."""
        if self.session is not None:
            self._outbox.put(self.session.end(reason, time.time_ns(), verdict))
            self._past += Tally.of(self.session)
            signals = self.session.take_signals()
            self.session = None
            if signals:
                self._on_signals(signals)

    def _enter(self, phase: Phase, reason: str | None) -> None:
        self.phase, self.reason = phase, reason
        if phase is not Phase.WAITING:
            self.retry_in_s = None
        self._on_phase(self)
        logger.info("%s is %s%s", self.id, phase.value, f": {reason}" if reason else "")


def _judge(farewell: Farewell) -> tuple[str, Verdict]:
    """Why the peer's last frame ends the connection, and whether to dial again."""
    if isinstance(farewell, ProtocolBroken):
        return f"the venue broke the WebSocket protocol: {farewell.reason}", Verdict.RETRY_LATER
    code, said = farewell.code, f", saying {farewell.reason!r}" if farewell.reason else ""
    return f"the venue closed with {code} ({close_reason(code)}){said}", close_verdict(code)
