"""Feed profiles: what is particular to a feed, as data, so that a change at the venue is a setting."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated

import msgspec
from msgspec import Meta

from .books.liveness import Budgets
from .websocket.backoff import BackoffPolicy

Seconds = Annotated[float, Meta(gt=0)]
Count = Annotated[int, Meta(ge=1)]

ASSETS_PER_CONNECTION_CAP = 500
"""Assets a market connection may carry at most; beyond it snapshots stop coming (nautilus_trader PR 2915)."""


class FeedProfile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one feed.  Every field can be set in the configuration as `[feeds.<feed>]`."""

    url: str
    """Where the feed is: `ws://` or `wss://`, with the channel in the path."""
    rest_url: str | None = None
    """Where the venue's REST API is asked for books, as a second look: `http://` or `https://`; none or empty for not
    at all.

    Only the market feed has one.  Who moves `url` to another venue, such as the simulator, moves this too.
    """

    ping_interval_s: Seconds = 10.0
    """Seconds from one text PING to the next (venue's page: every 10 s)."""
    silence_timeout_s: Seconds = 30.0
    """Seconds without any frame, pongs included, after which the socket is dead (as the official SDKs)."""
    data_timeout_s: Seconds = 60.0
    """Seconds without data, while something is subscribed, after which the connection is stalled.

    An open socket that answers pings and delivers nothing is the venue's most reported fault
    (py-clob-client issue 292); 60 s is the value one adapter settled on (nautilus_trader issue 3908).
    """
    first_data_timeout_s: Seconds = 10.0
    """Seconds from the opening message to the first data on the connection."""
    asset_timeout_s: Seconds = 10.0
    """Seconds from asking for an asset to its first data; past it the asset is overdue and asked for again.

    A snapshot comes within a second as a rule; 10 s leaves room for a frame of a hundred of them.
    """
    asset_silence_s: Seconds = 600.0
    """Seconds any asset may say nothing before a fresh snapshot of it is asked for.

    Single assets freeze while their siblings go on (nautilus_trader issue 4901).  How long an asset may be
    silent before it is looked at adapts to how often it speaks, up to this.
    """
    shortest_silence_s: Seconds = 15.0
    """Seconds that even the busiest asset may say nothing before it is looked at."""
    check_interval_s: Seconds = 1.0
    """Seconds from one look at an asset's book, and at its silence, to the next."""
    dial_timeout_s: Seconds = 10.0
    """Seconds for DNS, TCP, TLS and the WebSocket handshake together."""
    frame_interval_s: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds from one message of ours to the next on a connection; PolyBolt takes 20 a second."""
    close_timeout_s: Seconds = 2.0
    """Seconds to wait for the peer's close frame once ours is out."""
    rotate_after_s: Annotated[float, Meta(ge=0)] = 0.0
    """Seconds after which a socket of the market feed is replaced by a new one, with no gap: the new one carries the
    same assets for a while before the old one is closed.  0 for never."""
    books: bool = True
    """Whether the book of each asset of the market feed is kept, checked, and told to who asks.

    Without, an event costs about a third less, and nothing is checked but silence.
    """
    twin_connections: bool = False
    """Whether two sockets carry each asset of the market feed all the time: the first to say something is heard, so
    that the end of either shows nowhere."""
    dial_interval_s: Annotated[float, Meta(ge=0)] = 0.1
    """Seconds from one dial to the next over all connections of the feed; opening many sockets at once
    is answered by 429 (nautilus_trader issue 2238)."""

    assets_per_connection: Annotated[int, Meta(ge=1, le=ASSETS_PER_CONNECTION_CAP)] = 200
    """How many assets one connection carries; adapters run 200 to 500, fewer means smaller losses."""
    ids_per_frame: Annotated[int, Meta(ge=1, le=1000)] = 100
    """Ids in one subscribe frame; a frame with thousands is answered by a close (rs-clob-client-v2 issue 116)."""
    custom_features: bool = True
    """Ask for `best_bid_ask`, `new_market` and `market_resolved`."""
    level: Annotated[int, Meta(ge=1, le=3)] = 2
    """Depth of the subscription; what the values change is not documented."""
    max_message_bytes: Count = 16 * 1024 * 1024
    """Longest message taken; the first one after subscribing holds all the requested books."""

    backoff: BackoffPolicy = BackoffPolicy()

    def __post_init__(self) -> None:
        # What two sockets say of an asset is held together by its book.
        if not self.books and (self.twin_connections or self.rotate_after_s):
            raise ValueError("twin_connections and rotate_after_s need books = true")

    @property
    def budgets(self) -> Budgets:
        """How long an asset may be silent: at first half of what a whole socket may be."""
        longest_s = self.asset_silence_s
        return Budgets(
            min(self.shortest_silence_s, longest_s), min(self.data_timeout_s / 2, longest_s), longest_s
        )


PROFILES: Mapping[str, FeedProfile] = MappingProxyType(
    {
        "market": FeedProfile(
            url="wss://ws-subscriptions-clob.polymarket.com/ws/market", rest_url="https://clob.polymarket.com"
        ),
        # An account is on one connection, since overlapping ones deliver each event twice.
        "user": FeedProfile(
            url="wss://ws-subscriptions-clob.polymarket.com/ws/user",
            assets_per_connection=ASSETS_PER_CONNECTION_CAP,
        ),
        # On the full activity 30 s of silence is abnormal (real-time-data-client issue 26).
        "rtds": FeedProfile(
            url="wss://ws-live-data.polymarket.com",
            ping_interval_s=5.0,
            data_timeout_s=30.0,
            # One bad topic silences the whole message.
            ids_per_frame=1,
        ),
        # 64 subscriptions a connection; the official clients leave 110 ms between two operations.
        "polybolt": FeedProfile(
            url="wss://ws-live-v2.polymarket.com/ws",
            ping_interval_s=25.0,
            silence_timeout_s=60.0,
            assets_per_connection=64,
            ids_per_frame=64,
            frame_interval_s=0.11,
        ),
        # The server pings every 5 s, and that is all there is while no game is on.
        "sports": FeedProfile(url="wss://sports-api.polymarket.com/ws"),
    }
)
"""The venue's feeds, with the values the evidence supports."""
