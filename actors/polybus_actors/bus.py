"""The bus: the one owner of the NATS client, and everything that goes out.

nats-py has sharp edges that were measured: it can hang for ever on a frozen peer, close for good on an
unexpected error, lose what was in flight, and it buffers while it is disconnected.  All of that ends here:

- one writer, many publishes per turn of the event loop, and only while connected;
- a marker that comes back to us after what it followed was taken in by the server: what was handed over
  after the last one that came back is uncertain when the connection breaks, and gets a gap;
- a client that closed for good, or whose markers stop coming back, is replaced by a new one.
"""

import contextlib
import logging
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import msgspec
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from polybus_protocol.stream import Publication, Stream

from .outbox import Outbox

logger = logging.getLogger("polybus.bus")

BATCH = 512
"""Publications per turn: enough to share the cost of a turn, about a millisecond of work."""

MARKER_INTERVAL_S = 0.25
"""Seconds between two markers, so what is uncertain after a break is a quarter of a second's events."""

MARKER_TIMEOUT_S = 5.0
"""Seconds a marker may take on an open connection before the peer counts as frozen."""

RECONNECT_WAIT_S = 0.25
"""Seconds between two attempts to reach NATS; it is our own server, and every second is backlog."""

CLOSE_TIMEOUT_S = 2.0
"""Seconds for nats-py to close, which it may never do on its own when the peer is frozen."""


class NatsSettings(msgspec.Struct, frozen=True):
    """Where NATS is, and who we are there."""

    url: str = "nats://127.0.0.1:4222"
    """One URL, or several with commas between."""
    name: str = "polybus"
    user: str | None = None
    password: str | None = None
    token: str | None = None
    creds: str | None = None
    """Path of a credentials file."""
    connect_timeout_s: float = 5.0
    """Seconds until the first connection must stand."""

    def __repr__(self) -> str:
        # Secrets never reach a log: a dataclass-like repr would show the password.
        return f"NatsSettings(url={safe_url(self.url)!r}, name={self.name!r})"


class NatsUnreachable(Exception):
    """NATS cannot be reached, or does not let us in; the text says where and why."""


