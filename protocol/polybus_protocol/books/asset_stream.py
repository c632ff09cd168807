"""The stream of one asset: with its book, what is known of its market, and whether it may be believed.

An asset's stream is live from the first `book` of an epoch.  What comes before it is published all the same,
since a trade is a trade, but no book is made of it.
"""

from collections import Counter

from ..control.replies import Moment
from ..events import GAP_REASONS, Event, LastBook, PriceChange, TickSizeChange, encode_event, type_of
from ..stream import Doubt, GapLedger, Publication, Stream, Totals
from ..subjects import PREFIX, stream_key
from .book import OrderBook
from .liveness import Budgets, Liveness, Trust
from .no_book import NoBook
from .proof import MarketFacts, Verdict
from .side import BadLevel

FEED = "market"

REMEMBERED_MOMENTS = 24
"""Moments of an asset's life kept for `explain`: about 3 KB, some four troubles and what followed."""


class AssetStream(Stream):
    """See the module.

    Args:
        market: condition id, None while it is not known.
        asset: token id.
        budgets: how long the asset may be silent.
        checks: counts what was checked and tried; shared by the streams of a pool.
        keeps_book: whether the book is kept, and with it all that is checked by it; silence is watched in any case.
        remembered: see `Stream`.
        prefix: see `Stream`.
        ledger: see `Stream`.
        totals: see `Stream`.
    """

    __slots__ = (
        "_told_trust",
        "book",
        "facts",
        "history",
        "inspected_seq",
        "liveness",
        "unchecked_looks",
    )

    def __init__(
        self,
        market: str | None,
        asset: str,
        budgets: Budgets,
        checks: Counter[str],
        *,
        keeps_book: bool = True,
        remembered: bool = False,
        prefix: str = PREFIX,
        ledger: GapLedger | None = None,
        totals: Totals | None = None,
    ) -> None:
        super().__init__(
            FEED,
            "market",
            (market, asset),
            remembered=remembered,
            prefix=prefix,
            ledger=ledger,
            totals=totals,
        )
        self.book = OrderBook() if keeps_book else NoBook()
        self.liveness = Liveness(budgets, checks)
        self.history: list[Moment] = []
        """The last moments of its life, the oldest first."""
        self.unchecked_looks = 0
        """Looks in a row that have found a later version, and left the checking for later."""
        self.inspected_seq: tuple[int, int] = (0, 0)
        """Epoch and `seq` at the last look."""
        self.facts = MarketFacts()
        """What is known of the market; the streams of its two assets share it."""
        self._told_trust: Trust | None = None
        """What its last book was told with."""

    @property
    def asset(self) -> str:
        """Token id."""
        asset = self.ids[1]
        assert asset is not None
        return asset

    @property
    def keeps_book(self) -> bool:
        """Whether there is a book to ask for, and to check."""
        return not isinstance(self.book, NoBook)

    @property
    def trust(self) -> Trust:
        """What a consumer may believe right now."""
        return self.liveness.trust

    def absorb(self, event: Event) -> Doubt | None:
        """See `Stream`: the book, and what is known of the market, follow."""
        try:
            if isinstance(event, PriceChange):
                self.book.follow(event)
                return None
            self.facts.learn(event)
            self.book.take(event)
        except BadLevel as error:
            return Doubt("undecodable_frame", str(error))
        # Old levels may be regrouped: nothing of this book counts until the next snapshot.
        return Doubt("tick_size_change") if isinstance(event, TickSizeChange) else None

    def prove(self) -> Verdict:
        """What the venue's hash says of the book."""
        return self.facts.prove(self.ids[0] or "", self.asset, self.book)

    def remember(self, what: str, time: int) -> None:
        """Keep a moment for `explain`."""
        # Not a deque: that takes 760 bytes for the one moment that most assets ever have.
        self.history = [*self.history[1 - REMEMBERED_MOMENTS :], Moment(time, what)]

    def begin(
        self, event: Event | None, received_time: int, connection: str | None, closed_by: str = "data"
    ) -> list[Publication]:
        """See `Stream`."""
        announcements = super().begin(event, received_time, connection, closed_by)
        rung = self.liveness.rung
        self.liveness.begun(by_witness=closed_by == "witness")
        after = f", after it was {rung.name.lower().replace('_', ' ')}" if rung else ""
        self.remember(f"epoch {self.epoch} is live by a {closed_by} from {connection}{after}", received_time)
        return announcements

    def last_book(self, carrier: Stream) -> Publication | None:
        """The book as it is now, ready for NATS; None if it has not changed since the last one.

        A stream that never had a book has nothing to tell.

        Args:
            carrier: the stream that takes the blame should it be lost, which is nobody's loss: a later one follows.
        """
        book, trust = self.book, self.trust
        is_news = book.is_untold or trust is not self._told_trust
        if not is_news or self.epoch == 0 or self._is_incomplete:
            return None
        book.is_untold, self._told_trust = False, trust
        event = LastBook(
            self.ids[0] or "",
            self.asset,
            trust.value,
            book.bids(),
            book.asks(),
            book.hash,
            self.facts.tick_size,
            source_time=book.source_time,
            received_time=self.last_data_time or 0,
            epoch=self.epoch,
            seq=self.seq,
        )
        return Publication(
            f"{stream_key(event.family, *self.ids, prefix=self._prefix)}.{type_of(event)}".encode(),
            encode_event(event),
            carrier,
            self.epoch,
            self.seq,
        )

    def _break(self, reason: str, now: int, detail: str | None, connection: str | None) -> list[Publication]:
        publications = super()._break(reason, now, detail, connection)
        self.book.clear()
        self.liveness.interrupted()
        self.remember(f"epoch {self.epoch} begins with a gap: {detail or GAP_REASONS[reason]}", now)
        return publications
