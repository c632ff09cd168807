"""An open WebSocket: its bytes, its frames, and what is still to be written to it."""

from collections import deque
from collections.abc import Iterable

import anyio
from anyio.abc import ByteStream

from polybus_protocol.websocket.framing import FrameStream

CHUNK_BYTES = 256 * 1024
"""Largest chunk read at once: as much as asyncio reads, or it would be cut in two.  That is some four hundred frames, ten
milliseconds of work, and comes only where as much has piled up.  What NATS is handed after each chunk drives the books out
of the processor's caches: with half of it, a frame costs 2 to 6 % more."""

RUDE_CLOSE_S = 0.1
"""Seconds for the last frames where nobody waits for the peer's answer: they fit into the socket's buffer."""


class Wire:
    """See the module.

    What waits to be written is bounded by what a session has to say of its keys; a peer that takes nothing in is noticed
    by the session's watchdogs.

    Args:
        stream: the bytes.
        frames: their frames.
        trailing: the bytes that came with the upgrade.
    """

    def __init__(self, stream: ByteStream, frames: FrameStream, trailing: bytes) -> None:
        self.stream = stream
        self.frames = frames
        self.trailing = trailing
        self._unsent: deque[bytes] = deque()
        self._has_unsent = anyio.Event()

    def say(self, messages: Iterable[str]) -> None:
        """Have these written, after the pongs and close frames that are due."""
        if due := self.frames.data_to_send():
            self._unsent.append(due)
        self._unsent += map(self.frames.text, messages)
        if self._unsent:
            self._has_unsent.set()

    async def write(self, interval_s: float) -> None:
        """Write what there is to say, until the connection breaks, which the reader is told as well.

        Args:
            interval_s: seconds from one message to the next; with none, all that is there goes out at once.
        """
        while True:
            await self._has_unsent.wait()
            self._has_unsent = anyio.Event()
            while self._unsent:
                chunk = self._unsent.popleft()
                if not interval_s:
                    # What is taken back and asked for again arrives together: nothing is said in between.
                    chunk += b"".join(self._unsent)
                    self._unsent.clear()
                try:
                    await self.stream.send(chunk)
                except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return
                await anyio.sleep(interval_s)

    async def close(self, timeout_s: float, *, polite: bool) -> None:
        """Say goodbye if there is somebody to say it to, and let go of the socket.

        Args:
            timeout_s: seconds to wait for the peer's own goodbye.
            polite: whether to wait for it at all.
        """
        with anyio.move_on_after(timeout_s if polite else RUDE_CLOSE_S):
            try:
                await self.stream.send(
                    b"".join(self._unsent) + self.frames.data_to_send() + self.frames.close(1000)
                )
                while polite and self.frames.farewell is None:
                    self.frames.receive(await self.stream.receive(CHUNK_BYTES))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
                pass
        await anyio.aclose_forcefully(self.stream)