class Bus:
    """See the module.

    Args:
        settings: where NATS is.
        outbox: what to publish.
        on_lost: told which streams may have lost events, once NATS is back.
    """

    def __init__(
        self, settings: NatsSettings, outbox: Outbox, on_lost: Callable[[list[Stream]], Awaitable[None]]
    ) -> None:
        self.settings = settings
        self.client: Client | None = None
        self.published = 0
        self.reconnects = 0

        self._outbox = outbox
        self._on_lost = on_lost
        self._wake = anyio.Event()
        self._closed = anyio.Event()
        self._lost: set[Stream] = set()
        self._unconfirmed: deque[tuple[int, list[Publication]]] = deque()
        self._marker = 0
        self._marked_at: float | None = None
        self._next_mark_at = 0.0
        self._confirmed = anyio.Event()
        self._marker_subject = ""
        self._said = ""
        outbox.on_put = self._wake_up

    @property
    def is_connected(self) -> bool:
        """Whether NATS can be written to right now."""
        return self.client is not None and self.client.is_connected

    @property
    def server(self) -> str | None:
        """Version of the connected server."""
        return str(self.client.connected_server_version) if self.client and self.is_connected else None

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
                    await self._closed.wait()
                    logger.error("NATS: the client closed for good (%s); starting a new one", self._said)
                    tasks.cancel_scope.cancel()
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
                await self._confirmed.wait()
            return True
        return False

    # --- publishing --------------------------------------------------------------------------------

    async def _write(self, client: Client) -> None:
        await client.subscribe(self._marker_subject, cb=self._confirm)
        while True:
            if not len(self._outbox) or not client.is_connected:
                with anyio.move_on_after(MARKER_INTERVAL_S if self._unconfirmed else None):
                    await self._wake.wait()
                self._wake = anyio.Event()
            if client.is_connected:
                if self._lost:
                    lost, self._lost = self._lost, set()
                    await self._on_lost(list(lost))
                await self._publish(client, self._outbox.take(BATCH))
                await self._mark(client)

    async def _publish(self, client: Client, batch: list[Publication]) -> None:
        if not batch:
            return
        done = 0
        try:
            for publication in batch:
                await client.publish(publication.subject, publication.payload)
                done += 1
        except nats.errors.MaxPayloadError:
            self._outbox.lose([batch[done]])
            self._outbox.put_back(batch[done + 1 :])
            logger.error("an event is larger than NATS' max_payload and was not published")
        except (nats.errors.Error, OSError) as error:
            self._outbox.put_back(batch[done:])
            self._said = words(error)
            await anyio.sleep(RECONNECT_WAIT_S)
        self.published += done
        if done:
            # Under number n stands what the marker n will confirm.
            self._unconfirmed.append((self._marker + 1, batch[:done]))
        await anyio.lowlevel.checkpoint()

    async def _mark(self, client: Client) -> None:
        """Send a marker after what is unconfirmed, and notice a peer that returns none."""
        now = anyio.current_time()
        if self._marked_at is None:
            if self._unconfirmed and now >= self._next_mark_at:
                self._marker += 1
                self._marked_at = now
                self._next_mark_at = now + MARKER_INTERVAL_S
                with contextlib.suppress(nats.errors.Error, OSError):
                    await client.publish(self._marker_subject, b"%d" % self._marker)
        elif now > self._marked_at + MARKER_TIMEOUT_S:
            logger.error("NATS has taken in nothing for %g s: giving the connection up", MARKER_TIMEOUT_S)
            self._closed.set()

    async def _confirm(self, message: Msg) -> None:
        number = int(message.data)
        while self._unconfirmed and self._unconfirmed[0][0] <= number:
            self._unconfirmed.popleft()
        self._marked_at = None
        self._confirmed.set()
        self._confirmed = anyio.Event()

    def _break(self) -> None:
        """The connection is gone: what no marker has confirmed may have reached nobody."""
        unconfirmed = [publication for _, batch in self._unconfirmed for publication in batch]
        self._unconfirmed.clear()
        self._marked_at = None
        self._lost |= self._outbox.lose(unconfirmed)

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
        settings, client = self.settings, Client()
        where = safe_url(settings.url)
        self._closed = anyio.Event()
        self._said = ""
        self._marker_subject = client.new_inbox()
        secrets: dict[str, Any] = {
            "user": settings.user,
            "password": settings.password,
            "token": settings.token,
            "user_credentials": None if settings.creds is None else _checked_creds(settings.creds),
        }
        try:
            with anyio.fail_after(timeout_s):
                await client.connect(
                    servers=settings.url.split(","),
                    name=settings.name,
                    connect_timeout=2,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type]  # a float works, and is needed
                    ping_interval=5,
                    max_outstanding_pings=2,
                    error_cb=self._heard_error,
                    disconnected_cb=self._heard_disconnected,
                    reconnected_cb=self._heard_reconnected,
                    closed_cb=self._heard_closed,
                    **{key: value for key, value in secrets.items() if value is not None},
                )
        except TimeoutError:
            await _dismiss(client)
            raise NatsUnreachable(
                f"NATS at {where} cannot be reached: {self._said or f'no answer within {timeout_s:g} s'}"
            ) from None
        except (nats.errors.Error, OSError, ssl.SSLError, ValueError) as error:
            await _dismiss(client)
            raise NatsUnreachable(f"NATS at {where} cannot be used: {words(error)}") from None
        return client

    def _wake_up(self) -> None:
        self._wake.set()

    async def _heard_error(self, error: Exception) -> None:
        # It must neither raise nor wait: an error callback that does kills a subscription's task.
        self._said = words(error)
        logger.debug("NATS: %s", self._said)

    async def _heard_disconnected(self) -> None:
        logger.warning("NATS: the connection is lost; events are kept until it is back")
        self._break()

    async def _heard_reconnected(self) -> None:
        logger.warning("NATS: connected again")
        self.reconnects += 1
        self._wake_up()

    async def _heard_closed(self) -> None:
        self._closed.set()


async def _dismiss(client: Client) -> None:
    """Close a client, with a deadline: on its own it may wait for a frozen peer for a quarter of an hour."""
    with anyio.CancelScope(shield=True):
        with anyio.move_on_after(CLOSE_TIMEOUT_S), contextlib.suppress(Exception):
            await client.close()


def words(error: BaseException) -> str:
    """What an error says; its name where it says nothing, as many of nats-py's do."""
    return str(error) or type(error).__name__


def _checked_creds(path: str) -> str:
    """A credentials file without its two blocks makes nats-py spin for ever."""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise NatsUnreachable(f"the NATS credentials file {path} cannot be read: {error.strerror}") from None
    if "-----BEGIN NATS USER JWT-----" not in text or "-----BEGIN USER NKEY SEED-----" not in text:
        raise NatsUnreachable(f"the NATS credentials file {path} does not hold a user JWT and an nkey seed")
    return path


def safe_url(urls: str) -> str:
    """URLs without user, password or token, fit for a log."""
    return ",".join(
        url if "@" not in url else f"{urlsplit(url).scheme}://{url.rpartition('@')[2]}"
        for url in urls.split(",")
    )
