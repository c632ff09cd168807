"""What books were: a market's changes, kept so that they can be undone.

A consumer holds the time and the hash of the last thing he heard of an asset, and the exchange is further by
then.  From the book of now, undoing one change after another leads back to his, level by level.  Nothing is
computed until somebody asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

from polybus_protocol.books.book_hash import hash_of_json, levels_json
from polybus_services.simulator.facts import Side
from polybus_services.simulator.ladder import PRICE_ONE, price_text, size_text

if TYPE_CHECKING:
    from polybus_services.simulator.exchange import Market

REMEMBERED_CHANGES = 200
"""Of each market: more than a minute and a half at the default pace, two to four seconds of a busy market of the
venue.  About 300 bytes each, so 500 markets take 30 MB at most."""

MIN_ORDER_SIZE = "5"
"""Shares.  What nearly every market of the venue says; a part of the book hash."""

NEG_RISK = False
"""Whether one outcome excludes those of other markets; none here does."""


class Change(msgspec.Struct, frozen=True, gc=False):
    """What one thing did to a market's book."""

    number: int
    """Of all changes on the exchange, from 1."""
    at_ms: int
    levels: tuple[tuple[bool, int, int], ...]
    """Whether it is a bid, the price, and by how much its size rose; as the first token sees them."""
    old_tick: int
    old_last_trade_price: str


class Moment(msgspec.Struct, frozen=True):
    """A market's book as it stood from one change to the next."""

    number: int
    """Of the change that made it; 0 for the empty book of the beginning."""
    since_ms: int
    sizes: tuple[dict[int, int], dict[int, int]]
    """The first token's bids and asks: price -> size."""
    tick: int
    last_trade_price: str

    def levels(self, outcome: int, side: Side) -> list[tuple[str, str]]:
        """One token's bids or asks as (price, size), worst to best."""
        bids = (side is Side.BUY) == (outcome == 0)
        found = sorted(self.sizes[0 if bids else 1].items(), reverse=not bids)
        return [
            (price_text(price if outcome == 0 else PRICE_ONE - price), size_text(size))
            for price, size in found
        ]

    def show(self, market: Market, outcome: int, timestamp: str | None = None) -> dict[str, object]:
        """One token's book as REST shows it: worst to best, with all that goes into its hash.

        Args:
            market: whose book it is.
            outcome: 0 or 1, the token.
            timestamp: milliseconds since the epoch; those of the last change if left out, as the venue's answer
                bears the same hash for as long as the book is the same (docs.polymarket.com, prices-order-books).
        """
        timestamp = str(self.since_ms) if timestamp is None else timestamp
        asset, tick = market.listing.assets[outcome], price_text(self.tick)
        bids, asks = self.levels(outcome, Side.BUY), self.levels(outcome, Side.SELL)
        return {
            "market": market.listing.market,
            "asset_id": asset,
            "timestamp": timestamp,
            "hash": hash_of_json(
                market.listing.market,
                asset,
                timestamp,
                levels_json(bids),
                levels_json(asks),
                min_order_size=MIN_ORDER_SIZE,
                tick_size=tick,
                neg_risk=NEG_RISK,
                last_trade_price=self.last_trade_price,
            ),
            "bids": [{"price": price, "size": size} for price, size in bids],
            "asks": [{"price": price, "size": size} for price, size in asks],
            "min_order_size": MIN_ORDER_SIZE,
            "tick_size": tick,
            "neg_risk": NEG_RISK,
            "last_trade_price": self.last_trade_price,
        }


def moments(market: Market) -> Iterator[Moment]:
    """The book as it is, then as it was before each change, as far back as is remembered."""
    bids = dict(zip(market.bids.prices(), market.bids.sizes, strict=True))
    asks = dict(zip(market.asks.prices(), market.asks.sizes, strict=True))
    tick, last_trade_price = market.tick, market.last_trade_price
    for change in reversed(market.changes):
        yield Moment(change.number, change.at_ms, (bids.copy(), asks.copy()), tick, last_trade_price)
        for is_bid, price, rise in change.levels:
            sizes = bids if is_bid else asks
            sizes[price] = sizes.get(price, 0) - rise
            if not sizes[price]:
                del sizes[price]
        tick, last_trade_price = change.old_tick, change.old_last_trade_price
    if len(market.changes) < REMEMBERED_CHANGES:
        yield Moment(0, market.opened_ms, (bids.copy(), asks.copy()), tick, last_trade_price)


def now(market: Market) -> Moment:
    """The book as it is."""
    return next(moments(market))


def after(market: Market, number: int) -> Moment:
    """The book as it was after so many changes on the exchange, or the oldest that is remembered."""
    oldest = now(market)
    for oldest in moments(market):
        if oldest.number <= number:
            break
    return oldest


def find(market: Market, outcome: int, timestamp: str, claimed: str | None) -> dict[str, object] | None:
    """The book that somebody was told of, as REST would have shown it then.

    Many a change can bear one timestamp, and a snapshot bears its own: among the books that stood in that
    millisecond, the hash says which.

    Args:
        market: whose book it is.
        outcome: 0 or 1, the token.
        timestamp: of the message, milliseconds since the epoch.
        claimed: the hash in it; if None, the last book of that millisecond is meant.

    Returns:
        None if no remembered book is that one.
    """
    at_ms = int(timestamp)
    for moment in moments(market):
        if moment.since_ms > at_ms:
            continue
        shown = moment.show(market, outcome, timestamp)
        if claimed in (None, shown["hash"]):
            return shown
        if moment.since_ms < at_ms:
            break
    return None


def remember() -> deque[Change]:
    """Where a market keeps its changes."""
    return deque(maxlen=REMEMBERED_CHANGES)
