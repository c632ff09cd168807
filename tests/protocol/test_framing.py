"""The frame splitter says what wsproto alone would say, however the bytes are cut."""

import itertools
import struct
import zlib
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from polybus_protocol.errors import LocalProtocolError
from polybus_protocol.websocket.framing import Farewell, FrameStream, PeerClosed, ProtocolBroken

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1 = 0x80, 0x40

type Heard = tuple[list[bytes], Farewell | None]
"""The messages, and how it ended."""


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, mask: bytes = b"") -> bytes:
    """One frame by hand, with the shortest length that fits."""
    size, masked = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes([masked | size])
    elif size < 65536:
        length = struct.pack("!BH", masked | 126, size)
    else:
        length = struct.pack("!BQ", masked | 127, size)
    return bytes([(FIN if fin else 0) | rsv | opcode]) + length + mask + payload


def closing(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, struct.pack("!H", code) + reason)


def hear(stream: FrameStream, chunks: Iterable[bytes]) -> Heard:
    messages = [message for chunk in chunks for message in stream.receive(chunk)]
    return messages, stream.farewell


def read_by_server(data: bytes) -> list[Event]:
    """What a server makes of the bytes a client sent: the masks taken off."""
    server = Connection(ConnectionType.SERVER, trailing_data=data)
    return list(server.events())


def by_wsproto_alone(data: bytes) -> tuple[Heard, list[Event]]:
    """The reference: everything fed to wsproto, as its documentation has it; also what it would answer."""
    client = Connection(ConnectionType.CLIENT, trailing_data=data)
    messages: list[bytes] = []
    farewell: Farewell | None = None
    answers = bytearray()
    pieces: list[str | bytes] = []
    for event in client.events():
        match event:
            case Ping():
                answers += client.send(event.response())
            case TextMessage() | BytesMessage():
                pieces.append(event.data if isinstance(event.data, str) else bytes(event.data))
                if event.message_finished:
                    messages.append(b"".join(p.encode() if isinstance(p, str) else p for p in pieces))
                    pieces.clear()
            case CloseConnection(code=code, reason=reason):
                peer_closed = client.state is ConnectionState.REMOTE_CLOSING
                answers += client.send(event.response())
                kind = PeerClosed if peer_closed else ProtocolBroken
                farewell = kind(int(code), reason or "")
            case _:
                assert isinstance(event, Pong)
    return (messages, farewell), read_by_server(bytes(answers))


def pieces_of(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


# -- what a peer may send, as hypothesis draws it

WORDS = st.text(max_size=40)
PAYLOADS = st.one_of(
    WORDS, WORDS, st.sampled_from(["", "x" * 125, "x" * 126, "é" * 300, "x" * 65535, "x" * 65536])
)
CONTROLS = st.one_of(
    st.builds(frame, st.just(PING), st.binary(max_size=125)),
    st.builds(frame, st.just(PONG), st.binary(max_size=125)),
)


@st.composite
def fragmented(draw: st.DrawFn) -> list[bytes]:
    """A message in fragments, cut within characters too, with control frames between them."""
    opcode, payload = draw(
        st.one_of(
            st.tuples(st.just(TEXT), WORDS.map(str.encode)),
            st.tuples(st.just(BINARY), st.binary(max_size=40)),
        )
    )
    pieces = pieces_of(payload, draw(st.lists(st.integers(0, 40), min_size=1, max_size=4)))
    frames = []
    for index, piece in enumerate(pieces):
        frames += draw(st.lists(CONTROLS, max_size=2)) if index else []
        frames.append(frame(CONTINUATION if index else opcode, piece, fin=index == len(pieces) - 1))
    return frames


GOOD = st.one_of(
    st.builds(lambda text: [frame(TEXT, text.encode())], PAYLOADS),
    st.builds(lambda text: [frame(TEXT, text.encode())], PAYLOADS),
    st.builds(lambda data: [frame(BINARY, data)], st.binary(max_size=200)),
    CONTROLS.map(lambda control: [control]),
    fragmented(),
)

BROKEN = {
    "reserved bit": frame(TEXT, b"x", rsv=RSV1),
    "reserved bit on a long frame": frame(TEXT, b"x" * 500, rsv=0x20),
    "masked by a server": frame(TEXT, b"x", mask=b"1234"),
    "masked long frame": frame(TEXT, b"x" * 300, mask=b"1234"),
    "unknown opcode": frame(3, b"x"),
    "unknown control opcode": frame(11),
    "oversize control": frame(PING, b"x" * 126),
    "fragmented control": frame(PING, b"x", fin=False),
    "continuation of nothing": frame(CONTINUATION, b"x"),
    "text inside a message": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"),
    "binary inside a message": frame(TEXT, b"a", fin=False) + frame(BINARY, b"b"),
    "new fragments inside a message": frame(TEXT, b"a", fin=False) + frame(TEXT, b"b", fin=False),
    "16 bits for a short length": bytes([FIN | TEXT, 126, 0, 5]) + b"short",
    "64 bits for a short length": bytes([FIN | TEXT, 127]) + struct.pack("!Q", 5) + b"short",
    "64 bits for a 16-bit length": bytes([FIN | TEXT, 127]) + struct.pack("!Q", 65535) + b"x" * 65535,
    "no UTF-8 in fragments": frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"\xff"),
    "half a character at the end": frame(TEXT, b"ok", fin=False) + frame(CONTINUATION, b"\xc3"),
    "close with one byte": frame(CLOSE, b"\x03"),
    "close code out of range": closing(999),
    "close code not for the wire": closing(1006),
    "close code unassigned": closing(1099),
    "close reason no UTF-8": closing(1000, b"\xff"),
}
LAST = st.one_of(
    st.just(b""),
    st.sampled_from([frame(CLOSE), closing(1000), closing(1013, "slow consumer: é".encode()), closing(4003)]),
    st.sampled_from(sorted(BROKEN.values())),
)


