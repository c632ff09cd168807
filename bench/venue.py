"""The venue of long runs: replays for ever, answers with books as they are now, and has its troubles.

A `bench.pump` that serves while it replays, so that sockets may come and go meanwhile.  When the frames are at their
end the first books are said again, and all begins anew.  Frames of nobody are left out, but followed: whoever
subscribes gets the book as it stands, or every check of it would fail.  A reader for whom too much has to be kept
is closed with 1013, by the simulator's rule.  One JSON line in, one out:

    {"go": 5000, "first": 10}              this many frames a second, of the first ten sockets; of all without `first`
    {"fault": "drop", "number": 3}         see `FAULTS`; whose turn it is is counted from 0, `seconds` for a stall
    {"again": 20}                          a book of each asset of the last 20 sockets, all at once, and a sentinel
    {"drop": 20}                           cut the last 20 sockets
    {"mark": 20}                           a sentinel down each of them
    {"tell": 1}                            how it stands: see `Standing`
"""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.frames import Replay, read
from bench.pump import Peer, Pump, tell, wire
from polybus_protocol.books.book import OrderBook
from polybus_protocol.events import LastTradePrice, MarketEvent
from polybus_protocol.feeds.market import MarketDialect
from polybus_services.simulator import SimulatorOptions

SLOW_BYTES = SimulatorOptions().send_buffer_bytes
"""Unwritten bytes for one reader, besides what the kernel holds, that make it a slow one."""

KERNEL_BYTES = 128 * 1024
"""What the kernel may hold on our side, which by itself would let it grow to several megabytes: a tenth of a second of
a busy socket."""

TURN_S = 0.002
"""Seconds between two looks at what is due: ten frames at 5,000 a second, as the venue's come in handfuls."""

PROBE_EVERY_S = 0.02
"""Seconds from one probe to the next, each down another socket: fifty samples of the latency a second."""

MOST_AT_ONCE = 500
"""Frames of one turn: whoever comes meanwhile is not to wait for all that is overdue."""

LOST_FRAMES = 3
"""Frames left out, or spoilt, by one fault."""


class Standing(msgspec.Struct):
    """How the venue stands, as `tell` says it."""

    frames: int
    """Frames said so far, whether somebody heard them or not."""
    behind: int
    """Frames that are due and not said."""
    connections: int
    """Sockets that are subscribed to something."""
    assets: int
    """That somebody is subscribed to."""
    unsent: int
    """Bytes that wait for their readers."""
    slow: int
    """Readers closed with 1013 by the rule."""
    most_unsent: int
    """The most bytes that waited for one of the sockets that frames go to, since this was last told."""


