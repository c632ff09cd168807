"""One WebSocket of a client: the only owner of its socket, its queue and its end.

Everything to be written goes through one bounded queue and one writer.  When the queue is over its bound, the
client is a slow reader: what is queued is discarded and the connection closed with 1013, as the venue does.
"""

import itertools
from collections import deque
from collections.abc import Iterable
from typing import assert_never

import anyio
import anyio.abc
import msgspec
from wsproto import WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import LocalProtocolError

from polybus_services.simulator.fault_kinds import SLOW_CONSUMER
from polybus_services.simulator.faults import Treatment, corrupted
from polybus_services.simulator.feeds import (
    FUTURE,
    Answer,
    Close,
    Cut,
    Entry,
    Feed,
    Frame,
    ProtocolPing,
    Say,
    wire_text,
)
from polybus_services.simulator.ledger import Fate, Tally
from polybus_services.simulator.venue import Venue

MOST_BYTES_PER_WRITE = 64 * 1024
"""So that a close frame need not wait behind megabytes already joined."""

CLOSE_GRACE_S = 2.0
"""How long a client may take to read what is on its way and answer a close frame, before TCP is cut."""

LONGEST_MESSAGE_BYTES = 1024 * 1024
"""Of a client: room for the ten thousand asset ids that some send at once."""

OVERTAKEN_S = 0.5
"""How long a frame waits to be overtaken: a test must not wait for ever on a market where nothing happens."""

SLOW_CODES = (1013, 4002)
"""CLOB's and PolyBolt's word for a slow consumer."""

GOING_AWAY = Close(1001, "the simulator is going away")


class _Queued(msgspec.Struct, frozen=True, gc=False):
    wire: bytes
    tallies: tuple[Tally, ...] | None
    """None for what is not data."""


