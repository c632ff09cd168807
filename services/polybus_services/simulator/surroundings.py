"""What happens around the exchange as time goes by: settlements, reference prices, comments, games.

Its time is its own: seconds that pass as the flow of events passes, and stand still with it.  When a test
advances the exchange by hand, each fact lets as much time go by as it would take at the set speed.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from polybus_services.simulator.comments import Comments
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Happening, Settled, Traded, TradeStatus
from polybus_services.simulator.games import Games
from polybus_services.simulator.people import People
from polybus_services.simulator.prices import Prices
from polybus_services.simulator.settlement import plan

Act = Callable[[int], Iterator[Happening]]
"""What is to happen at a moment, given the venue's clock."""


class Pace(msgspec.Struct, frozen=True):
    """Seconds between two of a kind; 0 for never."""

    price_s: float = 1.0
    """Each symbol's, as measured for the Chainlink topic."""
    comment_s: float = 3.0
    game_s: float = 2.0
    """Of all games together."""


class Surroundings:
    """Everything but the exchange.

    Args:
        seed: of everything.
        exchange: whose events are talked about.
        people: who talks.
        pace: how often things happen.
        now_ms: the venue's clock.
    """

    def __init__(self, seed: int, exchange: Exchange, people: People, pace: Pace, now_ms: int) -> None:
        self.prices = Prices(seed, now_ms)
        self.time = 0.0
        """Seconds since the start."""
        self._agenda: list[tuple[float, int, Act]] = []
        self._count = itertools.count()
        comments, games = Comments(seed, exchange, people), Games(seed, now_ms)
        for every_s, tick in (
            (pace.price_s, self.prices.tick),
            (pace.comment_s, comments.tick),
            (pace.game_s, games.tick),
        ):
            if every_s > 0:
                self._plan(every_s, self._recurring(every_s, tick))

    def note(self, trade: Traded) -> None:
        """Settle this trade in the time to come."""
        for delay_s, status in plan(trade):
            self._plan(delay_s, partial(_settle, trade, status))

    def advance(self, seconds: float, now_ms: int) -> Iterator[Happening]:
        """Let time pass; what happens in it, in order."""
        until = self.time + seconds
        while self._agenda and self._agenda[0][0] <= until:
            self.time, _, act = heapq.heappop(self._agenda)
            yield from act(now_ms)
        self.time = until

    def _plan(self, delay_s: float, act: Act) -> None:
        # The count keeps what is due at one moment in the order of its planning.
        heapq.heappush(self._agenda, (self.time + delay_s, next(self._count), act))

    def _recurring(self, every_s: float, tick: Act) -> Act:
        def act(now_ms: int) -> Iterator[Happening]:
            self._plan(every_s, act)
            return tick(now_ms)

        return act


def _settle(trade: Traded, status: TradeStatus, now_ms: int) -> Iterator[Settled]:
    yield Settled(trade, now_ms, status)
