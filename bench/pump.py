"""The venue, as far as a measurement needs it: answers subscriptions with books, and replays frames when told.

It writes what was made before to real sockets: as fast as they are read, or at a pace.  One process, one thread,
commands on standard input, one JSON line on standard output for each:

    {"mark": 1}                            a sentinel down each connection
    {"first": 0, "last": 50000}            these frames, as fast as they are read, then a sentinel
    {"first": 0, "last": 50000, "rate": 5000, "times": "file"}   at a pace; when each was written goes into the file
    {"burst": 2}                           the first books of all assets at once, twice

A sentinel is a `best_bid_ask` with a `spread` that no book has: what comes out behind it came in before it.
"""

import contextlib
import selectors
import socket
import sys
import time
from array import array
from pathlib import Path
from typing import Any

import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

from bench.frames import Replay, read

SENTINEL = "0.424242"
"""The `spread` of a sentinel."""

PROBE = "0.434343"
"""The `spread` of a probe, whose `best_ask` says when it was written: monotonic microseconds after the point."""

CHUNK_BYTES = 256 * 1024
"""Written at once: enough to keep the reader busy, little enough to serve the other sockets in between."""

TICK_S = 0.0005
"""Seconds between two looks at the clock of a paced replay; what fell due meanwhile is written at once."""


class Peer:
    """One connection, from our side."""

    def __init__(self, sock: socket.socket, replay: Replay) -> None:
        self.socket = sock
        self.assets: dict[str, None] = {}
        self.unsent = memoryview(b"")
        self._replay = replay
        self._protocol = WSConnection(ConnectionType.SERVER)

    @property
    def wants_to_write(self) -> bool:
        """Whether it is to be told when its socket takes more."""
        return bool(self.unsent)

    def receive(self, data: bytes) -> None:
        """Take in what the subject says, and queue what it is answered with."""
        self._protocol.receive_data(data)
        for event in self._protocol.events():
            match event:
                case Request():
                    self.say(self._protocol.send(AcceptConnection()))
                case TextMessage(data="PING"):
                    self.say(wire(b"PONG"))
                case TextMessage(data=text):
                    self.follow(msgspec.json.decode(text, type=dict[str, Any]))
                case Ping():
                    self.say(self._protocol.send(event.response()))
                case CloseConnection():
                    with contextlib.suppress(Exception):
                        self.say(self._protocol.send(event.response()))
                case _:
                    pass

    def say(self, data: bytes | memoryview) -> None:
        """Queue, behind what is queued."""
        self.unsent = memoryview(b"".join((self.unsent, data)) if self.unsent else data)

    def flush(self) -> None:
        """Write what the socket takes."""
        with contextlib.suppress(BlockingIOError):
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent[:CHUNK_BYTES]) :]

    def sentinel(self) -> bytes:
        """The frame that tells that all before it came out."""
        return self._top("0.9", SENTINEL)

    def probe(self) -> bytes:
        """A frame that says when it was written."""
        return self._top(f"0.{time.monotonic_ns() // 1000}", PROBE)

    def _top(self, best_ask: str, spread: str) -> bytes:
        asset = next(iter(self.assets))
        text = (
            f'{{"market":"{self._replay.markets[asset]}","asset_id":"{asset}","best_bid":"0.1","best_ask":"{best_ask}",'
            f'"spread":"{spread}","timestamp":"1","event_type":"best_bid_ask"}}'
        )
        return wire(text.encode())

    def books(self, assets: list[str]) -> bytes:
        """The first books of these assets, in one array as the venue sends them."""
        known = [self._replay.books[asset] for asset in assets if asset in self._replay.books]
        return wire(b"[" + b",".join(known) + b"]")

    def follow(self, message: dict[str, Any]) -> None:
        """Take in a message of the subject's: what it wants to hear of, or no more."""
        assets: list[str] = message.get("assets_ids", [])
        if message.get("operation") == "unsubscribe":
            for asset in assets:
                self.assets.pop(asset, None)
        else:
            self.assets |= dict.fromkeys(assets)
            self.say(self.books(assets))


