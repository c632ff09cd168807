"""Control replies: what the `polybus` service answers.

A refusal is a NATS service error (headers `Nats-Service-Error` and `Nats-Service-Error-Code`) whose body
is an `ErrorReply`.  Times are in nanoseconds since the epoch unless a name says otherwise.
"""

from typing import Any

import msgspec

from ..events import Level


class Missing(msgspec.Struct):
    """An asset (on other feeds a market, topic, symbol or league) that is not where the request wanted it."""

    asset: str
    """Which."""
    reason: str
    """A sentence for people."""


class SubscribeReply(msgspec.Struct):
    """A subscription stands."""

    id: str
    """The subscription's, made up where the request named none."""
    owner: str
    """As in the request."""
    feed: str
    """One of `FEEDS`."""
    state: str
    """How far it came: `accepted`, `sent` or `data` (every asset has delivered)."""
    assets: int
    """How many assets, or on other feeds keys, it wants."""
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
    """Of the subscriptions that are gone."""


class Renewed(msgspec.Struct):
    """One prolonged lease."""

    id: str
    """The subscription's."""
    expires: int | None
    """Nanoseconds since the epoch; None for never."""


class RenewReply(msgspec.Struct):
    """Leases were prolonged."""

    renewed: list[Renewed]
    """One for each lease."""


class AssetInfo(msgspec.Struct):
    """One asset of a subscription; on other feeds one market, topic, symbol or league."""

    asset: str
    """Which."""
    market: str | None
    """Its condition id; None where it is not known, or does not apply."""
    state: str
    """`waiting`, `live`, or on the market feed also `quiet`, `suspect` or `frozen`."""
    connection: str | None
    """Id of the connection that carries it; None for none."""
    events_received: int
    """Events of the wanted types, counted since the gateway started."""
    last_event_time: int | None
    """Nanoseconds since the epoch."""
    reason: str | None
    """Why it is not live, where that is known."""


class SubscriptionInfo(msgspec.Struct):
    """A subscription and what it has received."""

    id: str
    """The name it was given."""
    owner: str
    """Who wants it."""
    feed: str
    """One of `FEEDS`."""
    account: str | None
    """The operator's label, on the feeds that are about an account."""
    types: list[str]
    """The wanted event types; none means all."""
    markets: list[str]
    """The condition ids that were named."""
    assets: list[AssetInfo]
    """The state of each; empty if the request did not want them."""
    asset_count: int
    """How many assets, or on other feeds keys, it wants."""
    live_count: int
    """How many of them are live."""
    deliver: str
    """One of `DELIVERIES`."""
    created: int
    """Nanoseconds since the epoch."""
    expires: int | None
    """Nanoseconds since the epoch; None for never."""
    events_received: int
    """Events that match it, counted since it was made or the gateway started."""
    last_event_time: int | None
    """Nanoseconds since the epoch."""


class SubscriptionsReply(msgspec.Struct):
    """The subscriptions asked for."""

    subscriptions: list[SubscriptionInfo]
    """In no particular order."""


class ConnectionInfo(msgspec.Struct):
    """One connection."""

    id: str
    """As `gw0-market-1`."""
    feed: str
    """One of `FEEDS`."""
    url: str
    """The venue's address."""
    state: str
    """`dialing`, `open`, `live`, `waiting` or `refused`."""
    connected: bool
    """Whether its socket is open."""
    authenticated: bool | None
    """None where the feed needs no credentials."""
    incarnation: int
    """How many sockets it has had."""
    assets: int
    """How many assets, or on other feeds keys, it carries."""
    live_assets: int
    """How many of them are live."""
    frames: int
    """Received from the venue so far."""
    errors: int
    """Dials that failed, and sockets that ended without our asking."""
    last_frame_time: int | None
    """Nanoseconds since the epoch."""
    last_data_time: int | None
    """Nanoseconds since the epoch."""
    reason: str | None
    """Why it is not live."""


class SubscriptionTotals(msgspec.Struct):
    """Subscriptions, counted."""

    total: int
    """How many there are."""
    by_type: dict[str, int]
    """By wanted event type; `*` counts those that want all."""


