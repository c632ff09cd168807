"""The venue in a box, without its sockets: exchange, crowd, feeds, faults, ledger, and the open connections."""

from collections.abc import Callable, Iterable
from typing import Protocol

from polybus_services.simulator.crowd import Crowd
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Fact
from polybus_services.simulator.faults import ALL, Close1013, Ending, Faults
from polybus_services.simulator.feeds import Feed, Frame, Manners, Say
from polybus_services.simulator.ledger import Ledger
from polybus_services.simulator.market_feed import MarketFeed
from polybus_services.simulator.options import SimulatorOptions

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

    def slow(self) -> None:
        """Treat the client as one that reads too slowly."""
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
        self.feeds: dict[str, Feed] = {
            feed.path: feed for feed in (MarketFeed(self.exchange, options.limits),)
        }
        """By the path of the WebSocket."""
        self.faults = Faults(options.seed)
        self.ledger = Ledger()
        self.links: dict[Manners, Link] = {}
        self.paused = options.paused
        self.facts = 0
        """How many there have been; `step` and the clock both add to it."""
        self._clock_ms = clock_ms
        self._now_ms = 0
        self._due = 0.0
        self._advanced_at: float | None = None
        for _ in range(options.markets):
            self.crowd.open_market(self.now_ms())

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
        if self.paused or last is None:
            return
        self._due += min(now - last, MOST_CATCHING_UP_S) * self.options.facts_per_second
        count = int(self._due)
        self._due -= count
        self.step(count)

    def step(self, count: int) -> None:
        """Let `count` facts happen now."""
        now_ms = self.now_ms()
        for _ in range(count):
            self.publish(self.crowd.act(now_ms))

    def publish(self, fact: Fact) -> None:
        """Tell every feed's readers of a fact, before the next one happens."""
        self.facts += 1
        for feed in self.feeds.values():
            for message, readers in feed.publish(fact):
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
        struck = [link for link in self.links.values() if fault.connection in (ALL, link.id)]
        for link in struck:
            if isinstance(fault, Close1013):
                link.slow()
            else:
                link.cut("fault: drop")
        return len(struck)
