"""What is said once a second beside the streams: the last book of each asset, and the roll-up of gaps."""

import time
from collections.abc import Callable, Iterable

import anyio

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.events import GapRollup
from polybus_protocol.stream import GapLedger, Publication, Stream

from .outbox import Outbox

INTERVAL_S = 1.0
"""Seconds from one round to the next."""

BOOKS_PER_TURN = 8
"""Last books written before everybody else gets a turn: a fifth of a millisecond, which every event waits for."""

STREAMS_PER_TURN = 1_000
"""Streams looked at before everybody else gets a turn: less than a millisecond."""


class Bulletins:
    """See the module.

    Args:
        replica: the gateway's name.
        streams: all asset streams, whenever they are asked for.
        ledger: the gaps.
        system: the stream of the roll-up.
        outbox: where publications go.
        books_per_s: last books said in one second at most, 0 for none.  Which are left out is made up for in the
            rounds that follow, each asset in its turn.
        prefix: of all subjects.
    """

    def __init__(
        self,
        replica: str,
        streams: Callable[[], Iterable[AssetStream]],
        ledger: GapLedger,
        system: Stream,
        outbox: Outbox,
        books_per_s: int,
        prefix: str,
    ) -> None:
        self._replica = replica
        self._streams = streams
        self._ledger = ledger
        self._system = system
        self._outbox = outbox
        self._books_per_s = books_per_s
        self._carrier = Stream("books", "books", prefix=prefix)
        self._told = GapLedger()
        self._next = 0
        self.books = 0
        """Last books published."""

    async def run(self) -> None:
        """Serve until cancelled."""
        while True:
            await anyio.sleep(INTERVAL_S)
            self.roll_up()
            # Where last books are never given up, one that cannot be said now is said later, as it is then.
            if self._books_per_s and not (
                self._outbox.brake.is_on and self._outbox.brake.concerns(["books"])
            ):
                await self._tell_books()

    def roll_up(self) -> None:
        """Say which gaps opened and closed since this was last said; nothing if none did."""
        now, told = self._ledger, self._told
        opened, closed = now.opened - told.opened, now.closed - told.closed
        if not opened and not closed:
            return
        told.opened, told.closed = now.opened.copy(), now.closed.copy()
        event = GapRollup(self._replica, dict(opened), dict(closed), now.open)
        at = time.time_ns()
        begun = [] if self._system.live else self._system.begin(event, at, None)
        self._outbox.put([*begun, self._system.publish(event, at, None)])

    async def _tell_books(self) -> None:
        streams = list(self._streams())
        if not streams:
            return
        # Whoever was next at the end of the last round is first in this one.
        first = self._next % len(streams)
        self._next = 0
        left = self._books_per_s
        books: list[Publication] = []
        for number in range(len(streams)):
            place = (first + number) % len(streams)
            if left == 0:
                self._next = place
                break
            if (book := streams[place].last_book(self._carrier)) is not None:
                books.append(book)
                left -= 1
            if len(books) == BOOKS_PER_TURN or number % STREAMS_PER_TURN == STREAMS_PER_TURN - 1:
                self._tell(books)
                books = []
                await anyio.lowlevel.checkpoint()
        self._tell(books)

    def _tell(self, books: list[Publication]) -> None:
        self.books += len(books)
        self._outbox.put(books)
