"""The bus: the one owner of the NATS client, and everything that goes out.

nats-py has sharp edges that were measured: it can hang for ever on a frozen peer, close for good on an
unexpected error, lose what was in flight, and it buffers while it is disconnected.  All of that ends here:

- one writer, many publishes per turn of the event loop, and only while connected;
- a marker that comes back to us after what it followed was taken in by the server: what was handed over
  after the last one that came back is uncertain when the connection breaks, and gets a gap;
- a client that closed for good, or whose markers stop coming back, is replaced by a new one;
- the kernel, too, is told to give up on a peer that takes nothing in, since nats-py would wait for it.
"""

import contextlib
import logging
import socket
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from polybus_protocol.stream import Publication, Stream

from .login import NatsSettings, NatsUnreachable, is_denial, new_client, options, words, writer_of
from .outbox import Outbox

logger = logging.getLogger("polybus.bus")

BATCH = 512
"""Publications per turn: enough to share the cost of a turn, about a millisecond of work."""

WINDOW_BYTES = 8 * 1024 * 1024
"""Payload bytes handed over and not confirmed, past which we wait: half a second at 20,000 events a second.  The
limits of nats-py and asyncio do not hold: `writelines`, which nats-py uses, never pauses its writer in CPython 3.12.1
and 3.13.0."""

MARKER_INTERVAL_S = 0.25
"""Seconds between two markers, so what is uncertain after a break is a quarter of a second's events."""

MARKER_TIMEOUT_S = 5.0
"""Seconds in which nothing of what was published is confirmed before the peer counts as frozen."""

UNREAD_TIMEOUT_S = 5.0
"""Seconds the peer's kernel may take in nothing before ours breaks the connection; by default it is a quarter of an
hour, and nats-py waits for that before it reconnects (nats.py issue 671)."""

RECONNECT_WAIT_S = 0.25
"""Seconds between two attempts to reach NATS; it is our own server, and every second is backlog."""

DENIED_INTERVAL_S = 10.0
"""Seconds from one line about missing permissions to the next: each event may be one."""

CLOSE_TIMEOUT_S = 2.0
"""Seconds for nats-py to close, which it may never do on its own when the peer is frozen."""


