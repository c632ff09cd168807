"""A subscriber that notes when messages came, with as little of its own between the socket and the clock as can be."""

import re
import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from bench.pump import PROBE, SENTINEL

_HEAD = re.compile(rb"MSG (\S+) (\d+) (?:\S+ )?(\d+)\r\n")
_PROBE = re.compile(rb'"best_ask":"0\.(\d+)","spread":"%b"' % re.escape(PROBE).encode())


class Listener:
    """One connection to NATS, read by a thread of its own.

    Args:
        url: of NATS.
        subjects: what to listen to, besides sentinels.
        on_message: called with the subject and `time.monotonic_ns()` when its bytes had come.
        on_probe: called with what each probe says, see `bench.venue`, and with the same.
    """

    def __init__(
        self,
        url: str,
        subjects: list[str] | None = None,
        on_message: Callable[[bytes, int], None] | None = None,
        on_probe: Callable[[int, int], None] | None = None,
    ) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        assert where.port is not None
        self._socket = socket.create_connection((where.hostname, where.port))
        self._on_message = on_message
        self._on_probe = on_probe
        self._sentinels = threading.Semaphore(0)
        wanted = ["polymarket.v1.market.*.*.best_bid_ask", *(subjects or [])]
        lines = "".join(f"SUB {subject} {n}\r\n" for n, subject in enumerate(wanted))
        self._socket.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n' + lines.encode() + b"PING\r\n")
        self.last_sentinel_ns = 0
        """When the last sentinel came."""
        self._subscribed = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._subscribed.wait(10)

    def wait(self, sentinels: int, timeout_s: float) -> None:
        """Wait until so many more sentinels came.

        Raises:
            TimeoutError: they did not.
        """
        for _ in range(sentinels):
            if not self._sentinels.acquire(timeout=timeout_s):
                raise TimeoutError(f"a sentinel did not come out within {timeout_s:g} s")

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def _read(self) -> None:
        held = b""
        try:
            while data := self._socket.recv(1 << 20):
                held = self._take(held + data, time.monotonic_ns())
        except OSError:
            pass  # closed by us

    def _take(self, data: bytes, now: int) -> bytes:
        """Take in whole messages; returns what is left over."""
        at = 0
        while (end := data.find(b"\r\n", at)) >= 0:
            head = _HEAD.match(data, at)
            if head is None:
                line = data[at:end]
                if line == b"PING":
                    self._socket.sendall(b"PONG\r\n")
                elif line == b"PONG":
                    self._subscribed.set()
                at = end + 2
                continue
            stop = head.end() + int(head[3])
            if len(data) < stop + 2:
                break
            if head[2] != b"0":
                assert self._on_message is not None
                self._on_message(head[1], now)
            elif SENTINEL.encode() in data[head.end() : stop]:
                self.last_sentinel_ns = now
                self._sentinels.release()
            elif self._on_probe is not None and (probe := _PROBE.search(data, head.end(), stop)) is not None:
                self._on_probe(int(probe[1]), now)
            at = stop + 2
        return data[at:]