class NatsInfo(msgspec.Struct):
    """Our side of NATS."""

    connected: bool
    """Whether the server takes what we publish."""
    url: str
    """Where it is, without credentials."""
    server: str | None
    """Its version; None where it is not known."""
    published: int
    """Events handed to NATS."""
    backlog: int
    """Events that wait for NATS."""
    dropped: int
    """Events given up because the backlog was full: none of them has reached anybody.  Of these counts, and `too_large`,
    each event is in one only, however often gaps tell of it."""
    uncertain: int
    """Events handed to NATS whose arrival was never confirmed: they may have arrived."""
    unrecorded: int
    """Events that NATS took in, but that JetStream may not have stored."""
    reconnects: int
    """How often the connection to NATS was made anew."""
    denied: int = 0
    """Publishes and subscriptions that our permissions on the server do not allow: nobody receives those."""
    too_large: int = 0
    """Events that NATS does not take, for their size (its `max_payload`): nobody receives those."""
    held: int = 0
    """How often feeds whose events are never given up were held back, because there was no room for more of them."""
    held_since: int | None = None
    """Since when they are, in nanoseconds since the epoch; None while they are not."""


class RecordingInfo(msgspec.Struct):
    """How the events of one family get into their stream."""

    family: str
    """The token of subjects after the prefix."""
    mode: str
    """`core`, `sampled` or `acked`: how they are delivered now."""
    wanted: str
    """How they would be if the stream were there."""
    acks: int
    """Acknowledgements heard since the gateway started."""
    duplicates: int
    """Messages that the stream had already, by its own word."""
    repeated: int
    """Messages sent again because no ack had come."""
    missed: int
    """Events that the stream may lack, and that no gap has told of yet."""
    reason: str | None
    """Why the stream does not store, or may not; None while it does."""


class StreamInfo(msgspec.Struct):
    """One JetStream stream that records events."""

    name: str
    """Its name in JetStream."""
    state: str
    """`ready`; `differs`: there, but not as configured; `absent`; `unavailable`: JetStream does not say; `unknown`."""
    problems: list[str]
    """What is wrong with it, a sentence each."""
    messages: int
    """Messages in it."""
    bytes: int
    """What they take."""
    first_seq: int
    """Sequence of the oldest message in it."""
    last_seq: int
    """Sequence of the newest one."""
    families: list[RecordingInfo]
    """The families of events that it records."""


class StatusReply(msgspec.Struct):
    """How the gateway is doing."""

    replica: str
    """The gateway's name."""
    version: str
    """Of polybus."""
    started: int
    """Nanoseconds since the epoch."""
    state: str
    """`running` or `draining`."""
    running: bool
    """Whether the background work is running."""
    durable: bool
    """Whether subscriptions survive a restart."""
    connections: list[ConnectionInfo]
    """All that there are, whatever their state."""
    subscriptions: SubscriptionTotals
    """How many, in all and by type."""
    total_events: int
    """Events from the venue that were published."""
    events_by_type: dict[str, int]
    """Events published, gaps included."""
    gaps: int
    """Gaps published."""
    frames: int
    """Received from the venue."""
    duplicates: int
    """What the venue said twice, and was left out."""
    unwanted: int
    """Events about keys that their connection does not carry, left out."""
    unknown: dict[str, int]
    """What could not be read, by kind."""
    unknown_fields: dict[str, int]
    """Fields that this version does not know: how often each was met."""
    connection_errors: int
    """Dials that failed, and sockets that ended without our asking."""
    reconnects: int
    """How often a connection to the venue was made anew."""
    last_reconnect_time: int | None
    """Nanoseconds since the epoch."""
    restarts: int
    """Restarts of actors by their supervisor."""
    trust: dict[str, int]
    """Assets of the market feed, by what may be believed of them (see `BookReply`)."""
    checks: dict[str, int]
    """What was checked and tried for them, and how often."""
    nats: NatsInfo
    """Our side of NATS."""
    streams: list[StreamInfo]
    """The record, as it was when it was last looked at, seconds ago."""
    quarantined: dict[str, str] = {}
    """Entries of the bucket of subscriptions that cannot be used and are left as they are: by id, what is wrong."""


