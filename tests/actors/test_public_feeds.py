"""RTDS, PolyBolt and sports: what is asked of each, how each keeps alive, and how each says that something is lost."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import msgspec
import pytest

from polybus_services.simulator import PolyboltChoices, SportsChoices
from polybus_services.simulator.polybolt_feed import PolyboltManners
from polybus_services.simulator.rtds_feed import RtdsManners

from ..support.five import CRYPTO, EQUITIES, VENUE, follow, is_served, manners_of, venue
from ..support.rig import QUICK_FEEDS, Rig, rigged
from ..support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue is paused: a test lets things happen by hand."""
    with anyio.fail_after(60):
        async with rigged(VENUE) as running:
            yield running


async def seconds(rig: Rig, count: float, events: int = 0) -> None:
    """Let time pass at the venue, and so many facts happen."""
    await rig.admin.ask("POST", "/step", {"events": events, "seconds": count})


# --- rtds --------------------------------------------------------------------------------------------


def asked(rig: Rig) -> dict[tuple[str, str], dict[str, None]]:
    """What the gateway's connection has asked RTDS for: topic and type -> filters."""
    return {
        key: filters for each in manners_of(rig, RtdsManners) for key, filters in each.subscriptions.items()
    }


async def test_rtds_filters_are_ours(rig: Rig) -> None:
    """The venue is asked for whole topics, whose filters cannot be relied on; what nobody wants is left out here."""
    slug = rig.simulator.venue.exchange.markets[str(rig.simulator.markets[0]["market"])].listing.slug
    other = str(rig.simulator.markets[1]["market"])
    wishes: list[dict[str, Any]] = [
        {"topics": ["activity"], "event_slugs": [slug]},
        {"topics": ["activity"], "markets": [other], "types": ["trades"]},
        {"topics": ["crypto_prices"], "symbols": ["BTC/USD", "ethusdt"]},
    ]
    for wish in wishes:
        reply = await rig.consumer.ask("subscribe", feed="rtds", **wish, wait="sent")
        assert reply["missing"] == []
    await until(lambda: {topic for topic, _ in asked(rig)} == {"activity", "crypto_prices"})
    assert {filter_ for filters in asked(rig).values() for filter_ in filters} == {""}
    await seconds(rig, 60, events=5000)
    _, ledger = await rig.settle("rtds")
    wanted = {
        (stream, kind): count
        for (stream, kind), count in ledger["sent"].items()
        if stream.startswith(f"{slug}/")
        or (stream.endswith(f"/{other}") and kind == "trades")
        or stream in ("crypto/btcusd", "crypto/ethusd")
    }
    received = rig.consumer.counts("rtds")
    assert received == wanted
    assert len(wanted) == 5
    status = await rig.consumer.ask("status")
    assert status["unwanted"] == sum(ledger["sent"].values()) - received.total() > 0


async def test_rtds_topics_are_shared(rig: Rig) -> None:
    """A topic that several want is asked for once, and taken back only with the last of them."""
    wishes: dict[str, dict[str, Any]] = {
        "all": {"topics": ["crypto_prices"]},
        "btc": {"topics": ["crypto_prices"], "symbols": ["btcusd"]},
        "eth": {"topics": ["crypto_prices"], "symbols": ["ethusd"]},
    }
    for id_, wish in wishes.items():
        await rig.consumer.ask("subscribe", feed="rtds", id=id_, **wish, wait="sent")
    await until(lambda: asked(rig))
    await seconds(rig, 3)
    await rig.received_all("rtds")
    await rig.consumer.ask("unsubscribe", id="all")
    await seconds(rig, 3)
    await rig.settle()
    reasons = {key.rpartition(".")[2]: record.reasons for key, record in rig.consumer.streams.items()}
    assert {symbol for symbol, told in reasons.items() if told == []} == {"btcusd", "ethusd"}
    assert {tuple(told) for symbol, told in reasons.items() if symbol not in ("btcusd", "ethusd")} == {
        ("unsubscribed",)
    }
    await rig.consumer.ask("unsubscribe", id="btc")
    assert set(asked(rig)) == {("crypto_prices", "update")}
    await rig.consumer.ask("subscribe", feed="rtds", topics=["comments"], id="talk", wait="sent")
    await rig.consumer.ask("unsubscribe", id="eth")
    await until(lambda: {topic for topic, _ in asked(rig)} == {"comments"})
    assert (await rig.consumer.ask("status"))["reconnects"] == 0


