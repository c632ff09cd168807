"""Books by conversation: what goes wrong at the venue, what is said of it, and how trust comes back."""

from collections import Counter

import anyio
import msgspec
import pytest

from polybus_actors.venue.pool import Lost
from polybus_protocol.books.liveness import Trust
from polybus_services.simulator import SimulatorOptions

from ..support.books import BELIEVED, book_of, is_right, stream_of
from ..support.consumer import Refused
from ..support.rig import QUICK, Rig, market_of, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

SHARP = msgspec.structs.replace(QUICK, check_interval_s=0.1, shortest_silence_s=0.4, assets_per_connection=6)
"""Looks often, and doubts soon.  Eight assets make two connections, of which one has room."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile does not set, and what nobody here wants to wait for."""
    monkeypatch.setattr("polybus_protocol.books.liveness.RELOOK_S", 0.2)
    monkeypatch.setattr("polybus_actors.publishing.bulletins.INTERVAL_S", 0.1)


async def until_looked_at(rig: Rig) -> None:
    """Wait until the last word of each asset has been looked at."""
    streams = [stream_of(rig, asset) for asset in rig.assets]
    await rig.consumer.until_status(lambda _: all(s.inspected_seq == (s.epoch, s.seq) for s in streams))


async def until_trust(rig: Rig, trust: Trust, *assets: str) -> None:
    """Wait until each of these is trusted just so."""
    await rig.consumer.until_status(lambda _: all(stream_of(rig, asset).trust is trust for asset in assets))


async def until_trusted(rig: Rig, *assets: str) -> None:
    """Wait until a consumer has heard that each of these may be believed again."""
    for record in map(rig.consumer.of, assets):
        await rig.consumer.until(lambda record=record: record.is_trusted)  # type: ignore[misc]


async def until_proved(rig: Rig) -> None:
    """Wait until all are believed, and proved by the venue's hash; until then none is believed that is wrong."""
    waiting = set(rig.assets)
    while waiting:
        for asset in sorted(waiting):
            book = await book_of(rig, asset)
            if book.trust in BELIEVED:
                assert is_right(rig, book)
                if book.proof == "proved":
                    waiting.discard(asset)
        await rig.consumer.ask("status")


async def until_counted(rig: Rig, check: str, times: int) -> None:
    """Wait until a check of the gateway's has come out so often."""
    await rig.consumer.until_status(lambda status: status["checks"].get(check, 0) >= times)


async def go_on(rig: Rig) -> None:
    """The venue talks for a moment, and every book follows."""
    await rig.admin.step(60)
    await until_looked_at(rig)
    await until_proved(rig)


async def test_frames_that_go_wrong() -> None:
    """Doubled, lost, overtaken, broken, regrouped: a gap where it must be, none where not, the right book after."""
    with anyio.fail_after(60):
        async with rigged(profile=SHARP) as rig:
            await rig.subscribe(*rig.assets)
            asset, *_ = rig.assets

            await rig.admin.fault_on("duplicate", assets=[asset], count=3)
            await go_on(rig)
            assert (await rig.consumer.ask("status"))["gaps"] == 0

            await rig.admin.fault_on("lost-frame", assets=[asset], count=5)
            await rig.admin.step(60)
            await rig.admin.fault_off("lost-frame")
            await rig.consumer.until(lambda: "book_mismatch" in rig.consumer.of(asset).reasons)
            await until_trusted(rig, asset)
            await go_on(rig)
            told = await rig.consumer.ask("explain", asset=asset)
            words = [moment["what"] for moment in told["history"]]
            assert any("after it was resubscribed" in what for what in words), words
            assert any("begins with a gap" in what for what in words), words
            assert told["words"][0].startswith(("It is live", "It is quiet"))

            # Of the overtaken there is a gap only if something came of it.
            await rig.admin.fault_on("reorder", assets=[asset], count=2)
            await go_on(rig)
            await go_on(rig)

            await rig.admin.fault_on("corrupt-frame", assets=[asset], count=1)
            await rig.admin.step(60)
            await rig.consumer.until(lambda: "undecodable_frame" in rig.consumer.of(asset).reasons)
            await go_on(rig)

            market = market_of(rig, asset)
            await rig.admin.happen("tick_size_change", market)
            pair = rig.simulator.venue.exchange.markets[market].listing.assets
            await rig.consumer.until(
                lambda: all("tick_size_change" in rig.consumer.of(each).reasons for each in pair)
            )
            await until_trusted(rig, *pair)
            await go_on(rig)
            assert {(await book_of(rig, each)).tick_size for each in pair} == {"0.001"}

            await the_last_books_are_the_books(rig)
            await the_roll_up_counts_what_was_seen(rig)


