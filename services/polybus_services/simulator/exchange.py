"""The matching engine: binary markets, limit orders, price-time priority.

Pure rules.  It has no clock, no randomness and no idea of feeds: who trades, and why, is `crowd.py`; how it
is told to the world is the feeds' matter.  Each method does one thing and returns the fact of it.
"""

import msgspec

from polybus_protocol.books.book_hash import hash_of_json
from polybus_services.simulator.facts import (
    Cancelled,
    Fill,
    MarketResolved,
    Placed,
    Side,
    TickChanged,
    Traded,
)
from polybus_services.simulator.ladder import PRICE_ONE, Ladder, Order, price_text
from polybus_services.simulator.past import MIN_ORDER_SIZE, NEG_RISK, Change, remember


class Listing(msgspec.Struct, frozen=True):
    """What the catalogue says about a market; it never changes."""

    id: str
    """The catalogue's number."""
    market: str
    """Condition id: 0x and 64 hex digits."""
    assets: tuple[str, str]
    """Token ids, decimal; the same order as `outcomes`."""
    outcomes: tuple[str, str]
    question: str
    slug: str
    event_id: str
    tags: tuple[str, ...] = ()


class Market:
    """A market and its book."""

    def __init__(self, listing: Listing, tick: int, opened_ms: int = 0) -> None:
        self.listing = listing
        self.opened_ms = opened_ms
        self.changes = remember()
        """What happened to the book, oldest first; see `past.py`."""
        self.tick = tick
        self.bids = Ladder(1)
        self.asks = Ladder(-1)
        self.last_trade_price = ""
        """As snapshots and hashes spell it: padded to three decimals, as captures show; "" until traded.  The
        venue keeps one for both tokens: the taker's."""
        self.resolved = False

    def ladder(self, outcome: int, side: Side) -> tuple[Ladder, int]:
        """Where an order of that side rests, and which of the ladder's two texts its token shows."""
        return (self.bids if (side is Side.BUY) == (outcome == 0) else self.asks), outcome

    def levels_json(self, outcome: int, side: Side) -> str:
        """One token's bids or asks as JSON, worst to best, without the brackets."""
        ladder, view = self.ladder(outcome, side)
        return ",".join(ladder.texts[view])

    def best(self, outcome: int, side: Side) -> int | None:
        """One token's best bid or ask; None if that side is empty."""
        ladder, _ = self.ladder(outcome, side)
        best = ladder.best()
        return best if best is None or outcome == 0 else PRICE_ONE - best

    def book_hash(self, outcome: int, timestamp: str) -> str:
        """The hash of one token's book as it stands now."""
        return hash_of_json(
            self.listing.market,
            self.listing.assets[outcome],
            timestamp,
            self.levels_json(outcome, Side.BUY),
            self.levels_json(outcome, Side.SELL),
            min_order_size=MIN_ORDER_SIZE,
            tick_size=price_text(self.tick),
            neg_risk=NEG_RISK,
            last_trade_price=self.last_trade_price,
        )

    def resting(self) -> list[Order]:
        """All orders on the book, oldest first."""
        orders = [
            order
            for ladder in (self.bids, self.asks)
            for price in ladder.prices()
            for order in ladder.orders_at(price)
        ]
        return sorted(orders, key=lambda order: order.id)

    def top(self) -> tuple[int | None, int | None]:
        """The first token's best bid and ask."""
        return self.bids.best(), self.asks.best()