class Reader(Peer):
    """A connection that may be stalled, may miss frames, and may be too slow."""

    def __init__(self, sock: socket.socket, replay: Replay, venue: "Venue") -> None:
        super().__init__(sock, replay)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)
        self.stalled_until = 0.0
        self.to_lose = 0
        self.to_spoil = 0
        self.is_ending = False
        self._venue = venue

    @property
    def wants_to_write(self) -> bool:
        """See `Peer`."""
        return bool(self.unsent) and time.monotonic() >= self.stalled_until

    def follow(self, message: dict[str, Any]) -> None:
        """See `Peer`."""
        super().follow(message)
        self._venue.has_news()

    def flush(self) -> None:
        """Write what the socket takes, unless there is a stall."""
        if time.monotonic() >= self.stalled_until:
            super().flush()

    def books(self, assets: list[str]) -> bytes:
        """The books of these assets as they stand, in one array."""
        return wire(b"[" + b",".join(self._venue.book(asset) for asset in assets) + b"]")

    def pass_on(self, text: bytes) -> bytes:
        """A frame as it goes out to this one: nothing if it is lost."""
        if self.to_lose:
            self.to_lose -= 1
            return b""
        if self.to_spoil:
            self.to_spoil -= 1
            return wire(text[: len(text) // 2])
        return wire(text)

    def close_slow(self) -> None:
        """End as the venue ends with a slow reader: what waits is discarded."""
        reason = b"\x03\xf5slow consumer: send buffer full"
        self.unsent = memoryview(bytes((0x88, len(reason))) + reason)
        self.assets.clear()
        self.is_ending = True
        self._venue.has_news()


class Venue(Pump):
    """See the module.

    Args:
        replay: what there is to replay.
    """

    def __init__(self, replay: Replay) -> None:
        super().__init__(replay)
        self._dialect = MarketDialect()
        self._books: dict[str, OrderBook] = {}
        self._trades: dict[str, str] = {}
        self._order: list[int] = []
        self._readers: list[Reader] = []
        self._of: dict[str, Reader] | None = None
        self._events = [self._read(frame.text) for frame in replay.frames]
        self._rate = 0.0
        self._begun = self._next_probe = time.monotonic()
        self._said = self._probes = self._slow = self._most_unsent = 0
        self._paced = sys.maxsize
        self._begin()

    def run(self) -> None:
        """Serve until standard input ends."""
        tell({"url": self.url})
        while True:
            if sys.stdin.fileno() in self.turn(TURN_S):
                line = sys.stdin.readline()
                if not line:
                    return
                tell(self.obey(msgspec.json.decode(line)))
            self._advance(time.monotonic())

    def greet(self, sock: socket.socket) -> Peer:
        """See `Pump`."""
        return Reader(sock, self.replay, self)

    def leave(self, peer: Peer) -> None:
        """See `Pump`."""
        super().leave(peer)
        self.has_news()

    def has_news(self) -> None:
        """Somebody is subscribed to something else than before."""
        self._of = None

    def book(self, asset: str) -> bytes:
        """An asset's book as it stands, as an element of the venue's; nothing that was never told is made up."""
        book = self._books[asset]
        first: dict[str, Any] = msgspec.json.decode(self.replay.books[asset])
        first |= {
            "timestamp": str(book.source_time),
            "hash": book.hash,
            "bids": [{"price": each.price, "size": each.size} for each in reversed(book.bids())],
            "asks": [{"price": each.price, "size": each.size} for each in reversed(book.asks())],
            "last_trade_price": self._trades.get(self.replay.markets[asset], first.get("last_trade_price")),
        }
        return msgspec.json.encode(first)

    # --- commands ----------------------------------------------------------------------------------

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Begin what was asked for; a replay goes on beside it."""
        readers = self._subscribed()
        if "go" in command:
            self._go(float(command["go"]), int(command.get("first", sys.maxsize)))
        elif "fault" in command:
            if not readers:
                return {"harmed": None}
            number = int(command["number"]) % len(readers)
            FAULTS[command["fault"]](self, readers[number], float(command.get("seconds", 0.0)))
            return {"harmed": number}
        elif "tell" in command:
            standing, self._most_unsent = self._standing(readers), 0
            return msgspec.to_builtins(standing)  # type: ignore[no-any-return]
        else:
            ((name, count),) = command.items()
            for reader in readers[-int(count) :]:
                if name == "drop":
                    self.leave(reader)
                    continue
                if name == "again":
                    # One frame for each, as after a mass of trades; an array of all would be one gulp.
                    reader.say(b"".join(reader.books([asset]) for asset in reader.assets))
                reader.say(reader.sentinel())
                self.serve(reader)
        return {"connections": len(readers)}

    def _go(self, rate: float, first: int) -> None:
        """Begin to replay."""
        self._paced = first
        self.has_news()
        wanted = {asset for reader in self._subscribed()[:first] for asset in reader.assets}
        self._order = [n for n, _ in self.replay.of(wanted)]
        self._rate, self._begun, self._said = rate, time.monotonic(), 0

    def _subscribed(self) -> list[Reader]:
        return [peer for peer in self.peers.values() if isinstance(peer, Reader) and peer.assets]

    def _standing(self, readers: list[Reader]) -> Standing:
        return Standing(
            self._said,
            self._due(time.monotonic()) - self._said,
            len(readers),
            len({asset for reader in readers for asset in reader.assets}),
            sum(len(reader.unsent) for reader in readers),
            self._slow,
            self._most_unsent,
        )

    # --- the replay --------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Every book is the first one."""
        self._trades.clear()
        for asset, text in self.replay.books.items():
            self._books[asset] = OrderBook()
            self._follow(self._read(text))

    def _read(self, text: bytes) -> list[MarketEvent]:
        return [event for _, event in self._dialect.read(text) if isinstance(event, MarketEvent)]

    def _follow(self, events: list[MarketEvent]) -> None:
        for event in events:
            self._books[event.asset].take(event)
            if isinstance(event, LastTradePrice):
                self._trades[event.market] = event.price

    def _due(self, now: float) -> int:
        return int((now - self._begun) * self._rate)

    def _advance(self, now: float) -> None:
        """Say what is due, and look who is too slow."""
        for peer in [each for each in self.peers.values() if isinstance(each, Reader) and each.is_ending]:
            if not peer.unsent:
                self.leave(peer)
        if not self._order:
            return
        if self._of is None:
            self._readers = self._subscribed()[: self._paced]
            self._of = {asset: reader for reader in self._readers for asset in reader.assets}
        readers, of = self._readers, self._of
        parts: dict[Reader, list[bytes]] = {}
        for number in range(self._said, min(self._due(now), self._said + MOST_AT_ONCE)):
            at = number % len(self._order)
            if at == 0 and number:
                self._begin()
                for reader in readers:
                    parts[reader] = [wire(self.replay.books[asset]) for asset in reader.assets]
            frame = self.replay.frames[self._order[at]]
            self._follow(self._events[self._order[at]])
            for whose in dict.fromkeys(of[asset] for asset in frame.assets if asset in of):
                parts.setdefault(whose, []).append(whose.pass_on(frame.text))
            self._said += 1
        if readers and now >= self._next_probe:
            self._next_probe = now + PROBE_EVERY_S
            self._probes += 1
            reader = readers[self._probes % len(readers)]
            parts.setdefault(reader, []).append(reader.probe())
        for reader, frames in parts.items():
            reader.say(b"".join(frames))
            self.serve(reader)
            self._judge(reader)

    def _judge(self, reader: Reader) -> None:
        """The rule for slow readers; one whom we have stalled ourselves is none."""
        if time.monotonic() < reader.stalled_until:
            return
        self._most_unsent = max(self._most_unsent, len(reader.unsent))
        if len(reader.unsent) > SLOW_BYTES:
            self._slow += 1
            reader.close_slow()
            self.serve(reader)


def _drop(venue: Venue, reader: Reader, _seconds: float) -> None:
    venue.leave(reader)


def _close(venue: Venue, reader: Reader, _seconds: float) -> None:
    reader.close_slow()
    venue.serve(reader)


def _stall(_venue: Venue, reader: Reader, seconds: float) -> None:
    reader.stalled_until = time.monotonic() + seconds


def _lose(_venue: Venue, reader: Reader, _seconds: float) -> None:
    reader.to_lose += LOST_FRAMES


def _spoil(_venue: Venue, reader: Reader, _seconds: float) -> None:
    reader.to_spoil += LOST_FRAMES


FAULTS: dict[str, Callable[[Venue, Reader, float], None]] = {
    "drop": _drop,
    "close-1013": _close,
    "stall": _stall,
    "lost-frame": _lose,
    "corrupt-frame": _spoil,
}
"""What may befall one connection, by the names of the simulator's."""


if __name__ == "__main__":
    Venue(read(Path(sys.argv[1]))).run()