class Bus:
    """See the module.

    Args:
        settings: where NATS is.
        outbox: what to publish.
        on_lost: told which streams have lost events, for whatever reason, once their gaps can go out.
    """

    def __init__(
        self, settings: NatsSettings, outbox: Outbox, on_lost: Callable[[list[Stream]], Awaitable[None]]
    ) -> None:
        self.settings = settings
        self.client: Client | None = None
        self.published = 0
        self.reconnects = 0
        self.denied = 0
        """Publishes and subscriptions that our permissions on the server do not allow: those events reach nobody."""
        self.on_published: Callable[[list[Publication], int], None] = _nothing
        """Called with each batch that was written, and when that began, in nanoseconds since the epoch."""

        self._outbox = outbox
        self._on_lost = on_lost
        self._wake = anyio.Event()
        self._closed = anyio.Event()
        self._unconfirmed: deque[tuple[int, list[Publication]]] = deque()
        self._in_flight = 0
        """Payload bytes of what is unconfirmed."""
        self._marker = 0
        self._is_marked = False
        self._next_mark_at = 0.0
        self._progress = 0
        self._settled = anyio.Event()
        self._marker_subject = ""
        self._said = ""
        self._denied_said_until = 0.0
        outbox.on_put = self._wake_up

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be written to right now."""
        return self.client is not None and self.client.is_connected

    @property
    def server(self) -> str | None:
        """Version of the connected server, such as `2.15.0`."""
        if self.client is None or not self.is_connected:
            return None
        return str(self.client.connected_server_version).removeprefix("<nats server v").removesuffix(">")

    async def connect(self) -> None:
        """Make the first connection.

        Raises:
            NatsUnreachable: it does not stand in time; the text is fit for a person.
        """
        self.client = await self._connect(self.settings.connect_timeout_s)

    async def run(self, serve: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
        """Publish until cancelled; `serve` runs anew over each client."""
        while True:
            client = self.client or await self._connect_again()
            self.client = client
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(serve, client)
                    tasks.start_soon(self._write, client)
                    tasks.start_soon(self._watch)
                    await self._closed.wait()
                    logger.error("NATS: the client is given up (%s); starting a new one", self._said)
                    tasks.cancel_scope.cancel()
            except* nats.errors.ConnectionClosedError:
                pass  # it closed for good under somebody's hands, before we could say so
            finally:
                self.client = None
                self._break()
                await _dismiss(client)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything published so far was taken in by the server.

        Returns:
            False if that did not happen in time.
        """
        with anyio.move_on_after(timeout_s):
            while len(self._outbox) or self._unconfirmed:
                self._next_mark_at = 0.0
                self._wake_up()
                await self._settled.wait()
            return True
        return False

    # --- publishing --------------------------------------------------------------------------------

    async def _write(self, client: Client) -> None:
        await client.subscribe(self._marker_subject, cb=self._confirm)
        while True:
            if not len(self._outbox) or not client.is_connected or self._in_flight >= WINDOW_BYTES:
                with anyio.move_on_after(MARKER_INTERVAL_S if self._unconfirmed else None):
                    await self._wake.wait()
                self._wake = anyio.Event()
            if client.is_connected:
                if self._in_flight < WINDOW_BYTES:
                    if lost := self._outbox.losers():
                        await self._on_lost(lost)
                    await self._publish(client, self._outbox.take(BATCH))
                await self._mark(client)
                self._settle()

    async def _publish(self, client: Client, batch: list[Publication]) -> None:
        """Hand a batch over; whatever happens on the way, each of it is handed over, put back or lost."""
        if not batch:
            return
        # Under number n stands what the marker n will confirm.  A publication stands there before it is
        # handed over, because nats-py may wait in there, and the connection may break meanwhile.
        handed: list[Publication] = []
        begun = time.time_ns()
        entry = (self._marker + 1, handed)
        self._unconfirmed.append(entry)
        try:
            for publication in batch:
                if not self._unconfirmed or self._unconfirmed[-1] is not entry:
                    break  # the connection broke: what comes now may go out over another one
                handed.append(publication)
                await client.publish(publication.subject, publication.payload)
        except nats.errors.MaxPayloadError:
            self._outbox.lose([handed.pop()])
            del batch[len(handed)]
            logger.error("an event is larger than NATS' max_payload and was not published")
        except (nats.errors.Error, OSError) as error:
            handed.pop()
            self._said = words(error)
            await anyio.sleep(RECONNECT_WAIT_S)
        finally:
            self._outbox.put_back(batch[len(handed) :])
            self.published += len(handed)
            self.on_published(handed, begun)
            if self._unconfirmed and self._unconfirmed[-1] is entry:
                self._in_flight += _size(handed)
        # nats-py swallows a cancellation that reaches it while it waits; this is where it takes effect.
        await anyio.lowlevel.checkpoint()

    async def _mark(self, client: Client) -> None:
        """Send a marker after what is unconfirmed."""
        now = anyio.current_time()
        if not self._is_marked and self._unconfirmed and now >= self._next_mark_at:
            self._marker += 1
            self._is_marked = True
            self._next_mark_at = now + MARKER_INTERVAL_S
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.publish(self._marker_subject, b"%d" % self._marker)

    async def _confirm(self, message: Msg) -> None:
        number = int(message.data)
        while self._unconfirmed and self._unconfirmed[0][0] <= number:
            self._in_flight -= _size(self._unconfirmed.popleft()[1])
        self._is_marked = False
        self._progress += 1
        self._wake_up()
        self._settle()

    def _settle(self) -> None:
        if not len(self._outbox) and not self._unconfirmed:
            self._settled.set()
            self._settled = anyio.Event()

    async def _watch(self) -> None:
        """Give the client up when nothing of what it was handed is confirmed any more.

        Naps are counted, not time: if it was this process that stood still, the peer is not to blame.
        """
        waited_s = 0.0
        while waited_s < MARKER_TIMEOUT_S:
            progress = self._progress
            await anyio.sleep(MARKER_INTERVAL_S)
            is_stuck = bool(self._unconfirmed) and self._progress == progress
            waited_s = waited_s + MARKER_INTERVAL_S if is_stuck else 0.0
        self._said = f"it has taken in nothing for {MARKER_TIMEOUT_S:g} s"
        self._closed.set()

    def _break(self) -> None:
        """The connection is gone: what no marker has confirmed may have reached nobody."""
        unconfirmed = [publication for _, batch in self._unconfirmed for publication in batch]
        self._unconfirmed.clear()
        self._in_flight = 0
        self._is_marked = False
        self._progress += 1
        self._outbox.lose(unconfirmed)

    # --- the client --------------------------------------------------------------------------------

    async def _connect_again(self) -> Client:
        while True:
            try:
                client = await self._connect(self.settings.connect_timeout_s)
            except NatsUnreachable as error:
                logger.warning("%s; trying again", error)
                await anyio.sleep(RECONNECT_WAIT_S)
            else:
                self.reconnects += 1
                return client

    async def _connect(self, timeout_s: float) -> Client:
        settings, client = self.settings, new_client(self.settings)
        where = settings.shown_url
        self._closed = closed = anyio.Event()
        self._said = ""
        self._marker_subject = client.new_inbox()

        # A client that was replaced may still have things to say: they concern nobody any more.
        async def heard_disconnected() -> None:
            if client is self.client:
                logger.warning("NATS: the connection is lost; events are kept until it is back")
                self._break()
                _drop_unwritten(client)

        async def heard_reconnected() -> None:
            _give_up_when_unread(client)
            if client is self.client:
                logger.warning("NATS: connected again")
                self.reconnects += 1
                self._wake_up()

        async def heard_closed() -> None:
            closed.set()

        try:
            with anyio.fail_after(timeout_s):
                await client.connect(
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works, and is needed
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=self._heard_error,
                    disconnected_cb=heard_disconnected,
                    reconnected_cb=heard_reconnected,
                    closed_cb=heard_closed,
                    **options(settings),
                )
        except TimeoutError:
            await _dismiss(client)
            raise NatsUnreachable(
                f"NATS at {where} cannot be reached: {self._said or f'no answer within {timeout_s:g} s'}"
            ) from None
        except (nats.errors.Error, OSError, ssl.SSLError, ValueError) as error:
            await _dismiss(client)
            raise NatsUnreachable(f"NATS at {where} cannot be used: {words(error)}") from None
        _give_up_when_unread(client)
        return client

    def _wake_up(self) -> None:
        self._wake.set()

    async def _heard_error(self, error: Exception) -> None:
        # It must neither raise nor wait: an error callback that does kills a subscription's task.
        self._said = words(error)
        if not is_denial(self._said):
            logger.debug("NATS: %s", self._said)
            return
        self.denied += 1
        if anyio.current_time() >= self._denied_said_until:
            self._denied_said_until = anyio.current_time() + DENIED_INTERVAL_S
            logger.error("NATS does not permit what we do (%d times so far): %s", self.denied, self._said)


def _nothing(_batch: list[Publication], _begun: int) -> None:
    pass


async def _dismiss(client: Client) -> None:
    """Close a client, with a deadline: on its own it may wait for a frozen peer for a quarter of an hour."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(CLOSE_TIMEOUT_S), contextlib.suppress(Exception):
            await client.close()
        # Whatever is left of it goes now, or its last words might reach the server after those of the next one.
        # (A transport whose last byte went out while it was closing has forgotten its loop, and is gone already.)
        if (writer := writer_of(client)) is not None:
            with contextlib.suppress(AttributeError):
                writer.transport.abort()


def _give_up_when_unread(client: Client) -> None:
    """Have the kernel break a connection whose peer takes nothing in; where it can, which is on Linux."""
    sock = writer.get_extra_info("socket") if (writer := writer_of(client)) is not None else None
    if sock is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_TIMEOUT_S * 1000))


def _drop_unwritten(client: Client) -> None:
    """Forget what nats-py has not written yet: it would write it over the next connection, before our gaps."""
    client._pending, client._pending_data_size = [], 0  # noqa: SLF001  there is no public way


def _size(publications: list[Publication]) -> int:
    return sum([len(publication.payload) for publication in publications])
