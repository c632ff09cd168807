"""The venue in a box: real sockets, real manners, books that hold together, and faults on demand.

In a test::

    async with running_simulator(SimulatorOptions(markets=10, seed=7)) as simulator:
        ...  # connect to simulator.feeds["market"], ask simulator.admin, look into simulator.venue

All five feeds tell of one world: an exchange on which the accounts of `simulator.accounts` trade among others,
and what goes on around it.

As a program, `serve` runs until it is cancelled and `ready_line` says where everything is.
"""

from polybus_services.simulator.crowd import CrowdOptions
from polybus_services.simulator.market_feed import MarketLimits
from polybus_services.simulator.options import SimulatorOptions
from polybus_services.simulator.polybolt_feed import PolyboltChoices
from polybus_services.simulator.rtds_feed import RtdsChoices
from polybus_services.simulator.server import Simulator, ready_line, running_simulator, serve
from polybus_services.simulator.sports_feed import SportsChoices
from polybus_services.simulator.surroundings import Pace
from polybus_services.simulator.user_feed import UserChoices

__all__ = [
    "CrowdOptions",
    "MarketLimits",
    "Pace",
    "PolyboltChoices",
    "RtdsChoices",
    "Simulator",
    "SimulatorOptions",
    "SportsChoices",
    "UserChoices",
    "ready_line",
    "running_simulator",
    "serve",
]
