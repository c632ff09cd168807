"""From a URL to an open WebSocket: whatever stands in the way gives one clear sentence and the right verdict."""

import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import anyio
import anyio.abc
import msgspec
import pytest
from anyio.streams.tls import TLSStream

from polybus_actors.venue.transport import DialFailed, dial
from polybus_actors.venue.wire import Wire
from polybus_protocol.websocket.backoff import Verdict
from polybus_services.simulator import SimulatorOptions, running_simulator

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).parent.parent / "support" / "untrusted.pem"
"""For localhost, signed by itself until 2126, with its key: nobody trusts it, which is what it is for."""

type Behaviour = Callable[[anyio.abc.ByteStream], Awaitable[None]]


@asynccontextmanager
async def server(behaviour: Behaviour) -> AsyncIterator[int]:
    """A TCP server that treats each client in one way; its port."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await behaviour(stream)

    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, serve)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def answering(head: str, body: str = "") -> Behaviour:
    """Read the request, answer it and hang up."""

    async def behave(stream: anyio.abc.ByteStream) -> None:
        await stream.receive()
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        await stream.send(f"HTTP/1.1 {head}\r\n{length}\r\n{body}".encode())

    return behave


async def hang_up(stream: anyio.abc.ByteStream) -> None:
    await stream.receive()


async def reset(stream: anyio.abc.ByteStream) -> None:
    await stream.receive()
    raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")


async def say_nothing(stream: anyio.abc.ByteStream) -> None:
    await anyio.sleep_forever()


async def break_off(stream: anyio.abc.ByteStream) -> None:
    await stream.receive()
    await stream.send(b"HTTP/1.1 101 Switching Pro")


async def speak_tls(stream: anyio.abc.ByteStream) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    # The client goes as soon as it has seen the certificate.
    with contextlib.suppress(ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
        await TLSStream.wrap(stream, server_side=True, ssl_context=context)


async def tls_alert(stream: anyio.abc.ByteStream) -> None:
    await stream.receive()
    await stream.send(b"\x15\x03\x01\x00\x02\x02\x46")


async def try_to_dial(url: str, timeout_s: float = 3.0) -> Wire:
    with anyio.fail_after(60):
        return await dial(url, timeout_s=timeout_s, max_message_bytes=10**6)


async def failure(url: str, timeout_s: float = 3.0) -> DialFailed:
    with pytest.raises(DialFailed) as raised:
        await try_to_dial(url, timeout_s)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert "Traceback" not in sentence
    return raised.value


UPGRADE = "101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"


@pytest.mark.parametrize(
    ("behaviour", "scheme", "verdict", "status", "says"),
    [
        (hang_up, "ws", Verdict.RETRY, 0, "closed the connection without an answer"),
        (reset, "ws", Verdict.RETRY, None, "broke the connection during the upgrade"),
        (break_off, "ws", Verdict.RETRY, 0, "broke off in the middle"),
        (tls_alert, "ws", Verdict.RETRY, 0, "wss://"),
        (speak_tls, "wss", Verdict.RETRY_LATER, None, "certificate of 127.0.0.1:.* is not trusted: self"),
        (answering("400 Bad Request"), "wss", Verdict.RETRY, None, "TLS with 127.0.0.1:.* failed"),
        (answering("403 Forbidden", "blocked"), "ws", Verdict.RETRY_LATER, 403, "403.*it said: blocked"),
        (answering("404 Not Found"), "ws", Verdict.NEVER, 404, "404.*no such channel.*/ws/market"),
        (answering("401 Unauthorized"), "ws", Verdict.NEVER, 401, "credentials"),
        (answering("425 Too Early"), "ws", Verdict.RETRY_LATER, 425, "matching engine is restarting"),
        (answering("429 Too Many Requests"), "ws", Verdict.RETRY, 429, "too many connections"),
        (answering("503 Unavailable"), "ws", Verdict.RETRY, 503, "in trouble"),
        (answering("302 Found\r\nLocation: wss://x/"), "ws", Verdict.RETRY_LATER, 302, "moved.*wss://x/"),
        (answering("200 OK", "<html>"), "ws", Verdict.RETRY_LATER, 200, "ordinary web server"),
        (
            answering(UPGRADE + "Sec-WebSocket-Accept: wrong\r\n"),
            "ws",
            Verdict.RETRY_LATER,
            101,
            "did it wrongly",
        ),
    ],
)
async def test_refusals(
    behaviour: Behaviour, scheme: str, verdict: Verdict, status: int | None, says: str
) -> None:
    """Each way to fail has its sentence, its verdict and, where there was one, its HTTP status."""
    async with server(behaviour) as port:
        failed = await failure(f"{scheme}://127.0.0.1:{port}/ws/market")
    assert (failed.verdict, failed.status) == (verdict, status)
    assert failed.retry_after_s is None
    with pytest.raises(DialFailed, match=says):
        raise failed


async def test_a_subprotocol_nobody_asked_for() -> None:
    """A server that chooses what was not offered did the upgrade wrongly."""

    async def choose(stream: anyio.abc.ByteStream) -> None:
        await stream.receive()
        await stream.send(f"HTTP/1.1 {UPGRADE}Sec-WebSocket-Protocol: other\r\n\r\n".encode())

    async with server(choose) as port:
        failed = await failure(f"ws://127.0.0.1:{port}/")
    assert failed.verdict is Verdict.RETRY_LATER
    assert "subprotocol" in str(failed)


async def test_nobody_listens() -> None:
    """A refused port says so, with host and port."""
    async with server(hang_up) as port:
        pass
    failed = await failure(f"ws://127.0.0.1:{port}/")
    assert failed.verdict is Verdict.RETRY
    assert f"127.0.0.1:{port} cannot be reached" in str(failed)
    assert "refused" in str(failed).lower()


async def test_nobody_listens_on_any_of_several_addresses() -> None:
    """A name with several addresses gives one sentence, and not one per address."""
    async with server(hang_up) as port:
        pass
    failed = await failure(f"ws://localhost:{port}/")
    assert "refused" in str(failed).lower()


async def test_a_name_that_does_not_exist() -> None:
    """DNS is named where it is to blame."""
    failed = await failure("ws://name.invalid/ws/market", timeout_s=8)
    assert failed.verdict is Verdict.RETRY
    assert "name.invalid" in str(failed)
    assert "resolved" in str(failed) or "did not answer" in str(failed)


async def test_no_answer() -> None:
    """A peer that takes the connection and says nothing costs no more than the deadline."""
    async with server(say_nothing) as port:
        begun = anyio.current_time()
        failed = await failure(f"ws://127.0.0.1:{port}/", timeout_s=0.2)
        assert anyio.current_time() - begun < 2
    assert failed.verdict is Verdict.RETRY
    assert str(failed) == f"127.0.0.1:{port} did not answer within 0.2 s"


@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after(as_date: bool) -> None:
    """`Retry-After` reaches the caller in seconds, be it a number or a date."""
    when = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True) if as_date else "30"
    async with server(answering(f"429 Too Many Requests\r\nRetry-After: {when}\r\n")) as port:
        failed = await failure(f"ws://127.0.0.1:{port}/")
    assert failed.verdict is Verdict.RETRY
    assert failed.retry_after_s is not None
    assert 28 <= failed.retry_after_s <= 30


async def test_tls_with_a_trusted_certificate() -> None:
    """Over TLS the upgrade goes on as over TCP."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    async def serve(stream: anyio.abc.ByteStream) -> None:
        secured = await TLSStream.wrap(stream, server_side=True, ssl_context=context)
        await answering("404 Not Found")(secured)

    async with server(serve) as port:
        with pytest.raises(DialFailed) as raised, anyio.fail_after(60):
            await dial(f"wss://localhost:{port}/", timeout_s=3, max_message_bytes=10**6, tls=trusting)
    assert raised.value.status == 404


