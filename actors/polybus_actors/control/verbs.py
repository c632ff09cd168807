"""What the control verbs do: each takes a checked request and gives its reply, or raises `ControlError`."""

import time
from collections import Counter
from functools import cache

import msgspec

import polybus_protocol
from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.liveness import Trust
from polybus_protocol.books.proof import Verdict
from polybus_protocol.contract import asyncapi
from polybus_protocol.control.asking import keys_of, subjects_of
from polybus_protocol.control.replies import (
    BookReply,
    ContractReply,
    ExplainReply,
    NatsInfo,
    Renewed,
    RenewReply,
    StatusReply,
    SubscribeReply,
    SubscriptionsReply,
    SubscriptionTotals,
    UnsubscribeReply,
)
from polybus_protocol.control.requests import (
    BookRequest,
    ContractRequest,
    ExplainRequest,
    RenewRequest,
    StatusRequest,
    SubscribeRequest,
    SubscriptionsRequest,
    UnsubscribeRequest,
)
from polybus_protocol.errors import ControlError

from ..publishing.bus import Bus
from ..publishing.outbox import Outbox
from ..publishing.streams import Streams
from ..supervisor import Supervisor
from ..venue.pool import Pool
from ..venue.pools import Pools
from ..venue.tally import Tally
from .explaining import explain
from .registry import Registry, Renew, Subscribe, Unsubscribe
from .report import connection_info, stream_infos, subscription_info
from .store import Store

NOT_FROM_THE_VENUE = frozenset({"gap", "unknown"})
"""Types that are not counted as events received."""


