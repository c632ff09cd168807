"""Control requests: what the `polybus` service can be asked, and what is wrong with a bad request.

A request is one JSON object on `<prefix>.control.<verb>`; `polybus_protocol.control.replies` holds the answers.
The names of the manager that polybus replaced are accepted as aliases; see `polybus_protocol.legacy`.
"""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from ..errors import ControlError
from ..feeds.reading import UNREADABLE
from ..legacy import modernise
from .asking import bad, check
from .wish import Wish

VERBS = ("subscribe", "unsubscribe", "renew", "subscriptions", "status", "book", "explain", "contract")
"""What the service understands."""

SERVICE = "polybus"
"""The name of the NATS micro service."""

DELIVERIES = ("subjects", "log")
"""How events can be delivered."""

WAITS = ("accepted", "sent", "data")
"""How far a subscription can be waited for."""

MAX_ASSETS = 10_000
"""Assets in one request: their ids alone fill 800 kB, and NATS takes payloads up to 1 MiB by default."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")

Name = Annotated[str, Meta(min_length=1, max_length=128)]


class Request(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every request can say."""

    request_id: Name | None = None
    """An id of the request itself: repeated under it, the same request is answered the same, and done once."""
    deadline: int | None = None
    """Nanoseconds since the epoch, by the gateway's clock, after which nothing is to be done any more."""


class SubscribeRequest(Wish, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Add interest."""

    owner: Name = "anonymous"
    """Who wants it; `unsubscribe` can drop all of an owner's."""
    id: str | None = None
    """A name for the subscription, which makes the request idempotent; made up if absent."""
    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """Seconds the lease lasts unless renewed; for ever if absent."""
    deliver: str = "subjects"
    """One of `DELIVERIES`: `log` writes one log line per event as well."""
    wait: str = "accepted"
    """One of `WAITS`: answer at once, when the venue was asked, or when data has been seen."""
    wait_timeout_s: Annotated[float, Meta(gt=0, le=60)] = 10.0
    """Seconds to wait at most; the answer then says what is missing, and why."""
    request_id: Name | None = None
    """An id of the request itself: repeated under it, the same request is answered the same, and done once."""
    # Both fields as in `Request`: two structs cannot both be a base.
    deadline: int | None = None
    """Nanoseconds since the epoch, by the gateway's clock, after which nothing is to be done any more."""


class UnsubscribeRequest(Request, kw_only=True):
    """Drop one subscription by `id`, or all of an `owner`."""

    id: str | None = None
    """The subscription's.  Name it or an owner, not both."""
    owner: str | None = None
    """Drops all of this owner's."""


class RenewRequest(Request, kw_only=True):
    """Prolong the lease of one subscription by `id`, or of all of an `owner`."""

    id: str | None = None
    """The subscription's.  Name it or an owner, not both."""
    owner: str | None = None
    """Prolongs all of this owner's."""
    ttl_s: Annotated[float, Meta(gt=0, le=31_536_000)] | None = None
    """A new length in seconds; the old one if absent."""


class SubscriptionsRequest(Request, kw_only=True):
    """List subscriptions: all, an owner's, or one."""

    id: str | None = None
    """Only this one."""
    owner: str | None = None
    """Only this owner's."""
    assets: bool = True
    """Whether to list the state of each asset."""


class StatusRequest(Request, kw_only=True):
    """How the gateway is doing."""


class BookRequest(Request, kw_only=True):
    """The book of an asset as it is right now."""

    asset: Name
    """Token id."""
    depth: Annotated[int, Meta(ge=1)] | None = None
    """Levels of each side, from the best; all if absent."""


class ExplainRequest(Request, kw_only=True):
    """Why an asset is, or is not, live."""

    asset: Name
    """Token id."""


class ContractRequest(Request, kw_only=True):
    """What this gateway promises, as an AsyncAPI document."""


REQUESTS: dict[str, type[msgspec.Struct]] = {
    "subscribe": SubscribeRequest,
    "unsubscribe": UnsubscribeRequest,
    "renew": RenewRequest,
    "subscriptions": SubscriptionsRequest,
    "status": StatusRequest,
    "book": BookRequest,
    "explain": ExplainRequest,
    "contract": ContractRequest,
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
            raise bad(name[:80], f"there is no such field; the fields of {verb!r} are {', '.join(known)}")
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
    if len(request.assets) > MAX_ASSETS:
        count = len(request.assets)
        raise bad("assets", f"{count} in one request; split it in parts of {MAX_ASSETS} at most")
    check_subscription(request, request.id, request.deliver)
    if request.wait not in WAITS:
        raise bad("wait", f"{request.wait[:80]!r} is not one of {', '.join(WAITS)}")


def check_subscription(wish: Wish, id_: str | None, deliver: str) -> None:
    """See that there can be such a subscription, whoever says so: a request, or an entry of the bucket.

    Raises:
        ControlError: 400 with the field that is wrong and why, or 422 for what this gateway cannot serve.
    """
    check(wish)
    if id_ is not None and not _ID.fullmatch(id_):
        raise bad("id", "1 to 64 letters, digits, `-` or `_`")
    if deliver not in DELIVERIES:
        raise bad("deliver", f"{deliver[:80]!r} is not one of {', '.join(DELIVERIES)}")
