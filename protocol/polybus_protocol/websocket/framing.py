"""WebSocket frames: from received chunks to whole messages, and back.

After the upgrade the venue's servers send almost nothing but unmasked, unfragmented, uncompressed text.
Those *plain* frames are cut here, as slices of the chunk they came in.  Every other frame (control,
fragmented, binary, compressed, masked, malformed, or text inside an unfinished message) is lent to
wsproto, which alone decides what it means: nothing is validated twice, and nothing is guessed.

No message is interpreted here: text is handed on as undecoded bytes.
"""

from collections.abc import Iterable
from typing import Final

import msgspec
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason

from ..errors import LocalProtocolError

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
"""Largest message taken.  The first frame after subscribing is one array with all the books asked for, so it
must lie well above 1 MiB; a public recorder of the feed takes 2 MiB.  We ask for at most 100 assets in one
frame: with every price of a 0.001 grid occupied, at some 40 bytes a level, their answer would be 4 MB.  Four
times that is room enough for a change of manners, and still harmless to a process with ten connections."""

_PLAIN: Final = 0x81
"""First byte of a plain frame: FIN set, no reserved bit, opcode 1 (text).  RFC 6455, section 5.2."""

_MASKED: Final = 0x80
"""Bit of the second byte that announces a masking key, which no server may send.  RFC 6455, section 5.1."""

_CONTROL: Final = 0x08
"""Bit of the first byte that marks ping, pong and close; they may stand inside a fragmented message."""


class PeerClosed(msgspec.Struct, frozen=True):
    """The peer's close frame: nothing follows.

    Our answer, if one is due, is in `data_to_send`; drop the connection once that is written.
    """

    code: int
    """Close code as received; 1005 when the frame carried none.  RFC 6455, section 7.4."""
    reason: str


class ProtocolBroken(msgspec.Struct, frozen=True):
    """The peer broke the WebSocket protocol, or announced too large a message: nothing follows.

    The close frame that says so is in `data_to_send`; write it and drop the connection, without waiting for
    an answer that could no longer be read.
    """

    code: int
    """The close code we send: 1002 malformed, 1007 text that is not UTF-8, 1009 too big."""
    reason: str


type Farewell = PeerClosed | ProtocolBroken
"""How a connection ended."""


