"""Events that polybus makes itself: gaps, what it could not read, and how it is doing."""

from typing import ClassVar

import msgspec
from msgspec import UNSET, UnsetType

from .base import Event


class Gap(Event, tag="gap"):
    """Events may be missing here: trust ends with a gap that opens, and is back with one that closes it.

    A gap that opens is the first event (`seq` 1) of a new epoch, in order with the data, and `last_epoch` and
    `last_seq` name the last event before it.  The one exception is loss between us and NATS
    (`reason` `backlog_overflow` and `nats_connection_lost`): there the gap stands in the place, and
    carries the `seq`, of the last event that may be lost, and `lost` says how many those are; so does
    `not_recorded`, for what only a replay lacks.

    A gap that closes has `closed_by` and repeats the reason and the last event of the one that opened;
    what is trusted again comes right after it.
    """

    feed: str
    """The feed whose events may be missing: one of `FEEDS`."""
    reason: str
    """One of `GAP_REASONS`."""
    detail: str | None = None
    """A sentence for people."""
    last_epoch: int | None = None
    """Epoch of the last event before the gap; None if there was none, or none is remembered."""
    last_seq: int | None = None
    """`seq` of that event."""
    last_received_time: int | None = None
    """Nanoseconds since the epoch."""
    lost: int | None = None
    """How many events are affected, where that is known."""
    closed_by: str | None = None
    """None for a gap that opens; else what brought trust back, one of `CLOSED_BY`."""
    market: str | UnsetType | None = UNSET
    """Condition id.  The ids in a gap are those of its subject; a payload has no others."""
    asset: str | UnsetType | None = UNSET
    """Outcome token id."""
    account: str | UnsetType | None = UNSET
    """The operator's label."""
    event_slug: str | UnsetType | None = UNSET
    """Slug of the venue's event."""
    class_: str | UnsetType | None = msgspec.field(name="class", default=UNSET)
    """Class of reference prices."""
    symbol: str | UnsetType | None = UNSET
    """As in the price events."""
    parent_type: str | UnsetType | None = UNSET
    """What the comments are under."""
    parent_id: str | UnsetType | None = UNSET
    """Numeric id of the parent, as text."""
    league: str | UnsetType | None = UNSET
    """As in `SportResult`."""
    game: str | UnsetType | None = UNSET
    """As in `SportResult`."""


GAP_REASONS = {
    "connection_lost": "the connection that carried the stream ended",
    "resync": "a fresh snapshot was asked for",
    "silent": "nothing arrived for longer than the asset's silence budget, so a snapshot was asked for",
    "frozen": "the venue's REST book moved on and the stream did not, so a snapshot was asked for",
    "book_mismatch": "the book kept disagreeing with what the venue says of it, so a snapshot was asked for",
    "undecodable_frame": "a frame arrived that may have concerned the stream and could not be read",
    "tick_size_change": "the price grid changed: levels of the old grid no longer count",
    "upstream_loss": "by the venue's own numbering, frames were left out or never reached us",
    "restart": "the gateway started again and does not know what it missed",
    "unsubscribed": "nobody wants the stream any more",
    "shutdown": "the gateway stopped",
    "backlog_overflow": "NATS was away or slow for longer than the backlog can bridge",
    "nats_connection_lost": "events were handed to NATS and never confirmed",
    "not_recorded": "NATS took events in, but JetStream may not have stored them: the record lacks them",
}
"""Why trust in a stream ends."""

CLOSED_BY = {
    "snapshot": "a fresh snapshot of the book came on the stream",
    "witness": "the book was read over REST, because the stream brought none",
    "sequence": "data came, numbered by the venue, so that the next loss will show",
    "data": "data came; what was lost stays lost",
}
"""What brings trust back."""


class Unknown(Event, tag="unknown"):
    """Something arrived that we have no reader for; it is passed on raw."""

    family: ClassVar[str] = "unknown"

    feed: str
    """Where it came from: one of `FEEDS`."""
    kind: str
    """One of `UNKNOWN_KINDS`."""
    reason: str
    """A sentence for people."""
    raw: str
    """The element, or the whole frame where it could not be split; bytes that are no UTF-8 are escaped."""
    truncated: bool = False
    """True where `raw` was cut at `MAX_RAW_CHARS`."""


UNKNOWN_KINDS = {
    "event": "a kind of event that this version does not know",
    "field": "a known event with a field that this version does not know (sent once per field)",
    "word": "a plain-text frame that this version does not know",
    "refused": "the venue refused our last message",
    "malformed": "a known event whose fields could not be read: a loss",
    "not_json": "a frame that is no JSON: a loss",
    "binary": "a binary frame, which no feed is known to send",
}
"""What an `Unknown` can be; the last ones but `binary` mean that data was lost."""

LOSSY_KINDS = frozenset({"malformed", "not_json"})
"""The kinds that stand for an event we should have been able to read."""

MAX_RAW_CHARS = 160 * 1024
"""Longest `raw`, in characters: if JSON escapes each with six bytes, it still fits NATS' default 1 MiB payload."""


class ConnectionState(Event, tag="connection"):
    """A connection changed its state (on the `system` subject)."""

    family: ClassVar[str] = "system"

    replica: str
    """The gateway's name."""
    id: str
    """Of the connection, as `gw0-market-1`."""
    incarnation: int
    """How many sockets it has had."""
    feed: str
    """One of `FEEDS`."""
    url: str
    """The venue's address."""
    state: str
    """`dialing`, `open`, `live`, `closed`, `waiting` or `refused`."""
    reason: str | None = None
    """Why it is not live, a sentence for people."""
    assets: int = 0
    """How many assets, or on other feeds keys, it carries."""
    retry_in_s: float | None = None
    """Seconds until the next dial; None where none is due."""


class GapRollup(Event, tag="gaps"):
    """How many gaps opened and closed since the last of these (on the `system` subject).

    Said at most once a second, and only when there is something to say.
    """

    family: ClassVar[str] = "system"

    replica: str
    """The gateway that says so."""
    opened: dict[str, int]
    """Gaps that opened, by reason (see `GAP_REASONS`)."""
    closed: dict[str, int]
    """Gaps that closed, by what closed them (see `CLOSED_BY`)."""
    open: int
    """Streams whose gap is open now."""


class Notice(Event, tag="notice"):
    """Something an operator should know (on the `system` subject)."""

    family: ClassVar[str] = "system"

    replica: str
    """The gateway's name."""
    level: str
    """`info`, `warning` or `error`."""
    text: str
    """A sentence for people."""
