"""All actors of one gateway, put together: what they share, how they start, how they drain."""

#   venue ── connection ──┐                          ┌── control ◄── NATS requests
#   venue ── connection ──┼── outbox ── bus ──► NATS │
#   venue ── connection ──┘                          ▼
#                └────────── pool ◄─────────────── registry ── store ──► NATS KV
#                 one pool per feed and account

import logging
from collections.abc import Callable, Mapping

import anyio
import msgspec
from nats.aio.client import Client

from polybus_protocol.control.requests import VERBS
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.feeds.dialect import Dialect
from polybus_protocol.profile import PROFILES, FeedProfile
from polybus_protocol.stream import GapLedger, Stream
from polybus_protocol.subjects import PREFIX

from .control.registry import Registry
from .control.service import Control
from .control.store import Store
from .control.verbs import Verbs
from .publishing.bulletins import Bulletins
from .publishing.bus import CLOSE_TIMEOUT_S, Bus
from .publishing.delivery import DeliverySettings
from .publishing.lane import Acked
from .publishing.login import NatsSettings
from .publishing.outbox import Outbox
from .publishing.streams import Streams, StreamsSettings, recordings
from .supervisor import Supervisor
from .venue.accounts import Accounts
from .venue.pool import Lost, Pool
from .venue.pools import Pools
from .watcher import Watcher

logger = logging.getLogger("polybus.gateway")


STREAMS_WITHIN_S = 3.0
"""Seconds the start may wait for the streams."""


class GatewaySettings(msgspec.Struct, frozen=True):
    """What one gateway is called and how much it holds."""

    replica: str = "gw0"
    prefix: str = PREFIX
    bucket: str = "polybus_subscriptions"
    drain_timeout_s: float = 10.0
    last_books_per_s: int = 500
    """Last books said in one second at most; 0 for none.  One takes about 10 us of processor time."""
    backlog_messages: int = 200_000
    """Events kept while NATS is away: ten seconds of 20,000 a second."""
    backlog_bytes: int = 64 * 1024 * 1024


class Gateway:
    """See the module.

    Args:
        settings: of the gateway itself.
        nats: where NATS is.
        profiles: the settings of each feed; those of a feed that is not named are the built-in ones.
        accounts: the operator's.
        watcher: told what happens.
        streams: the record that JetStream keeps of the events.
        delivery: how we know that it does.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        nats: NatsSettings,
        profiles: Mapping[str, FeedProfile],
        accounts: Accounts | None = None,
        watcher: Watcher | None = None,
        streams: StreamsSettings | None = None,
        delivery: DeliverySettings | None = None,
    ) -> None:
        self.settings = settings
        self.watcher = watcher or Watcher()
        self.supervisor = Supervisor()
        self.recordings = recordings(delivery or DeliverySettings())
        lanes = {family: one for family, one in self.recordings.items() if isinstance(one, Acked)}
        self.outbox = Outbox(settings.backlog_messages, settings.backlog_bytes, lanes=lanes)
        self.directory = MarketDirectory()
        self.ledger = GapLedger()
        # Several feeds bring prices, and all of them what nobody can read: those streams are everybody's.
        self._prices: dict[str, Stream] = {}
        self._unknown = Stream("unknown", "unknown", prefix=settings.prefix)
        self._system = Stream("system", "system", (settings.replica,), prefix=settings.prefix)
        self.pools = Pools({**PROFILES, **profiles}, accounts or Accounts({}), self._make_pool)
        self.bulletins = Bulletins(
            settings.replica,
            lambda: (one for pool in self.pools for one in pool.asset_streams() if one.keeps_book),
            self.ledger,
            self._system,
            self.outbox,
            settings.last_books_per_s,
            settings.prefix,
        )
        self.store = Store(settings.bucket, settings.replica)
        self.registry = Registry(self.pools, self.store, self.directory)
        self.bus = Bus(nats, self.outbox, self._lost, self.recordings)
        self.bus.on_published = self.watcher.published
        self.streams = Streams(streams or StreamsSettings(), settings.prefix, self.recordings)
        self.verbs = Verbs(
            settings.replica,
            settings.prefix,
            self.pools,
            self.registry,
            self.store,
            self.bus,
            self.outbox,
            self.supervisor,
            self.streams,
        )
        self.control = Control(
            settings.prefix,
            settings.replica,
            {verb: getattr(self.verbs, verb) for verb in VERBS},
            self.watcher,
        )
        self._restored = anyio.Event()
        self._answering = anyio.Event()
        self._stopping = anyio.Event()

    async def run(self, on_ready: Callable[[int], None]) -> None:
        """Serve until `stop` is called, then drain.

        Args:
            on_ready: told, once commands are answered, how many subscriptions were restored.

        Raises:
            NatsUnreachable: the first connection to NATS does not stand in time.
            BaseExceptionGroup: with a `TooManyRestarts`: an actor failed too often.
        """
        await self.bus.connect()
        assert self.bus.client is not None
        remembered = await self.store.load(self.bus.client)
        # Before the first event, so that the record has it; if that fails, it is tried again beside our work.
        with anyio.move_on_after(STREAMS_WITHIN_S):
            await self.streams.check(self.bus.client)
        async with anyio.create_task_group() as tasks:
            supervise = self.supervisor.supervise
            tasks.start_soon(supervise, "bus", lambda: self.bus.run(self._serve))
            for pool in self.pools:
                tasks.start_soon(pool.run)
            tasks.start_soon(self._register)
            tasks.start_soon(supervise, "bulletins", self.bulletins.run)
            await self.registry.restore(remembered)
            self._restored.set()
            await self._answering.wait()
            on_ready(len(remembered))
            await self._stopping.wait()
            await self._drain()
            tasks.cancel_scope.cancel()

    def stop(self) -> None:
        """Begin to drain."""
        self._stopping.set()

    async def _serve(self, client: Client) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.store.run, client)
            tasks.start_soon(self.streams.run, client)
            # Commands are about all that is wanted, of earlier lives too.
            await self._restored.wait()
            tasks.start_soon(self.control.serve, client, self._answering.set)

    async def _register(self) -> None:
        async with self.registry.mailbox:
            await self.supervisor.supervise("registry", self.registry.run)

    async def _drain(self) -> None:
        """Stop reading, publish what there is, answer what was asked, close the sockets with 1000."""
        self.verbs.draining = True
        # What is left of the time is for nats-py to close.
        budget = max(self.settings.drain_timeout_s - CLOSE_TIMEOUT_S, 0.0)
        logger.info("draining, for %g s at most", self.settings.drain_timeout_s)
        self.control.refuse()
        is_confirmed = False
        with anyio.move_on_after(budget):
            async with anyio.create_task_group() as tasks:
                for pool in self.pools:
                    tasks.start_soon(pool.drain)
            await self.control.drain(budget / 4)
            is_confirmed = await self.bus.flush(budget / 3)
        if not is_confirmed:
            logger.error(
                "NATS did not confirm all events in time; %d are lost with this process, "
                "%d of them of families that are never given up else",
                len(self.outbox),
                self.outbox.kept,
            )

    async def _lost(self, streams: list[Stream]) -> None:
        for pool in self.pools:
            await pool.mailbox.put(Lost(streams, "resync"))

    def _make_pool(self, name: str, profile: FeedProfile, make_dialect: Callable[[], Dialect]) -> Pool:
        return Pool(
            name,
            self.settings.replica,
            profile,
            make_dialect,
            self.outbox,
            self._system,
            self._unknown,
            self.directory,
            self.supervisor,
            self._prices,
            self.ledger,
            self.settings.prefix,
            self.watcher.entered,
        )