class FrameStream:
    """The frames of one client connection, from the upgrade to the close.

    It never touches a socket: give `receive` each chunk as it was read (the bytes that came with the 101
    first), then write what `data_to_send` hands out.

    Memory is bounded whatever the peer does: at most one unfinished message, twice while it is completed.
    With `permessage-deflate` one chunk may inflate to about a thousand times its size before it is refused.

    Args:
        max_message_bytes: the largest message taken; larger ones break the connection with 1009 as soon as
            their length is announced.
        extensions: what the handshake agreed on, in wsproto's form; only `permessage-deflate` is known to
            work, because plain frames never pass through them.
    """

    def __init__(
        self, *, max_message_bytes: int = MAX_MESSAGE_BYTES, extensions: Iterable[Extension] = ()
    ) -> None:
        self.farewell: Farewell | None = None
        """How the connection ended, once it did."""
        self._max_message_bytes = max_message_bytes
        self._wsproto = Connection(ConnectionType.CLIENT, list(extensions))
        self._outgoing = bytearray()
        # The beginning of a frame that cannot be cut yet, and how long it must grow until it can.
        self._held = bytearray()
        self._needed = 0
        # How many bytes of the current frame wsproto still has to get.
        self._owed = 0
        # The unfinished message that wsproto reads for us.  Until it is finished, no frame is plain.
        self._unfinished: bytearray | None = None

    def receive(self, data: bytes) -> list[bytes]:
        """Take in one chunk, cut anywhere.

        What the peer must be told (pongs, the close frame) is in `data_to_send` afterwards.  The end of the
        stream without a close frame is the caller's to notice (code 1006 by convention).

        Returns:
            The messages that the chunk completed, in order; nothing once there is a `farewell`.
            Binary ones, which no feed of the venue sends, are no different: should one hold JSON, it is better read
            than refused.  Text of plain frames is *not* known to be UTF-8: checking it would cost another look at
            every byte.  The JSON decoder refuses a bad string where it reads one (msgspec with
            `UnicodeDecodeError`), but not in fields it skips, nor in `msgspec.Raw`.
        """
        if self.farewell is not None:
            return []
        if self._held:
            if len(self._held) + len(data) < self._needed:
                self._held += data
                return []
            data = b"".join((self._held, data))
            self._held = bytearray()
        return self._cut(data)

    def data_to_send(self) -> bytes:
        """Hand out the pongs and close frames that receiving called for; each is handed out once."""
        outgoing = bytes(self._outgoing)
        self._outgoing.clear()
        return outgoing

    def text(self, message: str) -> bytes:
        """One text message, as the masked frame to write.

        Raises:
            LocalProtocolError: a close frame has been sent or received; nothing may follow it.
        """
        if self._wsproto.state is not ConnectionState.OPEN:
            raise LocalProtocolError("the connection is closing or closed: no more messages can be sent")
        return self._wsproto.send(TextMessage(message))

    def close(self, code: int = CloseReason.NORMAL_CLOSURE, reason: str = "") -> bytes:
        """Begin to close: the frame to write; nothing if a close frame has been sent before.

        Messages may still arrive until the peer answers with `PeerClosed`.
        """
        if self._wsproto.state is not ConnectionState.OPEN:
            return b""
        return self._wsproto.send(CloseConnection(code, reason))

    def _cut(self, data: bytes) -> list[bytes]:
        """The hot path of the whole gateway: some hundred nanoseconds a frame, most of it the copying."""
        received: list[bytes] = []
        at = self._lend(data, 0, received) if self._owed else 0
        end, needed = len(data), 2
        maximum = self._max_message_bytes
        plain = _PLAIN if self._unfinished is None else None
        while end - at >= 2:
            second = data[at + 1]
            length = second & 0x7F
            start, shortest = at + 2, 0
            if length == 126:
                start, shortest = at + 4, 126
                length = data[at + 2] << 8 | data[at + 3] if start <= end else 0
            elif length == 127:
                start, shortest = at + 10, 65536
                length = int.from_bytes(data[at + 2 : start])
            if start > end:
                break
            if data[at] == plain and second < _MASKED and shortest <= length <= maximum:
                stop = start + length
                if stop > end:
                    needed = stop - at
                    break
                received.append(data[start:stop])
                at = stop
            elif not data[at] & _CONTROL and length > maximum - len(self._unfinished or b""):
                self._refuse(data[at:start], received)
                return received
            else:
                self._owed = start - at + length
                at = self._lend(data, at, received)
                plain = _PLAIN if self._unfinished is None else None
        if at < end:
            self._held += data[at:]
            self._needed = needed
        return received

    def _lend(self, data: bytes, at: int, received: list[bytes]) -> int:
        """Give wsproto what it is owed of its frame and append what it makes of it.

        wsproto buffers what it cannot use yet, so a frame may be lent in pieces, but never a byte of the next.

        Returns:
            Where to go on in the data; its end when the connection is over.
        """
        stop = min(at + self._owed, len(data))
        self._owed -= stop - at
        self._wsproto.receive_data(data[at:stop])
        for event in self._wsproto.events():
            match event:
                case TextMessage() | BytesMessage():
                    received += self._grow(event)
                case Ping() if self._wsproto.state is ConnectionState.OPEN:
                    self._outgoing += self._wsproto.send(event.response())
                case CloseConnection(code=code, reason=reason):
                    self._end(event, int(code), reason or "")
                case _:  # A pong, asked for by nobody; or a ping after our close frame, the last we may send.
                    pass
            if self.farewell is not None:
                return len(data)
        return stop

    def _refuse(self, header: bytes, received: list[bytes]) -> None:
        """Break off at the header of a message that is too big, unless wsproto has a graver objection to it."""
        self._owed = len(header)
        self._lend(header, 0, received)
        if self.farewell is None:
            self._break_off(CloseReason.MESSAGE_TOO_BIG, self._too_big())

    def _grow(self, piece: TextMessage | BytesMessage) -> list[bytes]:
        """Add a piece to the unfinished message; return the message once it is whole."""
        if self._unfinished is None:
            self._unfinished = bytearray()
        self._unfinished += piece.data.encode() if isinstance(piece, TextMessage) else piece.data
        if len(self._unfinished) > self._max_message_bytes:  # Inflating can make it longer than announced.
            self._break_off(CloseReason.MESSAGE_TOO_BIG, self._too_big())
            return []
        if not piece.message_finished:
            return []
        whole, self._unfinished = bytes(self._unfinished), None
        return [whole]

    def _end(self, event: CloseConnection, code: int, reason: str) -> None:
        # wsproto says with one event that the peer closed and that the peer erred; only its state tells which.
        if self._wsproto.state not in (ConnectionState.REMOTE_CLOSING, ConnectionState.CLOSED):
            self._break_off(code, reason)
            return
        self.farewell = PeerClosed(code, reason)
        if self._wsproto.state is ConnectionState.REMOTE_CLOSING:
            self._outgoing += self._wsproto.send(event.response())

    def _break_off(self, code: int, reason: str) -> None:
        self.farewell = ProtocolBroken(code, reason)
        self._outgoing += self.close(code, reason)

    def _too_big(self) -> str:
        return f"a message of more than {self._max_message_bytes} bytes"
