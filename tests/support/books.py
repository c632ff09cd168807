"""The gateway's books beside the venue's own."""

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.control.replies import BookReply
from polybus_protocol.control.requests import BookRequest
from polybus_services.simulator import past

from .rig import Rig

BELIEVED = frozenset({"live", "quiet"})
"""The states of trust in which a consumer takes a book for the venue's."""


def stream_of(rig: Rig, asset: str) -> AssetStream:
    """The gateway's stream of an asset."""
    stream = rig.pool("market").streams[asset]
    assert isinstance(stream, AssetStream)
    return stream


async def book_of(rig: Rig, asset: str) -> BookReply:
    """What the verb says, at once: nothing else runs between the answer and what follows."""
    return await rig.gateway.verbs.book(BookRequest(asset=asset))


def is_right(rig: Rig, book: BookReply) -> bool | None:
    """Whether a book is the venue's own of the moment it tells; None if the venue has forgotten it."""
    market, outcome = rig.simulator.venue.exchange.assets[book.asset]
    theirs = past.find(market, outcome, str(book.source_time), book.hash)
    if theirs is None:
        is_full = len(market.changes) == past.REMEMBERED_CHANGES
        return None if is_full and (book.source_time or 0) < market.changes[0].at_ms else False
    return all(
        [(level.price, level.size) for level in reversed(levels)]
        == [(level["price"], level["size"]) for level in theirs[side]]  # type: ignore[attr-defined]
        for side, levels in (("bids", book.bids), ("asks", book.asks))
    )