async def test_rtds_lives_by_its_pings(rig: Rig) -> None:
    """The venue forgets who does not ping: with our PINGs, it never does."""
    await follow(rig, "rtds")
    # Whoever is silent for half a second goes stale; our interval is shorter.
    await rig.admin.fault_on("rtds-stale", after_s=0.5)
    (manners,) = manners_of(rig, RtdsManners)
    begun = manners._pinged_ms
    for _ in range(4):
        pinged = manners._pinged_ms
        await until(lambda at=pinged: manners._pinged_ms > at)  # type: ignore[misc]
        await seconds(rig, 1)
    assert manners._pinged_ms - begun > 400
    await rig.received_all("rtds")
    assert not manners.stale
    assert (await rig.consumer.ask("status"))["gaps"] == 0


async def test_rtds_goes_stale() -> None:
    """A socket that answers PINGs and delivers nothing more is given up; a gap on each stream tells."""
    impatient = {**QUICK_FEEDS, "rtds": msgspec.structs.replace(QUICK_FEEDS["rtds"], data_timeout_s=0.6)}
    with anyio.fail_after(60):
        async with rigged(venue(paused=False, rate=100), feeds=impatient) as rig:
            await follow(rig, "rtds")
            prices = [f"polymarket.v1.price.crypto.{symbol}" for symbol in CRYPTO]
            # A price a second is too seldom for this patience, so time has to run.
            await seconds(rig, 5)
            await rig.consumer.until(lambda: all(key in rig.consumer.streams for key in prices))
            await rig.admin.fault_on("rtds-stale")
            await seconds(rig, 2)
            await rig.consumer.until(lambda: all(rig.consumer.streams[key].reasons for key in prices))
            for key in prices:
                (gap, *_) = rig.consumer.streams[key].gaps
                assert gap["reason"] == "connection_lost"
                assert "no data" in gap["detail"]
            await rig.admin.fault_off("rtds-stale")
            await until(lambda: any(not each.stale for each in manners_of(rig, RtdsManners)))
            await is_served(rig, "rtds")
            await seconds(rig, 3)
            await rig.consumer.until(lambda: all(rig.consumer.streams[key].is_trusted for key in prices))
            await rig.received_all("rtds")


# --- polybolt ----------------------------------------------------------------------------------------


def channel_of(key: str) -> str:
    """The class of a price's stream key."""
    return key.split(".")[-2]


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [("seq-gap", {}), ("dropped-count", {}), ("dropped-count", {"skip_seq": True})],
    ids=["seq-gap", "dropped-count", "dropped-count-and-seq"],
)
async def test_polybolt_counts(rig: Rig, fault: str, parameters: dict[str, Any]) -> None:
    """What the venue left out by its own numbering is a gap, on the streams of that channel and no others."""
    await follow(rig, "polybolt")
    await seconds(rig, 5)
    await rig.settle()
    await rig.admin.fault_on(fault, assets=["crypto/btcusd"], count=3, **parameters)
    await seconds(rig, 5)
    received, ledger = await rig.settle("polybolt")
    assert ledger["withheld"] == {("crypto/btcusd", "update"): 3}
    assert received == ledger["sent"]
    for key, record in rig.consumer.streams.items():
        # The lost symbol had nothing more to lose after the first; its neighbours spoke between the three.
        times = 0 if channel_of(key) != "crypto" else 1 if key.endswith(".btcusd") else 3
        assert record.reasons == ["upstream_loss"] * times, key
        assert all("price.crypto" in gap["detail"] for gap in record.gaps)
    # The gap stands where the hole is.
    record = rig.consumer.streams["polymarket.v1.price.crypto.btcusd"]
    told = [event.get("closed_by", event["type"]) or "gap" for event in record.events]
    assert told == ["snapshot", *["update"] * 5, "gap", "sequence", *["update"] * 2]
    assert (await rig.consumer.ask("status"))["reconnects"] == 0


@pytest.mark.parametrize(("fault", "code"), [("drain-4003", 4003), ("slow-4002", 4002), ("drop", 1006)])
async def test_polybolt_comes_back(rig: Rig, fault: str, code: int) -> None:
    """A farewell that is no reproach: a gap, a new socket that proves itself, and fresh snapshots."""
    await follow(rig, "polybolt")
    await seconds(rig, 5)
    await rig.settle()
    await rig.admin.fault_on(fault, feed="polybolt")
    await rig.consumer.until(
        lambda: all(r.reasons == ["connection_lost"] for r in rig.consumer.streams.values())
    )
    await rig.consumer.until(lambda: all(r.is_trusted for r in rig.consumer.streams.values()))
    await seconds(rig, 5)
    await rig.received_all("polybolt")
    assert len(rig.consumer.streams) == 2 * len(CRYPTO) + 2 * len(EQUITIES)
    for record in rig.consumer.streams.values():
        (gap,) = record.gaps
        assert str(code) in gap["detail"]
        closing, snapshot, *_ = record.events[record.events.index(gap) + 1 :]
        assert (closing["closed_by"], snapshot["type"]) == ("sequence", "snapshot")
    assert (await rig.consumer.ask("status"))["reconnects"] == 1


