"""A TCP proxy: a line that a test can cut, with what is on its way in it."""

import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.abc


class Proxy:
    """Between clients and one server on this machine."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.heard = bytearray()
        """What clients said: the first 64 KiB of it."""
        self._target = target
        self._lines: set[anyio.CancelScope] = set()
        self._held = False
        self._is_down = False
        self._flowing = anyio.Event()
        self._flowing.set()

    @property
    def url(self) -> str:
        """For a NATS client."""
        return f"nats://127.0.0.1:{self.port}"

    def hold(self) -> None:
        """Take in what comes from clients, and pass on nothing of it."""
        self._held = True

    def clog(self) -> None:
        """Read nothing any more: what a client sends piles up on its side."""
        self._flowing = anyio.Event()

    def cut(self) -> None:
        """End every connection, with all that it holds; new ones are served."""
        self._held = False
        self._flowing.set()
        for line in self._lines:
            line.cancel()

    def sever(self) -> None:
        """The same, but new ones are not served until `restore`."""
        self._is_down = True
        self.cut()

    def restore(self) -> None:
        """Serve again."""
        self._is_down = False

    async def serve(self, client: anyio.abc.SocketStream) -> None:
        """Serve one client."""
        if self._is_down:
            await client.aclose()
            return
        with anyio.CancelScope() as scope:
            self._lines.add(scope)
            try:
                async with client:
                    # Where the server is gone, so is the line.
                    with contextlib.suppress(OSError):
                        server = await anyio.connect_tcp("127.0.0.1", self._target)
                        async with server, anyio.create_task_group() as tasks:
                            tasks.start_soon(self._pass, server, client, client, scope)
                            await self._pass(client, server, client, scope)
            finally:
                self._lines.discard(scope)

    async def _pass(
        self,
        source: anyio.abc.SocketStream,
        target: anyio.abc.SocketStream,
        client: anyio.abc.SocketStream,
        scope: anyio.CancelScope,
    ) -> None:
        try:
            while True:
                await self._flowing.wait()
                data = await source.receive()
                if target is not client and len(self.heard) < 65_536:
                    self.heard += data
                if not self._held:
                    await target.send(data)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            scope.cancel()


@asynccontextmanager
async def proxy_to(port: int) -> AsyncIterator[Proxy]:
    """A proxy for the length of a block."""
    proxy = Proxy(port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    # Inherited by each connection: the kernel would take in tens of megabytes of its own accord.
    raw = listener.listeners[0].extra(anyio.abc.SocketAttribute.raw_socket)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    proxy.port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.serve)
        yield proxy
        tasks.cancel_scope.cancel()
