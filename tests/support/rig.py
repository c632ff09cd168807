"""A whole polybus in one process: a real nats-server, the simulator, a gateway and a consumer.

Deadlines are short, so that what takes a minute in production takes a second here.
"""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import msgspec

from polybus_actors.bus import NatsSettings
from polybus_actors.gateway import Gateway, GatewaySettings
from polybus_protocol.backoff import BackoffPolicy
from polybus_protocol.profile import FeedProfile
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.probe import AdminClient

from .consumer import Consumer, consuming
from .proxy import Proxy, proxy_to

QUICK = FeedProfile(
    url="ws://127.0.0.1:1/ws/market",
    ping_interval_s=0.15,
    silence_timeout_s=3.0,
    first_data_timeout_s=2.0,
    asset_timeout_s=1.0,
    close_timeout_s=1.0,
    dial_timeout_s=2.0,
    dial_interval_s=0.01,
    backoff=BackoffPolicy(first_s=0.05, longest_s=0.2, later_s=0.3),
)
"""Impatient with what goes wrong.  A paused simulator is silent, so patience with live data stays as it is."""

type Counts = dict[tuple[str, str], int]
"""Asset or market, and type -> events."""


@asynccontextmanager
async def running_gateway(
    nats_url: str, feed_url: str, profile: FeedProfile = QUICK, **settings: Any
) -> AsyncIterator[tuple[Gateway, anyio.Event]]:
    """A gateway that answers, for the length of a block, drained at its end; and what is set once it has ended."""
    gateway = Gateway(
        GatewaySettings(**settings),
        NatsSettings(url=nats_url),
        msgspec.structs.replace(profile, url=feed_url),
    )
    answering, ended, failure = anyio.Event(), anyio.Event(), None
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await gateway.run(lambda _restored: answering.set())
            ended.set()

        tasks.start_soon(run)
        with anyio.fail_after(10):
            await answering.wait()
        try:
            yield gateway, ended
        except Exception as error:  # noqa: BLE001  raised again below, outside of any group
            failure = error
        gateway.stop()
        await ended.wait()
    if failure is not None:
        raise failure


class Rig:
    """See the module."""

    def __init__(
        self,
        nats: NatsServer,
        proxy: Proxy,
        simulator: Simulator,
        gateway: Gateway,
        ended: anyio.Event,
        consumer: Consumer,
    ) -> None:
        self.nats = nats
        self.proxy = proxy
        self.simulator = simulator
        self.gateway = gateway
        self.ended = ended
        """Set once the gateway has ended."""
        self.consumer = consumer
        self.admin = AdminClient(simulator.admin)
        self.assets = simulator.assets
        """All assets that the venue began with, pair by pair; while it talks, new ones appear."""

    async def subscribe(self, *assets: str, **fields: Any) -> Any:
        """Ask for assets, as a rule until all have delivered."""
        reply = await self.consumer.ask("subscribe", **{"assets": assets, "wait": "data", **fields})
        if fields.get("wait", "data") == "data":
            assert reply["missing"] == [], reply["missing"]
            # The answer overtakes the data, which waits its turn in the outbox.
            await self.consumer.until(lambda: all(self.consumer.of(asset).is_trusted for asset in assets))
        return reply

    async def ledger(self) -> dict[str, Counts]:
        """What became of every event: fate -> counts, over all connections."""
        shown: dict[str, Counts] = {}
        for subject, fates in (await self.admin.ledger())["assets"].items():
            for fate, kinds in fates.items():
                for kind, count in kinds.items():
                    shown.setdefault(fate, {})[subject, kind] = count
        return shown

    async def settle(self) -> tuple[Counter[tuple[str, str]], dict[str, Counts]]:
        """Stop the venue and wait until all it has sent has come through.

        Returns:
            What the consumer received, and the venue's ledger.
        """
        assert (await self.admin.ask("POST", "/pause"))["unflushed"] == []
        # A connection reads its socket in order, so once the PONG to a PING sent now is in, all before it is.
        for connection in self.gateway.pool.connections.values():
            if connection.session is not None:
                await self._has_read(connection.id, connection.session)
        assert await self.gateway.bus.flush(5)
        await self.consumer.client.flush()
        return self.consumer.counts(), await self.ledger()

    async def _has_read(self, _id: str, session: Any) -> None:
        """Wait for a frame that came after this call: the answer to the next PING, if nothing else."""
        frames = session.frames
        with anyio.fail_after(5):
            while session.frames <= frames and session.state.value == "open":
                await anyio.lowlevel.checkpoint()

    async def received_all(self) -> None:
        """Settle, and compare: everything sent was received, and nothing else but mirror images."""
        received, ledger = await self.settle()
        self.consumer.check()
        sent, mirrored = ledger.get("sent", {}), ledger.get("mirrored", {})
        for place in received.keys() | sent.keys():
            if place[1] in ("new_market", "market_resolved"):
                continue  # told to every connection, published once
            most = sent.get(place, 0) + mirrored.get(place, 0)
            if place[1] == "best_bid_ask":
                # It has neither hash nor id: said twice, it may well have happened twice.
                most += ledger.get("duplicated", {}).get(place, 0)
            assert sent.get(place, 0) <= received[place] <= most, (place, received[place], sent.get(place))


@asynccontextmanager
async def rigged(
    options: SimulatorOptions | None = None,
    profile: FeedProfile = QUICK,
    *,
    proxied: bool = False,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A rig for the length of a block; what its consumer heard is checked at the end.

    Args:
        options: of the simulator; by default four markets, paused.
        profile: of the feed.
        proxied: whether there is a proxy between the gateway and NATS.
        settings: of the gateway.
    """
    async with AsyncExitStack() as stack:
        nats = await stack.enter_async_context(nats_server())
        proxy = await stack.enter_async_context(proxy_to(nats.port))
        simulator = await stack.enter_async_context(
            running_simulator(options or SimulatorOptions(markets=4, seed=5, paused=True))
        )
        consumer = await stack.enter_async_context(consuming(nats.url))
        gateway, ended = await stack.enter_async_context(
            running_gateway(
                proxy.url if proxied else nats.url, simulator.feeds["market"], profile, **settings
            )
        )
        rig = Rig(nats, proxy, simulator, gateway, ended, consumer)
        yield rig
        consumer.check()


def market_of(rig: Rig, asset: str) -> str:
    """The market an asset belongs to, by the venue."""
    return rig.simulator.venue.exchange.assets[asset][0].listing.market
