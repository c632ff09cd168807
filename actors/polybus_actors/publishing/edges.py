"""What nats-py has no public way for, or no end: each function does one such thing to one client."""

import contextlib
import socket

import anyio
from nats.aio.client import Client

from .login import writer_of

UNREAD_TIMEOUT_S = 5.0
"""Seconds the peer's kernel may take in nothing before ours breaks the connection; by default it is a quarter of an
hour, and nats-py waits for that before it reconnects (nats.py issue 671)."""


def give_up_when_unread(client: Client) -> None:
    """Have the kernel break a connection whose peer takes nothing in; where it can, which is on Linux."""
    sock = stream.get_extra_info("socket") if (stream := writer_of(client)) is not None else None
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_TIMEOUT_S * 1000))


def write(client: Client, commands: list[bytes], messages: int, payload_bytes: int) -> None:
    """Hand over many messages at once, in pieces: `PUB` lines, payloads and lines' ends.  nats-py takes them one at a time only.

    That one looks at each subject, whose characters our subjects cannot have, and goes through two coroutines and three
    copies of the payload: 1.8 us a message, where whole batches of one's own took 0.6 (measured apart).  Its accounts are
    kept.  What it has not written itself goes out before, and nothing waits for the task that would write it a turn of the
    event loop later, which takes as long as reading five frames does; but over a WebSocket, until `frame`.
    """
    client.stats["out_msgs"] += messages
    client.stats["out_bytes"] += payload_bytes
    if (writer := writer_of(client)) is None:
        client._pending += commands  # noqa: SLF001  there is no public way
        client._pending_data_size += sum(map(len, commands))  # noqa: SLF001
    elif not writer.transport.is_closing():
        unwritten = client._pending  # noqa: SLF001
        drop_unwritten(client)
        writer.write(b"".join([*unwritten, *commands]))


def is_direct(client: Client) -> bool:
    """Whether what is handed over is written at once: not so over a WebSocket, where nats-py has to frame it."""
    return writer_of(client) is not None


async def frame(client: Client) -> None:
    """Have nats-py write what waits to be framed."""
    if not is_direct(client):
        await client._flush_pending()  # noqa: SLF001


def drop_unwritten(client: Client) -> None:
    """Forget what nats-py has not written yet: it would write it over the next connection, before our gaps."""
    client._pending, client._pending_data_size = [], 0  # noqa: SLF001  there is no public way


async def dismiss(client: Client, timeout_s: float) -> None:
    """Close a client, with a deadline: on its own it may wait for a frozen peer for a quarter of an hour."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(timeout_s), contextlib.suppress(Exception):
            await client.close()
        # Whatever is left of it goes now, or its last words might reach the server after those of the next one.
        # (A transport whose last byte went out while it was closing has forgotten its loop, and is gone already.)
        if (writer := writer_of(client)) is not None:
            with contextlib.suppress(AttributeError):
                writer.transport.abort()
