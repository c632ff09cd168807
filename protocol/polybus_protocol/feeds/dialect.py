"""What a feed must be able to say and to read; the state machine that says it when is the same for all."""

import enum
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol, Self

from ..events import Event
from ..profile import FeedProfile
from .credentials import Credentials
from .reading import Keyed, Reply, Word

EVERYTHING = "*"
"""The key of everything a feed can give."""


class Proof(enum.Enum):
    """Whether a feed wants to know who asks, and whether it says what it thinks of the answer."""

    NONE = enum.auto()
    SILENT = enum.auto()
    """The opening message holds credentials, and nothing tells whether they were accepted but data."""
    ANSWERED = enum.auto()
    """Credentials go first, and are accepted or not in so many words."""


class Dialect(Protocol):
    """The language of one feed, as one connection speaks it.

    *Keys* are what interest is counted in: assets for the market feed, topics for another.  Where a key
    is a stream at the same time, the stream is known when it is asked for; elsewhere streams open with the
    first event that `answers` a key.
    """

    @classmethod
    @abstractmethod
    def spoken(cls, profile: FeedProfile, account: str | None, credentials: Credentials | None) -> Self:
        """The language as one connection speaks it."""

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
    def proof(self) -> Proof:
        """Whether the feed wants to know who asks."""

    @property
    @abstractmethod
    def words(self) -> Mapping[bytes, Word]:
        """What the plain-text frames of this feed mean."""

    @property
    @abstractmethod
    def repeated(self) -> int:
        """How many events were left out because they had been read before."""

    @property
    @abstractmethod
    def unknown_fields(self) -> Counter[str]:
        """How often each unknown field was met."""

    @property
    @abstractmethod
    def has_snapshots(self) -> bool:
        """Whether asking for a key again brings a snapshot; where it does not, a doubt is only announced."""

    @property
    @abstractmethod
    def has_books(self) -> bool:
        """Whether the feed brings order books, which somebody has to look at now and then."""

    @property
    @abstractmethod
    def closed_by(self) -> str:
        """What brings trust back after a gap: a key of `CLOSED_BY`."""

    @abstractmethod
    def is_quiet(self, key: str) -> bool:
        """Whether a key may be silent for ever without anything being wrong."""

    @abstractmethod
    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:
        """The keys, of those wanted, that an event answers, where keys are no streams.

        Args:
            key: what `read` says the event is about.
            event: as it was read.
            keys: what is wanted.
        """

    @abstractmethod
    def asked_by(self, reply: Reply) -> tuple[str, ...]:
        """The keys that an answer of the venue is about; none if it is about none, or an old question."""

    @abstractmethod
    def admission(self) -> str | None:
        """The message that must be accepted before anything else; None unless `proof` is answered."""

    @abstractmethod
    def opening(self, keys: Collection[str]) -> str | None:
        """The first message of a connection, which opens the subscription; None where there is none."""

    @abstractmethod
    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds keys to an open subscription; None if these keys need none."""

    @abstractmethod
    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes keys from an open subscription; None if these keys need none."""

    @abstractmethod
    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame; never raises for anything the venue may send."""


class Manners:
    """What most feeds have in common; a dialect overrides what is different about its own."""

    proof: Proof = Proof.NONE
    has_snapshots: bool = False
    has_books: bool = False
    closed_by: str = "data"
    quiet_keys: frozenset[str] = frozenset()
    """Keys that may be silent for ever."""
    repeated: int = 0

    @classmethod
    def spoken(
        cls,
        profile: FeedProfile,  # noqa: ARG003 - only some feeds have settings of their own
        account: str | None,  # noqa: ARG003 - or are about an account
        credentials: Credentials | None,  # noqa: ARG003
    ) -> Self:
        """The language as one connection speaks it.

        Args:
            profile: the feed's settings.
            account: the operator's label, where the feed wants to know who asks.
            credentials: the account's.
        """
        return cls()

    def is_quiet(self, key: str) -> bool:
        """See `Dialect`."""
        return key in self.quiet_keys

    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:  # noqa: ARG002
        """See `Dialect`: an event answers its own key, and the one that stands for everything."""
        return [each for each in (key, EVERYTHING) if each in keys]

    def asked_by(self, reply: Reply) -> tuple[str, ...]:  # noqa: ARG002
        """See `Dialect`: most feeds answer nothing."""
        return ()

    def admission(self) -> str | None:
        """See `Dialect`."""
        return None
