"""Streams that answer no single interest: what concerns a whole market, and what nobody could read.

Every connection hears `new_market` for the whole venue, and the two assets of a market may sit on
two connections, so what is heard twice is told apart by its content and published once.
"""

from collections import Counter, OrderedDict

from ..events import Event, Unknown, VenueMarketEvent
from ..stream import Stream
from ..subjects import PREFIX

REMEMBERED_MARKETS = 10_000
"""How many market-wide streams are remembered; a forgotten one starts over with a higher epoch.

The venue creates a few thousand markets a day and tells all connections of one within seconds.
"""


class Commons:
    """The shared streams of one gateway, and what has been heard on them.

    Args:
        feed: the feed they come from.
        prefix: of all subjects.
        unknown: the stream of what nobody can read, if other feeds share it.
    """

    def __init__(self, feed: str, prefix: str = PREFIX, unknown: Stream | None = None) -> None:
        self._feed = feed
        self._prefix = prefix
        self._unknown = unknown or Stream(feed, "unknown", prefix=prefix)
        self._unknowns = 0
        self._markets: OrderedDict[str, Stream] = OrderedDict()
        self._heard: OrderedDict[tuple[type[Event], str, int | None], None] = OrderedDict()
        self._forgotten: Counter[str] = Counter()
        self.duplicates = 0
        """Events that another connection had brought before."""

    def stream_for(self, event: Event) -> Stream | None:
        """The stream to publish an event on; None if it was published before."""
        if isinstance(event, VenueMarketEvent):
            return self._market_stream(event)
        if isinstance(event, Unknown):
            self._unknowns += 1
            return self._unknown
        raise TypeError(f"{type(event).__name__} belongs to an interest")

    def counts(self) -> Counter[str]:
        """How many events of each type were published, forgotten streams included."""
        total = self._forgotten + Counter(unknown=self._unknowns)
        for stream in self._markets.values():
            total += stream.counts()
        return total

    def _market_stream(self, event: VenueMarketEvent) -> Stream | None:
        identity = (type(event), event.market, event.source_time)
        if identity in self._heard:
            self.duplicates += 1
            return None
        self._heard[identity] = None
        if len(self._heard) > REMEMBERED_MARKETS:
            self._heard.popitem(last=False)
        return self._markets.get(event.market) or self._open(event.market)

    def _open(self, market: str) -> Stream:
        stream = self._markets[market] = Stream(self._feed, "market", (market, None), prefix=self._prefix)
        if len(self._markets) > REMEMBERED_MARKETS:
            _, forgotten = self._markets.popitem(last=False)
            self._forgotten += forgotten.counts()
        return stream
