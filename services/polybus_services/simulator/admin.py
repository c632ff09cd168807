"""The simulator's side for those who test against it: `/admin`, over HTTP.

| request | answer |
| --- | --- |
| `GET /admin/status` | how it is set, how much has happened, who is connected |
| `GET /admin/sent[?asset=]` | the ledger: what was handed to each socket, per stream and type, and what was not |
| `GET /admin/book?asset=` | the book right now, as REST shows it: worst to best, with its hash |
| `GET /admin/book?asset=&timestamp=&hash=` | the book that had this hash then; without `hash`, the last one of that millisecond |
| `GET /admin/faults` | every fault: whether it is on, how it is set, its parameters, its story |
| `PUT /admin/faults/<name>` | switch on; the body holds the parameters (JSON object, may be empty) |
| `DELETE /admin/faults/<name>` | switch off |
| `POST /admin/pause` | stop the flow of events; answers when all of it has been written to the sockets |
| `POST /admin/resume` | let it flow again |
| `POST /admin/step` `{"events": n, "seconds": s}` | let n facts happen now, and around them s seconds; answers when written |
| `POST /admin/happen` `{"event": ..., "market": ..., "account": ...}` | one of `trade`, `order`, `cancel`, `tick_size_change`, `new_market`, `market_resolved` |

Books at a point: `timestamp` (milliseconds) and `hash` are those of the last `book` or `price_change` that a consumer
has heard of an asset.  Each market's last 200 changes are remembered; what is older, or never was, is answered 404.

Facts are those of the exchange.  Settlements, prices, comments and games come with the seconds: if `seconds` is
left out, with as many as the facts would take at the set pace.

The ledger counts events by fate (`sent`, `withheld`, ...) and type: `feeds.<feed>.streams.<stream>.<fate>.<type>`,
and for each connection `connections.<id>.assets.<stream>.<fate>.<type>`; `assets` is the market feed's part again.
A stream is an asset there; elsewhere it is the ids in polybus's subject: `<account>/<market>`,
`<event slug>/<market>`, `<class>/<symbol>`, `<parent type>/<parent id>`, `<league>/<game>`; `_` for an id there is not.

Errors are `{"error": "..."}` with 400 for what is wrong in the request, 404 for what does not exist.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Annotated

import anyio
import anyio.lowlevel
import msgspec

from polybus_services.http import Request, Response
from polybus_services.simulator import past
from polybus_services.simulator.exchange import Market
from polybus_services.simulator.facts import Fact, Placed, Traded
from polybus_services.simulator.fault_kinds import (
    FAULTS,
    Ending,
    FaultError,
    FreezeAsset,
    Recurring,
    RestFault,
    fault_of,
)
from polybus_services.simulator.ladder import Order
from polybus_services.simulator.people import Account
from polybus_services.simulator.venue import Link, Venue

FLUSH_S = 5.0
"""How long pause and step wait for a socket to take what is queued; a client that does not read is named."""


class _Refused(Exception):
    """The answer is an error."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class _Step(msgspec.Struct, forbid_unknown_fields=True):
    events: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] = 0
    """Facts of the exchange."""
    seconds: Annotated[float, msgspec.Meta(ge=0, le=86_400)] | None = None
    """What happens around it in so long; if left out, as long as these facts would take at the set pace."""


class _Happen(msgspec.Struct, forbid_unknown_fields=True):
    event: str
    market: str | None = None
    """Condition id; needed for all but `new_market`."""
    winner: Annotated[int, msgspec.Meta(ge=0, le=1)] = 0
    """Which outcome a decided market pays: 0 or 1."""
    account: str | None = None
    """The label of who trades, places or cancels; needed for `order` and `cancel`."""


