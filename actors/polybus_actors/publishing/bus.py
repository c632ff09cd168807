"""The bus: the one owner of the NATS client, and everything that goes out.

nats-py has sharp edges that were measured: it can hang for ever on a frozen peer, close for good on an
unexpected error, lose what was in flight, and it buffers while it is disconnected.  All of that ends here:

- one writer, many publishes per turn of the event loop, and only while connected; where nothing is in its way, what is
  put into the outbox goes out at once, in the turn that has read it;
- a marker that comes back to us after what it followed was taken in by the server: what was handed over
  after the last one that came back is uncertain when the connection breaks, and gets a gap;
- acks of JetStream, which say the same of the stream that records the events: see `polybus_actors.publishing.delivery`;
- a client that closed for good, or whose markers stop coming back, is replaced by a new one;
- the kernel, too, is told to give up on a peer that takes nothing in, since nats-py would wait for it.
"""

import contextlib
import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any

import anyio
import nats
import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from polybus_protocol.stream import Publication, Stream

from .delivery import Recording
from .edges import dismiss, drop_unwritten, frame, give_up_when_unread, is_direct, write
from .flight import MARKER_INTERVAL_S, Flight
from .lane import Acked
from .login import NatsSettings, NatsUnreachable, is_denial, new_client, options, words
from .outbox import Outbox

logger = logging.getLogger("polybus.bus")

BATCH = 1024
"""Publications per turn: about two milliseconds of work, and more than the largest chunk brings, two for each of its frames."""

MARKER_TIMEOUT_S = 5.0
"""Seconds in which nothing of what was published is confirmed before the peer counts as frozen."""

RECONNECT_WAIT_S = 0.25
"""Seconds between two attempts to reach NATS; it is our own server, and every second is backlog."""

SAID_AGAIN_S = 10.0
"""Seconds from one line about missing permissions, or about what is too large, to the next: each event may be one."""

MARKER = "marker"
"""Where others have a family: what comes back to us on its own, without a stream."""

ID_HEADER_BYTES = 96
"""What a `Nats-Msg-Id` adds to a message: nats-py forgets it where it compares with the server's `max_payload`."""

CLOSE_TIMEOUT_S = 2.0
"""Seconds for nats-py to close, which it may never do on its own when the peer is frozen."""

USUAL_BYTES = 1024
"""Payloads of fewer bytes have the end of their `PUB` line ready: to write it anew for each takes as long as all else does."""

_ENDS = [b" %d\r\n" % length for length in range(USUAL_BYTES)]


