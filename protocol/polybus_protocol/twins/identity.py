"""Which event is which: what two copies of one event have in common, whichever connection brought them."""

from collections import deque
from itertools import islice

from ..errors import LocalProtocolError
from ..events import BestBidAsk, Book, LastTradePrice, MarketEvent, PriceChange, TickSizeChange

type Identity = tuple[object, ...]
"""Equal for two copies of one event of an asset, and different for two events, as a rule: within a millisecond
a level can come and go and come again, and without a transaction two trades can be alike."""


def identity_of(event: MarketEvent) -> Identity:
    """The content by which a copy of an event of the same asset is known.

    A hash covers the whole book and its time, a transaction is one trade; where the venue gave none, time and
    content stand in.

    Raises:
        LocalProtocolError: a kind of event that has no identity here.
    """
    time = event.source_time
    match event:
        case PriceChange(changes=changes):
            return ("price_change", *((c.hash or time, c.price, c.side, c.size) for c in changes))
        case Book(hash=None, bids=bids, asks=asks):
            return ("book", time, tuple(bids), tuple(asks))
        case Book(hash=hash_):
            return ("book", hash_)
        case LastTradePrice(transaction_hash=None):
            return ("last_trade_price", time, event.price, event.size, event.side)
        case LastTradePrice(transaction_hash=transaction):
            return ("last_trade_price", transaction)
        case BestBidAsk(best_bid=bid, best_ask=ask):
            return ("best_bid_ask", time, bid, ask)
        case TickSizeChange(new_tick_size=new):
            return ("tick_size_change", time, new)
        case _:
            raise LocalProtocolError(f"{type(event).__name__} is no event that two connections could share")


class Recent:
    """The identities of the last events of a stream, numbered in the order in which they were added.

    Args:
        size: how many are remembered.
    """

    __slots__ = ("_identities", "end")

    def __init__(self, size: int) -> None:
        self._identities: deque[Identity] = deque(maxlen=size)
        self.end = 0
        """The number of the next event."""

    @property
    def first(self) -> int:
        """The number of the oldest event remembered; `end` if there is none."""
        return self.end - len(self._identities)

    def add(self, identity: Identity) -> None:
        """Remember one more; the oldest is forgotten when there is no room."""
        self._identities.append(identity)
        self.end += 1

    def find(self, identity: Identity, start: int | None) -> int | None:
        """The number of the first event from `start` on, or of all, that is this one; None if there is none."""
        try:
            at = 0 if start is None else max(start - self.first, 0)
            return self.first + self._identities.index(identity, at)
        except ValueError:
            return None

    def between(self, start: int, end: int) -> list[Identity]:
        """The events from number `start` up to, not including, `end`, as far as they are remembered."""
        first = self.first
        return list(islice(self._identities, max(start - first, 0), max(end - first, 0)))

    def clear(self) -> None:
        """Forget all; the numbers go on."""
        self._identities.clear()
