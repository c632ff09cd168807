"""What one socket carries: the keys that are wanted on it, and the streams that answer them."""

from collections.abc import Callable, Collection, Iterable, Mapping

from .events import Event
from .feeds.dialect import Dialect
from .stream import Stream
from .subjects import ABSENT, ids_of

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

    def __init__(self, dialect: Dialect, open_stream: OpenStream | None) -> None:
        self.keys: dict[str, None] = {}
        """In the order of asking."""
        self.streams: dict[str, Stream] = {}
        self._dialect = dialect
        self._open_stream = open_stream

    def take(self, wanted: Mapping[str, Stream | None]) -> None:
        """Carry these keys, and the streams that some of them are."""
        self.keys |= dict.fromkeys(wanted)
        self.streams |= {key: stream for key, stream in wanted.items() if stream is not None}

    def resume(self, adopted: Mapping[str, Stream]) -> None:
        """Carry streams that an earlier socket adopted, by their own keys."""
        self.streams |= adopted

    def adopt(self, key: str, event: Event) -> Stream | None:
        """The stream of an event that is none of the keys: found or opened if it answers one, else None.

        Args:
            key: what the dialect says the event is about.
            event: as it was read.
        """
        wanted = self._dialect.answers(key, event, self.keys)
        if wanted is None or self._open_stream is None:
            return None
        own = "/".join((event.family, *(id_ or ABSENT for id_ in ids_of(event))))
        stream = self.streams.get(own)
        if stream is None:
            stream = self.streams[own] = self._open_stream(wanted, event)
        return stream

    def leave(self, keys: Iterable[str]) -> None:
        """Carry these keys no longer, nor the streams that answer them."""
        gone = set(keys)
        for key in gone:
            del self.keys[key]
            self.streams.pop(key, None)
        for own in [own for own, stream in self.streams.items() if stream.answers in gone]:
            del self.streams[own]

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
