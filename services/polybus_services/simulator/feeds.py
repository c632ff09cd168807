"""The words between a feed's manners and the server that carries them.

A feed has two halves.  Its *manners* speak with one client: text in, answers out.  The feed itself turns
facts of the exchange into frames and says who is to have them.  Neither does I/O: the server writes, the
faults meddle and the ledger counts, whatever the feed.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Protocol

import msgspec
from wsproto.frame_protocol import FrameProtocol

from polybus_services.simulator.facts import Fact

_FRAMES = FrameProtocol(client=False, extensions=[])
# Server frames are not masked and we send none in pieces, so one writer without state serves every connection.


def wire_text(text: str) -> bytes:
    """A whole WebSocket text frame, as a server sends it."""
    return bytes(_FRAMES.send_data(text))


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One event about one subject, as JSON."""

    subject: str
    """The asset id; for events that concern a whole market, its condition id."""
    kind: str
    """The venue's `event_type`."""
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
        return Frame(entries, self.prefix, self.suffix) if entries else None


class Say(msgspec.Struct, frozen=True):
    """A plain word, such as PONG.  Not data: a stalled connection still says it."""

    text: str


class Close(msgspec.Struct, frozen=True):
    """End the WebSocket with this code."""

    code: int
    reason: str


Answer = Say | Close | Frame


class Manners(Protocol):
    """How a feed behaves to one client."""

    def follows(self, subject: str) -> bool:
        """Whether an entry about this is meant for the client; any other is only the mirror image of one."""
        ...

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:
        """Take in one text frame of the client; the answers, in order.  After a `Close` nothing more comes."""
        ...

    def leave(self) -> None:
        """The connection is over: nothing more is published to it."""
        ...


class Feed(Protocol):
    """One upstream protocol of the venue."""

    name: str
    path: str

    def greet(self) -> Manners:
        """A client connected."""
        ...

    def publish(self, fact: Fact) -> Iterator[tuple[Frame | Say, Iterable[Manners]]]:
        """Say a fact in this feed's frames, in order, each with those who are to have it."""
        ...
