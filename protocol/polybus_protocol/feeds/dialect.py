"""What a feed must be able to say and to read; the state machine that says it when is the same for all."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

from .reading import Keyed, Word


class Dialect(Protocol):
    """The language of one feed, as one connection speaks it.

    Keys are what interest is counted in: assets for the market feed.
    """

    @property
    @abstractmethod
    def feed(self) -> str:
        """The feed's name."""

    @property
    @abstractmethod
    def ping(self) -> str | None:
        """The text that keeps the connection alive; None where the server does the asking."""

    @property
    @abstractmethod
    def words(self) -> Mapping[bytes, Word]:
        """What the plain-text frames of this feed mean."""

    @property
    @abstractmethod
    def quiet_keys(self) -> frozenset[str]:
        """Keys that may be silent for ever without anything being wrong."""

    @property
    @abstractmethod
    def unknown_fields(self) -> Counter[str]:
        """How often each unknown field was met."""

    @abstractmethod
    def opening(self, keys: Collection[str]) -> str:
        """The first message of a connection, which opens the subscription."""

    @abstractmethod
    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds keys to an open subscription; None if these keys need none."""

    @abstractmethod
    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes keys from an open subscription; None if these keys need none."""

    @abstractmethod
    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame; never raises for anything the venue may send."""
