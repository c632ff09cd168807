"""Control replies: what the `polybus` service answers.

A refusal is a NATS service error (headers `Nats-Service-Error` and `Nats-Service-Error-Code`) whose body
is an `ErrorReply`.  Times are in nanoseconds since the epoch unless a name says otherwise.
"""

import msgspec


class Missing(msgspec.Struct):
    """An asset (on other feeds a market, topic, symbol or league) that is not where the request wanted it."""

    asset: str
    reason: str


class SubscribeReply(msgspec.Struct):
    """A subscription stands."""

    id: str
    owner: str
    feed: str
    state: str
    """How far it came: `accepted`, `sent` or `data` (every asset has delivered)."""
    assets: int
    subjects: list[str]
    """What to listen on."""
    missing: list[Missing]
    """The assets that did not get as far as `wait` asked for."""
    created: bool
    """False if a subscription of this id stood already."""
    durable: bool
    """Whether it will survive a restart of the gateway."""
    expires: int | None
    """Nanoseconds since the epoch; None for never."""


class UnsubscribeReply(msgspec.Struct):
    """Subscriptions are gone."""

    ids: list[str]


class Renewed(msgspec.Struct):
    """One prolonged lease."""

    id: str
    expires: int | None


class RenewReply(msgspec.Struct):
    """Leases were prolonged."""

    renewed: list[Renewed]


class AssetInfo(msgspec.Struct):
    """One asset of a subscription; on other feeds one market, topic, symbol or league."""

    asset: str
    market: str | None
    state: str
    """`waiting` or `live`."""
    connection: str | None
    events_received: int
    last_event_time: int | None
    """Nanoseconds since the epoch."""
    reason: str | None
    """Why it is not live, where that is known."""


class SubscriptionInfo(msgspec.Struct):
    """A subscription and what it has received."""

    id: str
    owner: str
    feed: str
    account: str | None
    """The operator's label, on the feeds that are about an account."""
    types: list[str]
    markets: list[str]
    assets: list[AssetInfo]
    asset_count: int
    live_count: int
    deliver: str
    created: int
    """Nanoseconds since the epoch."""
    expires: int | None
    events_received: int
    """Events that match it, counted since it was made or the gateway started."""
    last_event_time: int | None
    """Nanoseconds since the epoch."""


class SubscriptionsReply(msgspec.Struct):
    """The subscriptions asked for."""

    subscriptions: list[SubscriptionInfo]


class ConnectionInfo(msgspec.Struct):
    """One connection."""

    id: str
    feed: str
    url: str
    state: str
    """`dialing`, `open`, `live`, `waiting` or `refused`."""
    connected: bool
    authenticated: bool | None
    """None where the feed needs no credentials."""
    incarnation: int
    assets: int
    live_assets: int
    frames: int
    errors: int
    last_frame_time: int | None
    """Nanoseconds since the epoch."""
    last_data_time: int | None
    reason: str | None
    """Why it is not live."""


class SubscriptionTotals(msgspec.Struct):
    """Subscriptions, counted."""

    total: int
    by_type: dict[str, int]
    """By wanted event type; `*` counts those that want all."""


class NatsInfo(msgspec.Struct):
    """Our side of NATS."""

    connected: bool
    url: str
    server: str | None
    published: int
    backlog: int
    dropped: int
    """Events given up because the backlog was full."""
    uncertain: int
    """Events handed to NATS whose arrival was never confirmed."""
    reconnects: int
    denied: int = 0
    """Publishes and subscriptions that our permissions on the server do not allow: nobody receives those."""


class StatusReply(msgspec.Struct):
    """How the gateway is doing."""

    replica: str
    version: str
    started: int
    """Nanoseconds since the epoch."""
    state: str
    """`running` or `draining`."""
    running: bool
    """Whether the background work is running."""
    durable: bool
    """Whether subscriptions survive a restart."""
    connections: list[ConnectionInfo]
    subscriptions: SubscriptionTotals
    total_events: int
    """Events from the venue that were published."""
    events_by_type: dict[str, int]
    gaps: int
    frames: int
    duplicates: int
    unwanted: int
    unknown: dict[str, int]
    """What could not be read, by kind."""
    unknown_fields: dict[str, int]
    connection_errors: int
    reconnects: int
    last_reconnect_time: int | None
    restarts: int
    """Restarts of actors by their supervisor."""
    nats: NatsInfo


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """What went wrong, for programs and for people."""

    code: int
    message: str
    field: str | None = None
    retry_after_s: float | None = None


class ErrorReply(msgspec.Struct):
    """The body of a refusal."""

    error: ErrorBody


REPLIES: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeReply,
    "unsubscribe": UnsubscribeReply,
    "renew": RenewReply,
    "subscriptions": SubscriptionsReply,
    "status": StatusReply,
}
"""The reply of each verb."""

encode_reply = msgspec.json.Encoder().encode
"""Turn a reply into its NATS payload."""
