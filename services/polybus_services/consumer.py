"""The consumer kit: live local books, each with a flag that says whether it may be believed, and typed events.

    async with connect("nats://127.0.0.1:4222") as polybus:
        async for event in polybus.follow([ASSET]):
            book = polybus.book(ASSET)
            print(type(event).__name__, book.best_bid, book.best_ask, "ok" if book.trusted else book.why)

It listens first, then asks the gateway where each book stands, and goes on from there by `epoch` and `seq`.  A gap, a
jump, an outage of NATS, a gateway that does not answer: each ends the trust in a book, and whatever can bring it
back is done.  About once a second one book is laid beside the gateway's own, in turn.
"""

import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.abc
import msgspec
from anyio.streams.memory import MemoryObjectReceiveStream
from nats.aio.msg import Msg

from polybus_actors.publishing.login import NatsSettings
from polybus_protocol.events import AnyEvent, LastBook, decode_event
from polybus_protocol.subjects import PREFIX, asset_pattern, encode_token
from polybus_services.client import (
    ClientError,
    ControlClient,
    NatsUnreachable,
    NotPermitted,
    ServiceRefused,
)
from polybus_services.local_book import LocalBook, TrustChanged
from polybus_services.replay import Events, Start, replay

__all__ = ["Followed", "Polybus", "connect"]

QUEUED = 256
"""Messages between NATS and who iterates.  When full, they wait in nats-py; what that drops in the end (beyond 512 Ki
messages of a subject) shows as a jump, and the book is asked for anew."""

BEAT_S = 1.0
"""Seconds from one look at the gateway to the next: how long its end can go unnoticed, besides `ANSWER_S`."""

RETRY_S = 0.25
"""The same while a book is astray."""

ANSWER_S = 3.0
"""Seconds a gateway may take to say where a book stands; it takes a millisecond."""

LEASE_S = 60.0
"""Seconds our interest lasts when we are gone without a goodbye; it is renewed three times as often."""

GOODBYE_S = 1.0
"""Seconds for dropping our interest when we leave."""

GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError)
"""What a queue says that nobody reads any more."""

type Followed = AnyEvent | TrustChanged
"""What one iterates over."""


class Polybus:
    """A connection to NATS on which assets are followed; made by `connect`."""

    def __init__(
        self,
        control: ControlClient,
        tasks: anyio.abc.TaskGroup,
        followings: "list[_Following]",
        prefix: str,
        owner: str,
    ) -> None:
        self.control = control
        """For all that can be asked besides."""
        self._tasks = tasks
        self._prefix = prefix
        self._owner = owner
        self._followings = followings

    def follow(
        self, assets: Iterable[str], *, start: Start | None = None, subscribe: bool = True
    ) -> AsyncIterator[Followed]:
        """The events of these assets, for as long as they are iterated over; their books go along with them.

        When an event comes out, it is in its asset's book (after an answer of the gateway the book can be some events
        ahead).  A `TrustChanged` comes out when a book's `trusted` has changed, after the event that did it; whoever
        reads slowly gets the last one of each asset.

        Args:
            assets: token ids; each can be followed once at a time.
            start: where in JetStream's record to begin (see `polybus_services.replay`): no event is lost in an outage
                of NATS then.  Without it the events come from core NATS.
            subscribe: ask the gateway for them, under a lease that ends with us; else somebody else has.

        Raises:
            ValueError: an asset is followed already.

        While it is iterated over, it raises `ServiceRefused` or `NoGateway` if the gateway does not give us the assets,
        or is not there at the beginning; `NotPermitted` or `NatsUnreachable` if NATS does not, or closed the
        connection for good; `NotRecorded` if there is no record to begin in.
        """
        wanted = list(dict.fromkeys(assets))
        if twice := [asset for asset in wanted if self._following_of(asset)]:
            raise ValueError(f"the asset {twice[0]} is followed already")
        owner = self._owner if subscribe else None
        following = _Following(self.control, wanted, start, self._prefix, owner)
        self._followings.append(following)
        return self._events(following)

    def book(self, asset: str) -> LocalBook:
        """The book of an asset that is followed.

        Raises:
            KeyError: it is not.
        """
        if (following := self._following_of(asset)) is None:
            raise KeyError(f"the asset {asset} is not followed")
        return following.books[asset]

    async def _events(self, following: "_Following") -> AsyncIterator[Followed]:
        try:
            await self._tasks.start(following.run)
            async for event in following.events():
                yield event
        finally:
            following.stop()
            self._followings.remove(following)

    def _following_of(self, asset: str) -> "_Following | None":
        return next((each for each in self._followings if asset in each.books), None)


