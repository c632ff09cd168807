"""What a pool tells its connections: the messages and questions in a connection's mailbox."""

from typing import TYPE_CHECKING

import msgspec

from polybus_protocol.stream import Stream

from ..mailbox import Question

if TYPE_CHECKING:
    from .connection import Connection


class Carry(msgspec.Struct, frozen=True):
    """Message: carry these keys as well, each with its stream where the key is one."""

    wanted: dict[str, Stream | None]


class Drop(Question[None]):
    """Question: carry these keys no longer; answered once their streams have ended.

    Attributes:
        reason: why they end, a key of `GAP_REASONS`.
    """

    def __init__(self, keys: list[str], reason: str = "unsubscribed") -> None:
        super().__init__()
        self.keys = keys
        self.reason = reason


class Doubt(msgspec.Struct, frozen=True):
    """Message: events of these keys may be lost; ask for fresh snapshots."""

    keys: list[str]
    reason: str


class Stop(Question[None]):
    """Question: end every stream and close the socket with 1000; answered before the socket is closed.

    Attributes:
        reason: why the streams end, a key of `GAP_REASONS`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


class Retire(Question[bool]):
    """Question: close the socket with 1000, and leave the streams to the other connection that carries them.

    Answered with False, and nothing done, if that one could not go on alone.
    """

    def __init__(self, other: "Connection") -> None:
        super().__init__()
        self.other = other


type Order = Carry | Drop | Doubt | Stop | Retire
