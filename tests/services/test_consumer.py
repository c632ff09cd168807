"""The consumer kit against a whole polybus: joining late, and whatever can break between the venue and a consumer."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from polybus_protocol.events import Gap
from polybus_protocol.subjects import subject_for
from polybus_services import consumer as kit
from polybus_services.client import NoGateway, ServiceRefused
from polybus_services.consumer import Followed, Polybus, connect
from polybus_services.local_book import LocalBook, TrustChanged
from polybus_services.nats_server import NatsServer
from polybus_services.order import Follower
from polybus_services.replay import NotRecorded, Start, first, live
from polybus_services.simulator import SimulatorOptions
from polybus_services.simulator.probe import AdminClient

from ..support.rig import Rig, market_of, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

GUARD_S = 40.0
"""Nothing here takes more than a few seconds; a busy machine may make it many."""

JOINS = 30


async def is_the_venues(book: LocalBook, admin: AdminClient) -> None:
    """The book is the simulator's own, as it was when it said what the book heard last."""
    assert book.source_time is not None
    assert book.hash is not None
    kept = (
        {level.price: level.size for level in book.bids()},
        {level.price: level.size for level in book.asks()},
    )
    told = await admin.book(book.asset, book.source_time, book.hash)
    assert kept == tuple({level["price"]: level["size"] for level in told[side]} for side in ("bids", "asks"))


class Watched:
    """A consumer that compares each book it trusts with the venue's, now and then."""

    def __init__(self, polybus: Polybus, admin: AdminClient, assets: list[str], start: Start | None) -> None:
        self.polybus = polybus
        self.assets = assets
        self.follower = Follower()
        self.changes: list[TrustChanged] = []
        self.gaps: list[Gap] = []
        self.compared = 0
        self._admin = admin
        self._events = polybus.follow(assets, start=start)
        self._seen = 0

    async def until(self, done: Callable[[], bool]) -> None:
        """Follow until something is so."""
        with anyio.fail_after(GUARD_S):
            async for event in self._events:
                await self._look(event)
                if done():
                    return

    async def trusts(self, *, all_: bool) -> None:
        """Follow until every book is trusted, or none."""
        await self.until(lambda: all(self.polybus.book(asset).trusted is all_ for asset in self.assets))

    async def hears(self, count: int) -> None:
        """Follow so many events."""
        enough = self._seen + count
        await self.until(lambda: self._seen >= enough)

    async def _look(self, event: Followed) -> None:
        if isinstance(event, TrustChanged):
            self.changes.append(event)
            return
        self._seen += 1
        self.follower.see(subject_for(event), event)
        if isinstance(event, Gap) and event.closed_by is None:
            self.gaps.append(event)
        asset = getattr(event, "asset", None)
        if asset and self._seen % 5 == 0 and (book := self.polybus.book(asset)).trusted:
            await is_the_venues(book, self._admin)
            self.compared += 1


@asynccontextmanager
async def watching(
    rig: Rig, start: Start | None = None, assets: list[str] | None = None
) -> AsyncIterator[Watched]:
    """Someone who follows assets, all if none are named."""
    async with connect(rig.nats.url) as polybus:
        yield Watched(polybus, rig.admin, assets or rig.assets, start)