class Admin:
    """Answers requests about one venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._routes: dict[tuple[str, str], Callable[[Request], Awaitable[object]]] = {
            ("GET", "/admin/status"): self._status,
            ("GET", "/admin/sent"): self._sent,
            ("GET", "/admin/book"): self._admin_book,
            ("GET", "/admin/faults"): self._faults,
            ("POST", "/admin/pause"): self._pause,
            ("POST", "/admin/resume"): self._resume,
            ("POST", "/admin/step"): self._step,
            ("POST", "/admin/happen"): self._happen,
        }

    async def handle(self, request: Request) -> Response:
        """Answer one request."""
        try:
            return Response(200, await self._route(request)(request))
        except _Refused as error:
            return Response(error.status, {"error": str(error)})
        except FaultError as error:
            return Response(400, {"error": str(error)})
        except msgspec.DecodeError as error:
            return Response(400, {"error": f"the body: {error}"})

    def _route(self, request: Request) -> Callable[[Request], Awaitable[object]]:
        if request.path.startswith("/admin/faults/"):
            by_method = {"PUT": self._switch_on, "DELETE": self._switch_off}
            if request.method in by_method:
                return by_method[request.method]
        route = self._routes.get((request.method, request.path))
        if route is None:
            methods = [method for method, path in self._routes if path == request.path]
            hint = f"; try {' or '.join(methods)}" if methods else ""
            raise _Refused(404, f"there is no {request.method} {request.path}{hint}")
        return route

    async def _status(self, _request: Request) -> object:
        venue = self._venue
        return {
            "seed": venue.options.seed,
            "facts_per_second": venue.options.facts_per_second,
            "paused": venue.paused,
            "facts": venue.facts,
            "now_ms": venue.now_ms(),
            "markets": len(venue.exchange.markets),
            "assets": len(venue.exchange.assets),
            "connections": sorted(link.id for link in venue.links.values()),
            "faults": sorted(venue.faults.names_on(anyio.current_time())),
        }

    async def _sent(self, request: Request) -> object:
        return self._venue.ledger.show(request.query.get("asset"))

    async def _admin_book(self, request: Request) -> object:
        asset = request.query.get("asset")
        if not asset:
            raise _Refused(400, "asset: which one?")
        found = self._venue.exchange.assets.get(asset)
        if found is None:
            raise _Refused(404, f"asset: there is no asset {asset}")
        market, outcome = found
        book = self._book(market, outcome, request)
        return book | {"outcome": market.listing.outcomes[outcome], "resolved": market.resolved}

    def _book(self, market: Market, outcome: int, request: Request) -> dict[str, object]:
        timestamp, claimed = request.query.get("timestamp"), request.query.get("hash")
        if timestamp is None:
            if claimed is not None:
                raise _Refused(400, "timestamp: a hash is of a book at a time; say both as the message did")
            return past.now(market).show(market, outcome)
        if not re.fullmatch("[0-9]{1,16}", timestamp):
            raise _Refused(400, f"timestamp: {timestamp!r} is no number of milliseconds")
        book = past.find(market, outcome, timestamp, claimed)
        if book is None:
            raise _Refused(
                404,
                f"no book of {request.query['asset']} had the hash {claimed} at {timestamp}, or it is more than "
                f"{past.REMEMBERED_CHANGES} changes ago",
            )
        return book

    async def _faults(self, _request: Request) -> object:
        return {"faults": self._venue.faults.show(anyio.current_time())}

    async def _switch_on(self, request: Request) -> object:
        name = _fault_name(request)
        parameters = msgspec.json.decode(request.body) if request.body.strip() else {}
        fault = fault_of(name, parameters)
        for asset in fault.assets if isinstance(fault, Recurring | FreezeAsset | RestFault) else ():
            # The other feeds' streams come and go with what happens: their names are not checked.
            if "/" not in asset and asset not in self._venue.exchange.assets:
                raise _Refused(404, f"assets: there is no asset {asset}")
        self._venue.faults.switch_on(name, fault, anyio.current_time(), self._venue.exchange.changes)
        at_once = isinstance(fault, Ending) and fault.at_once
        struck = self._venue.strike(fault) if isinstance(fault, Ending) and at_once else 0
        return {"fault": name, "on": not at_once, "set": fault, "struck": struck}

    async def _switch_off(self, request: Request) -> object:
        name = _fault_name(request)
        return {"fault": name, "on": False, "was_on": self._venue.faults.switch_off(name)}

    async def _pause(self, _request: Request) -> object:
        self._venue.paused = True
        return {"paused": True, "facts": self._venue.facts, "unflushed": await self._flush()}

    async def _resume(self, _request: Request) -> object:
        self._venue.paused = False
        return {"paused": False, "facts": self._venue.facts}

    async def _step(self, request: Request) -> object:
        wish = msgspec.json.decode(request.body, type=_Step)
        if not wish.events:
            self._venue.step(0, wish.seconds)
        # In slices, so that sockets are written and PINGs answered between them.
        for start in range(0, wish.events, 500):
            count = min(500, wish.events - start)
            self._venue.step(count, None if wish.seconds is None else wish.seconds * count / wish.events)
            await anyio.lowlevel.checkpoint()
        return {"facts": self._venue.facts, "unflushed": await self._flush()}

    async def _happen(self, request: Request) -> object:
        wish = msgspec.json.decode(request.body, type=_Happen)
        fact = self._fact(wish)
        self._venue.publish(fact)
        listing = fact.market.listing
        return {
            "event": wish.event,
            "market": listing.market,
            "assets": listing.assets,
            "unflushed": await self._flush(),
        }

    def _fact(self, wish: _Happen) -> Fact:
        venue, now_ms = self._venue, self._venue.now_ms()
        crowd = venue.crowd
        if wish.event == "new_market":
            return crowd.announce_market(now_ms)
        doings: dict[str, Callable[[Market], Fact]] = {
            "trade": lambda market: crowd.trade(market, now_ms),
            "order": lambda market: crowd.join_best(market, now_ms),
            "cancel": lambda market: crowd.withdraw(market, self._order_of(wish, market), now_ms),
            "tick_size_change": lambda market: crowd.refine(market, now_ms),
            "market_resolved": lambda market: crowd.resolve(market, wish.winner, now_ms),
        }
        if wish.event not in doings:
            raise _Refused(400, f"event: {wish.event!r} is none of new_market, {', '.join(doings)}")
        market = venue.exchange.markets.get(wish.market or "")
        if market is None:
            raise _Refused(404, f"market: there is no market {wish.market}")
        account = self._account(wish)
        try:
            fact = doings[wish.event](market)
        except ValueError as error:
            raise _Refused(400, str(error)) from None
        if account is not None and isinstance(fact, Placed | Traded):
            venue.people.claim(fact.order_id, account)
        return fact

    def _account(self, wish: _Happen) -> Account | None:
        if wish.account is None and wish.event not in ("order", "cancel"):
            return None
        accounts = self._venue.people.accounts
        if wish.account not in accounts:
            raise _Refused(404, f"account: {wish.account!r} is none of {', '.join(accounts)}")
        return accounts[wish.account]

    def _order_of(self, wish: _Happen, market: Market) -> Order:
        """The newest order of an account that still rests."""
        account = self._account(wish)
        orders = [order for order in market.resting() if self._venue.people.account(order.id) is account]
        if not orders:
            raise ValueError(f"{wish.account} has no order in market {wish.market}")
        return orders[-1]

    async def _flush(self) -> list[str]:
        """Wait until everything queued is written; those connections where it is not, after `FLUSH_S`."""
        waiting = {link.id for link in self._venue.links.values()}

        async def flush(link: Link) -> None:
            await link.flushed()
            waiting.discard(link.id)

        with anyio.move_on_after(FLUSH_S):
            async with anyio.create_task_group() as tasks:
                for link in list(self._venue.links.values()):
                    tasks.start_soon(flush, link)
        return sorted(waiting)


def _fault_name(request: Request) -> str:
    name = request.path.removeprefix("/admin/faults/")
    if name not in FAULTS:
        raise _Refused(404, f"no fault is called {name!r}; there are: {', '.join(FAULTS)}")
    return name
