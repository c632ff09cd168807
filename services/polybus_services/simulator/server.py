"""The venue with real sockets: WebSocket feeds, REST and admin on one port."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import anyio.abc
import msgspec
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.utilities import RemoteProtocolError

from polybus_services.http import HttpConnection, HttpError, Request, Response, refuse
from polybus_services.simulator.admin import Admin
from polybus_services.simulator.connection import Connection
from polybus_services.simulator.feeds import Feed
from polybus_services.simulator.options import SimulatorOptions
from polybus_services.simulator.rest import Rest
from polybus_services.simulator.venue import Venue

TICK_S = 0.015
"""How often the exchange advances: often enough to look steady, seldom enough that frames share a write."""


class Simulator(msgspec.Struct, frozen=True):
    """A running simulator, for those in the same process."""

    venue: Venue
    feeds: dict[str, str]
    """Name of the feed -> its URL."""
    rest: str
    admin: str

    @property
    def markets(self) -> list[dict[str, object]]:
        """All undecided markets, each as `{"market": condition id, "assets": [token id, token id]}`."""
        return [
            {"market": market.listing.market, "assets": list(market.listing.assets)}
            for market in self.venue.exchange.markets.values()
            if not market.resolved
        ]

    @property
    def accounts(self) -> list[dict[str, str]]:
        """The accounts of the user feed: `label`, `api_key`, `secret`, `passphrase` and `wallet` of each."""
        return [account.show() for account in self.venue.people.accounts.values()]

    @property
    def assets(self) -> list[str]:
        """The token ids of all undecided markets."""
        return [asset for market in self.markets for asset in cast("list[str]", market["assets"])]


def ready_line(simulator: Simulator) -> dict[str, object]:
    """What `polybus simulate --json` prints once it is ready."""
    return {
        "feeds": simulator.feeds,
        "rest": simulator.rest,
        "admin": simulator.admin,
        "markets": simulator.markets,
        "accounts": simulator.accounts,
    }


async def serve(
    options: SimulatorOptions, *, task_status: anyio.abc.TaskStatus[Simulator] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Run a simulator until cancelled; then every WebSocket is closed with 1001.

    `task_status` reports the `Simulator` once it can be connected to.

    Raises:
        OSError: the address cannot be listened on.
    """
    venue = Venue(options, lambda: time.time_ns() // 1_000_000)
    door = _Door(venue)
    listener = await anyio.create_tcp_listener(local_host=options.host, local_port=options.port)
    async with listener, anyio.create_task_group() as tasks:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - not Django's
        where = f"{f'[{options.host}]' if ':' in options.host else options.host}:{port}"
        tasks.start_soon(listener.serve, door.serve_client)
        tasks.start_soon(_keep_time, venue)
        task_status.started(
            Simulator(
                venue=venue,
                feeds={name: f"ws://{where}{feed.paths[0]}" for name, feed in venue.feeds.items()},
                rest=f"http://{where}",
                admin=f"http://{where}/admin",
            )
        )


@asynccontextmanager
async def running_simulator(options: SimulatorOptions) -> AsyncIterator[Simulator]:
    """A simulator for as long as the block lasts.  What the block raises comes out as it is, in no group."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        simulator = await tasks.start(serve, options)
        try:
            yield simulator
        except Exception as error:  # noqa: BLE001 - raised again below
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _keep_time(venue: Venue) -> None:
    while True:
        venue.advance(anyio.current_time())
        await anyio.sleep(TICK_S)


class _Door:
    """Lets clients in and sends each to where it belongs.  anyio's listener has set TCP_NODELAY on each."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._admin = Admin(venue)
        self._rest = Rest(venue)
        self._numbers: dict[str, int] = {}

    async def serve_client(self, stream: anyio.abc.ByteStream) -> None:
        """Serve one TCP connection: requests one after another, until one of them becomes a WebSocket."""
        http = HttpConnection(stream)
        async with stream:
            try:
                while (request := await http.next_request()) is not None:
                    if request.wants_websocket() or request.path in self._venue.paths:
                        refused = await self._serve_websocket(http, stream, request)
                        if refused is None:
                            return
                        await http.respond(refused)
                        continue
                    side = self._admin if request.path.startswith("/admin") else self._rest
                    answer = await side.handle(request)
                    if answer is None:
                        return
                    await http.respond(answer)
            except HttpError as error:
                await refuse(http, error)
            except anyio.BrokenResourceError:
                pass  # nobody waits for the answer any more

    async def _serve_websocket(
        self, http: HttpConnection, stream: anyio.abc.ByteStream, request: Request
    ) -> Response | None:
        """Serve a WebSocket to its end; or what to answer instead."""
        venue = self._venue
        feed = venue.feed_at(request.path)
        if feed is None:
            return _refusal(404, f"there is no feed at {request.path}; there are: {', '.join(venue.paths)}")
        if not request.wants_websocket():
            return _refusal(426, "this is a WebSocket", ("Upgrade", "websocket"))
        retry_after_s = venue.faults.refuses_upgrade(anyio.current_time(), feed.name)
        if retry_after_s is not None:
            venue.ledger.refused += 1
            return _refusal(429, "too many requests", ("Retry-After", str(retry_after_s)))
        websocket = WSConnection(ConnectionType.SERVER)
        try:
            websocket.initiate_upgrade_connection(request.headers, request.target)
        except RemoteProtocolError as error:
            return _refusal(400, str(error))
        accept = websocket.send(AcceptConnection())
        websocket.receive_data(http.take_over())
        name = self._next_name(feed)
        venue.ledger.open(name, feed.name, venue.now_ms())
        connection = Connection(name, stream, accept, websocket, feed, venue)
        venue.links[connection.manners] = connection
        await connection.run()
        return None

    def _next_name(self, feed: Feed) -> str:
        number = self._numbers[feed.name] = self._numbers.get(feed.name, 0) + 1
        return f"{feed.name}-{number}"


def _refusal(status: int, reason: str, *headers: tuple[str, str]) -> Response:
    return Response(status, {"error": reason}, [*headers, ("Connection", "close")])