class Bus:
    """See the module.

    Args:
        settings: where NATS is.
        outbox: what to publish.
        on_lost: told which streams have lost events, for whatever reason, once their gaps can go out.
        recordings: by family, the streams that are to acknowledge.
    """

    def __init__(
        self,
        settings: NatsSettings,
        outbox: Outbox,
        on_lost: Callable[[list[Stream]], Awaitable[None]],
        recordings: Mapping[str, Recording] = MappingProxyType({}),
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
        self._recordings = recordings
        self._lanes = [recording for recording in recordings.values() if isinstance(recording, Acked)]
        self._wake = anyio.Event()
        self._is_idle = False
        """Whether the writer waits for something to do."""
        self._closed = anyio.Event()
        self._flight = Flight()
        self._settled = anyio.Event()
        self._inbox = ""
        """Markers and acks come back to `<inbox>.<marker or family>.<number>`."""
        self._said = ""
        self._denied_said_until = 0.0
        self._large_said_until = 0.0
        outbox.pass_on = self._pass_on
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
                    why = self._said or (
                        words(client.last_error) if client.last_error else "it closed itself"
                    )
                    logger.error("NATS: the client is given up (%s); starting a new one", why)
                    tasks.cancel_scope.cancel()
            except* nats.errors.ConnectionClosedError:
                pass  # it closed for good under somebody's hands, before we could say so
            finally:
                self.client = None
                self._break()
                await dismiss(client, CLOSE_TIMEOUT_S)

    async def flush(self, timeout_s: float) -> bool:
        """Wait until everything published so far was taken in by the server.

        Returns:
            False if that did not happen in time.
        """
        with anyio.move_on_after(timeout_s):
            while len(self._outbox) or self._flight:
                self._flight.hurry()
                self._wake_up()
                await self._settled.wait()
            return True
        return False

    # --- publishing --------------------------------------------------------------------------------

    async def _write(self, client: Client) -> None:
        await client.subscribe(f"{self._inbox}.>", cb=self._hear)
        self._outbox.reluctance.hope()
        while True:
            has_some = self._outbox.has_some or any(lane.is_due for lane in self._lanes)
            if not has_some or not client.is_connected or self._flight.is_full:
                self._is_idle = True
                try:
                    with anyio.move_on_after(MARKER_INTERVAL_S if self._flight else None):
                        await self._wake.wait()
                finally:
                    self._is_idle = False
                self._wake = anyio.Event()
            else:
                # Nobody else waits for longer than a batch takes; and nats-py swallows a cancellation that reaches it
                # while it waits, which takes effect here.
                await anyio.lowlevel.checkpoint()
            if client.is_connected:
                if not self._flight.is_full:
                    for recording in self._recordings.values():
                        if (missed := recording.reckon()) is not None:
                            self._outbox.announce(missed)
                    if lost := self._outbox.losers():
                        await self._on_lost(lost)
                    self._publish(client, self._outbox.take(BATCH))
                    await frame(client)
                    await self._ship(client)
                await self._mark(client)
                self._settle()

    def _pass_on(self, publications: list[Publication]) -> bool:
        """Publish at once, if nothing is in the way: a turn of the event loop takes as long as five frames do, so it is saved."""
        client = self.client
        if (
            not self._is_idle
            or client is None
            or not client.is_connected
            or not is_direct(client)
            or self._flight.is_full
            or len(publications) > BATCH
        ):
            return False
        self._publish(client, publications)
        if self._outbox.has_losses:  # one was too large
            self._wake_up()
        return True

    def _publish(self, client: Client, batch: list[Publication]) -> None:
        """Hand a batch over; whatever happens on the way, each of it is handed over, put back or lost."""
        if not batch:
            return
        if not client.is_connected:
            self._outbox.put_back(batch)
            return
        begun, now = time.time_ns(), anyio.current_time()
        recordings, limit = self._recordings, client.max_payload
        commands: list[bytes] = []
        handed, size = batch, 0
        for at, publication in enumerate(batch):
            payload = publication.payload
            length = len(payload)
            if length > limit:
                # Its gap comes first in what is taken next, before what comes after it.
                handed = batch[:at]
                self._lose_large(publication)
                self._outbox.put_back(batch[at + 1 :])
                break
            size += length
            reply = b""
            if (
                recordings
                and (recording := recordings.get(publication.stream.family)) is not None
                and (number := recording.hand(publication, now))
            ):
                reply = f" {self._inbox}.{recording.family}.{number}".encode()
            end = _ENDS[length] if length < USUAL_BYTES else b" %d\r\n" % length
            commands += (b"PUB ", publication.encoded_subject, reply, end, payload, b"\r\n")
        self._flight.add(handed, size)
        write(client, commands, len(handed), size)
        self.published += len(handed)
        self.on_published(handed, begun)

    async def _ship(self, client: Client) -> None:
        """Publish what is to be acknowledged one by one: it stays in its lane until it is."""
        for lane in self._lanes:
            if not (shipments := lane.due() if lane.is_due else []):
                continue
            # Nothing in here is lost at a break; the marker is for whoever watches over the peer.
            batch = self._flight.add([], 0)
            try:
                while shipments and self._flight.ends_with(batch):
                    publication, id_ = shipments[0].publication, shipments[0].id
                    if len(publication.payload) + ID_HEADER_BYTES > client.max_payload:
                        lane.take_out(shipments.pop(0))
                        self._lose_large(publication)
                        break  # its gap goes out before what follows it
                    reply, header = f"{self._inbox}.{lane.family}.{shipments[0].number}", {"Nats-Msg-Id": id_}
                    await client.publish(publication.subject, publication.payload, reply, header)
                    self.published += 1
                    self.on_published([publication], time.time_ns())
                    del shipments[0]
            except (nats.errors.Error, OSError) as error:
                self._said = words(error)
                await anyio.sleep(RECONNECT_WAIT_S)
            finally:
                lane.return_(shipments)

    def _lose_large(self, publication: Publication) -> None:
        self._outbox.refuse(publication)
        if anyio.current_time() >= self._large_said_until:
            self._large_said_until = anyio.current_time() + SAID_AGAIN_S
            logger.error(
                "an event of %s is larger than NATS' max_payload and was not published (%d so far)",
                publication.subject,
                self._outbox.too_large,
            )

    async def _mark(self, client: Client) -> None:
        """Send a marker after what is unconfirmed."""
        if (marker := self._flight.mark(anyio.current_time())) is not None:
            with contextlib.suppress(nats.errors.Error, OSError):
                await client.publish(f"{self._inbox}.{MARKER}.{marker}")

    async def _hear(self, message: Msg) -> None:
        """A marker came back, or an ack."""
        _, who, text = message.subject.rsplit(".", 2)
        number = int(text)
        if who == MARKER:
            self._flight.land(number)
        else:
            self._recordings[who].hear(number, message.data)
        self._wake_up()
        self._settle()

    def _settle(self) -> None:
        if not len(self._outbox) and not self._flight:
            self._settled.set()
            self._settled = anyio.Event()

    async def _watch(self) -> None:
        """Give the client up when nothing of what it was handed is confirmed any more.

        Naps are counted, not time: if it was this process that stood still, the peer is not to blame.
        """
        waited_s = 0.0
        while waited_s < MARKER_TIMEOUT_S:
            progress = self._flight.progress
            await anyio.sleep(MARKER_INTERVAL_S)
            for recording in self._recordings.values():
                recording.nap(MARKER_INTERVAL_S)
            self._wake_up()
            is_stuck = bool(self._flight) and self._flight.progress == progress
            waited_s = waited_s + MARKER_INTERVAL_S if is_stuck else 0.0
        self._said = f"it has taken in nothing for {MARKER_TIMEOUT_S:g} s"
        self._closed.set()

    def _break(self) -> None:
        """The connection is gone: what neither a marker nor an ack has confirmed may have reached nobody."""
        uncertain = {id(publication): publication for publication in self._flight.crash()}
        for recording in self._recordings.values():
            uncertain |= {id(publication): publication for publication in recording.break_off()}
        self._outbox.lose(uncertain.values())

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
        self._inbox = client.new_inbox()

        # A client that was replaced may still have things to say: they concern nobody any more.
        async def heard_disconnected() -> None:
            if client is self.client:
                logger.warning("NATS: the connection is lost; events are kept until it is back")
                self._break()
                drop_unwritten(client)

        async def heard_reconnected() -> None:
            give_up_when_unread(client)
            if client is self.client:
                logger.warning("NATS: connected again")
                self.reconnects += 1
                self._outbox.reluctance.hope()
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
            await dismiss(client, CLOSE_TIMEOUT_S)
            raise NatsUnreachable(
                f"NATS at {where} cannot be reached: {self._said or f'no answer within {timeout_s:g} s'}"
            ) from None
        except (nats.errors.Error, OSError, ssl.SSLError, ValueError) as error:
            await dismiss(client, CLOSE_TIMEOUT_S)
            raise NatsUnreachable(f"NATS at {where} cannot be used: {words(error)}") from None
        give_up_when_unread(client)
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
            self._denied_said_until = anyio.current_time() + SAID_AGAIN_S
            logger.error("NATS does not permit what we do (%d times so far): %s", self.denied, self._said)


def _nothing(_batch: list[Publication], _begun: int) -> None:
    pass
