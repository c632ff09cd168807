"""A whole polybus in one process: a real nats-server, the simulator, a gateway and a consumer.

Deadlines are short, so that what takes a minute in production takes a second here.
"""

import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import MappingProxyType
from typing import Any

import anyio
import anyio.abc
import msgspec
import pytest

from polybus_actors.gateway import Gateway, GatewaySettings
from polybus_actors.publishing.delivery import DeliverySettings
from polybus_actors.publishing.login import NatsSettings
from polybus_actors.publishing.streams import StreamsSettings
from polybus_actors.venue.accounts import Account, Accounts
from polybus_actors.venue.connection import Connection, Phase
from polybus_actors.venue.pool import Pool
from polybus_actors.watcher import Watcher
from polybus_protocol.conversation.session import Session
from polybus_protocol.feeds.reading import Aside, Reply
from polybus_protocol.profile import PROFILES, FeedProfile
from polybus_protocol.stream import Publication
from polybus_protocol.websocket.backoff import BackoffPolicy
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.ledger import Ledger
from polybus_services.simulator.probe import AdminClient
from polybus_services.simulator.venue import Link

from .consumer import Consumer, consuming
from .proxy import Proxy, proxy_to
from .until import until

QUICK = FeedProfile(
    url="ws://127.0.0.1:1/ws/market",
    ping_interval_s=0.15,
    silence_timeout_s=20.0,
    first_data_timeout_s=10.0,
    asset_timeout_s=1.0,
    close_timeout_s=1.0,
    dial_timeout_s=10.0,
    dial_interval_s=0.01,
    backoff=BackoffPolicy(first_s=0.05, longest_s=0.2, later_s=0.3, spread_s=0.3),
)
"""Impatient where a test waits for the consequences: backing off, asking again, closing.  Not with silence, since a
paused simulator is silent, and a machine with much else to do may stand still for seconds."""

QUICK_FEEDS: Mapping[str, FeedProfile] = MappingProxyType(
    {
        feed: msgspec.structs.replace(
            QUICK,
            # These say how much a connection takes, at once and in all, which is no matter of patience.
            assets_per_connection=profile.assets_per_connection,
            ids_per_frame=profile.ids_per_frame,
            frame_interval_s=profile.frame_interval_s,
        )
        for feed, profile in PROFILES.items()
    }
)
"""The same for every feed; the addresses are the simulator's."""

ASKS_FOR_PRICES = "alice"
"""The account that PolyBolt is asked with."""

MAY_HAPPEN_TWICE = frozenset(
    {"best_bid_ask", "trades", "orders_matched", "update", "snapshot", "quote", "sport_result"}
)
"""Types of events that have neither a hash nor an id of their own: said twice, one may well have happened twice."""

type Counts = dict[tuple[str, str], int]
"""Asset or market, or on other feeds the ids of a stream, and type -> events."""


def accounts_of(simulator: Simulator) -> Accounts:
    """The simulator's own accounts, with the credentials that it accepts."""
    return Accounts(
        {
            told["label"]: Account(told["api_key"], told["secret"], told["passphrase"])
            for told in simulator.accounts
        },
        ASKS_FOR_PRICES,
    )


class _CountingSession(Session):
    """A session that counts the answers among its frames, which the simulator does not count as data."""

    replies = 0

    def _heed(self, aside: Aside, now: float, time: int) -> list[Publication]:
        self.replies += isinstance(aside, Reply)
        return super()._heed(aside, now, time)