async def the_last_books_are_the_books(rig: Rig) -> None:
    """What is kept on NATS becomes what the verb says, with the same place in the stream."""
    names = ("trust", "bids", "asks", "hash", "tick_size", "epoch", "seq", "source_time")
    with anyio.fail_after(60):
        for asset in rig.assets:
            # The trust in the silent changes while we look.
            while True:
                book = await rig.consumer.ask("book", asset=asset)
                told = rig.consumer.last_books.get(asset)
                if told is not None and all(told[name] == book[name] for name in names):
                    break


async def the_roll_up_counts_what_was_seen(rig: Rig) -> None:
    """The gaps on the system subject are those on the assets' own."""
    gaps = [
        event for record in rig.consumer.streams.values() for event in record.events if event["type"] == "gap"
    ]
    opened = Counter(gap["reason"] for gap in gaps if gap["closed_by"] is None)
    closed = Counter(gap["closed_by"] for gap in gaps if gap["closed_by"] is not None)
    assert opened
    assert closed

    def rolled_up() -> tuple[Counter[str], Counter[str]]:
        told = [notice for notice in rig.consumer.notices if notice["type"] == "gaps"]
        return sum((Counter(t["opened"]) for t in told), Counter()), sum(
            (Counter(t["closed"]) for t in told), Counter()
        )

    await rig.consumer.until(lambda: rolled_up() == (opened, closed))


async def freeze_one(rig: Rig) -> tuple[str, list[str]]:
    """One asset, of which it is known how often it speaks, falls silent, and the others go on: which those are."""
    await rig.subscribe(*rig.assets)
    frozen, *others = rig.assets
    await rig.consumer.until_status(lambda _: stream_of(rig, frozen).liveness.usual_s is not None)
    await rig.admin.fault_on("freeze-asset", assets=[frozen])
    return frozen, others


async def test_an_asset_that_freezes_among_others() -> None:
    """REST has a later book, twice: a gap; then REST stands in for the snapshot, until the venue speaks again."""
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=2, seed=5, rate=120), SHARP) as rig:
            frozen, others = await freeze_one(rig)
            await until_trust(rig, Trust.SUSPECT, frozen)
            await rig.consumer.until(lambda: "frozen" in rig.consumer.of(frozen).reasons)
            record = rig.consumer.of(frozen)
            await rig.consumer.until(lambda: record.events[-1].get("origin") == "witness")
            *_, closing, book = record.events
            assert (closing["type"], closing["closed_by"], book["type"]) == ("gap", "witness", "book")
            assert stream_of(rig, frozen).trust in (Trust.SUSPECT, Trust.FROZEN)
            assert is_right(rig, await book_of(rig, frozen))
            assert all("frozen" not in rig.consumer.of(asset).reasons for asset in others)
            await rig.admin.fault_off("freeze-asset")
            await until_trust(rig, Trust.LIVE, frozen)
            await rig.admin.ask("POST", "/pause")
            await until_proved(rig)


async def test_without_books() -> None:
    """All is published, and silence is looked into by the venue's clock; no book is told, and `book` says why."""
    profile = msgspec.structs.replace(SHARP, books=False)
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=2, seed=5, rate=120), profile) as rig:
            frozen, others = await freeze_one(rig)
            await rig.consumer.until(lambda: "frozen" in rig.consumer.of(frozen).reasons)
            assert all("frozen" not in rig.consumer.of(asset).reasons for asset in others)
            await rig.admin.fault_off("freeze-asset")
            await until_trust(rig, Trust.LIVE, frozen)
            await rig.admin.ask("POST", "/pause")
            await until_trust(rig, Trust.QUIET, *rig.assets)
            market = market_of(rig, others[-1])
            await rig.admin.happen("tick_size_change", market)
            await rig.consumer.until(lambda: "tick_size_change" in rig.consumer.of(others[-1]).reasons)
            await until_trusted(rig, *rig.assets)
            await rig.received_all("market")
            checks = (await rig.consumer.ask("status"))["checks"]
            assert [name for name in checks if name.startswith("hash_")] == []
            assert rig.consumer.last_books == {}
            with pytest.raises(Refused, match="keeps no books") as refused:
                await rig.consumer.ask("book", asset=frozen)
            assert refused.value.code == 422
            assert any(
                "No books" in word for word in (await rig.consumer.ask("explain", asset=frozen))["words"]
            )


