"""What a feed must be able to say and to read; the state machine that says it when is the same for all."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from ..backoff import Verdict
from ..events import Event
from .reading import Keyed, Said, Word


class Dialect(Protocol):
    """The language of one feed, as one connection speaks it.

    *Keys* are what interest is counted in: assets for the market feed, topics for another.  Where a key
    is a stream at the same time, the stream is known when it is asked for; elsewhere streams open with the
    first event that `answers` a key.
    """

    @property
    def feed(self) -> str:
        """The feed's name."""

    @property
    def ping(self) -> str | None:
        """The text that keeps the connection alive; None where the server does the asking."""

    @property
    def words(self) -> Mapping[bytes, Word]:
        """What the plain-text frames of this feed mean."""

    @property
    def close_verdicts(self) -> Mapping[int, Verdict]:
        """What the close codes of this feed say about dialling again."""

    @property
    def unknown_fields(self) -> Counter[str]:
        """How often each unknown field was met."""

    @property
    def has_snapshots(self) -> bool:
        """Whether asking for a key again brings a snapshot; where it does not, a doubt is only announced."""

    @property
    def said(self) -> Sequence[Said]:
        """What the frames read so far said beside their events."""

    def take_said(self) -> Sequence[Said]:
        """The same, handed out once."""

    def is_quiet(self, key: str) -> bool:
        """Whether a key may be silent for ever without anything being wrong."""

    def answers(self, key: str, event: Event, keys: Collection[str]) -> str | None:
        """The key, of those wanted, that an event answers, where keys are no streams; None if none does.

        Args:
            key: what `read` says the event is about.
            event: as it was read.
            keys: what is wanted.
        """

    def admission(self) -> str | None:
        """The message that must be accepted before anything else; None where nothing of the kind is needed."""

    def opening(self, keys: Collection[str]) -> str | None:
        """The first message of a connection, which opens the subscription; None where there is none."""

    def subscribe(self, keys: Collection[str]) -> str | None:
        """The message that adds keys to an open subscription; None if these keys need none."""

    def unsubscribe(self, keys: Collection[str]) -> str | None:
        """The message that takes keys from an open subscription; None if these keys need none."""

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame; never raises for anything the venue may send."""
