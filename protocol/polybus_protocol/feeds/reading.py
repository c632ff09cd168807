"""What reading a frame yields, whichever the feed: keyed events, and `unknown` ones for the rest."""

import enum
import re
from collections.abc import Mapping

import msgspec

from ..events import MAX_RAW_CHARS, Event, Unknown

type Keyed = tuple[str | None, Event]
"""An event and what it is about, in the terms of interest (for the market feed: its asset).

None where it answers no single interest: what concerns a whole market, what could not be read, and what
is an `Aside`.
"""


class Aside(Event):
    """What the venue says beside its events; the session's business, never published."""


class Meaning(enum.Enum):
    """What the venue's answer to one of our messages means."""

    ADMITTED = enum.auto()
    """It knows who we are."""
    REJECTED = enum.auto()
    """It does not accept who we say we are: asking again is pointless."""
    REFUSED = enum.auto()
    """It will not do what we asked."""
    NOTED = enum.auto()
    """It did what we asked, or had nothing to say."""


class Reply(Aside, tag="reply"):
    """The venue's answer to one of our messages."""

    op: str
    """What it answers: `subscribed`, `unsubscribed`, `authed`, `pong`, `challenge` or `error`."""
    rid: str | None = None
    """The id that our message bore."""
    channel: str | None = None
    code: str | None = None
    """What is wrong, where `op` is `error`."""
    nonce: str | None = None

    @property
    def meaning(self) -> Meaning:
        """What it means for the session."""
        if self.op == "authed":
            return Meaning.ADMITTED
        if self.op != "error":
            return Meaning.NOTED
        # `auth_unavailable` is the venue's own trouble, and passes.
        is_final = (self.code or "").startswith("auth_") and self.code != "auth_unavailable"
        return Meaning.REJECTED if is_final else Meaning.REFUSED


class Upstream(Aside, tag="upstream"):
    """The venue's own numbering of what it sends; stands before the event of the same frame."""

    channel: str
    count: int
    """Consecutive on one channel of one connection."""
    dropped: int = 0
    """Frames of the channel that the venue says it gave up on, because we were slow."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for a text that is no JSON or not of the expected shape, or nested too deeply."""

_SECRET = re.compile(
    r"""(\\?"(?:[A-Za-z_]*owner|apiKey|api_key|key|secret|passphrase)\\?"\s*:\s*\\?")(?:[^"\\]|\\[^"])+"""
)
"""The value of a key that names an API key or what belongs to it, in JSON and in JSON within a string.

The user feed names the owner of an order by an API key.
"""


def unknown(feed: str, kind: str, reason: str, raw: bytes | memoryview | msgspec.Raw) -> Unknown:
    """Pass something on raw that we cannot read, with the reason; only credentials are blotted out."""
    whole = memoryview(raw)
    # No character takes more than four bytes; escaping megabytes of noise would hold everything up.
    head = bytes(whole[: 4 * MAX_RAW_CHARS])
    text = _SECRET.sub(r"\1***", head.decode("utf-8", "backslashreplace"))
    cut = len(text) > MAX_RAW_CHARS or len(head) < len(whole)
    return Unknown(feed, kind, reason, text[:MAX_RAW_CHARS], truncated=cut)


def wire_fields(struct: type[msgspec.Struct]) -> frozenset[str]:
    """The field names that a wire struct reads, its tag field included."""
    tag = struct.__struct_config__.tag_field
    return frozenset((*struct.__struct_encode_fields__, *((tag,) if tag else ())))


LATEST_MS = 2**53
"""Milliseconds since the epoch, in the year 287396; a longer number is no time, and few consumers could read it."""

LONGEST_WORD = 64
"""Bytes; a longer frame that is no JSON is a broken one, not a word."""


def stray_word(text: bytes) -> tuple[str, str]:
    """The kind of `unknown` that a plain-text frame without a known meaning is, and the reason."""
    if len(text) > LONGEST_WORD or b'"' in text:
        return "not_json", "the frame is neither JSON nor a word"
    return "word", "the frame is a word that this version does not know"


def milliseconds(text: str | int | None) -> int | None:
    """A venue timestamp in milliseconds since the epoch; None for none, or for what cannot be one."""
    try:
        time = int(text or 0)
    except ValueError:
        return None
    return time if 0 < time < LATEST_MS else None


def present(text: str | None) -> str | None:
    """An optional value: the empty string means "no value" (ts-sdk changeset dev-415)."""
    return text or None


def without_blanks[S: msgspec.Struct](struct: S | None) -> S | None:
    """The same for a struct within an event, field by field."""
    if struct is None:
        return None
    return type(struct)(*(None if value == "" else value for value in msgspec.structs.astuple(struct)))


class Word(enum.Enum):
    """What a plain-text frame means."""

    KEEPALIVE = enum.auto()
    """An answer to our ping: the socket is alive, which says nothing about the data."""
    PING = enum.auto()
    """The server's ping: answer with the pong of the same letter case."""
    IDLE = enum.auto()
    """Nothing to do and nothing to say."""
    REFUSAL = enum.auto()
    """The server refused our last message: the connection is of no more use."""


def write(message: Mapping[str, object] | msgspec.Struct) -> str:
    """Write a message to the venue as compact JSON."""
    return _encode(message).decode()


_encode = msgspec.json.Encoder().encode
