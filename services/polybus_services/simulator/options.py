"""What a simulator can be told before it starts."""

import msgspec

from polybus_services.simulator.crowd import CrowdOptions
from polybus_services.simulator.market_feed import MarketLimits
from polybus_services.simulator.polybolt_feed import PolyboltChoices
from polybus_services.simulator.rtds_feed import RtdsChoices
from polybus_services.simulator.sports_feed import SportsChoices
from polybus_services.simulator.surroundings import Pace
from polybus_services.simulator.user_feed import UserChoices

FACTS_PER_MARKET = 2.0
"""Facts per second and market at speed 1.0; nearly each is one `price_change` frame.  Busy markets of the venue
were measured at 50 to 100, most have far fewer."""


class SimulatorOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one simulator."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 for any free port."""
    seed: int = 1
    """The same seed gives the same markets and, step by step, the same facts."""
    speed: float = 1.0
    """1.0 is about 2 `price_change` frames a second and market."""
    rate: float | None = None
    """Facts per second of all markets together, instead of `speed`."""
    markets: int = 20
    """How many there are at the start; each has two assets."""
    paused: bool = False
    """Begin with the flow of events stopped, to advance it by hand."""
    send_buffer_bytes: int = 4 * 1024 * 1024
    """Unwritten bytes that make a reader a slow one, besides what the kernel holds.  More than the largest first
    array of 500 books (1.5 MB), so that a snapshot alone never counts as slowness."""
    limits: MarketLimits = MarketLimits()
    crowd: CrowdOptions = CrowdOptions()
    accounts: tuple[str, ...] = ("alice", "bob")
    """Labels; the credentials are made up from the seed."""
    account_share: float = 0.1
    """How much of all orders is theirs."""
    pace: Pace = Pace()
    user: UserChoices = UserChoices()
    rtds: RtdsChoices = RtdsChoices()
    polybolt: PolyboltChoices = PolyboltChoices()
    sports: SportsChoices = SportsChoices()

    @property
    def facts_per_second(self) -> float:
        """The pace asked for."""
        return self.rate if self.rate is not None else self.speed * FACTS_PER_MARKET * self.markets
