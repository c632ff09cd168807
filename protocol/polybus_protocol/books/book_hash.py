"""The venue's order book hash.

SHA-1, as 40 lower-case hex digits, of a JSON object written without white space, with ten keys in a fixed
order.  The recipe was found by computation and reproduces hashes of captured frames (April and May 2026,
December 2025); `tests/protocol/data/hash_vectors.json` holds them.

A match proves that a rebuilt book is right.  A mismatch proves nothing: `min_order_size`, `neg_risk` and the
spelling of `last_trade_price` are not on the wire with every event.
"""

from collections.abc import Iterable
from hashlib import sha1


def levels_json(levels: Iterable[tuple[str, str]]) -> str:
    """The levels of one side, as they stand inside the hashed text, without the brackets.

    Args:
        levels: (price, size) from worst to best: bids ascending, asks descending.  The strings exactly as the
            venue wrote them, because "0.5" and "0.50" hash differently.
    """
    return ",".join([f'{{"price":"{price}","size":"{size}"}}' for price, size in levels])


def hash_of_json(
    market: str,
    asset_id: str,
    timestamp: str,
    bids: str,
    asks: str,
    *,
    min_order_size: str,
    tick_size: str,
    neg_risk: bool,
    last_trade_price: str,
) -> str:
    """The hash of a book whose sides have already been written by `levels_json`.

    The other arguments are those of `book_hash`.
    """
    text = (
        f'{{"market":"{market}","asset_id":"{asset_id}","timestamp":"{timestamp}","hash":"",'
        f'"bids":[{bids}],"asks":[{asks}],"min_order_size":"{min_order_size}","tick_size":"{tick_size}",'
        f'"neg_risk":{"true" if neg_risk else "false"},"last_trade_price":"{last_trade_price}"}}'
    )
    # A fingerprint the venue chose, not a defence against anybody.
    return sha1(text.encode(), usedforsecurity=False).hexdigest()


def book_hash(
    market: str,
    asset_id: str,
    timestamp: str,
    bids: Iterable[tuple[str, str]],
    asks: Iterable[tuple[str, str]],
    *,
    min_order_size: str,
    tick_size: str,
    neg_risk: bool,
    last_trade_price: str,
) -> str:
    """The hash the venue would put on this book.

    Args:
        market: condition id.
        asset_id: token id.
        timestamp: milliseconds since the epoch, as the frame spells it.  For a `price_change` entry it is the
            frame's own timestamp, and the levels are those after the change.
        bids: (price, size) worst to best, strings as the venue wrote them.
        asks: the same; worst to best is descending here.
        min_order_size: shares, such as "5".  Not on the market feed; REST `GET /book` tells it.
        tick_size: such as "0.01".
        neg_risk: whether the market is one of a set where one outcome excludes the others.  From REST too.
        last_trade_price: of the market, the same for both of its tokens; "" if it never traded.  Often padded
            to three decimals ("0.500") where the trade's own event says "0.5".
    """
    return hash_of_json(
        market,
        asset_id,
        timestamp,
        levels_json(bids),
        levels_json(asks),
        min_order_size=min_order_size,
        tick_size=tick_size,
        neg_risk=neg_risk,
        last_trade_price=last_trade_price,
    )
