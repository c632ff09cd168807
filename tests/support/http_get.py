"""Asking an HTTP server once, as a probe does."""

from urllib.parse import urlsplit

import anyio
import msgspec


class Answer(msgspec.Struct):
    """What it said."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


async def get(url: str, path: str, *, method: str = "GET") -> Answer:
    """Ask over a connection of its own.

    Raises:
        anyio.BrokenResourceError: it hung up.
        anyio.EndOfStream: likewise, without an answer.
    """
    parts = urlsplit(url)
    async with await anyio.connect_tcp(parts.hostname or "", parts.port or 80) as stream:
        await stream.send(f"{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode())
        received = b""
        while b"\r\n\r\n" not in received:
            received += await stream.receive()
        head, _, body = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        while len(body) < int(headers["content-length"]):
            body += await stream.receive()
        return Answer(int(status.split()[1]), headers, body)