async def test_a_failed_dial_leaves_no_socket() -> None:
    """Whoever is refused lets go of the connection at once."""
    gone = anyio.Event()

    async def refuse_and_watch(stream: anyio.abc.ByteStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        try:
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            gone.set()

    async with server(refuse_and_watch) as port:
        await failure(f"ws://127.0.0.1:{port}/")
        with anyio.fail_after(60):
            await gone.wait()


@pytest.mark.parametrize("url", ["http://x/", "ws://user:secret@x/", "ws://x:0/", "ws:///p", "ws://x/#f"])
async def test_a_url_that_cannot_work(url: str) -> None:
    """What is wrong with a URL is an error of ours, and never repeats a secret."""
    with pytest.raises(ValueError, match="the URL") as raised:
        await try_to_dial(url)
    assert "secret" not in str(raised.value)


async def test_an_open_websocket() -> None:
    """From the simulator: an open wire, on which a frame of ours is understood."""
    with anyio.fail_after(60):
        async with running_simulator(SimulatorOptions(markets=1, paused=True)) as simulator:
            wire = await try_to_dial(simulator.feeds["market"])
            async with wire.stream:
                opening = {"assets_ids": simulator.assets, "type": "market"}
                await wire.stream.send(wire.frames.text(msgspec.json.encode(opening).decode()))
                frames = wire.frames.receive(wire.trailing)
                while not frames:
                    frames = wire.frames.receive(await wire.stream.receive())
                assert b'"event_type":"book"' in frames[0]
