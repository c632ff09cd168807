"""The venue in a box, without its sockets: exchange, crowd, feeds, faults, ledger, and the open connections."""

from collections.abc import Callable, Iterable
from typing import Protocol

from polybus_services.simulator.crowd import Crowd
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Fact, Happening, Traded
from polybus_services.simulator.fault_kinds import Ending
from polybus_services.simulator.faults import Faults
from polybus_services.simulator.feeds import AuthFate, Close, Feed, Frame, Manners, Say
from polybus_services.simulator.ledger import Ledger
from polybus_services.simulator.market_feed import MarketFeed
from polybus_services.simulator.options import SimulatorOptions
from polybus_services.simulator.people import People
from polybus_services.simulator.polybolt_feed import PolyboltFeed
from polybus_services.simulator.rtds_feed import RtdsFeed
from polybus_services.simulator.sports_feed import SportsFeed
from polybus_services.simulator.surroundings import Surroundings
from polybus_services.simulator.user_feed import UserFeed

MOST_CATCHING_UP_S = 0.25
"""After a pause of the process, the flow goes on from now: more than this much of what was missed is left out."""


class Link(Protocol):
    """What the venue needs of a connection."""

    id: str

    def deliver(self, frame: Frame) -> None:
        """Send a data frame, or what the faults make of it."""
        ...

    def announce(self, text: str) -> None:
        """Send a plain word nobody asked for."""
        ...

    def cut(self, reason: str) -> None:
        """End it without a close frame."""
        ...

    def end(self, close: Close) -> None:
        """Close by a fault."""
        ...

    def tick(self, now: float) -> None:
        """Do what time alone brings."""
        ...

    async def flushed(self) -> None:
        """Wait until all that was queued is written, or it is over."""
        ...


class Venue:
    """Everything that happens, whoever is listening.

    Args:
        options: as given to the simulator.
        clock_ms: the venue's clock, milliseconds since the epoch; it may stand still but is never turned back.
    """

    def __init__(self, options: SimulatorOptions, clock_ms: Callable[[], int]) -> None:
        self.options = options
        self.exchange = Exchange()
        self.crowd = Crowd(self.exchange, options.seed, options.crowd)
        self.people = People(options.seed, options.accounts, options.account_share)
        self.faults = Faults(options.seed)
        self.ledger = Ledger()
        self.links: dict[Manners, Link] = {}
        self.paused = options.paused
        self.facts = 0
        """How many the exchange has had; `step` and the clock both add to it."""
        self._clock_ms = clock_ms
        self._now_ms = 0
        self._due = 0.0
        self._advanced_at: float | None = None
        for _ in range(options.markets):
            self.crowd.open_market(self.now_ms())
        self.surroundings = Surroundings(
            options.seed, self.exchange, self.people, options.pace, self.now_ms()
        )
        prices = self.surroundings.prices
        feeds: tuple[Feed, ...] = (
            MarketFeed(self.exchange, options.limits),
            UserFeed(self.people, options.user, self._on_auth),
            RtdsFeed(self.people, prices, options.rtds),
            PolyboltFeed(self.exchange, self.people, prices, options.polybolt, self._on_auth),
            SportsFeed(options.sports),
        )
        self.feeds = {feed.name: feed for feed in feeds}
        self.paths = {path: feed for feed in feeds for path in feed.paths}

    def now_ms(self) -> int:
        """The venue's time; it never goes back, even if the machine's clock does."""
        self._now_ms = max(self._now_ms, self._clock_ms())
        return self._now_ms

    def advance(self, now: float) -> None:
        """Let happen what fell due since the last call.

        Args:
            now: seconds from any fixed point.
        """
        last, self._advanced_at = self._advanced_at, now
        for link in list(self.links.values()):
            link.tick(now)
        if self.paused or last is None:
            return
        seconds = min(now - last, MOST_CATCHING_UP_S)
        self._due += seconds * self.options.facts_per_second
        count = int(self._due)
        self._due -= count
        self.step(count, seconds)

    def step(self, count: int, seconds: float | None = None) -> None:
        """Let `count` facts happen now, and around them what happens in so many seconds.

        Args:
            count: of facts of the exchange.
            seconds: as many as these facts would take at the set pace, if left out.
        """
        if seconds is None:
            pace = self.options.facts_per_second
            seconds = count / pace if pace > 0 else 0.0
        now_ms = self.now_ms()
        for _ in range(count):
            self.publish(self.crowd.act(now_ms))
            self._surround(seconds / count, now_ms)
        if not count:
            self._surround(seconds, now_ms)

    def _surround(self, seconds: float, now_ms: int) -> None:
        for happening in self.surroundings.advance(seconds, now_ms):
            self.publish(happening)

    def publish(self, happening: Happening) -> None:
        """Tell every feed's readers of something, before the next thing happens."""
        if isinstance(happening, Fact):
            self.facts += 1
        if isinstance(happening, Traded):
            self.surroundings.note(happening)
        for feed in self.feeds.values():
            for message, readers in feed.publish(happening):
                self._tell(message, readers)

    def _tell(self, message: Frame | Say, readers: Iterable[Manners]) -> None:
        # Nobody joins or leaves the readers on the way: a connection that ends does so in its own task.
        for manners in readers:
            link = self.links.get(manners)
            if link is None:
                continue
            if isinstance(message, Say):
                link.announce(message.text)
            else:
                link.deliver(message)

    def strike(self, fault: Ending) -> int:
        """Let an ending fault happen at once; to how many connections it did."""
        struck = [link for link in self.links.values() if fault.meant_for(link.id)]
        for link in struck:
            if fault.close is None:
                link.cut("fault: drop")
            else:
                link.end(fault.close)
        return len(struck)

    def feed_at(self, path: str) -> Feed | None:
        """The feed that is served there."""
        return self.paths.get(path)

    def _on_auth(self, connection: str) -> AuthFate:
        # The clock of the last tick, which is some milliseconds old, is good enough for `seconds` of a fault.
        return self.faults.on_auth(connection, self._advanced_at or 0.0)
