"""What stands where an asset's book would be, if no books are kept."""

from ..events import Book, Event, PriceChange
from .book import OrderBook


class NoBook(OrderBook):
    """No levels, and never live: only when the book has changed last, by the venue's clock.

    By that a second look still tells whether the venue moved on while the stream did not.
    """

    __slots__ = ()

    def take(self, event: Event) -> None:
        """See `OrderBook`; levels are not looked at, so none can be bad."""
        if isinstance(event, Book | PriceChange):
            self.source_time = event.source_time
        else:
            super().take(event)

    def follow(self, event: PriceChange) -> None:
        """See `take`."""
        self.source_time = event.source_time

    def equals(self, book: Book) -> bool:
        """Whether a snapshot knows of nothing later, which is as much as can be said without levels.

        A snapshot that the stream was answered with may be younger than the last change, so REST may be older and right.
        """
        ours, theirs = self.source_time, book.source_time
        return ours is not None and theirs is not None and theirs <= ours