@asynccontextmanager
async def connect(
    where: NatsSettings | str, *, prefix: str = PREFIX, name: str = "polybus-consumer"
) -> AsyncIterator[Polybus]:
    """Connect to NATS for the length of a block.

    Args:
        where: a URL, or all about the login as well.
        prefix: first tokens of the gateway's subjects.
        name: what the server lists us as, and the owner of our subscriptions.

    Raises:
        NatsUnreachable: no server answers, or it refuses us.
    """
    followings: list[_Following] = []

    def nats_changed(*, connected: bool) -> None:
        for following in followings:
            following.nats_changed(connected=connected)

    failure: Exception | None = None
    async with ControlClient.connect(where, prefix=prefix, name=name, on_connection=nats_changed) as control:
        async with anyio.create_task_group() as tasks:
            try:
                yield Polybus(control, tasks, followings, prefix, name)
            except Exception as error:  # noqa: BLE001  raised again below, outside of the group
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure


class _Following:
    """Some assets that are followed together.  Its tasks fill a queue and ask; who iterates keeps the books."""

    def __init__(
        self, control: ControlClient, assets: list[str], start: Start | None, prefix: str, owner: str | None
    ) -> None:
        self.books = {asset: LocalBook(asset) for asset in assets}
        self._control = control
        self._start = start
        self._prefix = prefix
        self._owner = owner
        self._id = f"kit-{secrets.token_hex(6)}" if owner else None
        self._send, self._receive = anyio.create_memory_object_stream[Msg | None](QUEUED)
        self._scope = anyio.CancelScope()
        self._round = anyio.CancelScope()
        self._wake = anyio.Event()
        self._nats_is_there = anyio.Event()
        self._nats_is_there.set()
        self._outages = 0
        self._may_ask = True
        self._past = 0
        """Events of the record that stood ready when we began and have not come yet: no book of today is asked for."""
        self._told = dict.fromkeys(assets, False)
        self._news: dict[str, TrustChanged] = {}

    async def events(self) -> AsyncIterator[Followed]:
        """Keep the books."""
        async for message in self._receive:
            if message is not None and (event := self._take(message)) is not None:
                yield event
            while self._news:
                yield self._news.pop(next(iter(self._news)))
        raise NatsUnreachable("NATS closed the connection for good")

    def stop(self) -> None:
        """Nobody iterates any more."""
        self._scope.cancel()
        self._send.close()
        self._receive.close()

    async def run(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Listen, ask and keep asking, until stopped."""
        live = [asset_pattern(asset, prefix=self._prefix) for asset in self.books]
        last = [f"{self._prefix}.books.*.{encode_token(asset)}.last_book" for asset in self.books]
        with self._scope:
            async with AsyncExitStack() as stack:
                listening = self._control.listen(*last, *(live if self._start is None else []))
                messages = await stack.enter_async_context(listening)
                recorded = None
                if self._start is not None:
                    reading = replay(self._control.nats, *live, start=self._start, prefix=self._prefix)
                    recorded = await stack.enter_async_context(reading)
                    self._past = recorded.waiting
                if self._id is not None:
                    await self._subscribe()
                stack.push_async_callback(self._leave)
                tasks = await stack.enter_async_context(anyio.create_task_group())
                task_status.started()
                tasks.start_soon(self._pass_on, messages)
                if recorded is not None:
                    tasks.start_soon(self._pass_on_recorded, recorded)
                tasks.start_soon(self._keep_aligned)
                if self._id is not None:
                    tasks.start_soon(self._keep_lease)

    def nats_changed(self, *, connected: bool) -> None:
        """What is published while NATS is away is missed."""
        self._round.cancel()
        if connected:
            self._nats_is_there.set()
            self._wake.set()
            return
        self._outages += 1
        if self._nats_is_there.is_set():
            self._nats_is_there = anyio.Event()
        self._all_stray("NATS is away")

    def _take(self, message: Msg) -> AnyEvent | None:
        """Let a book go along with a message; its event, if it is one for who iterates."""
        if not message.subject.endswith(".last_book"):
            self._past = max(self._past - 1, 0)
        try:
            event = decode_event(message.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None
        book = self.books.get(getattr(event, "asset", None) or "")
        if book is None:
            return None
        was_astray = book.is_astray
        book.hear(event, may_repeat="Nats-Msg-Id" in (message.headers or {}))
        self._look_at(book)
        if book.is_astray and not was_astray:
            self._wake.set()
        return None if isinstance(event, LastBook) else event

    def _look_at(self, book: LocalBook) -> None:
        if book.trusted != self._told[book.asset]:
            self._told[book.asset] = book.trusted
            self._news[book.asset] = TrustChanged(book.asset, book.trusted, book.why)

    def _all_stray(self, why: str) -> None:
        for book in self.books.values():
            book.stray(why, must_be_told=self._may_ask)
            self._look_at(book)
        self._nudge()

    def _nudge(self) -> None:
        """Have who iterates look at the news.  Where the queue is full he is about to."""
        if self._news:
            with contextlib.suppress(anyio.WouldBlock, *GONE):
                self._send.send_nowait(None)

    async def _pass_on(self, messages: MemoryObjectReceiveStream[Msg]) -> None:
        with contextlib.suppress(*GONE):
            async for message in messages:
                await self._send.send(message)
        self._send.close()

    async def _pass_on_recorded(self, events: Events) -> None:
        with contextlib.suppress(*GONE):
            async for recorded in events:
                await self._send.send(recorded.message)

    async def _keep_aligned(self) -> None:
        """Ask where those books stand that are astray, at once; and about once a second where one of all stands."""
        turn = itertools.cycle(self.books)
        while self._may_ask:
            while not self._nats_is_there.is_set():
                await self._nats_is_there.wait()
            self._wake = anyio.Event()
            with anyio.CancelScope() as self._round:
                if not self._past:
                    astray = [asset for asset, book in self.books.items() if book.is_astray]
                    for asset in astray or [next(turn)]:
                        if not await self._ask(asset):
                            break
            astray_still = any(book.is_astray for book in self.books.values())
            with anyio.move_on_after(RETRY_S if astray_still else BEAT_S):
                await self._wake.wait()

    async def _ask(self, asset: str) -> bool:
        """Ask where one book stands; whether it makes sense to ask for another."""
        book, outages = self.books[asset], self._outages
        try:
            told = await self._control.book(asset, within_s=ANSWER_S)
        except ServiceRefused as refusal:
            book.stray(refusal.message, must_be_told=True)
            if refusal.code == 404 and self._id is not None:
                await self._subscribe_again()
        except NotPermitted:
            # The last books that the gateway publishes by itself have to do; but its end goes unnoticed then.
            self._may_ask = False
            for each in self.books.values():
                each.must_be_told = False
        except ClientError as error:
            if outages == self._outages:
                self._all_stray(str(error))
            return False
        else:
            if outages != self._outages:
                return False  # it was on its way when NATS went
            idle = not self._send.statistics().current_buffer_used
            book.align(told, settled=idle)
        self._look_at(book)
        self._nudge()
        return self._may_ask

    async def _subscribe(self) -> None:
        await self._control.subscribe(assets=list(self.books), id=self._id, owner=self._owner, ttl_s=LEASE_S)

    async def _subscribe_again(self) -> None:
        try:
            await self._subscribe()
        except ClientError:
            return  # it is asked again soon

    async def _keep_lease(self) -> None:
        while True:
            await anyio.sleep(LEASE_S / 3)
            try:
                await self._control.renew(id=self._id)
            except ServiceRefused as refusal:
                if refusal.code == 404:  # it has forgotten us
                    await self._subscribe_again()
            except ClientError:
                continue  # the beat finds out

    async def _leave(self) -> None:
        if self._id is None or not self._control.connected:
            return
        with anyio.move_on_after(GOODBYE_S, shield=True):
            try:
                await self._control.unsubscribe(id=self._id)
            except ClientError:
                return  # the lease ends by itself
