"""The small HTTP server side, over real sockets."""

from collections.abc import AsyncIterator

import anyio
import anyio.abc
import msgspec
import pytest

from polybus_services.http import LONGEST_BODY_BYTES, Request, Response, serve_http

pytestmark = pytest.mark.anyio


async def echo(request: Request) -> Response:
    return Response(
        200,
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body.decode(),
            "upgrade": request.wants_websocket(),
        },
    )


@pytest.fixture
async def stream() -> AsyncIterator[anyio.abc.ByteStream]:
    """A connection to a server that tells what it was asked."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, lambda client: serve_http(client, echo))
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with await anyio.connect_tcp("127.0.0.1", port) as connected:
            yield connected
        tasks.cancel_scope.cancel()


async def answers(stream: anyio.abc.ByteStream, sent: bytes, count: int) -> list[bytes]:
    """Send bytes; the first `count` answers, head and body together, each ending with the body's newline."""
    await stream.send(sent)
    received = b""
    with anyio.fail_after(10):
        while received.count(b"}\n") < count:
            received += await stream.receive()
    return [part + b"}\n" for part in received.split(b"}\n")[:count]]


def body_of(answer: bytes) -> dict[str, object]:
    return msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=dict[str, object])


async def test_a_request_is_understood(stream: anyio.abc.ByteStream) -> None:
    """Method, path, query and body arrive decoded; the answer is JSON with its length."""
    sent = b"PUT /a%20b?x=1&y=%2F&x=2 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    [answer] = await answers(stream, sent, 1)
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"content-type: application/json" in answer.lower()
    assert body_of(answer) == {
        "method": "PUT",
        "path": "/a b",
        "query": {"x": "2", "y": "/"},
        "body": "hello",
        "upgrade": False,
    }


async def test_one_connection_serves_many_requests(stream: anyio.abc.ByteStream) -> None:
    """Requests sent at once are answered in order; a chunked body is joined."""
    first = b"GET /1 HTTP/1.1\r\nHost: h\r\n\r\n"
    chunked = (
        b"POST /2 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    )
    found = [body_of(answer) for answer in await answers(stream, first + chunked + first, 3)]
    assert [(answer["path"], answer["body"]) for answer in found] == [("/1", ""), ("/2", "abcde"), ("/1", "")]


async def test_an_upgrade_is_recognised(stream: anyio.abc.ByteStream) -> None:
    """`Upgrade: websocket` is seen, in any case of letters."""
    sent = b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"
    [answer] = await answers(stream, sent, 1)
    assert body_of(answer)["upgrade"] is True


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"hello\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n", b"400"),
        (
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (LONGEST_BODY_BYTES + 1)
            + b"x" * (LONGEST_BODY_BYTES + 1),
            b"413",
        ),
    ],
)
async def test_what_cannot_be_served_is_refused(
    stream: anyio.abc.ByteStream, sent: bytes, status: bytes
) -> None:
    """What is not HTTP or too long is answered with its status and hung up on."""
    [answer] = await answers(stream, sent, 1)
    assert answer.split()[1] == status
    assert list(body_of(answer)) == ["error"]
    with anyio.fail_after(10), pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
        await stream.receive()


async def test_closing_is_honoured(stream: anyio.abc.ByteStream) -> None:
    """`Connection: close` ends the connection after the answer."""
    await answers(stream, b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", 1)
    with anyio.fail_after(10), pytest.raises(anyio.EndOfStream):
        await stream.receive()


async def test_a_client_that_waits_for_100_is_told_to_go_on(stream: anyio.abc.ByteStream) -> None:
    """`Expect: 100-continue` gets its 100 before the body comes."""
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    await stream.send(head)
    with anyio.fail_after(10):
        assert (await stream.receive()).startswith(b"HTTP/1.1 100")
    [answer] = await answers(stream, b"ok", 1)
    assert body_of(answer)["body"] == "ok"
