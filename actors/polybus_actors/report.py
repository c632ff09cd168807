"""What the gateway says of itself: read-only views over its actors, made when somebody asks."""

from collections import Counter
from typing import TYPE_CHECKING

import polybus_protocol
from polybus_protocol.interest import Subscription
from polybus_protocol.replies import (
    AssetInfo,
    ConnectionInfo,
    NatsInfo,
    StatusReply,
    SubscriptionInfo,
    SubscriptionTotals,
)

from .bus import safe_url
from .connection import Connection, Phase
from .pool import Pool

if TYPE_CHECKING:
    from .gateway import Gateway

NOT_FROM_THE_VENUE = frozenset({"gap", "unknown"})
"""Types that are not counted as events received."""


def status_reply(gateway: "Gateway") -> StatusReply:
    """How the gateway is doing."""
    pool, bus, outbox = gateway.pool, gateway.bus, gateway.outbox
    events, tally = pool.events(), pool.tally()
    interest = gateway.registry.interest
    by_type = Counter(type_ for s in interest.subscriptions.values() for type_ in (s.types or ["*"]))
    return StatusReply(
        replica=gateway.settings.replica,
        version=polybus_protocol.__version__,
        started=gateway.started,
        state="draining" if gateway.draining else "running",
        running=True,
        durable=gateway.store.is_durable,
        connections=[connection_info(connection) for connection in pool.connections.values()],
        subscriptions=SubscriptionTotals(len(interest.subscriptions), dict(by_type)),
        total_events=sum(n for type_, n in events.items() if type_ not in NOT_FROM_THE_VENUE),
        events_by_type=dict(events),
        gaps=events["gap"],
        frames=tally.frames,
        duplicates=tally.duplicates + pool.commons.duplicates,
        unwanted=tally.unwanted,
        unknown=dict(tally.unknown),
        unknown_fields=dict(tally.unknown_fields),
        connection_errors=tally.errors,
        reconnects=pool.reconnects,
        last_reconnect_time=pool.last_reconnect_time,
        restarts=gateway.supervisor.restarts,
        nats=NatsInfo(
            connected=bus.is_connected,
            url=safe_url(bus.settings.url),
            server=bus.server,
            published=bus.published,
            backlog=len(outbox),
            dropped=outbox.dropped,
            uncertain=outbox.uncertain,
            reconnects=bus.reconnects,
        ),
    )


def connection_info(connection: Connection) -> ConnectionInfo:
    """One connection; the market feed needs no credentials."""
    tally = connection.tally
    times = [time for stream in connection.streams.values() if (time := stream.last_data_time) is not None]
    return ConnectionInfo(
        id=connection.id,
        feed=connection.feed,
        url=connection.profile.url,
        state=connection.phase.value,
        connected=connection.phase in (Phase.OPEN, Phase.LIVE),
        authenticated=None,
        incarnation=connection.incarnation,
        assets=len(connection.streams),
        live_assets=sum(stream.live for stream in connection.streams.values()),
        frames=tally.frames,
        errors=tally.errors,
        last_frame_time=connection.last_frame_time,
        last_data_time=max(times, default=None),
        reason=connection.reason,
    )


def asset_info(key: str, types: list[str], pool: Pool) -> AssetInfo:
    """One asset, as a subscription to these types sees it."""
    stream, connection = pool.streams.get(key), pool.carrier_of(key)
    return AssetInfo(
        asset=key,
        market=stream.id("market") if stream else None,
        state=stream.trust.value if stream else "waiting",
        connection=connection.id if connection else None,
        events_received=pool.matched([key], types),
        last_event_time=(stream.last_time_of(types) or None) if stream else None,
        reason=pool.why_not(key),
    )


def subscription_info(
    subscription: Subscription, baseline: int, keys: list[str], pool: Pool, *, with_assets: bool
) -> SubscriptionInfo:
    """One subscription.

    Args:
        subscription: which.
        baseline: events that matched it before it was made.
        keys: the keys it wants.
        pool: carries them.
        with_assets: whether to list each asset.
    """
    s = subscription
    streams = [stream for key in keys if (stream := pool.streams.get(key)) is not None]
    assets = [asset_info(key, s.types, pool) for key in s.assets] if with_assets else []
    return SubscriptionInfo(
        id=s.id,
        owner=s.owner,
        feed=s.feed,
        types=s.types,
        markets=s.markets,
        assets=assets,
        asset_count=len(s.assets),
        live_count=sum(stream.live for stream in streams),
        deliver=s.deliver,
        created=s.created,
        expires=s.expires,
        events_received=pool.matched(keys, s.types) - baseline,
        last_event_time=max((stream.last_time_of(s.types) for stream in streams), default=0) or None,
    )
