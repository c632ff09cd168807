"""What one connection carries, through all its sockets: the keys that are wanted, and the streams."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping

from ..events import Event, Gap, type_of
from ..feeds.dialect import Dialect
from ..stream import Stream
from ..subjects import family_of, ids_of

ADOPTED_STREAMS = 50_000
"""Adopted streams remembered at most, about 50 MB; the venue's whole activity touches some thousand markets
an hour.  The one that was adopted first is forgotten first, and starts over with a higher epoch."""

type OpenStream = Callable[[Collection[str], Event], Stream]
"""Makes the stream of an event that answers some keys, given both."""


class Cargo:
    """Keys, and streams by their own keys.

    Where a key is a stream at the same time, the two come together; elsewhere streams are adopted with the
    first event that answers a key, and leave with the last key they have answered: one stream can answer
    several, as that of a market answers both kinds of activity, and all of one.

    Args:
        dialect: says which keys an event answers.
        open_stream: makes the streams that are adopted; without it, none are.
    """

    def __init__(self, dialect: Dialect, open_stream: OpenStream | None = None) -> None:
        self.keys: dict[str, None] = {}
        """In the order of asking."""
        self.streams: dict[str, Stream] = {}
        self.heard: dict[str, Counter[str]] = {}
        """Events of adopted streams, by the keys they answered and their type."""
        self.taps: Collection[str] = frozenset()
        """The keys of which somebody wants a log line per event."""
        self._dialect = dialect
        self._open_stream = open_stream
        self._adopted: dict[str, set[str]] = {}
        self._events: Counter[str] = Counter()
        self._past_gaps = 0

    def take(self, wanted: Mapping[str, Stream | None]) -> None:
        """Carry these keys, and the streams that some of them are."""
        self.keys |= dict.fromkeys(wanted)
        self.streams |= {key: stream for key, stream in wanted.items() if stream is not None}

    def adopt(self, key: str, event: Event) -> tuple[Stream | None, Collection[str]]:
        """The stream of an event that is none of the keys, and the keys it answers.

        Args:
            key: what the dialect says the event is about.
            event: as it was read.

        Returns:
            The stream, found or opened, and the keys; None and nothing if it answers none.
        """
        wanted = self._dialect.answers(key, event, self.keys)
        if not wanted or self._open_stream is None:
            return None, ()
        type_ = type_of(event)
        self._events[type_] += 1
        for each in wanted:
            self.heard.setdefault(each, Counter())[type_] += 1
        # As Python writes the ids, no two lists of them look alike, whatever the venue puts into one.
        own = f"{family_of(event)}{ids_of(event)!r}"
        stream = self.streams.get(own)
        if stream is None:
            stream = self.streams[own] = self._open_stream(wanted, event)
            self._adopted[own] = set()
            if len(self._adopted) > ADOPTED_STREAMS:
                self._forget(next(iter(self._adopted)))
        self._adopted[own].update(wanted)
        return stream, wanted

    def leave(self, keys: Iterable[str]) -> None:
        """Carry these keys no longer, nor the streams that answered no other."""
        gone = set(keys)
        for key in gone:
            self.keys.pop(key, None)
            self.streams.pop(key, None)
            self.heard.pop(key, None)
        for own, answered in list(self._adopted.items()):
            answered -= gone
            if not answered:
                self._forget(own)

    def leaving(self, keys: Iterable[str]) -> list[Stream]:
        """The streams that would leave with these keys."""
        gone = set(keys)
        own = [key for key in self.streams if key in gone]
        own += [own for own, answered in self._adopted.items() if answered <= gone]
        return [self.streams[key] for key in own]

    def keys_of(self, own: str) -> Collection[str]:
        """The keys that a stream has answered, given the stream's own."""
        return self._adopted.get(own, (own,))

    def streams_of(self, key: str) -> list[Stream]:
        """The streams that have answered a key: itself, or those adopted for it."""
        if key in self.streams:
            return [self.streams[key]]
        return [self.streams[own] for own, answered in self._adopted.items() if key in answered]

    def adopted_events(self) -> Counter[str]:
        """Events of adopted streams by type, gaps included."""
        gap = type_of(Gap)
        gaps = sum(self._gaps_of(self.streams[own]) for own in self._adopted)
        return self._events + Counter({gap: self._past_gaps + gaps})

    def awaited(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that will deliver; the others may be silent for ever."""
        return [key for key in keys if not self._dialect.is_quiet(key)]

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
        self._past_gaps += self._gaps_of(self.streams.pop(own))

    def _gaps_of(self, stream: Stream) -> int:
        """Its gaps, unless it is a stream that another feed opened and counts."""
        return stream.counts()[type_of(Gap)] if stream.feed == self._dialect.feed else 0