def has_reconnected(times: int, status: Any) -> bool:
    return bool(status["reconnects"] == times)


async def test_polybolt_takes_its_time_after_4003() -> None:
    """The venue asks everybody to come back spread over some seconds, and so it is."""
    spread = msgspec.structs.replace(
        QUICK_FEEDS["polybolt"].backoff, first_s=0.001, longest_s=0.001, spread_s=0.6
    )
    patient = {**QUICK_FEEDS, "polybolt": msgspec.structs.replace(QUICK_FEEDS["polybolt"], backoff=spread)}
    with anyio.fail_after(60):
        async with rigged(VENUE, feeds=patient) as rig:
            await follow(rig, "polybolt")
            waits = []
            for number in range(1, 3):
                await rig.admin.fault_on("drain-4003")
                await rig.consumer.until(lambda: any(e["state"] == "waiting" for e in rig.consumer.system))
                (waiting,) = [event for event in rig.consumer.system if event["state"] == "waiting"]
                waits.append(waiting["retry_in_s"])
                rig.consumer.system.clear()
                await rig.consumer.until_status(partial(has_reconnected, number))
                await is_served(rig, "polybolt")
            assert max(waits) > 0.001
            assert all(0 <= wait <= 0.6 for wait in waits)


async def test_polybolt_says_we_broke_the_rules(rig: Rig) -> None:
    """4008 would come again: no further dial, and whoever asks is told why."""
    await follow(rig, "polybolt")
    await rig.admin.fault_on("policy-4008", feed="polybolt")
    status = await rig.consumer.until_status(lambda s: s["connections"][0]["state"] == "refused")
    (told,) = status["connections"]
    assert "4008" in told["reason"]
    assert "policy" in told["reason"]
    assert (told["incarnation"], told["connected"], told["live_assets"]) == (1, False, 0)
    await rig.consumer.until(
        lambda: all(r.reasons == ["connection_lost"] for r in rig.consumer.streams.values())
    )
    request: dict[str, Any] = {
        "feed": "polybolt",
        "symbols": ["zecusd"],
        "wait": "data",
        "wait_timeout_s": 0.2,
    }
    (lacking,) = (await rig.consumer.ask("subscribe", **request))["missing"]
    assert "4008" in lacking["reason"]
    assert (await rig.admin.ledger())["feeds"]["polybolt"]["opened"] == 1


async def test_polybolt_does_not_answer_who_we_are() -> None:
    """Without an answer nothing is asked; the socket is given up in time, and another one tried."""
    impatient = {
        **QUICK_FEEDS,
        "polybolt": msgspec.structs.replace(QUICK_FEEDS["polybolt"], first_data_timeout_s=0.4),
    }
    with anyio.fail_after(60):
        async with rigged(VENUE, feeds=impatient) as rig:
            await rig.admin.fault_on("auth-silent", feed="polybolt")
            request: dict[str, Any] = {"feed": "polybolt", "symbols": ["btcusd"], "id": "p", "wait": "sent"}
            reply = await rig.consumer.ask("subscribe", **request, wait_timeout_s=1.0)
            assert [missing["asset"] for missing in reply["missing"]] == ["price.crypto:btcusd"]
            await rig.consumer.until_status(lambda s: s["connection_errors"] >= 1)
            assert any("credentials" in (event["reason"] or "") for event in rig.consumer.system)
            assert rig.consumer.streams == {}
            await rig.admin.fault_off("auth-silent")
            request["wait"] = "data"
            reply = await rig.consumer.ask("subscribe", **request)
            assert reply["missing"] == []
            (told,) = (await rig.consumer.ask("status"))["connections"]
            assert (told["state"], told["authenticated"]) == ("live", True)