async def test_who_joins_late_has_the_venues_book() -> None:
    """At whatever moment one joins under load, and however many do: a book that is trusted is the venue's."""
    async with rigged(SimulatorOptions(markets=6, seed=5, rate=150)) as rig:
        await rig.subscribe(*rig.assets)

        async def join(seed: int) -> None:
            chance = random.Random(seed)
            for _ in range(JOINS // 5):
                some = chance.sample(rig.assets, 2)
                async with watching(rig, live() if seed == 0 else None, some) as watched:
                    await watched.trusts(all_=True)
                    for asset in some:
                        await is_the_venues(watched.polybus.book(asset), rig.admin)
                    await watched.hears(chance.randrange(1, 30))
                    assert watched.follower.jumps == 0

        async with anyio.create_task_group() as tasks:
            for seed in range(5):
                tasks.start_soon(join, seed)


@pytest.mark.parametrize("start", [None, live()], ids=["core", "record"])
async def test_an_outage_of_nats_ends_trust_and_it_comes_back(start: Start | None) -> None:
    """NATS is killed and comes back; out of the record not even an event is lost."""
    async with rigged(SimulatorOptions(markets=3, seed=5, rate=60)) as rig:
        await rig.subscribe(*rig.assets)
        async with watching(rig, start) as watched:
            await watched.trusts(all_=True)
            await watched.hears(20)
            rig.nats.kill()
            await watched.until(lambda: any(not change.trusted for change in watched.changes))
            await watched.trusts(all_=False)
            assert {change.why for change in watched.changes if not change.trusted} == {"NATS is away"}
            await rig.nats.restart()
            await watched.trusts(all_=True)
            await watched.hears(50)
            assert watched.compared
            assert start is None or watched.follower.jumps == 0


async def test_what_happens_at_the_venue_ends_trust_and_it_comes_back() -> None:
    """A socket that is cut, and a new price grid: the gap ends trust, the book after it brings it back."""
    async with rigged(SimulatorOptions(markets=2, seed=5, rate=60)) as rig:
        await rig.subscribe(*rig.assets)
        async with watching(rig) as watched:
            await watched.trusts(all_=True)
            await rig.admin.fault_on("drop", feed="market")
            await watched.until(lambda: {gap.asset for gap in watched.gaps} == set(rig.assets))
            await watched.trusts(all_=True)
            await rig.admin.happen("tick_size_change", market_of(rig, rig.assets[0]))
            await watched.until(lambda: any(gap.reason == "tick_size_change" for gap in watched.gaps))
            await watched.trusts(all_=True)
            await watched.hears(30)
            assert watched.compared


async def test_a_gateway_that_is_cut_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It publishes nothing and answers nothing, which looks like a quiet market; what it missed, it says."""
    monkeypatch.setattr(kit, "ANSWER_S", 0.3)
    async with rigged(SimulatorOptions(markets=2, seed=5, rate=60), proxied=True) as rig:
        await rig.subscribe(*rig.assets)
        async with watching(rig) as watched:
            await watched.trusts(all_=True)
            rig.proxy.hold()
            await watched.trusts(all_=False)
            rig.proxy.cut()
            await watched.trusts(all_=True)
            await watched.hears(30)


async def test_the_past_is_followed_as_the_present_is() -> None:
    """From the first event of the record on, each book that is trusted is what it was then; then it is live."""
    async with rigged(SimulatorOptions(markets=1, seed=5, rate=40)) as rig:
        await rig.subscribe(*rig.assets)
        async with watching(rig) as before:
            await before.hears(20)
        async with watching(rig, first()) as watched:
            await watched.hears(60)
            await watched.trusts(all_=True)
            assert watched.compared > 5
            assert watched.follower.jumps == 0


async def test_its_interest_ends_with_it() -> None:
    """It asks for what it follows, under its name and a lease, and drops it when it leaves."""
    async with rigged(SimulatorOptions(markets=1, seed=5, rate=40)) as rig:
        async with connect(rig.nats.url, name="my-bot") as polybus:
            events = polybus.follow(rig.assets)
            await anext(events)
            (listed,) = (await polybus.control.subscriptions(owner="my-bot")).subscriptions
            assert listed.expires
        assert (await rig.consumer.ask("subscriptions"))["subscriptions"] == []


async def test_what_is_wrong_is_raised_as_it_is(nats: NatsServer) -> None:
    """No gateway, no record, an asset twice, one that is none, one that is not followed; and errors of the caller's."""
    async with connect(nats.url) as polybus:
        with pytest.raises(NoGateway):
            await anext(polybus.follow(["1"]))
        with pytest.raises(NotRecorded):
            await anext(polybus.follow(["1"], start=live(), subscribe=False))
        with pytest.raises(KeyError):
            polybus.book("1")
    with pytest.raises(ZeroDivisionError):
        async with connect(nats.url):
            _ = 1 / 0
    async with rigged() as rig, connect(rig.nats.url) as polybus:
        with pytest.raises(ServiceRefused, match="not a token id"):
            await anext(polybus.follow(["0x1"]))
        await rig.subscribe(rig.assets[0])
        events = polybus.follow(rig.assets[:1], subscribe=False)
        assert isinstance(await anext(events), TrustChanged)
        with pytest.raises(ValueError, match="followed already"):
            polybus.follow(rig.assets[:1])
