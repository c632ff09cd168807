"""Control requests: what the `polybus` service can be asked, and what is wrong with a bad request.

A request is one JSON object on `<prefix>.control.<verb>`; `polybus_protocol.replies` holds the answers.
The names of the manager that polybus replaced are accepted as aliases; see `polybus_protocol.legacy`.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .errors import ControlError
from .events import MARKET_EVENTS, type_of
from .feeds.reading import UNREADABLE
from .legacy import modernise

VERBS = ("subscribe", "unsubscribe", "renew", "subscriptions", "status")
"""What the service understands."""

SERVICE = "polybus"
"""The name of the NATS micro service."""

FEEDS = ("market",)
"""The feeds this version serves."""

MARKET_TYPES = tuple(type_of(event) for event in MARKET_EVENTS)
"""The event types one can ask for on the market feed; `gap` always comes with them."""

DELIVERIES = ("subjects", "log")
"""How events can be delivered."""

WAITS = ("accepted", "sent", "data")
"""How far a subscription can be waited for."""

MAX_ASSETS = 10_000
"""Assets in one request: their ids alone fill 800 kB, and NATS takes payloads up to 1 MiB by default."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ASSET = re.compile(r"[0-9]{1,78}")
_MARKET = re.compile(r"0x[0-9a-fA-F]{40,64}")

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class SubscribeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Add interest."""

    feed: str = "market"
    assets: list[str] = []
    """Token ids, decimal."""
    markets: list[str] = []
    """Condition ids: their known assets are added."""
    types: list[str] = []
    """Event types; none means all."""
    owner: Name = "anonymous"
    """Who wants it; `unsubscribe` can drop all of an owner's."""
    id: str | None = None
    """A name for the subscription, which makes the request idempotent; made up if absent."""
    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """Seconds the lease lasts unless renewed; for ever if absent."""
    deliver: str = "subjects"
    """`subjects`, or `log` for one log line per event as well."""
    wait: str = "accepted"
    """`accepted`: answer at once; `sent`: when the venue was asked; `data`: when data has been seen."""
    wait_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds to wait at most; the answer then says what is missing, and why."""


class UnsubscribeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Drop one subscription by `id`, or all of an `owner`."""

    id: str | None = None
    owner: str | None = None


class RenewRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Prolong the lease of one subscription by `id`, or of all of an `owner`."""

    id: str | None = None
    owner: str | None = None
    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """A new length in seconds; the old one if absent."""


class SubscriptionsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """List subscriptions: all, an owner's, or one."""

    id: str | None = None
    owner: str | None = None
    assets: bool = True
    """Whether to list the state of each asset."""


class StatusRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How the gateway is doing."""


REQUESTS: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "renew": RenewRequest,
    "subscriptions": SubscriptionsRequest,
    "status": StatusRequest,
}
"""The request of each verb."""


def parse_request(verb: str, payload: bytes) -> Any:
    """Read a request; an empty payload stands for an empty object.

    Returns:
        A struct of `REQUESTS[verb]`, validated.

    Raises:
        ControlError: 400 with the field that is wrong and why, or 422 for what this gateway cannot serve.
    """
    try:
        fields = msgspec.json.decode(payload or b"{}", type=dict[str, Any])
    except UNREADABLE as error:
        raise ControlError(400, f"the request is not a JSON object: {error}") from None
    if verb == "subscribe":
        fields = modernise(fields)
    known = REQUESTS[verb].__struct_fields__
    for name in fields:
        if name not in known:
            takes = f"the fields of {verb!r} are {', '.join(known)}" if known else f"{verb!r} takes none"
            raise _bad(name[:80], f"there is no such field; {takes}")
    try:
        request = msgspec.convert(fields, REQUESTS[verb])
    except msgspec.ValidationError as error:
        message, field = _where(str(error))
        raise ControlError(400, message, field=field) from None
    if isinstance(request, SubscribeRequest):
        _check_subscribe(request)
    if isinstance(request, UnsubscribeRequest | RenewRequest) and bool(request.id) == bool(request.owner):
        raise ControlError(400, "name either the id of a subscription or an owner", field="id")
    return request


def _where(message: str) -> tuple[str, str | None]:
    """What is wrong, with the place, and the request's field it is about, from msgspec's message."""
    text, _, path = message.partition(" - at `$.")
    place = path.rstrip("`")
    return (f"{place}: {text}" if place else text), place.partition("[")[0] or None


def _check_subscribe(request: SubscribeRequest) -> None:
    if request.feed not in FEEDS:
        served = ", ".join(FEEDS)
        raise ControlError(422, f"this gateway serves the feeds {served}, not {request.feed!r}", field="feed")
    if len(request.assets) > MAX_ASSETS:
        count = len(request.assets)
        raise _bad("assets", f"{count} in one request; split it in parts of {MAX_ASSETS} at most")
    for asset in request.assets:
        if not _ASSET.fullmatch(asset):
            hint = " (it looks like a condition id: put it in `markets`)" if _MARKET.fullmatch(asset) else ""
            raise _bad(
                "assets", f"{asset[:80]!r} is not a token id, a decimal number of up to 78 digits{hint}"
            )
    for market in request.markets:
        if not _MARKET.fullmatch(market):
            hint = " (it looks like a token id: put it in `assets`)" if _ASSET.fullmatch(market) else ""
            raise _bad("markets", f"{market[:80]!r} is not a condition id, `0x` and hex digits{hint}")
    for type_ in request.types:
        if type_ not in MARKET_TYPES:
            raise _bad("types", f"{type_[:80]!r} is not one of {', '.join(MARKET_TYPES)}")
    if request.id is not None and not _ID.fullmatch(request.id):
        raise _bad("id", "1 to 64 letters, digits, `-` or `_`")
    if request.deliver not in DELIVERIES:
        raise _bad("deliver", f"{request.deliver[:80]!r} is not one of {', '.join(DELIVERIES)}")
    if request.wait not in WAITS:
        raise _bad("wait", f"{request.wait[:80]!r} is not one of {', '.join(WAITS)}")


def _bad(field: str, why: str) -> ControlError:
    return ControlError(400, f"{field}: {why}", field=field)
