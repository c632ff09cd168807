"""The registry actor: who wants what.  It owns the subscriptions, their leases and their persistence.

Each change is one message and is carried out whole before the next one: counted, told to the pool,
and written to the store.  Waiting for the venue's data is not its business; see `polybus_actors.control`.
"""

import logging
import secrets
import time

import anyio

from polybus_protocol.control import MARKET_TYPES, RenewRequest, SubscribeRequest, UnsubscribeRequest
from polybus_protocol.directory import MarketDirectory
from polybus_protocol.errors import ControlError
from polybus_protocol.interest import Interest, Steps, Subscription

from .mailbox import ActorStopped, Mailbox, Question
from .pool import Apply, Pool
from .store import Store

logger = logging.getLogger("polybus.registry")

VENUE_WIDE = {"new_market"}
"""What the venue sends without an asset being named."""

ALL_TYPES = (*MARKET_TYPES, "gap")


class Subscribe(Question[tuple[Subscription, bool]]):
    """Question: take a request on; answered with the subscription and whether it is new."""

    def __init__(self, request: SubscribeRequest) -> None:
        super().__init__()
        self.request = request


class Unsubscribe(Question[list[str]]):
    """Question: drop what the request names; answered with the ids dropped."""

    def __init__(self, request: UnsubscribeRequest) -> None:
        super().__init__()
        self.request = request


class Renew(Question[list[Subscription]]):
    """Question: prolong the leases the request names; answered with the subscriptions as they are now."""

    def __init__(self, request: RenewRequest) -> None:
        super().__init__()
        self.request = request


type Message = Subscribe | Unsubscribe | Renew


class Registry:
    """See the module.

    Args:
        interest: the subscriptions.
        pool: carries them out.
        store: keeps them.
        directory: the assets of markets that have passed by.
    """

    def __init__(self, interest: Interest, pool: Pool, store: Store, directory: MarketDirectory) -> None:
        self.mailbox: Mailbox[Message] = Mailbox()
        self.interest = interest
        self.baselines: dict[str, int] = {}
        """Events that matched a subscription before it was made, by id."""
        self._pool = pool
        self._store = store
        self._directory = directory

    async def restore(self, subscriptions: list[Subscription]) -> None:
        """Take up what was wanted before this process."""
        now = time.time_ns()
        for subscription in subscriptions:
            if subscription.expires is not None and subscription.expires <= now:
                await self._store.forget(subscription.id)
                continue
            await self._pool.mailbox.put(Apply(self.interest.put(subscription), remembered=True))
        self._tap()

    async def run(self) -> None:
        """Serve until cancelled; may be run again after a failure."""
        while True:
            message = await self._next_message()
            if message is None:
                await self._drop(self.interest.expired(time.time_ns()))
                continue
            try:
                await self._carry_out(message)
            except ControlError as refusal:
                message.answer.refuse(refusal)
            finally:
                # Answered by now, unless this actor fails or is cancelled on the way.
                message.answer.refuse(ActorStopped("the registry failed"))

    async def _carry_out(self, message: Message) -> None:
        match message:
            case Subscribe(request=request):
                message.answer.give(await self._subscribe(request))
            case Unsubscribe(request=request):
                message.answer.give(await self._drop(self._named(request)))
            case Renew(request=request):
                message.answer.give(await self._renew(request))

    async def _next_message(self) -> Message | None:
        """The next message; None when a lease has ended before one came."""
        expiry = self.interest.next_expiry()
        with anyio.move_on_after(None if expiry is None else max(expiry - time.time_ns(), 0) / 1e9):
            return await self.mailbox.receive()
        return None

    async def _subscribe(self, request: SubscribeRequest) -> tuple[Subscription, bool]:
        now = time.time_ns()
        subscription = Subscription(
            id=request.id or secrets.token_hex(8),
            owner=request.owner,
            feed=request.feed,
            assets=self._resolve(request),
            markets=request.markets,
            types=request.types,
            deliver=request.deliver,
            created=now,
        ).renewed(now, request.ttl_s)
        standing = self.interest.subscriptions.get(subscription.id)
        if standing is not None:
            if not standing.asks_the_same_as(subscription):
                raise ControlError(
                    409,
                    f"id: the subscription {subscription.id!r} stands already and wants something else; "
                    "unsubscribe it first, or choose another id",
                    field="id",
                )
            return standing, False
        keys = self.interest.keys_of(subscription)
        self.baselines[subscription.id] = self._pool.matched(keys, subscription.types)
        await self._apply(self.interest.put(subscription))
        await self._store.save(subscription)
        return subscription, True

    def _resolve(self, request: SubscribeRequest) -> list[str]:
        """The request's assets, and those of its markets as far as they are known."""
        if not request.assets and not request.markets and set(request.types) != VENUE_WIDE:
            raise ControlError(
                422,
                "assets: name the token ids that are wanted; without any, the venue sends `new_market` only "
                "(ask for it with `types`)",
                field="assets",
            )
        assets = dict.fromkeys(request.assets)
        for market in request.markets:
            known = self._directory.assets_of(market)
            if not known and not request.assets:
                raise ControlError(
                    422,
                    f"markets: the venue's market feed takes token ids, and none of the market {market} has "
                    "passed by yet; name its tokens in `assets`",
                    field="markets",
                )
            assets.update(dict.fromkeys(known))
        return list(assets)

    def _named(self, request: UnsubscribeRequest | RenewRequest) -> list[Subscription]:
        if request.owner is not None:
            found = self.interest.of_owner(request.owner)
        else:
            found = [s for s in [self.interest.subscriptions.get(request.id or "")] if s is not None]
        if not found:
            what = f"owner {request.owner!r}" if request.owner is not None else f"id {request.id!r}"
            raise ControlError(404, f"there is no subscription of the {what}")
        return found

    async def _renew(self, request: RenewRequest) -> list[Subscription]:
        now = time.time_ns()
        renewed = [s.renewed(now, request.ttl_s) for s in self._named(request)]
        for subscription in renewed:
            self.interest.put(subscription)
            await self._store.save(subscription)
        return renewed

    async def _drop(self, subscriptions: list[Subscription]) -> list[str]:
        ids = [subscription.id for subscription in subscriptions]
        await self._apply(self.interest.remove(ids))
        for id_ in ids:
            self.baselines.pop(id_, None)
            await self._store.forget(id_)
        return ids

    async def _apply(self, steps: Steps) -> None:
        if steps:
            await self._pool.mailbox.put(Apply(steps))
        self._tap()

    def _tap(self) -> None:
        """Have the pool log each event that a subscription with `deliver: log` wants."""
        taps: dict[str, set[str]] = {}
        for subscription in self.interest.subscriptions.values():
            if subscription.deliver == "log":
                for key in self.interest.keys_of(subscription):
                    taps.setdefault(key, set()).update(subscription.types or ALL_TYPES)
        self._pool.tap(taps)