# -- the splitter and wsproto agree


@settings(max_examples=120)
@given(
    st.lists(GOOD, max_size=12),
    LAST,
    st.lists(GOOD, max_size=2),
    st.lists(st.integers(0, 400_000), max_size=12),
)
def test_says_what_wsproto_would_say(
    good: list[list[bytes]], last: bytes, after: list[list[bytes]], cuts: list[int]
) -> None:
    """Same messages, pongs and closes in the same order, whatever the frames and wherever the chunks end."""
    wire = b"".join([*(part for parts in good for part in parts), last])
    if last:
        wire += b"".join(part for parts in after for part in parts)
    stream = FrameStream()

    heard = hear(stream, pieces_of(wire, cuts))

    assert (heard, read_by_server(stream.data_to_send())) == by_wsproto_alone(wire)


@pytest.mark.parametrize("wire", BROKEN.values(), ids=BROKEN.keys())
def test_broken_frames_break_the_connection(wire: bytes) -> None:
    """Each is refused as wsproto refuses it, after all that came before and before all that follows."""
    before, after = frame(TEXT, b"before"), frame(TEXT, b"after")

    for size in (1, len(before + wire + after)):
        stream = FrameStream()
        whole = before + wire + after
        heard = hear(stream, (whole[at : at + size] for at in range(0, len(whole), size)))

        assert heard[0] == [b"before"]
        assert isinstance(heard[1], ProtocolBroken)
        assert (heard, read_by_server(stream.data_to_send())) == by_wsproto_alone(whole)
        assert stream.receive(after) == []


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (frame(TEXT), b""),
        (frame(TEXT, b"x" * 125), b"x" * 125),
        (frame(TEXT, b"x" * 126), b"x" * 126),
        (frame(TEXT, b"x" * 65536), b"x" * 65536),
        (frame(BINARY, b"\xff"), b"\xff"),
        (frame(BINARY), b""),
        (frame(TEXT, b"a", fin=False) + frame(CONTINUATION), b"a"),
        (frame(TEXT, b"a", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"b"), b"ab"),
        (frame(BINARY, b"a", fin=False) + frame(CONTINUATION, b"b"), b"ab"),
        (frame(PONG, b"unasked"), None),
        (frame(CLOSE), PeerClosed(1005, "")),
        (closing(1013, b"slow consumer"), PeerClosed(1013, "slow consumer")),
    ],
)
def test_kinds_of_frames(wire: bytes, expected: bytes | PeerClosed | None) -> None:
    """Each kind of frame, between two plain ones, cut at every byte of its beginning and end."""
    plain = frame(TEXT, b"plain")
    whole = plain + wire + plain
    said = [expected] if isinstance(expected, bytes) else []
    over = expected if isinstance(expected, PeerClosed) else None
    following = [] if over else [b"plain"]

    for cut in [*range(min(len(whole), 40)), *range(max(len(whole) - 40, 0), len(whole))]:
        assert hear(FrameStream(), [whole[:cut], whole[cut:]]) == ([b"plain", *said, *following], over)


def test_a_plain_frame_is_not_decoded() -> None:
    """Text that is not UTF-8 passes in a plain frame: that is for the JSON decoder to refuse."""
    assert FrameStream().receive(frame(TEXT, b"\xff")) == [b"\xff"]


# -- what is sent


def test_pings_are_answered_once() -> None:
    """One pong with the same payload per ping, handed out a single time."""
    stream = FrameStream()
    stream.receive(frame(PING, b"one") + frame(PING, b"two"))

    assert read_by_server(stream.data_to_send()) == [Pong(b"one"), Pong(b"two")]
    assert stream.data_to_send() == b""


