"""Where NATS has JetStream: which stream keeps the events of a family, and for how long, unless it is set otherwise.

The gateway's own settings are `[streams]` and `[delivery]`; a test compares their defaults with these.
"""

from collections.abc import Mapping

import msgspec

_MIB = 1024 * 1024
_DAY_S = 86_400


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a stream keeps."""

    stream: str
    """Its name."""
    delivery: str
    """`sampled`: some messages are acknowledged, and loss shows as a `not_recorded` gap; `acked`: each is repeated, under
    one `Nats-Msg-Id`, until it is stored."""
    max_age_s: int
    """Seconds after which an event goes."""
    max_bytes: int
    """Beyond these the oldest go, whatever their age."""
    max_msgs_per_subject: int | None = None
    """Messages kept of one subject; None for all."""


_PUBLIC = Kept("POLYBUS_PUBLIC", "sampled", _DAY_S, 256 * _MIB)

KEPT: Mapping[str, Kept] = {
    "market": Kept("POLYBUS_MARKET", "sampled", _DAY_S, 1024 * _MIB),
    "books": Kept("POLYBUS_BOOKS", "sampled", 7 * _DAY_S, 256 * _MIB, max_msgs_per_subject=1),
    "user": Kept("POLYBUS_USER", "acked", 30 * _DAY_S, 128 * _MIB),
    "activity": _PUBLIC,
    "price": _PUBLIC,
    "comments": _PUBLIC,
    "sports": _PUBLIC,
}
"""Family -> the stream that keeps its events.  Other families are kept nowhere."""
