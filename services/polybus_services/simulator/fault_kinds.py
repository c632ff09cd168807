"""The faults there are, each taken from a real incident.

One struct per fault: its fields are its parameters, its docstring says what a client sees.  A new fault is a
new struct in `FAULTS` and, if it does something new to a frame, a new field of `faults.Treatment`.
"""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import msgspec

from polybus_services.simulator.feeds import Close

SLOW_CONSUMER = Close(1013, "slow consumer: send buffer full")

ALL = "all"


class FaultError(ValueError):
    """A fault nobody knows, or a parameter it does not have; the text says which there are."""


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every fault has."""

    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """How long it stays on; for ever if left out."""


FeedName = Literal["all", "market", "user", "rtds", "polybolt", "sports"]


class Selective(Fault, kw_only=True):
    """A fault that can be meant for one connection, or for those of one feed."""

    connection: str = ALL
    """A connection's id, such as "market-1", or "all"."""
    feed: FeedName = "all"
    only: ClassVar[tuple[FeedName, ...]] = ()
    """What `feed` may be; anything if empty."""

    def __post_init__(self) -> None:
        if self.only and self.feed not in self.only:
            raise ValueError(f"feed: {self.feed!r} is none of {', '.join(self.only)}")

    def meant_for(self, connection: str) -> bool:
        """Whether it concerns this connection, whose id begins with its feed's name."""
        return self.connection in (ALL, connection) and self.feed in (ALL, connection.rpartition("-")[0])


class Recurring(Selective, kw_only=True):
    """A fault that happens to data frames, one by one."""

    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """How often it happens before it is over."""
    assets: tuple[str, ...] = ()
    """Only frames about these assets, or streams of other feeds ("crypto/btcusd"); all frames if empty."""


class Ending(Recurring, kw_only=True):
    """A fault that ends the connection: at once, unless told to wait for a frame."""

    close: ClassVar[Close | None]
    """None for none."""

    @property
    def at_once(self) -> bool:
        """Whether it happens now to each connection meant, rather than to frames to come."""
        return self.count is None and self.probability == 1.0 and not self.assets


class Drop(Ending):
    """TCP is cut, without a close frame."""

    close = None


class Close1013(Ending):
    """The connection is closed with 1013 "slow consumer: send buffer full", however fast the client reads."""

    close = SLOW_CONSUMER


class Drain4003(Ending, kw_only=True):
    """The connection is closed with 4003: the server is going away, come back within ten seconds."""

    close = Close(4003, "draining")
    feed: FeedName = "polybolt"


class Slow4002(Ending, kw_only=True):
    """The connection is closed with 4002 as that of a slow consumer, however fast the client reads."""

    close = Close(4002, "slow consumer")
    feed: FeedName = "polybolt"


class Policy4008(Ending, kw_only=True):
    """The connection is closed with 4008: the client is said to have broken the rules."""

    close = Close(4008, "policy violation")
    feed: FeedName = "polybolt"


class Stall(Selective):
    """The socket stays open and PONGs come back, but no data, as in py-clob-client #292.

    What is held back is never sent.
    """


class FreezeAsset(Selective):
    """These assets are silent, their first books too, while others go on, as in nautilus_trader #4901."""

    assets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Refuse429(Fault):
    """Upgrades are answered with 429 and Retry-After."""

    feed: FeedName = "all"
    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1


class Duplicate(Recurring):
    """A data frame is sent twice in a row."""


class CorruptFrame(Recurring):
    """A WebSocket frame in order, whose JSON is cut short or has one bit of a colon flipped.

    It never decodes: a flipped digit would pass for data, which no client could tell.
    """

    mode: Literal["cut", "flip", "either"] = "either"


class LostFrame(Recurring):
    """A data frame is not sent, and nothing tells: the next one follows as if it had never been."""


class Reorder(Recurring):
    """A data frame is overtaken by the next one about one of its assets, or comes half a second late."""


class UnknownEvent(Recurring):
    """An event of an unknown type stands after a data frame or, with `inside`, in one array with its events."""

    inside: bool = False


