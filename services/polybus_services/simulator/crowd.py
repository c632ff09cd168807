"""The people: a seeded crowd that places, withdraws and takes orders around a drifting opinion.

Tuned to what was measured on the venue in ten minutes on eight tokens: 229,256 `price_change`, 3,328 `book`,
1,658 `last_trade_price`, 12 `tick_size_change` frames.  The same seed and the same calls give the same facts.
"""

import random

import msgspec

from polybus_services.simulator.exchange import Exchange, Listing, Market
from polybus_services.simulator.facts import Fact, MarketCreated, Side, TickChanged, Traded
from polybus_services.simulator.ladder import PRICE_ONE, SIZE_ONE, Ladder, Order

COARSE_TICK, FINE_TICK = 100, 10
"""0.01 and 0.001 dollars."""

EDGE_LOW, EDGE_HIGH = 400, 9_600
"""Past 0.04 and 0.96 a market gets the finer tick."""

TRADE_SHARE = 0.0072
"""Trades per action: 1,658 of 229,256 + 1,658."""

MOST_LEVELS = 40
"""Levels a side holds.  Captures show 5 to 50 on one side of a market with 0.01 ticks."""

FEW_LEVELS = 24
"""Below this a side gains orders faster than it loses them."""

DEPTH_TICKS = 14.0
"""Mean distance of a new order from the crowd's opinion, in ticks."""

DRIFT_SHARE = 0.02
"""How often an action on a market follows a change of opinion."""

SUBJECTS = (
    "the home team win",
    "turnout exceed 60%",
    "rates be cut",
    "the launch succeed",
    "it rain",
    "BTC close higher",
)


class CrowdOptions(msgspec.Struct, frozen=True):
    """How often rare things happen, as chances per action."""

    new_market_share: float = 0.0001
    resolve_share: float = 0.00005
    """Only markets that opened while the simulator runs are decided by chance: those of the ready line last."""


