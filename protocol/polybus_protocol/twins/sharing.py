"""What a session does for the streams that another connection carries too: see `pair`."""

from collections.abc import Callable, Collection, Iterable, Mapping

from ..books.asset_stream import AssetStream
from ..events import Event, MarketEvent
from ..stream import Doubt, Publication, Stream
from .pair import Care
from .twin import Verdict

APART = "two connections told different things of it"
"""Why a stream is doubted whose carriers do not come together."""

type Begin = Callable[[str, Stream, Event, int], list[Publication]]
"""Makes a stream live with the event that comes next: what has to be announced before it."""
type Resync = Callable[[Iterable[str], str, float, int, str | None], list[Publication]]
"""Breaks the epoch of keys and asks for fresh snapshots: see `Session.resync`."""


class Sharing:
    """See the module.

    Args:
        connection: the session's own name.
        streams: all that it carries.
        begin: see `Begin`.
        resync: see `Resync`.
        ask: asks for fresh snapshots, and breaks nothing.
        published: told of each event that went out, and of which key.
    """

    def __init__(
        self,
        connection: str,
        streams: Mapping[str, Stream],
        begin: Begin,
        resync: Resync,
        ask: Callable[[Collection[str], float], None],
        published: Callable[[str, Event], None],
    ) -> None:
        self._connection = connection
        self._streams = streams
        self._begin = begin
        self._resync = resync
        self._ask = ask
        self._published = published

    def join(self, keys: Iterable[str], now: float) -> None:
        """These keys are being asked for."""
        for key in keys:
            if (stream := self._streams.get(key)) is not None and stream.pair is not None:
                stream.pair.join(self._connection, now)

    def hear(
        self, key: str, stream: AssetStream, event: MarketEvent, now: float, time: int
    ) -> list[Publication]:
        """Take in an event of a stream that has a pair."""
        pair = stream.pair
        assert pair is not None
        ruling = pair.hear(self._connection, event, now)
        publications: list[Publication] = []
        match ruling.verdict:
            case Verdict.DOUBT:
                return self._resync([key], "resync", now, time, ruling.reason)
            case Verdict.GIVE_UP:
                self._ask([key], now)
            case Verdict.BEGIN:
                if stream.live:
                    publications = stream.interrupt(
                        "resync", time, detail=ruling.reason, connection=self._connection
                    )
                publications += self._begin(key, stream, ruling.events[0], time)
            case Verdict.PUBLISH:
                pass
        doubt = self._publish(key, stream, ruling.events, time, self._connection, publications)
        if doubt is not None:
            publications += self._resync([key], doubt.reason, now, time, doubt.detail)
        if pair.is_over:
            stream.pair = None
        return publications

    def part(self, key: str, stream: Stream, reason: str, time: int) -> tuple[list[Publication], bool]:
        """The session is over: a stream has its gap, unless another connection goes on with it.

        Returns:
            What to publish, and whether that other one has to ask for a fresh snapshot.
        """
        pair, name = stream.pair, self._connection
        if pair is None:
            return stream.interrupt("connection_lost", time, detail=reason, connection=name), False
        ruling, is_orphan = pair.leave(name), False
        publications: list[Publication] = []
        if ruling.verdict is not Verdict.PUBLISH or not pair.is_carried:
            publications = stream.interrupt("connection_lost", time, detail=reason, connection=name)
            is_orphan = ruling.verdict is Verdict.DOUBT
        if ruling.verdict is Verdict.BEGIN and isinstance(stream, AssetStream):
            publications += self._begin(key, stream, ruling.events[0], time)
            doubt = self._publish(key, stream, ruling.events, time, pair.other(name) or name, publications)
            if doubt is not None:
                publications += stream.interrupt(doubt.reason, time, detail=doubt.detail, connection=name)
                pair.restart()
                is_orphan = True
        if pair.is_over:
            stream.pair = None
        return publications, is_orphan

    def excused(self, keys: Collection[str], now: float) -> list[str]:
        """Those of some keys that may have lost something here, and nothing on the whole; they are asked for again."""
        excused = [
            key
            for key in keys
            if (stream := self._streams.get(key)) is not None
            and stream.pair is not None
            and stream.pair.excuse(self._connection, now)
        ]
        if excused:
            self._ask(excused, now)
        return excused

    def tend(self, keys: Collection[str], now: float, time: int) -> tuple[list[str], list[Publication]]:
        """Look after the pairs among some keys.

        Returns:
            The keys whose books this session is to look at, which those without a pair are; and what to publish.
        """
        own: list[str] = []
        ask: list[str] = []
        doubtful: list[str] = []
        for key in keys:
            stream = self._streams[key]
            if (pair := stream.pair) is None or pair.is_first(self._connection):
                own.append(key)
            if pair is None or not isinstance(stream, AssetStream):
                continue
            match pair.tend(self._connection, stream.book, now):
                case Care.ASK:
                    ask.append(key)
                case Care.DOUBT:
                    doubtful.append(key)
                case Care.NONE:
                    pass
            if pair.is_over:
                stream.pair = None
        if ask:
            self._ask(ask, now)
        return own, self._resync(doubtful, "resync", now, time, APART) if doubtful else []

    def _publish(
        self,
        key: str,
        stream: AssetStream,
        events: Iterable[Event],
        time: int,
        connection: str,
        publications: list[Publication],
    ) -> Doubt | None:
        """Publish events, and let the book follow, up to the first that it cannot."""
        for event in events:
            publications.append(stream.publish(event, time, connection))
            self._published(key, event)
            if (doubt := stream.absorb(event)) is not None:
                return doubt
        return None
