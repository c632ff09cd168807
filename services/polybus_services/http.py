"""A small HTTP/1.1 server side on h11: a request in, an answer out, as a rule in JSON.

For the handful of endpoints that programs of this project offer (health, the simulator's admin and REST).
Not a web framework: no routing, no streaming, no TLS; put a proxy before it if the network is not yours.
"""

import contextlib
import urllib.parse
from collections.abc import Awaitable, Callable

import anyio
import anyio.abc
import h11
import msgspec

LONGEST_BODY_BYTES = 1024 * 1024
"""Of a request.  The largest honest one asks for a few thousand books, at 90 bytes each."""

IDLE_S = 60.0
"""How long a client may take over a request, or keep an unused connection; longer than common scrape periods."""

_READ_BYTES = 64 * 1024


class Request(msgspec.Struct, frozen=True):
    """One request, whole."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    query: dict[str, str]
    """The last value of each name."""
    headers: list[tuple[bytes, bytes]]
    """Names in lower case."""
    body: bytes
    target: bytes
    """The path and query as they came."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header; `name` in lower case."""
        return next((value for key, value in self.headers if key == name), None)

    def wants_websocket(self) -> bool:
        """Whether this is an upgrade request."""
        return (self.header(b"upgrade") or b"").lower() == b"websocket"


class Response(msgspec.Struct, frozen=True):
    """An answer: a status and what becomes its JSON body, or bytes that go out as they are."""

    status: int
    content: object
    headers: list[tuple[str, str]] = []
    content_type: str = "application/json"


Handler = Callable[[Request], Awaitable[Response]]


class HttpError(Exception):
    """The request cannot be read or is too large.  Answer it with `status` and hang up."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class HttpConnection:
    """The server side of one TCP connection, one request at a time."""

    def __init__(self, stream: anyio.abc.ByteStream, *, longest_body_bytes: int = LONGEST_BODY_BYTES) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER)
        self._longest_body_bytes = longest_body_bytes

    async def next_request(self) -> Request | None:
        """The next request; None when the client is done or was silent for `IDLE_S`.

        Raises:
            HttpError: it is not HTTP, or its body is too large.
        """
        try:
            with anyio.move_on_after(IDLE_S):
                return await self._read_request()
        except h11.RemoteProtocolError as error:
            raise HttpError(error.error_status_hint, str(error)) from None
        return None

    async def _read_request(self) -> Request | None:
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        elif self._http.our_state is not h11.IDLE:
            return None  # one of the two asked for the connection to be closed
        head: h11.Request | None = None
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._receive()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > self._longest_body_bytes:
                    raise HttpError(413, f"the body is longer than {self._longest_body_bytes} bytes")
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                return _request(head, bytes(body))
            else:
                return None

    async def _receive(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            await self._stream.send(
                self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
            )
        try:
            self._http.receive_data(await self._stream.receive(_READ_BYTES))
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._http.receive_data(b"")

    async def respond(self, response: Response) -> None:
        """Answer the request in hand.

        Raises:
            anyio.BrokenResourceError: the client did not wait for it.
        """
        content = response.content
        body = content if isinstance(content, bytes) else msgspec.json.encode(content) + b"\n"
        headers = [
            ("Content-Type", response.content_type),
            ("Content-Length", str(len(body))),
            *response.headers,
        ]
        head = h11.Response(status_code=response.status, headers=headers)
        data = [self._http.send(event) for event in (head, h11.Data(data=body), h11.EndOfMessage())]
        await self._stream.send(b"".join([part or b"" for part in data]))

    def take_over(self) -> bytes:
        """Give the connection up for another protocol; what came in after the request and was not used."""
        return self._http.trailing_data[0]


async def serve_http(stream: anyio.abc.ByteStream, handler: Handler) -> None:
    """Serve one TCP connection until the client leaves; what the handler raises is the caller's bug."""
    connection = HttpConnection(stream)
    async with stream:
        try:
            while (request := await connection.next_request()) is not None:
                await connection.respond(await handler(request))
        except HttpError as error:
            await refuse(connection, error)
        except anyio.BrokenResourceError:
            return  # nobody waits for the answer any more


async def refuse(connection: HttpConnection, error: HttpError) -> None:
    """Answer what could not be read, if the client can still be answered."""
    # The client may be gone, or in the middle of an answer.
    with contextlib.suppress(anyio.BrokenResourceError, h11.LocalProtocolError):
        await connection.respond(Response(error.status, {"error": str(error)}, [("Connection", "close")]))


def _request(head: h11.Request, body: bytes) -> Request:
    parts = urllib.parse.urlsplit(head.target.decode("ascii", "replace"))
    return Request(
        method=head.method.decode("ascii"),
        path=urllib.parse.unquote(parts.path),
        query=dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
        headers=list(head.headers),
        body=body,
        target=head.target,
    )