class SeqGap(Recurring, kw_only=True):
    """A PolyBolt frame is not sent, though it uses up its `seq`: the next one shows a hole."""

    feed: FeedName = "polybolt"
    only = ("polybolt",)


class DroppedCount(Recurring, kw_only=True):
    """A PolyBolt frame is not sent; the channel's next one says how many it were, in `dropped`."""

    feed: FeedName = "polybolt"
    only = ("polybolt",)
    skip_seq: bool = False
    """Whether a lost frame uses up its `seq` too; the venue's documents do not say."""


class RtdsStale(Selective, kw_only=True):
    """RTDS connections go quiet for good while their sockets stay open, as in real-time-data-client #26.

    What a stale connection is not sent is on record as withheld.  Switching the fault off revives none.
    """

    feed: FeedName = "rtds"
    only = ("rtds",)
    after_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Seconds since the last PING after which it happens; 0 for at once, PINGs or not."""


class LateData(Selective, kw_only=True):
    """Data frames are held back for so many seconds, then sent in order, as in real-time-data-client #36."""

    delay_s: Annotated[float, msgspec.Meta(gt=0)] = 2.0


class Auth(Selective, kw_only=True):
    """A fault of authentication: it strikes when credentials come, whether or not they are right."""

    only = ("all", "user", "polybolt")
    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """How many attempts it strikes before it is over."""
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0


class AuthSilent(Auth):
    """Credentials are taken and nothing ever comes: no answer, no event; PONGs do.  So until a reconnect."""


class Auth4001(Auth):
    """Credentials are answered with a close 4001 "credential refused"."""


class RestFault(Fault, kw_only=True):
    """A fault of the REST books, which strikes requests one by one."""

    only: ClassVar[tuple[str, ...]] = ("rest",)
    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """How many requests it strikes before it is over."""
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    assets: tuple[str, ...] = ()
    """Only requests for these assets; all requests if empty."""


class RestStale(RestFault):
    """REST shows books as they were when it began, with the time and the hash of then, as in py-clob-client #180.

    Of a market that changed very often since, the oldest book that is remembered.
    """


class RestDown(RestFault):
    """REST gives no books: 503 (`refuse`), no answer and the connection cut (`cut`), or no answer at all (`hang`)."""

    mode: Literal["refuse", "cut", "hang"] = "refuse"


class Rest429(RestFault):
    """REST requests are answered with 429 and Retry-After."""

    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1


FAULTS: Mapping[str, type[Fault]] = {
    "drop": Drop,
    "stall": Stall,
    "freeze-asset": FreezeAsset,
    "refuse-429": Refuse429,
    "duplicate": Duplicate,
    "corrupt-frame": CorruptFrame,
    "unknown-event": UnknownEvent,
    "close-1013": Close1013,
    "auth-silent": AuthSilent,
    "auth-4001": Auth4001,
    "drain-4003": Drain4003,
    "slow-4002": Slow4002,
    "policy-4008": Policy4008,
    "seq-gap": SeqGap,
    "dropped-count": DroppedCount,
    "rtds-stale": RtdsStale,
    "late-data": LateData,
    "lost-frame": LostFrame,
    "reorder": Reorder,
    "rest-stale": RestStale,
    "rest-down": RestDown,
    "rest-429": Rest429,
}


def fault_of(name: str, parameters: object) -> Fault:
    """A fault as a person asks for it.

    Args:
        name: one of `FAULTS`.
        parameters: a mapping, as decoded from JSON.

    Raises:
        FaultError: no such fault, or no such parameter.
    """
    kind = FAULTS.get(name)
    if kind is None:
        raise FaultError(f"no fault is called {name!r}; there are: {', '.join(FAULTS)}")
    try:
        return msgspec.convert(parameters, kind)
    except msgspec.ValidationError as error:
        raise FaultError(
            f"{name}: {error}; its parameters are: {', '.join(kind.__struct_fields__)}"
        ) from None