class Exchange:
    """All markets, and every order that rests in them."""

    def __init__(self) -> None:
        self.markets: dict[str, Market] = {}
        """By condition id, in the order they opened; decided ones stay."""
        self.assets: dict[str, tuple[Market, int]] = {}
        """Token id -> its market and which of the two outcomes it is."""
        self.changes = 0
        """How many all books have had."""
        self._next_order = 1

    def open_market(self, listing: Listing, tick: int, now_ms: int = 0) -> Market:
        """List a market with an empty book."""
        market = Market(listing, tick, now_ms)
        self.markets[listing.market] = market
        for outcome, asset in enumerate(listing.assets):
            self.assets[asset] = (market, outcome)
        return market

    def place(
        self,
        market: Market,
        outcome: int,
        side: Side,
        price: int,
        size: int,
        now_ms: int,
        *,
        transaction_hash: str = "",
    ) -> Placed | Traded:
        """Place a limit order: what crosses the book trades, what is left rests.

        Args:
            market: an undecided market.
            outcome: 0 or 1, the token; `price` is as that token sees it.
            side: BUY or SELL.
            price: in 1e-4 dollars, on the market's grid, between one tick and one dollar less one tick.
            size: in 1e-6 shares, more than 0.
            now_ms: the venue's clock, milliseconds since the epoch.
            transaction_hash: what the settlement is said to be, if it trades.

        Raises:
            ValueError: the market is decided, the price is off the grid, or the size is not positive.
        """
        if market.resolved:
            raise ValueError(f"market {market.listing.market} is decided")
        if size <= 0 or price % market.tick or not market.tick <= price <= PRICE_ONE - market.tick:
            raise ValueError(f"no order of {size} at {price} with a tick of {market.tick}")
        top = market.top()
        own, view = market.ladder(outcome, side)
        facing = market.asks if own is market.bids else market.bids
        first_price = price if view == 0 else PRICE_ONE - price
        order = Order(self._next_order, first_price, size, size, outcome, side, now_ms)
        self._next_order += 1
        fills = _match(facing, order)
        if order.remaining:
            own.add(order)
        taken = [(facing is market.bids, fill.price, -fill.size) for fill in fills]
        rested = [(own is market.bids, first_price, order.remaining)] if order.remaining else []
        self._note(market, now_ms, (*taken, *rested))
        if not fills:
            return Placed(
                market,
                now_ms,
                order.id,
                outcome,
                side,
                price,
                size,
                own.size_at(first_price),
                market.top() != top,
                order,
            )
        touched = fills[-1].price if view == 0 else PRICE_ONE - fills[-1].price
        market.last_trade_price = price_text(touched).ljust(5, "0")
        return Traded(
            market=market,
            now_ms=now_ms,
            order_id=order.id,
            outcome=outcome,
            side=side,
            price=touched,
            size=size - order.remaining,
            rested=order.remaining,
            fills=fills,
            transaction_hash=transaction_hash,
            top_moved=market.top() != top,
            order=order,
        )

    def cancel(self, market: Market, ladder: Ladder, order: Order, outcome: int, now_ms: int) -> Cancelled:
        """Withdraw a resting order, told as seen from `outcome`'s token."""
        top = market.top()
        size = order.remaining
        ladder.take(order, size)
        self._note(market, now_ms, ((ladder is market.bids, order.price, -size),))
        return Cancelled(
            market,
            now_ms,
            order.id,
            outcome,
            Side.BUY if (ladder is market.bids) == (outcome == 0) else Side.SELL,
            order.price if outcome == 0 else PRICE_ONE - order.price,
            size,
            ladder.size_at(order.price),
            market.top() != top,
            order,
        )

    def change_tick(self, market: Market, tick: int, now_ms: int) -> TickChanged:
        """Change the price step.  Only to one that divides the old, so that every level stays on the grid.

        Raises:
            ValueError: `tick` does not divide the tick in force.
        """
        if market.tick % tick:
            raise ValueError(f"tick {tick} does not divide {market.tick}")
        self._note(market, now_ms, ())
        old, market.tick = market.tick, tick
        return TickChanged(market, now_ms, old, tick)

    def resolve(self, market: Market, winner: int, now_ms: int) -> MarketResolved:
        """Decide a market; its last book stays as it is."""
        market.resolved = True
        return MarketResolved(market, now_ms, winner)

    def _note(self, market: Market, now_ms: int, levels: tuple[tuple[bool, int, int], ...]) -> None:
        """Keep a change so that it can be undone.  Before the tick and the last trade price change."""
        self.changes += 1
        market.changes.append(Change(self.changes, now_ms, levels, market.tick, market.last_trade_price))


def _match(facing: Ladder, order: Order) -> tuple[Fill, ...]:
    """Fill an order from the other side of the book, best price first, oldest order first."""
    fills: list[Fill] = []
    while order.remaining and (best := facing.best()) is not None:
        # facing.direction is -1 for asks, which a bid meets when they are not dearer; and so for the other.
        if (best - order.price) * facing.direction < 0:
            break
        for resting in facing.orders_at(best):
            size = min(order.remaining, resting.remaining)
            facing.take(resting, size)
            order.remaining -= size
            fills.append(Fill(resting.id, best, size, resting))
            if not order.remaining:
                break
    return tuple(fills)