async def test_polybolt_pings_are_answered() -> None:
    """The server pings below the frames, and hangs up on who misses some in a row: it never has to."""
    curious = PolyboltChoices(
        ping_every_s=0.1, pongs_missed=20
    )  # a machine may stand still for a second or two
    with anyio.fail_after(60):
        async with rigged(venue(polybolt=curious)) as rig:
            await follow(rig, "polybolt")
            (manners,) = manners_of(rig, PolyboltManners)
            for _ in range(22):
                pinged = manners._pinged_ms
                await until(partial(was_pinged_after, manners, pinged))
            await seconds(rig, 5)
            await rig.received_all("polybolt")
            assert (await rig.consumer.ask("status"))["connection_errors"] == 0


def was_pinged_after(manners: PolyboltManners, time_ms: int) -> bool:
    return manners._pinged_ms > time_ms


async def test_polybolt_is_shared(rig: Rig) -> None:
    """A symbol that two want is asked for once and let go with the second."""
    for id_, symbols in (("a", ["btcusd", "ethusd"]), ("b", ["BTC/USD"])):
        reply = await rig.consumer.ask("subscribe", feed="polybolt", symbols=symbols, id=id_, wait="data")
        assert reply["missing"] == []
    (manners,) = manners_of(rig, PolyboltManners)
    await rig.consumer.ask("unsubscribe", id="a")
    await until(lambda: set(manners.following) == {("price.crypto", "btcusd")})
    await seconds(rig, 5)
    await rig.settle()
    assert rig.consumer.streams["polymarket.v1.price.crypto.btcusd"].count("update") == 5
    assert rig.consumer.streams["polymarket.v1.price.crypto.ethusd"].reasons == ["unsubscribed"]


async def test_polybolt_has_two_connections_for_many() -> None:
    """A connection takes so many subscriptions; what is more goes onto the next."""
    small = {
        **QUICK_FEEDS,
        "polybolt": msgspec.structs.replace(QUICK_FEEDS["polybolt"], assets_per_connection=4),
    }
    with anyio.fail_after(60):
        async with rigged(VENUE, feeds=small) as rig:
            reply = await rig.consumer.ask(
                "subscribe",
                feed="polybolt",
                symbols=list(CRYPTO),
                classes=["crypto", "crypto_twap"],
                wait="data",
            )
            assert reply["missing"] == []
            status = await rig.consumer.ask("status")
            assert [(c["assets"], c["live_assets"]) for c in status["connections"]] == [(4, 4), (2, 2)]
            await seconds(rig, 5)
            await rig.received_all("polybolt")


# --- sports ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("uppercase", [False, True])
async def test_sports_pings_are_answered(uppercase: bool) -> None:
    """The server asks, and hangs up on who does not answer: it never has to."""
    curious = SportsChoices(ping_every_s=0.1, pong_within_s=0.3, uppercase=uppercase)
    with anyio.fail_after(60):
        async with rigged(venue(sports=curious)) as rig:
            await follow(rig, "sports")
            (connection,) = rig.connections
            session = connection.session
            assert session is not None
            for _ in range(8):
                heard_at = session.last_frame_at
                await until(lambda at=heard_at: session.last_frame_at > at)  # type: ignore[misc]
            await seconds(rig, 60)
            await rig.received_all("sports")
            status = await rig.consumer.ask("status")
            assert (status["connection_errors"], status["unknown"]) == (0, {})
            (told,) = (await rig.admin.ledger())["connections"].values()
            assert told["closed"] is None


async def test_sports_leagues(rig: Rig) -> None:
    """The feed says everything to everybody: what of it is published is ours to choose."""
    reply = await rig.consumer.ask("subscribe", feed="sports", leagues=["NBA", "atp"], id="two", wait="sent")
    assert reply["subjects"] == ["polymarket.v1.sports.nba.*.>", "polymarket.v1.sports.atp.*.>"]
    await is_served(rig, "sports")
    await seconds(rig, 200)
    received, ledger = await rig.settle("sports")
    wanted = {p: n for p, n in ledger["sent"].items() if p[0].partition("/")[0] in ("nba", "atp")}
    assert received == wanted
    assert {stream.partition("/")[0] for stream, _ in wanted} == {"nba", "atp"}
    assert (
        (await rig.consumer.ask("status"))["unwanted"] == sum(ledger["sent"].values()) - received.total() > 0
    )
    await rig.consumer.ask("subscribe", feed="sports", leagues=["nfl"], id="third", wait="sent")
    await rig.consumer.ask("unsubscribe", id="two")
    await seconds(rig, 200)
    await rig.settle()
    for key, record in rig.consumer.streams.items():
        assert record.reasons == ([] if ".nfl." in key else ["unsubscribed"]), key
    assert any(".nfl." in key for key in rig.consumer.streams)
