"""The registry actor: who wants what.  It owns the subscriptions, their leases and their persistence.

Each change is one message and is carried out whole before the next one: counted, told to the pool,
and written to the store.  Waiting for the venue's data is not its business; see `polybus_actors.control.service`.
"""

import logging
import secrets
import time

import anyio

from polybus_protocol.control.asking import ASKING, keys_of
from polybus_protocol.control.interest import Steps, Subscription
from polybus_protocol.control.requests import RenewRequest, SubscribeRequest, UnsubscribeRequest
from polybus_protocol.control.wish import Wish
from polybus_protocol.conversation.directory import MarketDirectory
from polybus_protocol.errors import ControlError

from ..mailbox import ActorStopped, Mailbox, Question
from ..venue.pool import Apply, Pool
from ..venue.pools import Pools
from .store import Store

logger = logging.getLogger("polybus.registry")


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


class Heed(Question[None]):
    """Question: take up what others have changed in the bucket, and what could not be read of it until now."""


type Message = Subscribe | Unsubscribe | Renew | Heed


class Registry:
    """See the module.

    Args:
        pools: hold the subscriptions and carry them out.
        store: keeps them.
        directory: the assets of markets that have passed by.
    """

    def __init__(self, pools: Pools, store: Store, directory: MarketDirectory) -> None:
        self.mailbox: Mailbox[Message] = Mailbox()
        self.baselines: dict[str, int] = {}
        """Events that matched a subscription before it was made, by id."""
        self._pools = pools
        self._store = store
        self._directory = directory
        self._started = time.time_ns()
        store.on_news = self._has_news

    async def restore(self, subscriptions: list[Subscription], *, remembered: bool = True) -> None:
        """Take up what the bucket holds; `remembered` if it was wanted before this process."""
        now = time.time_ns()
        for subscription in subscriptions:
            if subscription.expires is not None and subscription.expires <= now:
                await self._store.forget(subscription.id)
                continue
            pool = self._pools.pool_of(subscription)
            if pool is None:
                logger.error(
                    "the subscription %s waits: its account %s is not configured",
                    subscription.id,
                    subscription.account,
                )
                continue
            await pool.mailbox.put(Apply(pool.interest.put(subscription), remembered))
            self._tap(pool)

    async def run(self) -> None:
        """Serve until cancelled; may be run again after a failure."""
        while True:
            message = await self._next_message()
            if message is None:
                await self._drop([s for pool in self._pools for s in pool.interest.expired(time.time_ns())])
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
            case Heed():
                await self._heed()
                message.answer.give(None)

    async def _has_news(self) -> None:
        await self.mailbox.put(Heed())

    async def _heed(self) -> None:
        news = self._store.news()
        for id_, subscription in news.items():
            standing = self._standing(id_)
            if standing is not None and (
                subscription is None or self._pools.pool_of(standing) is not self._pools.pool_of(subscription)
            ):
                await self._remove(standing)
            if subscription is not None:
                await self.restore([subscription], remembered=subscription.created < self._started)
        if news:
            dropped = sum(subscription is None for subscription in news.values())
            logger.warning(
                "the bucket has changed: %d subscriptions are taken up, %d are dropped",
                len(news) - dropped,
                dropped,
            )

    def _standing(self, id_: str) -> Subscription | None:
        return next((s for s in self._pools.subscriptions() if s.id == id_), None)

    async def _next_message(self) -> Message | None:
        """The next message; None when a lease has ended before one came."""
        expiries = [at for pool in self._pools if (at := pool.interest.next_expiry()) is not None]
        expiry = min(expiries, default=None)
        with anyio.move_on_after(None if expiry is None else max(expiry - time.time_ns(), 0) / 1e9):
            return await self.mailbox.receive()
        return None

    async def _subscribe(self, request: SubscribeRequest) -> tuple[Subscription, bool]:
        now = time.time_ns()
        account = self._pools.account_for(request)
        wish = {name: getattr(request, name) for name in Wish.__struct_fields__}
        wish |= {"account": account, "assets": self._resolve(request)}
        subscription = Subscription(
            id=request.id or secrets.token_hex(8),
            owner=request.owner,
            deliver=request.deliver,
            created=now,
            **wish,
        ).renewed(now, request.ttl_s)
        standing = self._standing(subscription.id)
        if standing is not None:
            if not standing.asks_the_same_as(subscription):
                raise ControlError(
                    409,
                    f"id: the subscription {subscription.id!r} stands already and wants something else; "
                    "unsubscribe it first, or choose another id",
                    field="id",
                )
            return standing, False
        pool = self._pool_of(subscription)
        self.baselines[subscription.id] = pool.standing.matched(keys_of(subscription), subscription.types)
        await self._apply(pool, pool.interest.put(subscription))
        await self._store.save(subscription)
        return subscription, True

    def _pool_of(self, subscription: Subscription) -> Pool:
        pool = self._pools.pool_of(subscription)
        assert pool is not None, "the account of a standing subscription is configured"
        return pool

    def _resolve(self, request: SubscribeRequest) -> list[str]:
        """The request's assets, and those of its markets as far as they are known."""
        if request.feed != "market":
            return []
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
            found = [s for s in self._pools.subscriptions() if s.owner == request.owner]
        else:
            found = [s for s in self._pools.subscriptions() if s.id == request.id]
        if not found:
            what = f"owner {request.owner!r}" if request.owner is not None else f"id {request.id!r}"
            raise ControlError(404, f"there is no subscription of the {what}")
        return found

    async def _renew(self, request: RenewRequest) -> list[Subscription]:
        now = time.time_ns()
        renewed = [s.renewed(now, request.ttl_s) for s in self._named(request)]
        for subscription in renewed:
            self._pool_of(subscription).interest.put(subscription)
            await self._store.save(subscription)
        return renewed

    async def _drop(self, subscriptions: list[Subscription]) -> list[str]:
        for subscription in subscriptions:
            await self._remove(subscription)
            await self._store.forget(subscription.id)
        return [subscription.id for subscription in subscriptions]

    async def _remove(self, subscription: Subscription) -> None:
        pool = self._pool_of(subscription)
        await self._apply(pool, pool.interest.remove([subscription.id]))
        self.baselines.pop(subscription.id, None)

    async def _apply(self, pool: Pool, steps: Steps) -> None:
        if steps:
            await pool.mailbox.put(Apply(steps))
        self._tap(pool)

    def _tap(self, pool: Pool) -> None:
        """Have a pool log each event that a subscription with `deliver: log` wants."""
        taps: dict[str, set[str]] = {}
        for subscription in pool.interest.subscriptions.values():
            if subscription.deliver == "log":
                wanted = {*(subscription.types or ASKING[subscription.feed].types), "gap"}
                for key in keys_of(subscription):
                    taps.setdefault(key, set()).update(wanted)
        pool.tap(taps)
