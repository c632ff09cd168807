"""What one socket carries: the keys that are wanted on it, and the streams that answer them."""

from collections.abc import Callable, Collection, Iterable, Mapping

from .events import Event
from .feeds.dialect import Dialect
from .stream import Stream

type OpenStream = Callable[[str, str, Event], Stream]
"""Makes the stream of an event that answers a key: takes the key, the stream's own key, and the event."""


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
        self._answered: dict[str, str] = {}
        self._dialect = dialect
        self._open_stream = open_stream

    def take(self, wanted: Mapping[str, Stream | None]) -> None:
        """Carry these keys, and the streams that some of them are."""
        self.keys |= dict.fromkeys(wanted)
        self.streams |= {key: stream for key, stream in wanted.items() if stream is not None}

    def resume(self, adopted: Iterable[tuple[str, str, Stream]]) -> None:
        """Carry streams that an earlier socket adopted: the key each answers, its own key, and itself."""
        for wanted, key, stream in adopted:
            self.streams[key] = stream
            self._answered[key] = wanted

    def adopt(self, key: str, event: Event) -> Stream | None:
        """Open the stream of an event, if it answers a key; None if nobody wants it."""
        wanted = self._dialect.answers(event, self.keys)
        if wanted is None or self._open_stream is None:
            return None
        self._answered[key] = wanted
        stream = self.streams[key] = self._open_stream(wanted, key, event)
        return stream

    def leave(self, keys: Iterable[str]) -> None:
        """Carry these keys no longer, nor the streams that answer them."""
        for key in keys:
            del self.keys[key]
            self.streams.pop(key, None)
        for key in [key for key, wanted in self._answered.items() if wanted not in self.keys]:
            del self._answered[key], self.streams[key]

    def wanted_by(self, key: str) -> str:
        """The key that a stream answers."""
        return self._answered.get(key, key)

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
