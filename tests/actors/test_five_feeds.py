"""Five feeds through one gateway: every event once, in order and to the digit; and how the feeds belong together."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from typing import Any

import anyio
import pytest

from ..support.five import CRYPTO, FEEDS, VENUE, follow, is_served, said, venue
from ..support.rig import Rig, rigged
from ..support.witness import Fact, agrees, watching

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


def told(rig: Rig, feed: str) -> dict[str, list[dict[str, Any]]]:
    """What the consumer received of a feed: the ledger's stream -> events in order, gaps apart."""
    return {
        stream: events
        for stream in {stream for stream, _ in rig.consumer.counts(feed)}
        if (events := rig.consumer.events(feed, stream))
    }


@pytest.mark.parametrize("feed", FEEDS)
async def test_exactly_once_in_order_and_to_the_digit(rig: Rig, feed: str) -> None:
    """All that the venue says is published once, in order per stream key, with the values that it wrote.

    Said by its ledger, which counts, and by a second client, which heard the same frames.
    """
    async with AsyncExitStack() as stack:
        await follow(rig, feed)
        witnesses = [
            await stack.enter_async_context(watching(rig.simulator, feed, *messages))
            for messages in said(rig.simulator, feed)
        ]
        await rig.admin.ask("POST", "/step", {"events": 500, "seconds": 60})
        await rig.settle()
        received = told(rig, feed)
        expected: dict[str, list[Fact]] = {}
        for label, witness in zip(("alice", "bob"), witnesses, strict=False):
            for stream, facts in (await witness.facts()).items():
                expected[f"{label}/{stream}" if feed == "user" else stream] = facts
        ledger = await rig.ledger(feed)
    assert received.keys() == expected.keys()
    assert sum(map(len, expected.values())) > 25, "so little proves nothing"
    for stream, facts in expected.items():
        events = received[stream]
        assert len(events) == len(facts), stream
        for fact, event in zip(facts, events, strict=True):
            assert agrees(fact, event), (stream, fact, event)
    # The ledger speaks of both of us.
    sent = {place: count // 2 for place, count in ledger["sent"].items()}
    if feed != "market":
        assert rig.consumer.counts(feed) == sent
    assert all(record.gaps == [] for record in rig.consumer.streams.values())
    status = await rig.consumer.ask("status")
    assert (status["unknown"], status["unknown_fields"], status["connection_errors"]) == ({}, {}, 0)


async def test_one_trade_three_views() -> None:
    """The market, the account and the public activity tell of a trade alike: transaction, price and size."""
    with anyio.fail_after(60):
        async with rigged(venue(account_share=1.0)) as rig:
            await follow(rig, "market", "user", "rtds")
            markets = [str(market["market"]) for market in rig.simulator.markets]
            for market in markets * 3:
                await rig.admin.happen("trade", market)
            await rig.admin.ask("POST", "/step", {"seconds": 30})
            await rig.received_all("market", "user", "rtds")
            events = [event for record in rig.consumer.streams.values() for event in record.events]
            printed = {e["transaction_hash"]: e for e in events if e["type"] == "last_trade_price"}
            matched = {e["transaction_hash"]: e for e in events if e["type"] == "orders_matched"}
            mined = [e for e in events if e["type"] == "trade" and e["status"] == "MINED"]
            own = {e["transaction_hash"]: e for e in mined}
            # All orders are our accounts', so each trade is somebody's; some are never mined.
            assert len(printed) == 12
            assert matched.keys() == own.keys() <= printed.keys()
            assert len(matched) >= 8
            for transaction, public in matched.items():
                views = [printed[transaction], public, own[transaction]]
                for field in ("market", "asset", "side", "price", "size"):
                    assert len({view[field] for view in views}) == 1, (field, views)
                rows = [e for e in events if e["type"] == "trades" and e["transaction_hash"] == transaction]
                shares = sum(Decimal(maker["matched_amount"]) for maker in own[transaction]["maker_orders"])
                assert len(rows) == 1 + len(own[transaction]["maker_orders"])
                assert shares == Decimal(public["size"])


# --- what nobody knows -------------------------------------------------------------------------------

STRANGE: dict[str, list[tuple[str, str]]] = {
    "market": [
        ('{"event_type":"weather","asset_id":"1"}', "event"),
        ('{"event_type":"book","asset_id":{}}', "malformed"),
        ("<html>", "word"),
        ('{"event_type"', "not_json"),
    ],
    "user": [
        ('{"event_type":"deposit","amount":"1"}', "event"),
        ('{"event_type":"order","id":7}', "malformed"),
        ("hello", "word"),
        ('{"event_type":"order"', "not_json"),
    ],
    "rtds": [
        ('{"topic":"weather","type":"update","payload":{},"timestamp":1}', "event"),
        ('{"topic":"activity","type":"hailed","payload":{},"timestamp":1}', "event"),
        ('{"topic":"activity","type":"trades","payload":{"price":{}},"timestamp":1}', "malformed"),
        ('{"statusCode":400,"body":{"message":"no"}}', "refused"),
        ("hello", "word"),
        ("[1,", "not_json"),
    ],
    "polybolt": [
        ('{"v":1,"channel":"weather","seq":1000000,"ts":1,"payload":{}}', "event"),
        ('{"op":"sing"}', "event"),
        ('{"v":2,"channel":"price.crypto","seq":1,"ts":1,"payload":{}}', "malformed"),
        ('{"op":"error","code":"bad_filter"}', "refused"),
        ("hello", "word"),
        ("{", "not_json"),
    ],
    "sports": [
        ('{"weather":"fair"}', "event"),
        ('{"gameId":1,"live":"maybe"}', "malformed"),
        ("hello", "word"),
        ("{]", "not_json"),
    ],
}


@pytest.mark.parametrize("feed", FEEDS)
async def test_what_nobody_knows(rig: Rig, feed: str) -> None:
    """Strange frames are published raw under the feed's name and counted by kind; what is known goes on."""
    await follow(rig, feed)
    link = rig.links(feed)[0]
    for text, _ in STRANGE[feed]:
        link.say(text)  # type: ignore[attr-defined]
    await rig.consumer.until(lambda: len(rig.consumer.unknown) == len(STRANGE[feed]))
    heard = [(event["raw"], event["kind"], event["feed"]) for event in rig.consumer.unknown]
    assert heard == [(text, kind, feed) for text, kind in STRANGE[feed]]
    assert {event["subject"] for event in rig.consumer.unknown} == {f"polymarket.v1.unknown.{feed}"}
    status = await rig.consumer.ask("status")
    assert status["unknown"] == dict(Counter(kind for _, kind in STRANGE[feed]))
    await rig.admin.ask("POST", "/step", {"events": 400, "seconds": 30})
    await rig.received_all(feed)
    status = await rig.consumer.ask("status")
    assert (status["connection_errors"], status["reconnects"], status["restarts"]) == (0, 0, 0)


FIELDS = {
    "market": '{"event_type":"last_trade_price","market":"0x1","asset_id":"1","price":"0.5","size":"1","side":"BUY",'
    '"timestamp":"1795000000000","mood":"fair"}',
    "user": '{"event_type":"order","id":"0x1","market":"0x1","asset_id":"1","side":"BUY","price":"0.5","type":"UPDATE",'
    '"status":"LIVE","original_size":"1","size_matched":"0","timestamp":"1795000000000","mood":"fair"}',
    "rtds": '{"topic":"comments","type":"comment_created","timestamp":1795000000000,"payload":{"id":"1","body":"x",'
    '"parentEntityID":1,"parentEntityType":"Event","mood":"fair"}}',
    "polybolt": '{"v":1,"channel":"price.crypto","seq":1000000,"ts":1795000000000,"payload":{"symbol":"btcusd",'
    '"value":1,"timestamp":1795000000000,"mood":"fair"}}',
    "sports": '{"gameId":1,"leagueAbbreviation":"nfl","score":"1-0","mood":"fair"}',
}


@pytest.mark.parametrize("feed", FEEDS)
async def test_a_field_nobody_knows(rig: Rig, feed: str) -> None:
    """An event with a new field is published, the field told once and counted each time."""
    await follow(rig, feed)
    link = rig.links(feed)[0]
    text = FIELDS[feed]
    link.say(text)  # type: ignore[attr-defined]
    link.say(text.replace('"0x1","market"', '"0x2","market"').replace("fair", "foul"))  # type: ignore[attr-defined]
    status = await rig.consumer.until_status(lambda s: sum(s["unknown_fields"].values()) == 2)
    assert [name.endswith(".mood") for name in status["unknown_fields"]] == [True]
    await rig.consumer.until(lambda: len(rig.consumer.unknown) == 1)
    assert rig.consumer.unknown[0]["kind"] == "field"
    assert "mood" in rig.consumer.unknown[0]["reason"]


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize("fault", ["unknown-event", "corrupt-frame"])
async def test_strange_among_the_known(rig: Rig, feed: str, fault: str) -> None:
    """Whatever strange things stand between the events, each event is received, or its stream has a gap."""
    await follow(rig, feed)
    await rig.admin.ask("POST", "/step", {"events": 500, "seconds": 20})
    await rig.settle()
    seen = {key: len(record.events) for key, record in rig.consumer.streams.items()}
    await rig.admin.fault_on(fault, feed=feed, count=8)
    await rig.admin.ask("POST", "/step", {"events": 500, "seconds": 20})
    if fault == "unknown-event" and feed != "polybolt":
        await rig.received_all(feed)
        assert [gap for record in rig.consumer.streams.values() for gap in record.gaps] == []
        assert (await rig.consumer.ask("status"))["unknown"] == {"event": 8}
        return
    await rig.received_all(feed)  # what was sent whole; the corrupted ones are no part of it
    ledger = await rig.ledger(feed)
    if fault == "unknown-event":
        # The made-up channel `price.future` is taken for one of prices, and its payload for a loss.
        assert (await rig.consumer.ask("status"))["unknown"] == {"malformed": 8}
        return
    corrupted = {stream for stream, _ in ledger["corrupted"]}
    assert sum(ledger["corrupted"].values()) >= 8
    for key, record in rig.consumer.streams.items():
        if key in seen and rig.consumer.stream_of(key) in corrupted:
            assert "undecodable_frame" in record.reasons, key
    assert {event["kind"] for event in rig.consumer.unknown} <= {"not_json", "malformed"}


# --- how the feeds belong together -------------------------------------------------------------------


async def test_two_feeds_meet_on_one_subject(rig: Rig) -> None:
    """Prices of RTDS and PolyBolt have one stream per symbol and one numbering, whoever brought them."""
    await follow(rig, "rtds", "polybolt")
    await rig.admin.ask("POST", "/step", {"seconds": 30})
    await rig.received_all("rtds", "polybolt")
    for symbol in CRYPTO:
        record = rig.consumer.streams[f"polymarket.v1.price.crypto.{symbol}"]
        assert Counter(event["feed"] for event in record.events if event["type"] == "update") == {
            "rtds": 60,  # by Binance and by Chainlink
            "polybolt": 30,
        }
        assert {event["source"] for event in record.events} == {"binance", "chainlink", "pyth"}
        assert [event["seq"] for event in record.events] == list(range(1, len(record.events) + 1))
        assert len({event["epoch"] for event in record.events}) == 1


@pytest.mark.parametrize("lost", ["rtds", "polybolt"])
async def test_one_of_two_feeds_is_lost(rig: Rig, lost: str) -> None:
    """The loss of one feed is a gap on the streams that both bring; the other one goes on meanwhile."""
    other = "polybolt" if lost == "rtds" else "rtds"
    await follow(rig, "rtds", "polybolt")
    await rig.admin.ask("POST", "/step", {"seconds": 5})
    await rig.settle()
    records = [rig.consumer.streams[f"polymarket.v1.price.crypto.{symbol}"] for symbol in CRYPTO]
    await rig.admin.fault_on("refuse-429", feed=lost)
    await rig.admin.fault_on("drop", feed=lost)
    await rig.consumer.until(lambda: all(record.reasons == ["connection_lost"] for record in records))
    assert all(lost in gap["connection"] for record in records for gap in record.gaps)
    await rig.admin.ask("POST", "/step", {"seconds": 5})
    await rig.settle()
    for record in records:
        closing, *after = record.events[record.events.index(record.gaps[0]) + 1 :]
        assert (closing["type"], closing["closed_by"]) == (
            "gap",
            "sequence" if other == "polybolt" else "data",
        )
        assert {event["feed"] for event in after} == {other}
        assert len(after) == (5 if other == "polybolt" else 10)
    # Nobody takes the other's prices for its own health.
    listed = (await rig.consumer.ask("subscriptions"))["subscriptions"]
    for told_of in (s for s in listed if s["feed"] == lost):
        assert told_of["live_count"] == 0
        assert all(asset["state"] == "waiting" for asset in told_of["assets"])
    await rig.admin.fault_off("refuse-429")
    await is_served(rig, lost)
    await rig.admin.ask("POST", "/step", {"seconds": 5})
    await rig.settle()
    for record in records:
        assert record.reasons == ["connection_lost"]
        # The one that came back may begin with a snapshot; a tick is two events of RTDS and one of PolyBolt.
        assert Counter(event["feed"] for event in record.events[-15:]) == {"rtds": 10, "polybolt": 5}


async def test_five_feeds_side_by_side(rig: Rig) -> None:
    """None disturbs another: all of what five feeds send arrives, over the connections that they need."""
    await follow(rig, *FEEDS)
    await rig.admin.ask("POST", "/step", {"events": 500, "seconds": 60})
    await rig.received_all(*FEEDS)
    status = await rig.consumer.ask("status")
    assert {c["id"]: c["authenticated"] for c in status["connections"]} == {
        "gw0-market-1": None,
        "gw0-user-alice-1": True,
        "gw0-user-bob-1": True,
        "gw0-rtds-1": None,
        "gw0-polybolt-alice-1": True,
        "gw0-sports-1": None,
    }
    received = sum((rig.consumer.counts(feed) for feed in FEEDS), Counter[tuple[str, str]]())
    assert status["total_events"] == received.total()
    assert status["gaps"] == 0
    for subscription in (await rig.consumer.ask("subscriptions"))["subscriptions"]:
        feed, account = subscription["feed"], subscription["account"]
        places = [
            p for p in rig.consumer.counts(feed).items() if feed != "user" or p[0][0].startswith(account)
        ]
        if feed != "polybolt":  # two subscriptions share it
            assert subscription["events_received"] == sum(count for _, count in places)
