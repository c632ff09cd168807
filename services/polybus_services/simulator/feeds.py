"""The words between a feed's manners and the server that carries them.

A feed has two halves.  Its *manners* speak with one client: text in, answers out.  The feed itself turns
facts of the exchange into frames and says who is to have them.  Neither does I/O: the server writes, the
faults meddle and the ledger counts, whatever the feed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Literal, Protocol

import msgspec
from wsproto.frame_protocol import FrameProtocol

from polybus_services.simulator.facts import Happening

_FRAMES = FrameProtocol(client=False, extensions=[])
# Server frames are not masked and we send none in pieces, so one writer without state serves every connection.


def wire_text(text: str) -> bytes:
    """A whole WebSocket text frame, as a server sends it."""
    return bytes(_FRAMES.send_data(text))


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event about one subject, as JSON."""

    subject: str
    """Market feed: the asset id, or the condition id for what concerns a whole market.  Other feeds: the ids in
    polybus's subject, such as "alice/0x12" or "crypto/btcusd"."""
    kind: str
    """The event's type: the last token of polybus's subject."""
    text: str


class Frame:
    """One text frame with the events in it; written once, whoever gets it.

    `prefix`, the entries' texts with commas between them, and `suffix` make up the text.
    """

    __slots__ = ("_wire", "entries", "prefix", "suffix")

    def __init__(self, entries: tuple[Entry, ...], prefix: str = "", suffix: str = "") -> None:
        self.entries = entries
        self.prefix = prefix
        self.suffix = suffix
        self._wire: bytes | None = None

    @property
    def text(self) -> str:
        """What a client reads."""
        return self.prefix + ",".join([entry.text for entry in self.entries]) + self.suffix

    def wire(self) -> bytes:
        """The WebSocket frame around it."""
        if self._wire is None:
            self._wire = wire_text(self.text)
        return self._wire

    def without(self, subjects: Collection[str]) -> "Frame | None":
        """The same frame with nothing about these subjects; None if nothing is left."""
        entries = tuple(entry for entry in self.entries if entry.subject not in subjects)
        if len(entries) == len(self.entries):
            return self
        return Frame(entries, self.prefix, self.suffix) if entries else None


class Say(msgspec.Struct, frozen=True):
    """A plain word, such as PONG.  Not data: a stalled connection still says it."""

    text: str


class Close(msgspec.Struct, frozen=True):
    """End the WebSocket with this code."""

    code: int
    reason: str


class ProtocolPing(msgspec.Struct, frozen=True):
    """A WebSocket ping, which any client's library answers by itself."""


class Cut(msgspec.Struct, frozen=True):
    """End the TCP connection without a close frame."""

    reason: str
    """For the ledger."""


Answer = Say | Close | Frame | ProtocolPing | Cut

AuthFate = Literal["admit", "silent", "4001"]
"""What the faults make of an attempt to authenticate."""

Gate = Callable[[str], AuthFate]
"""Asked at each attempt, with the connection's id."""


def admit_all(_connection: str) -> AuthFate:
    """A gate without faults."""
    return "admit"


class Manners(Protocol):
    """How a feed behaves to one client.  A feed says what differs from what stands here."""

    stale: bool = False
    """Whether data no longer reaches the client though the socket is open; there is no way back."""

    def follows(self, subject: str) -> bool:  # noqa: ARG002 - for those that need it
        """Whether an entry about this is meant for the client; any other is only the mirror image of one."""
        return True

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame of the client; the answers, in order.  After a `Close` nothing more comes."""
        ...

    def receive_pong(self) -> None:
        """The client's library answered a `ProtocolPing`."""
        return

    def tick(self, now_ms: int) -> Iterable[Answer]:  # noqa: ARG002 - for those that need it
        """Do what time alone brings.  Called some sixty times a second, so it must cost nothing."""
        return ()

    def neglect(self, after_s: float, now_ms: int) -> None:  # noqa: ARG002 - for those that need it
        """Go stale, if this client has been silent for so long and its feed knows such a state."""
        return

    def address(self, frame: Frame) -> Frame:
        """The frame as this client reads it.  Called once for each that is sent, in order."""
        return frame

    def lose(self, frame: Frame, *, told: bool, counted: bool) -> None:  # noqa: ARG002 - for those that need it
        """This frame is not going to be sent.

        Args:
            frame: as it was published.
            told: the next one says that it is missing.
            counted: it uses up a number.
        """
        return

    def made_up(self, subject: str, number: int) -> str:
        """An event of a type that no client knows."""
        return f'{{"event_type":"{FUTURE}","asset_id":"{subject}","number":{number}}}'

    def leave(self) -> None:
        """The connection is over: nothing more is published to it."""
        ...


FUTURE = "some_future_event"
"""What events of an unknown type are called."""

Publication = tuple[Frame | Say, Iterable[Manners]]
"""What is said, and to whom."""


class Feed(Protocol):
    """One upstream protocol of the venue."""

    name: str
    paths: tuple[str, ...]
    """Of the WebSocket; the first is the one to tell."""
    arrays: bool
    """Whether it sends several events in one array."""

    def greet(self, connection: str = "", now_ms: int = 0) -> Manners:
        """A client connected.

        Args:
            connection: its id.
            now_ms: the venue's clock.
        """
        ...

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say what happened in this feed's frames, in order, each with those who are to have it."""
        ...
