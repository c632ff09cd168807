"""What one connection carries, through all its sockets: the keys that are wanted, and the streams."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from .events import Event, Gap, type_of
from .feeds.dialect import Dialect
from .stream import Stream
from .subjects import ABSENT, ids_of

ADOPTED_STREAMS = 50_000
"""Adopted streams remembered at most, about 50 MB; the venue's whole activity touches some thousand markets
an hour.  The one that was adopted first is forgotten first, and starts over with a higher epoch."""

type OpenStream = Callable[[str, Event], Stream]
"""Makes the stream of an event that answers a key, given both."""


class Cargo:
    """Keys, and streams by their own keys.

    Where a key is a stream at the same time, the two come together; elsewhere streams are adopted with the
    first event that answers a key, and leave with that key.

    Args:
        dialect: says which key an event answers.
        open_stream: makes the streams that are adopted; without it, none are.
    """

    def __init__(self, dialect: Dialect, open_stream: OpenStream | None = None) -> None:
        self.keys: dict[str, None] = {}
        """In the order of asking."""
        self.streams: dict[str, Stream] = {}
        self.heard: dict[str, Counter[str]] = {}
        """Events of adopted streams, by the key they answered and their type."""
        self.past_gaps = 0
        """Gaps on adopted streams that are gone."""
        self._dialect = dialect
        self._open_stream = open_stream
        self._adopted: dict[str, None] = {}

    def take(self, wanted: Mapping[str, Stream | None]) -> None:
        """Carry these keys, and the streams that some of them are."""
        self.keys |= dict.fromkeys(wanted)
        self.streams |= {key: stream for key, stream in wanted.items() if stream is not None}

    def adopt(self, key: str, event: Event) -> Stream | None:
        """The stream of an event that is none of the keys: found or opened if it answers one, else None.

        Args:
            key: what the dialect says the event is about.
            event: as it was read.
        """
        wanted = self._dialect.answers(key, event, self.keys)
        if wanted is None or self._open_stream is None:
            return None
        self.heard.setdefault(wanted, Counter())[type_of(event)] += 1
        own = "/".join((event.family, *(id_ or ABSENT for id_ in ids_of(event))))
        stream = self.streams.get(own)
        if stream is None:
            stream = self.streams[own] = self._open_stream(wanted, event)
            self._adopted[own] = None
            if len(self._adopted) > ADOPTED_STREAMS:
                self._forget(next(iter(self._adopted)))
        return stream

    def leave(self, keys: Iterable[str]) -> None:
        """Carry these keys no longer, nor the streams that answer them."""
        gone = set(keys)
        for key in gone:
            self.keys.pop(key, None)
            self.streams.pop(key, None)
        for own in [own for own in self._adopted if self.streams[own].answers in gone]:
            self._forget(own)

    def streams_of(self, key: str) -> list[Stream]:
        """The streams that answer a key: itself, or those adopted for it."""
        if key in self.streams:
            return [self.streams[key]]
        return [self.streams[own] for own in self._adopted if self.streams[own].answers == key]

    def adopted_events(self) -> Counter[str]:
        """Events of adopted streams by type, gaps included."""
        total: Counter[str] = Counter()
        for counts in self.heard.values():
            total += counts
        gap = type_of(Gap)
        total[gap] += self.past_gaps + sum(self.streams[own].counts()[gap] for own in self._adopted)
        return total

    def awaited(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that will deliver; the streams of the quiet ones are live as they are."""
        awaited: list[str] = []
        for key in keys:
            if not self._dialect.is_quiet(key):
                awaited.append(key)
            elif (stream := self.streams.get(key)) is not None:
                stream.live = True
        return awaited

    @property
    def quiet_keys(self) -> Collection[str]:
        """The keys that may be silent for ever."""
        return [key for key in self.keys if self._dialect.is_quiet(key)]

    @property
    def expects_data(self) -> bool:
        """Whether any key must deliver."""
        return not all(map(self._dialect.is_quiet, self.keys))

    def _forget(self, own: str) -> None:
        del self._adopted[own]
        self.past_gaps += self.streams.pop(own).counts()[type_of(Gap)]
