"""Which stream an event goes onto: made here, once, for a key that is wanted or an event that answers one."""

import time
from collections import Counter
from collections.abc import Collection

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.events import Event
from polybus_protocol.feeds.market import FEED, VENUE
from polybus_protocol.profile import FeedProfile
from polybus_protocol.stream import GapLedger, Stream, Totals
from polybus_protocol.subjects import ids_of, stream_key

from ..publishing.outbox import Outbox


class StreamMaker:
    """See the module.

    Args:
        feed: whose streams.
        profile: the feed's settings.
        prefix: of all subjects.
        outbox: where the gap goes that a remembered stream begins with.
        directory: remembers the pairs of market and asset that pass by.
        checks: what is checked, and how often.
        prices: the streams of prices, which more than one feed brings.
        ledger: counts the gaps.
        totals: counts the events of the streams that are keys.
    """

    def __init__(
        self,
        feed: str,
        profile: FeedProfile,
        prefix: str,
        outbox: Outbox,
        directory: MarketDirectory,
        checks: Counter[str],
        prices: dict[str, Stream],
        ledger: GapLedger,
        totals: Totals,
    ) -> None:
        self._feed = feed
        self._profile = profile
        self._prefix = prefix
        self._outbox = outbox
        self._directory = directory
        self._checks = checks
        self._prices = prices
        self._ledger = ledger
        self._totals = totals
        self._remembered: set[str] = set()

    def of_key(self, key: str, *, remembered: bool) -> Stream | None:
        """The stream that a key is; None where streams open with their first event.

        Args:
            key: of an asset of the market feed, or whatever else is wanted.
            remembered: it was wanted before this process: its streams begin with a gap.
        """
        if self._feed != FEED:
            if remembered:
                self._remembered.add(key)
            return None
        stream: Stream
        if key == VENUE:
            stream = Stream(
                FEED,
                "market",
                (None, None),
                remembered=remembered,
                prefix=self._prefix,
                ledger=self._ledger,
                totals=self._totals,
            )
        else:
            stream = AssetStream(
                self._directory.market_of(key),
                key,
                self._profile.budgets,
                self._checks,
                keeps_book=self._profile.books,
                remembered=remembered,
                prefix=self._prefix,
                ledger=self._ledger,
                totals=self._totals,
            )
        if remembered:
            self._outbox.put(stream.interrupt("restart", time.time_ns()))
        return stream

    def of_event(self, wanted: Collection[str], event: Event) -> Stream:
        """A stream for an event that answers some keys; that of a price may be there, if another feed brings it."""
        ids = ids_of(event)
        key = stream_key(event.family, *ids, prefix=self._prefix)
        stream = self._prices.get(key)
        if stream is None:
            remembered = not self._remembered.isdisjoint(wanted)
            stream = Stream(
                self._feed, event.family, ids, remembered=remembered, prefix=self._prefix, ledger=self._ledger
            )
            if event.family == "price":
                self._prices[key] = stream
        return stream