class Verbs:
    """The verbs of one gateway.

    Args:
        replica: the gateway's name.
        prefix: of all subjects.
        pools: hold the subscriptions and the connections.
        registry: changes the subscriptions.
        store: keeps them.
        bus: our side of NATS.
        outbox: what is on its way there.
        supervisor: counts the restarts.
        streams: that record the events.
    """

    def __init__(
        self,
        replica: str,
        prefix: str,
        pools: Pools,
        registry: Registry,
        store: Store,
        bus: Bus,
        outbox: Outbox,
        supervisor: Supervisor,
        streams: Streams,
    ) -> None:
        self.draining = False
        self._started = time.time_ns()
        self._replica = replica
        self._prefix = prefix
        self._contract = _contract(prefix)
        self._pools = pools
        self._registry = registry
        self._store = store
        self._bus = bus
        self._outbox = outbox
        self._supervisor = supervisor
        self._streams = streams

    async def subscribe(self, request: SubscribeRequest) -> SubscribeReply:
        """Add interest, and wait for it if asked to."""
        subscription, created = await self._registry.mailbox.ask(Subscribe(request))
        missing = []
        if request.wait != "accepted":
            pool = self._pools.pool_of(subscription)
            assert pool is not None
            missing = await pool.standing.wait(keys_of(subscription), request.wait, request.wait_timeout_s)
        return SubscribeReply(
            id=subscription.id,
            owner=subscription.owner,
            feed=subscription.feed,
            state="accepted" if missing else request.wait,
            assets=len(keys_of(subscription)),
            subjects=subjects_of(subscription, self._prefix),
            missing=missing,
            created=created,
            durable=self._store.is_durable,
            expires=subscription.expires,
        )

    async def unsubscribe(self, request: UnsubscribeRequest) -> UnsubscribeReply:
        """Drop interest."""
        return UnsubscribeReply(await self._registry.mailbox.ask(Unsubscribe(request)))

    async def renew(self, request: RenewRequest) -> RenewReply:
        """Prolong leases."""
        renewed = await self._registry.mailbox.ask(Renew(request))
        return RenewReply([Renewed(s.id, s.expires) for s in renewed])

    async def subscriptions(self, request: SubscriptionsRequest) -> SubscriptionsReply:
        """List subscriptions."""
        found = [
            s
            for s in self._pools.subscriptions()
            if (request.id is None or s.id == request.id)
            and (request.owner is None or s.owner == request.owner)
        ]
        if request.id is not None and not found:
            raise ControlError(404, f"there is no subscription of the id {request.id!r}", field="id")
        infos = []
        for s in found:
            pool = self._pools.pool_of(s)
            assert pool is not None
            baseline = self._registry.baselines.get(s.id, 0)
            infos.append(subscription_info(s, baseline, pool, with_assets=request.assets))
        return SubscriptionsReply(infos)

    async def book(self, request: BookRequest) -> BookReply:
        """The book of an asset as it is right now."""
        pool, stream = self._asset(request.asset)
        if not stream.keeps_book:
            raise ControlError(
                422,
                "this gateway keeps no books (`feeds.market.books = false`): keep one by the asset's events",
                field="asset",
            )
        book, trust, why = stream.book, stream.trust, stream.liveness.why
        proof = stream.prove() if book.is_live else Verdict.UNKNOWN
        # The next look at the books would say so; whoever asks need not wait for it.
        is_believed = trust.is_believed
        if is_believed and proof is Verdict.MISMATCH:
            trust, why = Trust.SUSPECT, "the book's hash is not the venue's"
        elif is_believed and proof is Verdict.UNKNOWN and book.top_misses:
            trust, why = Trust.SUSPECT, "the book's best prices are not the venue's"
        carrier = pool.standing.carrier_of(request.asset)
        return BookReply(
            replica=self._replica,
            asset=request.asset,
            market=stream.id("market"),
            trust=trust.value,
            why=why or pool.standing.why_not(request.asset),
            proof=proof.value,
            epoch=stream.epoch,
            seq=stream.seq,
            source_time=book.source_time,
            hash=book.hash,
            tick_size=stream.facts.tick_size,
            bids=book.bids(request.depth),
            asks=book.asks(request.depth),
            connection=carrier.id if carrier else None,
        )

    async def explain(self, request: ExplainRequest) -> ExplainReply:
        """Why an asset is, or is not, live."""
        pool, stream = self._asset(request.asset)
        carrier = pool.standing.carrier_of(request.asset)
        wanted_by = [s for s in pool.interest.subscriptions.values() if request.asset in keys_of(s)]
        return ExplainReply(
            replica=self._replica,
            asset=request.asset,
            market=stream.id("market"),
            trust=stream.trust.value,
            words=explain(stream, carrier, wanted_by, pool.standing.why_not(request.asset), time.time_ns()),
            subscriptions=[s.id for s in wanted_by],
            connection=carrier.id if carrier else None,
            epoch=stream.epoch,
            seq=stream.seq,
            last_event_time=stream.last_data_time,
            usual_pause_s=stream.liveness.usual_s,
            history=list(stream.history),
        )

    def _asset(self, asset: str) -> tuple[Pool, AssetStream]:
        for pool in self._pools:
            if isinstance(stream := pool.streams.get(asset), AssetStream):
                return pool, stream
        raise ControlError(
            404,
            f"this gateway does not carry the asset {asset[:100]!r}: subscribe to it first",
            field="asset",
        )

    async def status(self, _request: StatusRequest) -> StatusReply:
        """How the gateway is doing."""
        pools, bus, outbox = list(self._pools), self._bus, self._outbox
        events = sum((pool.events() for pool in pools), Counter[str]())
        tally = sum((pool.tally() for pool in pools), Tally())
        subscriptions = self._pools.subscriptions()
        by_type = Counter(type_ for s in subscriptions for type_ in (s.types or ["*"]))
        return StatusReply(
            replica=self._replica,
            version=polybus_protocol.__version__,
            started=self._started,
            state="draining" if self.draining else "running",
            running=True,
            durable=self._store.is_durable,
            connections=[
                connection_info(connection) for pool in pools for connection in pool.connections.values()
            ],
            subscriptions=SubscriptionTotals(len(subscriptions), dict(by_type)),
            total_events=sum(n for type_, n in events.items() if type_ not in NOT_FROM_THE_VENUE),
            events_by_type=dict(events),
            gaps=events["gap"],
            frames=tally.frames,
            duplicates=tally.duplicates + sum(pool.commons.duplicates for pool in pools),
            unwanted=tally.unwanted,
            unknown=dict(tally.unknown),
            unknown_fields=dict(tally.unknown_fields),
            connection_errors=tally.errors,
            reconnects=sum(pool.reconnects for pool in pools),
            last_reconnect_time=max((pool.last_reconnect_time or 0 for pool in pools), default=0) or None,
            restarts=self._supervisor.restarts,
            trust=dict(Counter(s.trust.value for pool in pools for s in pool.asset_streams())),
            checks=dict(sum((pool.checks for pool in pools), Counter[str]())),
            nats=NatsInfo(
                connected=bus.is_connected,
                url=bus.settings.shown_url,
                server=bus.server,
                published=bus.published,
                backlog=len(outbox),
                dropped=outbox.dropped,
                uncertain=outbox.uncertain,
                denied=bus.denied,
                unrecorded=outbox.unrecorded,
                reconnects=bus.reconnects,
                too_large=outbox.too_large,
                held=outbox.brake.times,
                held_since=outbox.brake.since,
            ),
            streams=stream_infos(self._streams),
            quarantined=dict(self._store.quarantined),
        )

    async def contract(self, _request: ContractRequest) -> ContractReply:
        """What this gateway promises."""
        return self._contract


@cache
def _contract(prefix: str) -> ContractReply:
    """Made before anything runs: it takes longer than an event may wait."""
    return msgspec.convert(asyncapi(prefix), ContractReply)
