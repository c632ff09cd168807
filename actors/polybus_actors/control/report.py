"""Connections, assets and subscriptions as the control replies show them, made when somebody asks."""

from polybus_protocol.control.asking import keys_of
from polybus_protocol.control.interest import Subscription
from polybus_protocol.control.replies import (
    AssetInfo,
    ConnectionInfo,
    RecordingInfo,
    StreamInfo,
    SubscriptionInfo,
)

from ..publishing.streams import Streams
from ..venue.connection import Connection, Phase
from ..venue.pool import Pool


def connection_info(connection: Connection) -> ConnectionInfo:
    """One connection."""
    tally = connection.tally
    times = [
        time for stream in connection.cargo.streams.values() if (time := stream.last_data_time) is not None
    ]
    return ConnectionInfo(
        id=connection.id,
        feed=connection.feed,
        url=connection.profile.url,
        state=connection.phase.value,
        connected=connection.phase in (Phase.OPEN, Phase.LIVE),
        authenticated=connection.session.is_authenticated if connection.session else None,
        incarnation=connection.incarnation,
        assets=len(connection.cargo.keys),
        live_assets=sum(map(connection.is_live, connection.cargo.keys)),
        frames=tally.frames,
        errors=tally.errors,
        last_frame_time=connection.last_frame_time,
        last_data_time=max(times, default=None),
        reason=connection.reason,
    )


def asset_info(key: str, types: list[str], pool: Pool) -> AssetInfo:
    """One asset, topic or symbol, as a subscription to these types sees it."""
    streams, connection = pool.standing.streams_of(key), pool.standing.carrier_of(key)
    return AssetInfo(
        asset=key,
        market=next((stream.id("market") for stream in streams), None),
        state=pool.standing.state_of(key),
        connection=connection.id if connection else None,
        events_received=pool.standing.matched([key], types),
        last_event_time=max((stream.last_time_of(types) for stream in streams), default=0) or None,
        reason=pool.standing.why_not(key),
    )


def subscription_info(
    subscription: Subscription, baseline: int, pool: Pool, *, with_assets: bool
) -> SubscriptionInfo:
    """One subscription.

    Args:
        subscription: which.
        baseline: events that matched it before it was made.
        pool: carries its keys.
        with_assets: whether to list each of its keys.
    """
    s, keys = subscription, keys_of(subscription)
    streams = [stream for key in keys for stream in pool.standing.streams_of(key)]
    return SubscriptionInfo(
        id=s.id,
        owner=s.owner,
        feed=s.feed,
        account=s.account,
        types=s.types,
        markets=s.markets,
        assets=[asset_info(key, s.types, pool) for key in keys] if with_assets else [],
        asset_count=len(keys),
        live_count=sum(map(pool.standing.is_live, keys)),
        deliver=s.deliver,
        created=s.created,
        expires=s.expires,
        events_received=pool.standing.matched(keys, s.types) - baseline,
        last_event_time=max((stream.last_time_of(s.types) for stream in streams), default=0) or None,
    )


def stream_infos(streams: Streams) -> list[StreamInfo]:
    """The streams that record the events, and how their events get there."""
    return [
        StreamInfo(
            name=state.name,
            state=state.state,
            problems=state.problems,
            messages=state.messages,
            bytes=state.bytes,
            first_seq=state.first_seq,
            last_seq=state.last_seq,
            families=[
                RecordingInfo(
                    family=family,
                    mode=recording.mode if recording is not None and recording.is_there else "core",
                    wanted=recording.mode if recording is not None else "core",
                    acks=recording.acks if recording is not None else 0,
                    duplicates=recording.duplicates if recording is not None else 0,
                    repeated=recording.repeated if recording is not None else 0,
                    missed=recording.missed if recording is not None else 0,
                    reason=recording.reason if recording is not None else None,
                )
                for family, recording in streams.recordings_of(state)
            ],
        )
        for state in streams.states.values()
    ]