async def test_silence_and_what_rest_says_of_it() -> None:
    """Down, crowded or stale, REST settles nothing, and the silent are suspect; the same book makes them quiet."""
    profile = msgspec.structs.replace(
        SHARP, data_timeout_s=60.0, shortest_silence_s=0.1, check_interval_s=0.05
    )
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=1, seed=5, paused=True), profile) as rig:
            await rig.subscribe(*rig.assets)
            await rig.admin.fault_on("rest-stale")
            await rig.admin.fault_on("rest-down")
            # Twice, so that there is a habit: what follows is unusual.
            for _ in range(2):
                await rig.admin.step(20)
                await until_looked_at(rig)
            await until_trust(rig, Trust.SUSPECT, *rig.assets)
            await until_counted(rig, "witness_refused", 1)
            await rig.admin.fault_on("rest-429", retry_after_s=0)
            await rig.admin.fault_off("rest-down")
            await until_counted(rig, "witness_rate_limited", 1)
            await rig.admin.fault_off("rest-429")
            await until_counted(rig, "witness_stale", 1)
            assert {stream_of(rig, asset).trust for asset in rig.assets} == {Trust.SUSPECT}
            await rig.admin.fault_off("rest-stale")
            await until_trust(rig, Trust.QUIET, *rig.assets)
            assert (await rig.consumer.ask("status"))["gaps"] == 0
            told = await rig.consumer.ask("explain", asset=rig.assets[0])
            assert told["words"][0].startswith("It is quiet")
            await go_on(rig)


async def test_the_ladder() -> None:
    """Another socket helps what only its own was silent for; what nothing helps is given up loudly, and comes back."""
    profile = msgspec.structs.replace(SHARP, asset_timeout_s=0.2)
    with anyio.fail_after(60):
        async with rigged(profile=profile) as rig:
            await rig.subscribe(*rig.assets)
            await rig.admin.fault_on("rest-down")
            pool = rig.pool("market")
            asset = next(
                a for a in rig.assets if (c := pool.standing.carrier_of(a)) and len(c.cargo.keys) == 6
            )
            carrier = pool.standing.carrier_of(asset)
            assert carrier is not None
            # Silent on this socket only.
            await rig.admin.fault_on("freeze-asset", assets=[asset], connection=rig.link_of(carrier).id)
            await pool.mailbox.put(Lost([stream_of(rig, asset)], "resync"))
            await rig.consumer.until(lambda: rig.consumer.of(asset).reasons != [])
            await until_trust(rig, Trust.LIVE, asset)
            assert pool.standing.carrier_of(asset) is not carrier
            checks = (await rig.consumer.ask("status"))["checks"]
            assert (checks["resubscribed"], checks["moved"], checks["moved_helped"]) == (1, 1, 1)

            # Silent everywhere.
            await rig.admin.fault_on("freeze-asset", assets=[asset])
            await pool.mailbox.put(Lost([stream_of(rig, asset)], "resync"))
            await until_trust(rig, Trust.FROZEN, asset)
            await rig.consumer.until(lambda: any(n.get("level") == "error" for n in rig.consumer.notices))
            (notice,) = [n for n in rig.consumer.notices if n["type"] == "notice"]
            assert asset in notice["text"]
            checks = (await rig.consumer.ask("status"))["checks"]
            assert (checks["moved"], checks["new_socket"], checks["given_up"]) == (2, 1, 1)
            told = await rig.consumer.ask("explain", asset=asset)
            assert told["trust"] == "frozen"
            words = " ".join(moment["what"] for moment in told["history"])
            for what in ("asked for again", "another socket", "a new socket", "given up"):
                assert what in words
            others = [each for each in rig.assets if each != asset]
            assert all(stream_of(rig, each).live for each in others)

            await rig.admin.fault_off("freeze-asset")
            await rig.admin.fault_off("rest-down")
            await until_proved(rig)
