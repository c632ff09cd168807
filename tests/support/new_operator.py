"""What somebody sees who watches `polybus top` while something goes wrong: a gateway as a process, with its usual patience."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

import anyio
import msgspec

from polybus_services.cli.top_command import looks
from polybus_services.client import ControlClient
from polybus_services.demo.wishes import wishes
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.fault_kinds import FAULTS
from polybus_services.simulator.probe import AdminClient
from polybus_services.vitals import Unanswered

from ..services.scene import Scene
from ..services.terminal import Running, running

PARAMETERS: Mapping[str, dict[str, object]] = MappingProxyType(
    {
        "drop": {"probability": 0.01},
        "close-1013": {"probability": 0.01},
        "drain-4003": {"probability": 0.1},
        "slow-4002": {"probability": 0.1},
        "policy-4008": {"probability": 0.1},
        "corrupt-frame": {"probability": 0.1},
        "unknown-event": {"probability": 0.1},
        "lost-frame": {"probability": 0.05},
        "seq-gap": {"probability": 0.1},
        "dropped-count": {"probability": 0.1},
    }
)
"""How each fault is switched on; those that are not here, as they are.  `freeze-asset` has its assets from the scene."""

SETTLED_WITHIN_S = 60.0
"""For the first data of every feed: until then there is something to be seen."""

DIALS_AGAIN = ("refuse-429", "auth-silent", "auth-4001")
"""Faults of dials: the sockets that are open do not see them, so they are cut."""

DOUBTS = ("rest-stale", "rest-down", "rest-429")
"""Faults of REST, which is asked where the feed is in doubt, so some assets freeze as well."""


class Stage(msgspec.Struct):
    """One gateway at work on all feeds, and what can be done to it."""

    nats: NatsServer
    simulator: Simulator
    gateway: Running
    client: ControlClient

    @property
    def admin(self) -> AdminClient:
        """The simulator's."""
        return AdminClient(self.simulator.admin)


@asynccontextmanager
async def staged(within_s: float) -> AsyncIterator[Stage]:
    """Set it up for the length of a block, at most so many seconds, until all that was asked for is live."""
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server())
        options = SimulatorOptions(markets=5, seed=5, rate=40, account_share=0.5)
        simulator = await stack.enter_async_context(running_simulator(options))
        scene = Scene(simulator, nats.url)
        gateway = await stack.enter_async_context(running(["run", "--json"], within_s, **scene.variables))
        await gateway.json()
        client = await stack.enter_async_context(ControlClient.connect(nats.url))
        account = simulator.accounts[0]["label"]
        for feed, requests in wishes(simulator.feeds, simulator.assets, account).items():
            for request in requests:
                await client.subscribe(feed=feed, **request)
        yield Stage(nats, simulator, gateway, client)


async def strike(stage: Stage, fault: str) -> None:
    """Let something go wrong: a fault of the simulator, or one of `OTHERS`."""
    if fault in OTHERS:
        await OTHERS[fault](stage)
        return
    parameters: dict[str, Any] = dict(PARAMETERS.get(fault, {}))
    if fault == "freeze-asset":
        parameters["assets"] = stage.simulator.assets[:4]
    await stage.admin.fault_on(fault, **parameters)
    if fault in DIALS_AGAIN:
        await stage.admin.fault_on("drop")
        await stage.admin.fault_off("drop")
    if fault in DOUBTS:
        await stage.admin.fault_on("freeze-asset", assets=stage.simulator.assets[:4])


async def _kill_nats(stage: Stage) -> None:
    stage.nats.kill()


async def _freeze_nats(stage: Stage) -> None:
    stage.nats.freeze()


async def _restart_nats(stage: Stage) -> None:
    await stage.nats.restart()


async def _delete_stream(stage: Stage) -> None:
    await stage.client.nats.jetstream().delete_stream("POLYBUS_MARKET")


async def _delete_bucket(stage: Stage) -> None:
    await stage.client.nats.jetstream().delete_stream("KV_polybus_subscriptions")


async def _kill_gateway(stage: Stage) -> None:
    stage.gateway.process.kill()


async def _stop_gateway(stage: Stage) -> None:
    stage.gateway.process.send_signal(signal.SIGSTOP)


OTHERS: Mapping[str, Callable[[Stage], Awaitable[None]]] = MappingProxyType(
    {
        "NATS killed": _kill_nats,
        "NATS hangs": _freeze_nats,
        "NATS restarted": _restart_nats,
        "stream deleted": _delete_stream,
        "bucket deleted": _delete_bucket,
        "gateway killed": _kill_gateway,
        "gateway hangs": _stop_gateway,
    }
)
"""What goes wrong elsewhere than at the venue."""

ALL = (*FAULTS, *OTHERS)


class Seen(msgspec.Struct):
    """What stood on the screen."""

    after_s: float
    words: str


async def watch(fault: str, seconds: float, enough: frozenset[str] = frozenset()) -> dict[str, Seen]:
    """What `polybus top` says of a fault: the first words under each name, and how soon.

    Args:
        fault: one of `ALL`.
        seconds: to look for.
        enough: names after which nothing more is waited for; with none it looks to the end.
    """
    seen: dict[str, Seen] = {}
    async with staged(seconds + 2 * SETTLED_WITHIN_S) as stage:
        screens = looks(stage.client)
        with anyio.fail_after(SETTLED_WITHIN_S):
            while isinstance(before := await anext(screens), Unanswered) or before.hints:
                pass
        await strike(stage, fault)
        begun = anyio.current_time()
        async for screen in screens:
            after_s = anyio.current_time() - begun
            if isinstance(screen, Unanswered):
                alert, _, words = screen.error.partition(": ")
                seen.setdefault(alert, Seen(after_s, words))
            else:
                for hint in screen.hints:
                    seen.setdefault(hint.alert, Seen(after_s, hint.words))
            if after_s > seconds or (enough and enough <= set(seen)):
                break
        if fault == "NATS hangs":
            stage.nats.thaw()
    return seen