@asynccontextmanager
async def running_gateway(
    nats: NatsSettings | str,
    urls: Mapping[str, str],
    profiles: Mapping[str, FeedProfile] = QUICK_FEEDS,
    accounts: Accounts | None = None,
    watcher: Watcher | None = None,
    streams: StreamsSettings | None = None,
    delivery: DeliverySettings | None = None,
    **settings: Any,
) -> AsyncIterator[tuple[Gateway, anyio.Event]]:
    """A gateway that answers, for the length of a block, drained at its end; and what is set once it has ended."""
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr("polybus_actors.venue.connection.Session", _CountingSession)
    gateway = Gateway(
        GatewaySettings(**settings),
        NatsSettings(url=nats) if isinstance(nats, str) else nats,
        {feed: msgspec.structs.replace(profiles[feed], url=url) for feed, url in urls.items()},
        accounts,
        watcher,
        streams,
        delivery,
    )
    answering, ended, failure = anyio.Event(), anyio.Event(), None
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            await gateway.run(lambda _restored: answering.set())
            ended.set()

        tasks.start_soon(run)
        with anyio.fail_after(30):
            await answering.wait()
        try:
            yield gateway, ended
        except Exception as error:  # noqa: BLE001  raised again below, outside of any group
            failure = error
        gateway.stop()
        await ended.wait()
    monkeypatch.undo()
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

    async def ledger(self, feed: str = "market") -> dict[str, Counts]:
        """What became of every event of a feed: fate -> counts, over all connections."""
        shown: dict[str, Counts] = {}
        told = (await self.admin.ledger())["feeds"].get(feed, {"streams": {}})
        for subject, fates in told["streams"].items():
            for fate, kinds in fates.items():
                for kind, count in kinds.items():
                    shown.setdefault(fate, {})[subject, kind] = count
        return shown

    async def settle(self, feed: str = "market") -> tuple[Counter[tuple[str, str]], dict[str, Counts]]:
        """Stop the venue and wait until all it has sent, on any feed, has come through.

        Returns:
            What the consumer received of a feed, and the venue's ledger of it.
        """
        assert (await self.admin.ask("POST", "/pause"))["unflushed"] == []
        await until(self.has_read_all, 30)
        assert await self.gateway.bus.flush(5)
        await self.consumer.flush()
        return self.consumer.counts(feed), await self.ledger(feed)

    @property
    def connections(self) -> list[Connection]:
        """The gateway's connections, of all feeds."""
        return [connection for pool in self.gateway.pools for connection in pool.connections.values()]

    def pool(self, name: str) -> Pool:
        """The gateway's pool of that name: the feed, and the account where it has one."""
        (found,) = [pool for pool in self.gateway.pools if pool.name == name]
        return found

    def links(self, feed: str) -> list[Link]:
        """The venue's side of the connections to a feed."""
        links = self.simulator.venue.links.values()
        return [link for link in links if link.id.rpartition("-")[0] == feed]

    def link_of(self, connection: Connection) -> Link:
        """The venue's side of a connection whose socket is open.

        Raises:
            LookupError: one of its ends is closed.
        """
        assert connection._wire is not None
        try:
            port = connection._wire.stream.extra(anyio.abc.SocketAttribute.local_port)
        except OSError:
            raise LookupError(connection.name) from None
        return {port_of(link): link for link in self.links(connection.feed)}[port]

    def has_read_all(self) -> bool:
        """Whether each connection has read as many data frames as the venue has written to it."""
        written = {
            port_of(link): self._ledger.record(link.id).frames for link in self.simulator.venue.links.values()
        }
        for connection in self.connections:
            session, wire = connection.session, connection._wire
            if session is None or wire is None:
                if connection.phase is Phase.DIALING:
                    return False
                continue
            assert isinstance(session, _CountingSession)
            port = wire.stream.extra(anyio.abc.SocketAttribute.local_port)
            # What the venue has ended already, the gateway is about to notice.
            if session.frames - session.replies < written.get(port, math.inf):
                return False
        return True

    @property
    def _ledger(self) -> Ledger:
        return self.simulator.venue.ledger

    async def received_all(self, *feeds: str) -> None:
        """Settle, and compare: everything sent was received, and nothing else but mirror images.

        Args:
            feeds: which; the market feed if none is named.
        """
        await self.settle()
        self.consumer.check()
        for feed in feeds or ["market"]:
            received, ledger = self.consumer.counts(feed), await self.ledger(feed)
            sent, mirrored = ledger.get("sent", {}), ledger.get("mirrored", {})
            assert sent, f"nothing was sent on {feed}, which proves nothing"
            for place in received.keys() | sent.keys():
                if place[1] in ("new_market", "market_resolved"):
                    continue  # told to every connection, published once
                most = sent.get(place, 0) + mirrored.get(place, 0)
                if place[1] in MAY_HAPPEN_TWICE:
                    most += ledger.get("duplicated", {}).get(place, 0)
                assert sent.get(place, 0) <= received[place] <= most, (
                    feed,
                    place,
                    received[place],
                    sent.get(place),
                )


@asynccontextmanager
async def rigged(
    options: SimulatorOptions | None = None,
    profile: FeedProfile = QUICK,
    *,
    feeds: Mapping[str, FeedProfile] = QUICK_FEEDS,
    accounts: Callable[[Simulator], Accounts] = accounts_of,
    proxied: bool = False,
    watcher: Watcher | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A rig for the length of a block; what its consumer heard is checked at the end.

    Args:
        options: of the simulator; by default four markets, paused.
        profile: of the market feed.
        feeds: the profiles of the others.
        accounts: the gateway's; by default those that the simulator knows.
        proxied: whether there is a proxy between the gateway and NATS.
        watcher: told what happens in the gateway.
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
                proxy.url if proxied else nats.url,
                simulator.feeds,
                {**feeds, "market": msgspec.structs.replace(profile, rest_url=simulator.rest)},
                accounts(simulator),
                watcher,
                **settings,
            )
        )
        rig = Rig(nats, proxy, simulator, gateway, ended, consumer)
        yield rig
        consumer.check()


def port_of(link: Link) -> int:
    """The port on the client's side; 0 once the socket is closed."""
    try:
        return int(link._stream.extra(anyio.abc.SocketAttribute.remote_port))  # type: ignore[attr-defined]
    except OSError:
        return 0


def market_of(rig: Rig, asset: str) -> str:
    """The market an asset belongs to, by the venue."""
    return rig.simulator.venue.exchange.assets[asset][0].listing.market
