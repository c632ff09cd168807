"""What every event has."""

from typing import ClassVar

import msgspec


class Event(msgspec.Struct, kw_only=True, tag_field="type", gc=False):
    """The fields every published event has; `type` is the tag."""

    source_time: int | None = None
    """Milliseconds since the epoch by the venue's clock; None where the venue gives no time."""
    received_time: int = 0
    """Nanoseconds since the epoch, when the bytes left the socket; 0 before publishing."""
    connection: str | None = None
    """Connection id and incarnation, as `gw0-market-1#3`; None for what no socket brought."""
    epoch: int = 0
    """Names an unbroken stretch of the stream; only ever rises, also over restarts of the gateway."""
    seq: int = 0
    """Rises by one within an epoch of a stream, from 1; 0 before publishing."""

    family: ClassVar[str] = ""
    """The first token of the subject after the prefix."""


def type_of(event: Event | type[Event]) -> str:
    """The event's type as it stands in the payload's `type` and in the subject's last token."""
    tag = event.__struct_config__.tag
    assert isinstance(tag, str)
    return tag
