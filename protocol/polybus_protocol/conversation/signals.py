"""What a session tells the owner of its connection, besides what it publishes."""

from collections.abc import Collection

import msgspec

from ..events import Event


class Live(msgspec.Struct, frozen=True):
    """Signal: a key has delivered its first data in this epoch."""

    key: str


class Overdue(msgspec.Struct, frozen=True):
    """Signal: a key was asked for and delivered nothing in time; it is asked for again."""

    key: str
    waited_s: float


class Doubtful(msgspec.Struct, frozen=True):
    """Signal: these assets need a second look, over REST, since the stream alone cannot tell."""

    keys: tuple[str, ...]


class Tapped(msgspec.Struct, frozen=True):
    """Signal: an event of keys that somebody wants a log line for."""

    keys: Collection[str]
    event: Event


class Declined(msgspec.Struct, frozen=True):
    """Signal: the venue will not do what was asked for these keys, and says why."""

    keys: tuple[str, ...]
    reason: str


class Orphaned(msgspec.Struct, frozen=True):
    """Signal: of two connections that carried a key, the one that is left must ask for a fresh snapshot."""

    key: str


type Signal = Live | Overdue | Doubtful | Tapped | Declined | Orphaned