def test_text_is_masked() -> None:
    """A server takes what `text` wrote, whatever its length."""
    for message in ("", "PING", "é" * 40_000):
        sent = FrameStream().text(message)
        received = "".join(event.data for event in read_by_server(sent) if isinstance(event, TextMessage))

        assert sent[1] & 0x80
        assert received == message


def test_we_close_and_the_peer_answers() -> None:
    """Messages arrive until the peer's close frame; nothing is sent after ours, not even a pong."""
    stream = FrameStream()

    assert read_by_server(stream.close(1000, "bye")) == [CloseConnection(1000, "bye")]
    assert stream.close() == b""
    with pytest.raises(LocalProtocolError):
        stream.text("too late")
    assert hear(stream, [frame(TEXT, b"still") + frame(PING) + closing(1000)]) == (
        [b"still"],
        PeerClosed(1000, ""),
    )
    assert stream.data_to_send() == b""


def test_the_peer_closes_and_we_answer() -> None:
    """Its code is echoed; from then on the connection is deaf and dumb."""
    stream = FrameStream()

    assert hear(stream, [closing(1001, b"moving")]) == ([], PeerClosed(1001, "moving"))
    assert read_by_server(stream.data_to_send()) == [CloseConnection(1001, "moving")]
    assert stream.receive(frame(TEXT, b"late")) == []
    assert stream.close() == b""
    with pytest.raises(LocalProtocolError):
        stream.text("too late")


# -- bounds


@pytest.mark.parametrize(
    "wire",
    [
        frame(TEXT, b"x" * 126)[:4],
        frame(TEXT, b"x" * 70_000)[:10],
        bytes([FIN | TEXT, 127]) + struct.pack("!Q", 2**62),
        frame(BINARY, b"x" * 126)[:4],
        frame(TEXT, b"x" * 60, fin=False)
        + frame(PING, b"?" * 125)
        + frame(CONTINUATION, b"x" * 60, fin=False)[:2],
    ],
)
def test_too_big_a_message_is_refused_by_its_header(wire: bytes) -> None:
    """One byte over the limit breaks the connection before the payload comes; so do fragments that add up."""
    stream = FrameStream(max_message_bytes=101)

    assert hear(stream, [wire]) == ([], ProtocolBroken(1009, "a message of more than 101 bytes"))
    assert read_by_server(stream.data_to_send())[-1] == CloseConnection(
        1009, "a message of more than 101 bytes"
    )


def test_the_largest_message_is_taken() -> None:
    """The limit itself is allowed, whole and in fragments, and nothing adds up from message to message."""
    stream = FrameStream(max_message_bytes=100)
    half, whole = b"x" * 50, b"x" * 100
    fragments = frame(TEXT, half, fin=False) + frame(CONTINUATION, half, fin=False) + frame(CONTINUATION)

    assert stream.receive((frame(TEXT, whole) + fragments) * 3) == [whole] * 6


def test_control_frames_do_not_count() -> None:
    """The limit is for messages: a ping is answered whatever the limit, also inside a message that reaches it."""
    stream = FrameStream(max_message_bytes=100)
    ping = frame(PING, b"?" * 125)

    assert stream.receive(ping + frame(TEXT, b"x" * 100, fin=False) + ping + frame(CONTINUATION)) == [
        b"x" * 100
    ]
    assert read_by_server(stream.data_to_send()) == [Pong(b"?" * 125)] * 2


def test_a_malformed_header_outranks_its_size() -> None:
    """A frame that is both malformed and too big is a protocol error (1002), as wsproto has it."""
    stream = FrameStream(max_message_bytes=100)
    messages, broken = hear(stream, [frame(TEXT, b"x" * 200, rsv=RSV1)])

    assert messages == []
    assert isinstance(broken, ProtocolBroken)
    assert broken.code == 1002


# -- compression, should a handshake ever agree on it


def deflated(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\x00\x00\xff\xff")


def deflating() -> PerMessageDeflate:
    extension = PerMessageDeflate()
    extension.finalize("permessage-deflate; server_no_context_takeover")
    return extension


def test_compressed_messages_are_inflated() -> None:
    """They come out as text, beside plain ones, however they are cut."""
    wire = frame(TEXT, b"plain") + frame(TEXT, deflated(b"a" * 1000), rsv=RSV1) + frame(TEXT, b"plain")

    for cut in range(len(wire)):
        stream = FrameStream(extensions=[deflating()])
        assert hear(stream, [wire[:cut], wire[cut:]]) == ([b"plain", b"a" * 1000, b"plain"], None)


def test_inflating_stays_under_the_limit() -> None:
    """A small frame that inflates to a large message is refused like a large one."""
    stream = FrameStream(max_message_bytes=10_000, extensions=[deflating()])

    messages, broken = hear(stream, [frame(TEXT, deflated(b"a" * 20_000), rsv=RSV1)])

    assert messages == []
    assert isinstance(broken, ProtocolBroken)
    assert broken.code == 1009
