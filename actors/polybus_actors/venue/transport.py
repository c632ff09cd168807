"""From a URL to an open WebSocket: DNS, TCP, TLS and the upgrade, or one sentence saying what failed."""

import os
import socket
import ssl
import time
from contextlib import AsyncExitStack

import anyio
from anyio.abc import ByteStream

from polybus_protocol.websocket.backoff import Verdict
from polybus_protocol.websocket.framing import FrameStream
from polybus_protocol.websocket.handshake import Accepted, Endpoint, Handshake, Refused, explain, verdict

from .wire import CHUNK_BYTES, Wire


class DialFailed(Exception):
    """No WebSocket could be opened.

    Attributes:
        verdict: whether to dial again.
        retry_after_s: what the peer asked for, in seconds, or None.
        status: HTTP status of the refusal; None if it never came to one.
    """

    def __init__(
        self,
        reason: str,
        verdict: Verdict = Verdict.RETRY,
        retry_after_s: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(reason)
        self.verdict = verdict
        self.retry_after_s = retry_after_s
        self.status = status


async def dial(
    url: str, *, timeout_s: float, max_message_bytes: int, tls: ssl.SSLContext | None = None
) -> Wire:
    """Open a WebSocket.

    Args:
        url: `ws://` or `wss://`.
        timeout_s: seconds for everything together.
        max_message_bytes: largest message to take.
        tls: for `wss://`; the system's trusted authorities if absent.

    Raises:
        DialFailed: a sentence that says how far it came and what went wrong.
        ValueError: the URL is not usable.
    """
    handshake = Handshake(url)
    endpoint = handshake.endpoint
    where = f"{endpoint.host}:{endpoint.port}"
    async with AsyncExitStack() as stack:
        try:
            with anyio.fail_after(timeout_s):
                stream = await _connect(endpoint, tls)
                stack.push_async_callback(anyio.aclose_forcefully, stream)
                accepted = await _upgrade(stream, handshake)
        except TimeoutError:
            raise DialFailed(f"{where} did not answer within {timeout_s:g} s") from None
        except socket.gaierror:
            raise DialFailed(f"the name {endpoint.host} cannot be resolved: check DNS and the URL") from None
        except ssl.SSLCertVerificationError as error:
            raise DialFailed(
                f"the certificate of {where} is not trusted: {error.verify_message}", Verdict.RETRY_LATER
            ) from None
        except ssl.SSLError as error:
            raise DialFailed(f"TLS with {where} failed: {error.reason or error}") from None
        except anyio.BrokenResourceError:
            raise DialFailed(f"{where} broke the connection during the upgrade") from None
        except OSError as error:
            raise DialFailed(f"{where} cannot be reached: {_words(error)}") from None
        stack.pop_all()
    return Wire(stream, FrameStream(max_message_bytes=max_message_bytes), accepted.trailing)


async def _connect(endpoint: Endpoint, tls: ssl.SSLContext | None) -> ByteStream:
    if not endpoint.secure:
        return await anyio.connect_tcp(endpoint.host, endpoint.port)
    # The venue's edge cuts connections without TLS' own farewell, which is no error to us.
    return await anyio.connect_tcp(
        endpoint.host,
        endpoint.port,
        tls=True,
        ssl_context=tls or ssl.create_default_context(),
        tls_standard_compatible=False,
    )


async def _upgrade(stream: ByteStream, handshake: Handshake) -> Accepted:
    await stream.send(handshake.request())
    answer: Accepted | Refused | None = None
    while answer is None:
        try:
            answer = handshake.receive(await stream.receive(CHUNK_BYTES), time.time())
        except anyio.EndOfStream:
            answer = handshake.receive_eof()
    if isinstance(answer, Refused):
        raise DialFailed(explain(answer), verdict(answer), answer.retry_after_s, answer.status)
    return answer


def _words(error: OSError) -> str:
    """The innermost reasons: anyio wraps what befell each address of a host, asyncio what the system says."""
    inner: BaseException | None = error.__cause__
    if isinstance(inner, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(_system_words(each) for each in inner.exceptions))
    return _system_words(inner if isinstance(inner, OSError) else error)


def _system_words(error: BaseException) -> str:
    # Since asyncio's own text is "Connect call failed", with the address, whatever the reason.
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number else str(error)