class Pump:
    """See the module.

    Args:
        replay: what there is to replay.
    """

    def __init__(self, replay: Replay) -> None:
        self.replay = replay
        self.peers: dict[socket.socket, Peer] = {}
        self._selector = selectors.DefaultSelector()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self._listener.settimeout(0)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._frames = [wire(frame.text) for frame in replay.frames]

    @property
    def url(self) -> str:
        """Where the market feed is."""
        return f"ws://127.0.0.1:{self._listener.getsockname()[1]}/ws/market"

    def run(self) -> None:
        """Serve until standard input ends."""
        tell({"url": self.url})
        while True:
            if sys.stdin.fileno() in self.turn(None):
                line = sys.stdin.readline()
                if not line:
                    return
                tell(self.obey(msgspec.json.decode(line)))

    def turn(self, timeout_s: float | None) -> set[Any]:
        """Read what came, write what can be written; returns what was ready."""
        ready = set()
        for key, events in self._selector.select(timeout_s):
            ready.add(key.fileobj)
            if key.fileobj is self._listener:
                sock, _ = self._listener.accept()
                sock.settimeout(0)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.peers[sock] = self.greet(sock)
                self._selector.register(sock, selectors.EVENT_READ)
            elif isinstance(key.fileobj, socket.socket):
                self.serve(self.peers[key.fileobj], events)
        return ready

    def greet(self, sock: socket.socket) -> Peer:
        """Somebody has come."""
        return Peer(sock, self.replay)

    def leave(self, peer: Peer) -> None:
        """Let go of somebody, without a word."""
        peer.unsent = memoryview(b"")
        if self.peers.pop(peer.socket, None) is not None:
            self._selector.unregister(peer.socket)
            peer.socket.close()

    def serve(self, peer: Peer, events: int = 0) -> None:
        """Read what there is, if there is, and write what can be written."""
        try:
            if events & selectors.EVENT_READ:
                data = peer.socket.recv(65536)
                if not data:
                    raise ConnectionResetError
                peer.receive(data)
            peer.flush()
        except OSError:
            self.leave(peer)
            return
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if peer.wants_to_write else 0)
        self._selector.modify(peer.socket, wanted)

    def obey(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what was asked for, to the end."""
        peers = [peer for peer in self.peers.values() if peer.assets]
        begun = time.monotonic_ns()
        if "burst" in command:
            for peer in peers:
                assets = list(peer.assets)
                # One frame for each, as after a mass of trades; an array of all would be one gulp.
                books = b"".join(peer.books([asset]) for asset in assets)
                peer.say(books * int(command["burst"]) + peer.sentinel())
        elif "rate" in command:
            self._pace(peers, command)
        else:
            for peer in peers:
                first, last = command.get("first", 0), command.get("last", 0)
                own = [self._frames[n] for n, _ in self.replay.of(peer.assets) if first <= n < last]
                peer.say(b"".join((*own, peer.sentinel())))
            begun = time.monotonic_ns()
        for peer in peers:
            self.serve(peer)
        while any(peer.unsent for peer in peers):
            self.turn(None)
        return {"connections": len(peers), "begun": begun, "ended": time.monotonic_ns()}

    def _pace(self, peers: list[Peer], command: dict[str, Any]) -> None:
        """Write frames when they are due, and note when each was."""
        rate, first, last = float(command["rate"]), int(command["first"]), int(command["last"])
        reader = {asset: peer for peer in peers for asset in peer.assets}
        times = array("q", bytes(8 * (last - first)))
        at, begun = first, time.monotonic()
        while at < last:
            due = min(last, first + int((time.monotonic() - begun) * rate) + 1)
            parts: dict[Peer, list[bytes]] = {}
            for n in range(at, due):
                parts.setdefault(reader[self.replay.frames[n].assets[0]], []).append(self._frames[n])
            now = time.monotonic_ns()
            for peer, frames in parts.items():
                peer.say(b"".join(frames))
                peer.flush()
            times[at - first : due - first] = array("q", [now] * (due - at))
            at = due
            self.turn(0)
            time.sleep(TICK_S)
        Path(command["times"]).write_bytes(times.tobytes())
        for peer in peers:
            peer.say(peer.sentinel())


def wire(text: bytes) -> bytes:
    """A whole text frame, as a server sends it: not masked, not compressed, in one piece."""
    length = len(text)
    if length < 126:
        return bytes((0x81, length)) + text
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2) + text
    return b"\x81\x7f" + length.to_bytes(8) + text


def tell(answer: dict[str, Any]) -> None:
    """One line to whoever started us."""
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    Pump(read(Path(sys.argv[1]))).run()