class ContractReply(msgspec.Struct):
    """The contract of this gateway, an AsyncAPI document: under its own prefix, of its own version."""

    asyncapi: str
    """Version of the AsyncAPI specification that the document follows."""
    id: str
    """Names the contract, whatever its version."""
    info: dict[str, Any]
    """What it is, and its version."""
    servers: dict[str, Any]
    """Where NATS is, as a pattern: the gateway does not know which address is yours."""
    channels: dict[str, Any]
    """The subjects."""
    operations: dict[str, Any]
    """What the gateway publishes, and what it can be asked."""
    components: dict[str, Any]
    """The messages and their schemas."""


class BookReply(msgspec.Struct):
    """The gateway's book of an asset, and what may be believed of it.

    It holds every event of the asset's stream up to `epoch` and `seq`: whoever listens to the stream
    goes on with the events after that.
    """

    replica: str
    """The gateway that answers."""
    asset: str
    """Token id."""
    market: str | None
    """Condition id; None while it is not known."""
    trust: str
    """`waiting`, `live`, `quiet`, `suspect` or `frozen`; while `waiting` there are no levels."""
    why: str | None
    """What speaks against it; None if nothing does."""
    proof: str
    """What the venue's hash says of the whole book: `proved`, `unknown` or `mismatch`."""
    epoch: int
    """Of the asset's stream: its current epoch."""
    seq: int
    """Of the asset's stream: its last event."""
    source_time: int | None
    """Milliseconds since the epoch by the venue's clock, of the last event that changed the book."""
    hash: str | None
    """The venue's own hash of it."""
    tick_size: str | None
    """The price grid's step, in dollars per share; None while it is not known."""
    bids: list[Level]
    """Best (highest) price first."""
    asks: list[Level]
    """Best (lowest) price first."""
    connection: str | None
    """Id of the connection that carries it; None for none."""


class Moment(msgspec.Struct, frozen=True, gc=False):
    """Something that happened to a stream."""

    time: int
    """Nanoseconds since the epoch."""
    what: str
    """A sentence for people."""


class ExplainReply(msgspec.Struct):
    """Why an asset is, or is not, live."""

    replica: str
    """The gateway that answers."""
    asset: str
    """Token id."""
    market: str | None
    """Condition id; None while it is not known."""
    trust: str
    """See `BookReply`."""
    words: list[str]
    """The state of things in sentences, the gist first."""
    subscriptions: list[str]
    """Ids of the subscriptions that want the asset."""
    connection: str | None
    """Id of the connection that carries it; None for none."""
    epoch: int
    """Of the asset's stream: its current epoch."""
    seq: int
    """Of the asset's stream: its last event."""
    last_event_time: int | None
    """Nanoseconds since the epoch."""
    usual_pause_s: float | None
    """The longest pause between two events that is usual for the asset, in seconds; None while not known."""
    history: list[Moment]
    """The oldest first; old ones are forgotten."""


class ErrorBody(msgspec.Struct, omit_defaults=True):
    """What went wrong, for programs and for people."""

    code: int
    """One of `CODES`."""
    message: str
    """What is wrong, where, and what to do: a sentence for people."""
    field: str | None = None
    """The request's field that is to blame; absent where none is."""
    retry_after_s: float | None = None
    """Seconds after which asking again makes sense; absent where it does not."""


class ErrorReply(msgspec.Struct):
    """The body of a refusal."""

    error: ErrorBody
    """The same code and message as in the headers, and more."""


REPLIES: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeReply,
    "unsubscribe": UnsubscribeReply,
    "renew": RenewReply,
    "subscriptions": SubscriptionsReply,
    "status": StatusReply,
    "book": BookReply,
    "explain": ExplainReply,
    "contract": ContractReply,
}
"""The reply of each verb."""

encode_reply = msgspec.json.Encoder().encode
"""Turn a reply into its NATS payload."""