class Connection:
    """A client's connection to one feed, from the accepted upgrade to its end.

    Args:
        name: such as "market-1".
        stream: the TCP connection.
        accept: the answer to the upgrade, which is written first.
        websocket: the WebSocket in it, which has been given the bytes that came with the upgrade.
        feed: the feed it is of.
        venue: where it is at home.
    """

    def __init__(
        self,
        name: str,
        stream: anyio.abc.ByteStream,
        accept: bytes,
        websocket: WSConnection,
        feed: Feed,
        venue: Venue,
    ) -> None:
        self.id = name
        self._stream = stream
        self._websocket = websocket
        self._feed = feed
        self.manners = feed.greet(name, venue.now_ms())
        """How its feed behaves to it."""
        self._venue = venue
        self._queue: deque[_Queued] = deque()
        self._queued_bytes = 0
        self._wake = anyio.Event()
        self._idle = anyio.Event()
        self._idle.set()
        self._scope = anyio.CancelScope()
        self._ending = False
        self._end: tuple[str, int, str] = ("client", 1006, "the client cut the connection")
        self._unknown_ids = itertools.count(1)
        self._held: deque[tuple[float, Frame, Treatment]] = deque()
        # Late data and what came after it, each with the moment it is due.
        self._overtaken: tuple[float, Frame, Treatment] | None = None
        # What waits for the next frame about the same, and until when.
        self._enqueue(_Queued(accept, None))

    async def run(self) -> None:
        """Serve the client until the connection is over.  Cancelled, it says 1001 first."""
        venue = self._venue
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._write)
                    await self._read()
                    tasks.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            await self._say_goodbye()
            raise
        finally:
            self._ending = True
            venue.links.pop(self.manners, None)
            self.manners.leave()
            self._discard()
            self._idle.set()
            venue.ledger.close(self.id, *self._end, venue.now_ms())
            await anyio.aclose_forcefully(self._stream)

    async def flushed(self) -> None:
        """Wait until all that was queued is written, or the connection is over."""
        await self._idle.wait()

    def deliver(self, frame: Frame) -> None:
        """Send a data frame, or what the faults make of it."""
        if self._ending:
            return
        faults = self._venue.faults
        if not (faults.any_on or self._held or self.manners.stale or self._overtaken):
            self._send(frame)
            return
        subjects = [entry.subject for entry in frame.entries if self.manners.follows(entry.subject)]
        now = anyio.current_time()
        treatment = faults.treat(self.id, subjects, now)
        if self._held or treatment.late_s is not None:
            # What is due first stays first: order holds even where the delay changes on the way.
            due = max(now + (treatment.late_s or 0.0), self._held[-1][0] if self._held else 0.0)
            self._held.append((due, frame, treatment))
        elif treatment.overtaken and self._overtaken is None:
            self._overtaken = (now + OVERTAKEN_S, frame, treatment)
        else:
            self._deliver_treated(frame, treatment)
            self._let_follow(subjects)

    def tick(self, now: float) -> None:
        """Do what time alone brings.

        Args:
            now: `anyio.current_time()`.
        """
        while self._held and self._held[0][0] <= now and not self._ending:
            _, frame, treatment = self._held.popleft()
            self._deliver_treated(frame, treatment)
        if self._overtaken and self._overtaken[0] <= now:
            self._let_follow([entry.subject for entry in self._overtaken[1].entries])
        if not self._ending:
            self._give(self.manners.tick(self._venue.now_ms()))

    def say(self, text: str) -> None:
        """Send a plain word."""
        self._enqueue(_Queued(wire_text(text), None))

    def announce(self, text: str) -> None:
        """Send a word nobody asked for, which a stall holds back."""
        if not self._venue.faults.treat(self.id, (), anyio.current_time()).stall:
            self.say(text)

    def slow(self) -> None:
        """Treat the client as one that reads too slowly."""
        self.end(SLOW_CONSUMER)

    def end(self, close: Close) -> None:
        """Close by a fault; a slow consumer does not get what is still queued."""
        self.close(close, discard=close.code in SLOW_CODES)

    def cut(self, reason: str) -> None:
        """End the connection without a close frame."""
        self._end = ("simulator", 1006, reason)
        self._ending = True
        self._scope.cancel()

    def close(self, close: Close, *, discard: bool = False) -> None:
        """Begin to close: nothing more is taken for sending, and the client has `CLOSE_GRACE_S` to answer."""
        if self._ending:
            return
        if discard:
            self._discard()
        try:
            data = self._websocket.send(CloseConnection(close.code, close.reason))
        except LocalProtocolError:
            return  # the client closed in this very moment; its own close is being answered
        self._enqueue(_Queued(data, None))
        self._end = ("simulator", close.code, close.reason)
        self._ending = True
        self._scope.deadline = anyio.current_time() + CLOSE_GRACE_S

    # -- what is sent -----------------------------------------------------------------------------------------

    def _deliver_treated(self, frame: Frame, treatment: Treatment) -> None:
        if treatment.drop:
            self.cut("fault: drop")
            return
        if treatment.close:
            self.end(treatment.close)
            return
        if treatment.stale_after_s is not None:
            self.manners.neglect(treatment.stale_after_s, self._venue.now_ms())
        if treatment.stall or self.manners.stale:
            self._count(Fate.WITHHELD, frame.entries)
            return
        if treatment.frozen:
            self._count(
                Fate.WITHHELD, [entry for entry in frame.entries if entry.subject in treatment.frozen]
            )
            thawed = frame.without(treatment.frozen)
            if thawed is None:
                return
            frame = thawed
        if treatment.lost is not None:
            self.manners.lose(frame, told=treatment.lost.told, counted=treatment.lost.counted)
            self._count(Fate.WITHHELD, frame.entries)
            return
        frame = self.manners.address(frame)
        if treatment.unknown == "inside" and self._feed.arrays:
            self._send_array(frame)
        elif treatment.corrupt is not None:
            wire = wire_text(corrupted(frame.text, treatment.corrupt))
            self._enqueue(_Queued(wire, self._tallies(frame.entries, Fate.CORRUPTED)))
        else:
            self._enqueue(_Queued(frame.wire(), self._tallies(frame.entries, Fate.SENT)))
        if treatment.duplicate:
            self._enqueue(_Queued(frame.wire(), self._tallies(frame.entries, Fate.DUPLICATED)))
        if treatment.unknown == "after" or (treatment.unknown and not self._feed.arrays):
            entry = self._made_up(frame.entries[0])
            self._enqueue(_Queued(wire_text(entry.text), self._tallies([entry], Fate.UNKNOWN)))

    def _let_follow(self, subjects: list[str]) -> None:
        """Send what a frame about these has overtaken."""
        if self._overtaken is None or self._ending:
            return
        _, frame, treatment = self._overtaken
        if any(entry.subject in subjects for entry in frame.entries):
            self._overtaken = None
            self._deliver_treated(frame, treatment)

    def _send(self, frame: Frame) -> None:
        frame = self.manners.address(frame)
        self._enqueue(_Queued(frame.wire(), self._tallies(frame.entries, Fate.SENT)))

    def _send_array(self, frame: Frame) -> None:
        """The frame's events in one array with a made-up one."""
        entry = self._made_up(frame.entries[0])
        text = f"{frame.text[:-1]},{entry.text}]" if frame.prefix == "[" else f"[{frame.text},{entry.text}]"
        tallies = self._tallies(frame.entries, Fate.SENT) + self._tallies([entry], Fate.UNKNOWN)
        self._enqueue(_Queued(wire_text(text), tallies))

    def _made_up(self, like: Entry) -> Entry:
        return Entry(like.subject, FUTURE, self.manners.made_up(like.subject, next(self._unknown_ids)))

    def _tallies(self, entries: tuple[Entry, ...] | list[Entry], fate: Fate) -> tuple[Tally, ...]:
        follows = self.manners.follows
        return tuple(
            [
                Tally(fate if follows(entry.subject) else Fate.MIRRORED, entry.subject, entry.kind)
                for entry in entries
            ]
        )

    def _count(self, fate: Fate, entries: tuple[Entry, ...] | list[Entry]) -> None:
        follows = self.manners.follows
        self._venue.ledger.count(
            self.id, [Tally(fate, entry.subject, entry.kind) for entry in entries if follows(entry.subject)]
        )

    def _enqueue(self, item: _Queued) -> None:
        if self._ending:
            return
        limit = self._venue.options.send_buffer_bytes
        if self._queue and self._queued_bytes + len(item.wire) > limit:
            self._throw_away(item)
            self.slow()
            return
        self._queue.append(item)
        self._queued_bytes += len(item.wire)
        if self._idle.is_set():
            self._idle = anyio.Event()
            self._wake.set()

    def _discard(self) -> None:
        for item in self._queue:
            self._throw_away(item)
        self._queue.clear()
        self._queued_bytes = 0
        for _, frame, _ in (*self._held, *([self._overtaken] if self._overtaken else [])):
            self._count(Fate.DISCARDED, frame.entries)
        self._held.clear()
        self._overtaken = None

    def _throw_away(self, item: _Queued) -> None:
        lost = [Tally(Fate.DISCARDED, t.subject, t.kind) for t in item.tallies or () if t.fate is Fate.SENT]
        self._venue.ledger.count(self.id, lost)

    # -- the two tasks ----------------------------------------------------------------------------------------

    async def _write(self) -> None:
        ledger = self._venue.ledger
        while True:
            if not self._queue:
                self._wake = anyio.Event()
                self._idle.set()
                await self._wake.wait()
            batch, size = list[_Queued](), 0
            while self._queue and size < MOST_BYTES_PER_WRITE:
                batch.append(self._queue.popleft())
                size += len(batch[-1].wire)
            self._queued_bytes -= size
            # Counted before: of what `send` is given, part may arrive even where it then fails.
            for item in batch:
                if item.tallies is not None:
                    ledger.wrote(self.id, item.tallies)
            try:
                await self._stream.send(b"".join([item.wire for item in batch]))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._scope.cancel()
                return

    async def _read(self) -> None:
        """Take in what the client sends, until either side has ended the connection."""
        text, length = list[str](), 0
        while True:
            for event in self._websocket.events():
                match event:
                    case TextMessage(data=part, message_finished=finished):
                        text.append(part)
                        length += len(part)
                        if length > LONGEST_MESSAGE_BYTES:
                            self.close(Close(1009, "message too big"))
                        elif finished:
                            self._answer("".join(text))
                        if finished:
                            text, length = [], 0
                    case Ping() if not self._ending:
                        self._enqueue(_Queued(self._websocket.send(event.response()), None))
                    case Pong():
                        self.manners.receive_pong()
                    case CloseConnection():
                        await self._peer_closed(event)
                        return
                    case _:
                        pass  # binary messages, of which the venue has no use
            try:
                data = await self._stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return
            self._websocket.receive_data(data)

    async def _peer_closed(self, event: CloseConnection) -> None:
        if self._ending:
            return  # the answer to our own close
        # wsproto reports a malformed frame as a close, with the code to answer, and does not change its state.
        by = "simulator" if self._websocket.state is ConnectionState.OPEN else "client"
        self._end = (by, event.code, event.reason or "")
        self._enqueue(_Queued(self._websocket.send(event.response()), None))
        self._ending = True
        with anyio.move_on_after(CLOSE_GRACE_S):
            await self.flushed()

    def _answer(self, text: str) -> None:
        if self._ending:
            return
        self._give(self.manners.receive_text(text, self._venue.now_ms()))

    def _give(self, answers: Iterable[Answer]) -> None:
        for answer in answers:
            match answer:
                case Frame():
                    self.deliver(answer)
                case Say():
                    self.say(answer.text)
                case Close():
                    self.close(answer)
                case Cut():
                    self.cut(answer.reason)
                case ProtocolPing():
                    self._enqueue(_Queued(self._websocket.send(Ping()), None))
                case _:
                    assert_never(answer)

    async def _say_goodbye(self) -> None:
        """Write a close frame behind whatever was being written when the simulator was told to stop."""
        if self._ending:
            return
        self._end = ("simulator", GOING_AWAY.code, GOING_AWAY.reason)
        with anyio.move_on_after(CLOSE_GRACE_S, shield=True):
            data = self._websocket.send(CloseConnection(GOING_AWAY.code, GOING_AWAY.reason))
            try:
                await self._stream.send(data)
                await self._stream.aclose()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass
