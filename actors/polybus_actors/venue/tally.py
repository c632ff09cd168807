"""What sockets brought, counted; sums over sockets, connections and pools are of the same kind."""

from collections import Counter

import msgspec

from polybus_protocol.conversation.session import Session
from polybus_protocol.feeds.dialect import Dialect


class Tally(msgspec.Struct, frozen=True):
    """Counts that only rise."""

    frames: int = 0
    duplicates: int = 0
    """Frames that repeated the one before."""
    unwanted: int = 0
    """Events about keys that their connection does not carry."""
    errors: int = 0
    """Dials that failed, and sockets that ended without our asking."""
    unknown: Counter[str] = msgspec.field(default_factory=Counter)
    """What could not be read, by kind."""
    unknown_fields: Counter[str] = msgspec.field(default_factory=Counter)

    @staticmethod
    def of(session: Session) -> "Tally":
        """What one socket has brought so far."""
        return Tally(session.frames, session.duplicates, session.unwanted, unknown=session.unknown)

    @staticmethod
    def of_dialect(dialect: Dialect) -> "Tally":
        """What one connection's reader has met so far."""
        return Tally(duplicates=dialect.repeated, unknown_fields=dialect.unknown_fields)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            *(getattr(self, field) + getattr(other, field) for field in self.__struct_fields__),
        )