class Crowd:
    """Everybody who trades, on all markets of one exchange."""

    def __init__(self, exchange: Exchange, seed: int, options: CrowdOptions) -> None:
        self._exchange = exchange
        # Not a secret: the point is that it can be repeated.
        self._random = random.Random(seed)
        self._options = options
        self._opinions: dict[str, int] = {}
        self._open: list[Market] = []
        self._temporary: list[Market] = []
        self._count = 0

    def open_market(self, now_ms: int) -> Market:
        """List a market and put its first orders on the book."""
        pick = self._random
        self._count += 1
        subject = pick.choice(SUBJECTS)
        number = pick.randrange(1_000_000, 10_000_000)
        listing = Listing(
            id=str(number),
            market=f"0x{pick.getrandbits(256):064x}",
            assets=(self._token_id(), self._token_id()),
            outcomes=("Yes", "No"),
            question=f"Will {subject}? ({self._count})",
            slug=f"will-{subject.replace(' ', '-').replace('%', '-percent').lower()}-{self._count}",
            event_id=str(number // 10),
            tags=("simulated",),
        )
        market = self._exchange.open_market(listing, COARSE_TICK, now_ms)
        # Up to one tick inside the edges, so that some markets pass them soon.
        self._opinions[listing.market] = pick.randrange(EDGE_LOW + COARSE_TICK, EDGE_HIGH, COARSE_TICK)
        self._open.append(market)
        for _ in range(pick.randrange(FEW_LEVELS, 3 * MOST_LEVELS)):
            self._place(market, now_ms, bids=pick.random() < 0.5)
        return market

    def act(self, now_ms: int) -> Fact:
        """Do the next thing somewhere.

        Raises:
            IndexError: there is no open market.
        """
        pick, options = self._random, self._options
        chance = pick.random()
        if chance < options.new_market_share:
            return self.announce_market(now_ms)
        if chance < options.new_market_share + options.resolve_share and self._temporary:
            market = pick.choice(self._temporary)
            return self.resolve(market, pick.randrange(2), now_ms)
        return self.act_on(pick.choice(self._open), now_ms)

    def act_on(self, market: Market, now_ms: int) -> Fact:
        """Do the next thing on one market."""
        pick = self._random
        bid, ask = market.top()
        if market.tick == COARSE_TICK and bid is not None and ask is not None:
            middle = (bid + ask) // 2
            if not EDGE_LOW <= middle <= EDGE_HIGH:
                return self.refine(market, now_ms)
        if pick.random() < DRIFT_SHARE:
            self._drift(market)
        if pick.random() < TRADE_SHARE and (bid is not None or ask is not None):
            return self.trade(market, now_ms)
        bids = pick.random() < 0.5
        ladder = market.bids if bids else market.asks
        if not self._is_stale(market, ladder) and pick.random() < (0.8 if len(ladder) < FEW_LEVELS else 0.5):
            placed = self._place(market, now_ms, bids=bids)
            if placed is not None:
                return placed
        if not len(ladder):
            ladder = market.asks if bids else market.bids
        if not len(ladder):
            # Nothing rests at all: somebody begins anew, a tick below the common opinion.
            opinion = self._opinions[market.listing.market] // market.tick * market.tick
            return self._rest(market, opinion - market.tick, now_ms, bids=True)
        return self._withdraw(market, ladder, now_ms)

    def trade(self, market: Market, now_ms: int) -> Traded:
        """Let somebody take from the book, on the side the crowd thinks is mispriced.

        Raises:
            ValueError: nobody offers anything.
        """
        pick = self._random
        bid, ask = market.top()
        opinion = self._opinions[market.listing.market]
        buys = bid is None or (ask is not None and (ask - opinion) <= (opinion - bid))
        price = ask if buys else bid
        if price is None:
            raise ValueError(f"the book of market {market.listing.market} is empty")
        facing = market.asks if buys else market.bids
        # Mostly a part of the best level, now and then all of it.
        share = pick.randrange(1, 13)
        size = max(facing.size_at(price) * min(share, 10) // 10, 1)
        outcome = pick.randrange(2)
        fact = self._exchange.place(
            market,
            outcome,
            Side.BUY if buys == (outcome == 0) else Side.SELL,
            price if outcome == 0 else PRICE_ONE - price,
            size,
            now_ms,
            transaction_hash=f"0x{pick.getrandbits(256):064x}",
        )
        assert isinstance(fact, Traded)  # it is priced at the best level, which is there
        return fact

    def join_best(self, market: Market, now_ms: int) -> Fact:
        """Let an order to buy the first token rest at the best price, or a tick below the common opinion."""
        bid, ask = market.top()
        opinion = min(self._opinions[market.listing.market], ask or PRICE_ONE) // market.tick * market.tick
        return self._rest(market, bid or opinion - market.tick, now_ms, bids=True)

    def withdraw(self, market: Market, order: Order, now_ms: int) -> Fact:
        """Let whoever placed it take an order back."""
        bids = (order.side is Side.BUY) == (order.outcome == 0)
        ladder = market.bids if bids else market.asks
        return self._exchange.cancel(market, ladder, order, order.outcome, now_ms)

    def announce_market(self, now_ms: int) -> MarketCreated:
        """Open a market while the simulator runs."""
        market = self.open_market(now_ms)
        self._temporary.append(market)
        return MarketCreated(market, now_ms)

    def refine(self, market: Market, now_ms: int) -> TickChanged:
        """Give a market the finer tick.

        Raises:
            ValueError: it has it already.
        """
        if market.tick == FINE_TICK:
            raise ValueError(f"market {market.listing.market} has the fine tick already")
        return self._exchange.change_tick(market, FINE_TICK, now_ms)

    def resolve(self, market: Market, winner: int, now_ms: int) -> Fact:
        """Decide a market, after which nobody trades there.

        Raises:
            ValueError: it is decided already.
        """
        if market.resolved:
            raise ValueError(f"market {market.listing.market} is decided already")
        self._open.remove(market)
        if market in self._temporary:
            self._temporary.remove(market)
        return self._exchange.resolve(market, winner, now_ms)

    def _drift(self, market: Market) -> None:
        """Change the crowd's mind by a tick; it stays two coarse ticks away from certainty."""
        moved = self._opinions[market.listing.market] + self._random.choice((-market.tick, market.tick))
        self._opinions[market.listing.market] = min(max(moved, 2 * COARSE_TICK), PRICE_ONE - 2 * COARSE_TICK)

    def _is_stale(self, market: Market, ladder: Ladder) -> bool:
        """Whether the best level of a side is worse, for those who offer it, than the crowd's opinion."""
        best = ladder.best()
        return best is not None and (best - self._opinions[market.listing.market]) * ladder.direction > 0

    def _place(self, market: Market, now_ms: int, *, bids: bool) -> Fact | None:
        """Let an order rest near the crowd's opinion; None where it would cross the book or crowd it."""
        tick = market.tick
        opinion = self._opinions[market.listing.market] // tick * tick
        ladder, facing = (market.bids, market.asks) if bids else (market.asks, market.bids)
        price = opinion - ladder.direction * tick * (1 + int(self._random.expovariate(1 / DEPTH_TICKS)))
        best = facing.best()
        crosses = best is not None and (best - price) * facing.direction >= 0
        crowded = len(ladder) >= MOST_LEVELS and not ladder.has(price)
        if crosses or crowded or not tick <= price <= PRICE_ONE - tick:
            return None
        return self._rest(market, price, now_ms, bids=bids)

    def _rest(self, market: Market, price: int, now_ms: int, *, bids: bool) -> Fact:
        pick = self._random
        outcome = pick.randrange(2)
        # Round lots, cents of a share, and what is left of older fills: all three are seen.
        unit = pick.choice((SIZE_ONE * 5, SIZE_ONE // 100, 1))
        size = max(int(pick.lognormvariate(4.0, 1.2) * SIZE_ONE) // unit, 1) * unit
        side = Side.BUY if bids == (outcome == 0) else Side.SELL
        return self._exchange.place(
            market, outcome, side, price if outcome == 0 else PRICE_ONE - price, size, now_ms
        )

    def _withdraw(self, market: Market, ladder: Ladder, now_ms: int) -> Fact:
        """Withdraw an order: one of a stale best level first, else any."""
        pick = self._random
        level = len(ladder) - 1 if self._is_stale(market, ladder) else pick.randrange(len(ladder))
        order = pick.choice(ladder.orders_at(ladder.price_at(level)))
        return self._exchange.cancel(market, ladder, order, pick.randrange(2), now_ms)

    def _token_id(self) -> str:
        """76 to 78 decimal digits, like the hash it would be."""
        return str(self._random.randrange(10**75, 2**256))
