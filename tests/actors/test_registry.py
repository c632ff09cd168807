"""Commands: who wants what, for how long, in which words; and what each of them is answered."""

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from polybus_protocol.control.requests import VERBS
from polybus_services.simulator import SimulatorOptions

from ..support.consumer import Refused
from ..support.contract import document, schema
from ..support.rig import Rig, market_of, rigged
from ..support.until import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    """A rig whose venue is paused: a test lets things happen by hand."""
    with anyio.fail_after(60):
        async with rigged() as running:
            yield running


async def ids(rig: Rig, **which: Any) -> list[str]:
    """The ids of the subscriptions that stand."""
    reply = await rig.consumer.ask("subscriptions", **which)
    return [subscription["id"] for subscription in reply["subscriptions"]]


async def test_an_id_makes_a_request_idempotent(rig: Rig) -> None:
    """Asked again, the same id answers with the subscription that stands; another wish is a conflict."""
    first = await rig.subscribe(*rig.assets[:2], id="mine")
    again = await rig.subscribe(*reversed(rig.assets[:2]), id="mine")
    assert (first["created"], again["created"]) == (True, False)
    with pytest.raises(Refused) as refused:
        await rig.subscribe(rig.assets[2], id="mine")
    assert (refused.value.code, refused.value.error["field"]) == (409, "id")
    assert await ids(rig) == ["mine"]
    assert rig.consumer.of(rig.assets[2]).events == []


async def test_made_up_ids_are_safe(rig: Rig) -> None:
    """An id nobody chose can be typed anywhere: letters and digits only."""
    for _ in range(5):
        reply = await rig.subscribe(rig.assets[0], wait="accepted")
        assert reply["id"].isalnum()
    assert len(set(await ids(rig))) == 5


@pytest.mark.parametrize("id_", ["-dash-", "_", "x" * 64])
async def test_chosen_ids_survive_the_store(rig: Rig, id_: str) -> None:
    """Every id that is allowed can be a key of the bucket."""
    reply = await rig.subscribe(rig.assets[0], id=id_)
    assert reply["durable"] is True
    assert (await rig.consumer.ask("unsubscribe", id=id_))["ids"] == [id_]


async def test_references_are_counted(rig: Rig) -> None:
    """An asset that two want is followed until the second is gone; the venue is told only then."""
    shared, own = rig.assets[0], rig.assets[2]
    await rig.subscribe(shared, id="a")
    await rig.subscribe(shared, own, id="b")
    following = next(iter(rig.simulator.venue.links)).following  # type: ignore[attr-defined]
    await rig.consumer.ask("unsubscribe", id="a")
    assert set(following) == {shared, own}
    assert rig.consumer.of(shared).gaps == []
    await rig.subscribe(own, id="c")
    await rig.consumer.ask("unsubscribe", id="b")
    await rig.consumer.until(lambda: rig.consumer.of(shared).reasons == ["unsubscribed"])
    await until(lambda: set(following) == {own})
    assert rig.consumer.of(own).gaps == []


async def test_an_owner_leaves_with_all_that_is_his(rig: Rig) -> None:
    """`unsubscribe` and `subscriptions` by owner concern his alone."""
    await rig.subscribe(rig.assets[0], id="a", owner="ann")
    await rig.subscribe(rig.assets[1], id="b", owner="ann")
    await rig.subscribe(rig.assets[2], id="c", owner="bob")
    assert await ids(rig, owner="ann") == ["a", "b"]
    assert (await rig.consumer.ask("unsubscribe", owner="ann"))["ids"] == ["a", "b"]
    assert await ids(rig) == ["c"]
    for verb in ("unsubscribe", "renew"):
        with pytest.raises(Refused) as refused:
            await rig.consumer.ask(verb, owner="ann")
        assert refused.value.code == 404
    with pytest.raises(Refused) as refused:
        await rig.consumer.ask("subscriptions", id="a")
    assert refused.value.code == 404


async def test_a_lease_ends(rig: Rig) -> None:
    """Without renewal a lease ends by itself, and with it the interest."""
    reply = await rig.subscribe(rig.assets[0], id="short", ttl_s=0.5)
    assert reply["expires"] > 0
    await rig.subscribe(rig.assets[1], id="long", ttl_s=60)
    await rig.consumer.until(lambda: rig.consumer.of(rig.assets[0]).reasons == ["unsubscribed"])
    assert await ids(rig) == ["long"]


async def test_a_lease_is_renewed(rig: Rig) -> None:
    """A renewal counts from now, with the old length or a new one."""
    first = await rig.subscribe(rig.assets[0], id="s", ttl_s=0.6)
    ((renewed),) = (await rig.consumer.ask("renew", id="s"))["renewed"]
    assert renewed["id"] == "s"
    assert first["expires"] < renewed["expires"] < first["expires"] + 600_000_000
    ((renewed),) = (await rig.consumer.ask("renew", id="s", ttl_s=3600))["renewed"]
    assert renewed["expires"] > first["expires"] + 3_000_000_000_000
    # The first lease would be over by the time this one is.
    await rig.subscribe(rig.assets[1], id="clock", ttl_s=0.8)
    await rig.consumer.until(lambda: rig.consumer.of(rig.assets[1]).reasons == ["unsubscribed"])
    assert await ids(rig) == ["s"]


async def test_markets_alone_wait_until_their_tokens_have_passed_by(rig: Rig) -> None:
    """The venue takes token ids: a market nobody has heard of is refused, one that passed by is resolved."""
    yes, no = rig.assets[:2]
    market = market_of(rig, yes)
    with pytest.raises(Refused) as refused:
        await rig.consumer.ask("subscribe", market_ids=[market])
    assert (refused.value.code, refused.value.error["field"]) == (422, "markets")
    assert "token" in refused.value.error["message"]
    await rig.subscribe(yes)
    await rig.admin.ask("POST", "/resume")
    await rig.consumer.until(lambda: rig.consumer.of(yes).count("price_change") > 0)
    reply = await rig.consumer.ask("subscribe", market_ids=[market], wait="data")
    assert (reply["assets"], reply["missing"]) == (2, [])
    await rig.consumer.until(lambda: rig.consumer.of(no).is_trusted)


async def test_the_whole_venue(rig: Rig) -> None:
    """`new_market` needs no asset: one connection is opened for it, and what it hears is published."""
    with pytest.raises(Refused) as refused:
        await rig.consumer.ask("subscribe", types=["book"])
    assert (refused.value.code, refused.value.error["field"]) == (422, "assets")
    reply = await rig.consumer.ask("subscribe", types=["new_market"], wait="sent", id="venue")
    subjects = ["polymarket.v1.market.*._.new_market", "polymarket.v1.market._._.gap"]
    assert (reply["state"], reply["subjects"]) == ("sent", subjects)
    created = await rig.admin.happen("new_market")
    key = f"polymarket.v1.market.{created['market']}._"
    await rig.consumer.until(lambda: key in rig.consumer.streams)
    (event,) = rig.consumer.streams[key].events
    assert event["assets_ids"] == list(created["assets"])
    (told,) = (await rig.consumer.ask("subscriptions"))["subscriptions"]
    assert told["events_received"] == 1


async def test_the_old_names(rig: Rig) -> None:
    """A request in the terms of the manager that polybus replaced is understood, and listed in today's."""
    old: dict[str, Any] = {
        "channel": "market",
        "event_type": "agg_orderbook",
        "token_ids": rig.assets[:2],
        "market_ids": [market_of(rig, rig.assets[0])],
        "callback_type": "notification",
        "wait": "data",
        "id": "old",
    }
    reply = await rig.consumer.ask("subscribe", **old)
    assert reply["missing"] == []
    assert all(subject.endswith((".book", ".gap")) for subject in reply["subjects"])
    (told,) = (await rig.consumer.ask("subscriptions", id="old"))["subscriptions"]
    assert (told["feed"], told["types"], told["deliver"]) == ("market", ["book"], "subjects")
    assert (told["events_received"], told["live_count"], told["asset_count"]) == (2, 2, 2)
    await rig.admin.step(100)
    await rig.settle()
    (told,) = (await rig.consumer.ask("subscriptions", id="old"))["subscriptions"]
    books = sum(rig.consumer.of(asset).count("book") for asset in rig.assets[:2])
    assert told["events_received"] == books  # of its type, and no other
    assert told["last_event_time"] is not None


async def test_events_are_counted_from_when_a_subscription_was_made(rig: Rig) -> None:
    """Who comes later does not count what came before; each asset has its own numbers."""
    await rig.subscribe(rig.assets[0], id="early")
    await rig.admin.step(100)
    await rig.settle()
    await rig.subscribe(rig.assets[0], id="late")
    early, late = (await rig.consumer.ask("subscriptions"))["subscriptions"]
    assert early["events_received"] > 10
    assert late["events_received"] == 0


async def test_deliver_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    """`deliver: log` gives a line per event of its types, of its assets alone."""
    with caplog.at_level(logging.INFO, logger="polybus.events"):
        await rig.subscribe(rig.assets[0], id="log", deliver="log", types=["book"])
        await rig.subscribe(rig.assets[2])
        await rig.admin.step(200)
        await rig.settle()
        lines = [record for record in caplog.records if record.name == "polybus.events"]
        assert len(lines) == rig.consumer.of(rig.assets[0]).count("book")
        await rig.consumer.ask("unsubscribe", id="log")
        await rig.subscribe(rig.assets[0])
        await rig.admin.step(50)
        await rig.settle()
        assert [record for record in caplog.records if record.name == "polybus.events"] == lines


@pytest.mark.parametrize(
    ("verb", "payload", "code", "field"),
    [
        ("subscribe", b"{", 400, None),
        ("subscribe", b"[]", 400, None),
        ("subscribe", b"\xff\xfe", 400, None),
        ("subscribe", b"[" * 100_000, 400, None),
        ("subscribe", b'{"assets": "\\ud800"}', 400, None),
        ("subscribe", b"{}", 422, "assets"),
        ("subscribe", b'{"assets": ["0x12"]}', 400, "assets"),
        ("subscribe", b'{"assets": [17]}', 400, "assets"),
        ("subscribe", '{"assets": ["\uff11\uff12"]}'.encode(), 400, "assets"),
        ("subscribe", b'{"assets": ["1"], "feed": "weather"}', 422, "feed"),
        ("subscribe", b'{"assets": ["1"], "feed": "sports"}', 400, "assets"),
        ("subscribe", b'{"feed": "user", "types": ["book"]}', 400, "types"),
        ("subscribe", b'{"feed": "user"}', 400, "account"),
        ("subscribe", b'{"feed": "user", "account": "carol"}', 401, "account"),
        ("subscribe", b'{"feed": "rtds", "topics": ["clob_user"]}', 422, "topics"),
        ("subscribe", b'{"feed": "rtds"}', 400, "topics"),
        ("subscribe", b'{"feed": "polybolt"}', 400, "symbols"),
        ("subscribe", b'{"feed": "polybolt", "symbols": ["x"], "classes": ["bonds"]}', 400, "classes"),
        ("subscribe", b'{"feed": "sports", "topics": ["activity"]}', 400, "topics"),
        ("subscribe", b'{"assets": ["1"], "wait": "ever"}', 400, "wait"),
        ("subscribe", b'{"assets": ["1"], "wait_timeout_s": 1e9}', 400, "wait_timeout_s"),
        ("subscribe", b'{"assets": ["1"], "id": "a.b"}', 400, "id"),
        ("subscribe", b'{"assets": ["1"], "colour": "red"}', 400, "colour"),
        ("subscribe", '{"assets": ["1"], "fa\\nrbe \u00e4": "rot"}'.encode(), 400, "fa\nrbe \u00e4"),
        ("unsubscribe", b"", 400, "id"),
        ("unsubscribe", b'{"id": "nobody"}', 404, None),
        ("status", b'{"all": true}', 400, "all"),
    ],
)
async def test_bad_requests(rig: Rig, verb: str, payload: bytes, code: int, field: str | None) -> None:
    """Each is refused with a code, a sentence and the field to blame; and the next request is answered."""
    with pytest.raises(Refused) as refused:
        await rig.consumer.ask_raw(verb, payload, within_s=3)
    assert refused.value.code == code
    if field is not None:
        assert refused.value.error["field"] == field
    assert "Traceback" not in refused.value.error["message"]
    assert (await rig.consumer.ask("status"))["state"] == "running"


async def test_a_request_without_a_reply_subject_is_carried_out(rig: Rig) -> None:
    """`nats pub` is enough to subscribe; the answer has nowhere to go, and nobody is hurt."""
    payload = json.dumps({"assets": rig.assets[:1], "id": "quiet"}).encode()
    await rig.consumer.client.publish("polymarket.v1.control.subscribe", payload)
    await rig.consumer.until(lambda: rig.consumer.of(rig.assets[0]).is_trusted)
    assert await ids(rig) == ["quiet"]


async def test_a_long_wait_holds_up_nobody(rig: Rig) -> None:
    """While some wait for data that does not come, every other question is answered at once."""
    async with anyio.create_task_group() as waiting:
        for number in range(100):
            subject = "polymarket.v1.control.subscribe"
            request = {"assets": ["1"], "wait": "data", "wait_timeout_s": 60, "id": f"w{number}"}
            await rig.consumer.client.publish(subject, json.dumps(request).encode())
        with anyio.fail_after(3):
            await rig.consumer.until_status(lambda s: s["subscriptions"]["total"] >= 60)
            await rig.consumer.ask("unsubscribe", id="w1")
            # Waiting itself is bounded: past it, one is told when to come again.
            with pytest.raises(Refused) as refused:
                await rig.consumer.ask("subscribe", assets=["1"], wait="data", wait_timeout_s=60)
            assert refused.value.code == 429
            assert refused.value.error["retry_after_s"] > 0
        waiting.cancel_scope.cancel()


async def test_an_answer_too_large_for_nats() -> None:
    """What does not fit into a NATS message is refused with a hint, and not with silence."""
    with anyio.fail_after(60):
        async with rigged(SimulatorOptions(markets=1, seed=5, paused=True)) as rig:
            many = [str(10**70 + number) for number in range(6000)]
            await rig.consumer.ask("subscribe", assets=many, id="many")
            with pytest.raises(Refused, match="larger than NATS takes") as refused:
                await rig.consumer.ask("subscriptions")
            assert refused.value.code == 422
            (told,) = (await rig.consumer.ask("subscriptions", assets=False))["subscriptions"]
            assert told["asset_count"] == 6000


async def test_discovery(rig: Rig) -> None:
    """NATS' own discovery finds the service, its verbs, and the JSON Schema of what they take and give."""
    request = rig.consumer.client.request

    async def discover(what: str) -> Any:
        return json.loads((await request(f"$SRV.{what}.polybus", timeout=5)).data)

    ping, info, stats = await discover("PING"), await discover("INFO"), await discover("STATS")
    assert ping["name"] == info["name"] == stats["name"] == "polybus"
    assert info["metadata"]["replica"] == "gw0"
    verbs = {endpoint["name"]: endpoint for endpoint in info["endpoints"]}
    assert set(verbs) == set(VERBS)
    for verb, endpoint in verbs.items():
        assert endpoint["subject"] == f"polymarket.v1.control.{verb}"
        told = {
            part: json.loads(endpoint["metadata"][f"schema.{part}"])
            for part in ("request", "response", "error")
        }
        assert told == {
            "request": schema(f"requests/{verb}"),
            "response": schema(f"replies/{verb}"),
            "error": schema("error"),
        }
    assert {endpoint["name"] for endpoint in stats["endpoints"]} == set(verbs)


async def test_the_contract_is_served(rig: Rig) -> None:
    """The reply is the AsyncAPI document itself, ready for a tool that reads one."""
    assert await rig.consumer.ask("contract") == document()


async def test_what_status_says(rig: Rig) -> None:
    """All that the old manager reported is there, and the numbers agree with what was received."""
    await rig.subscribe(*rig.assets, id="all")
    await rig.admin.step(300)
    received, _ = await rig.settle()
    status = await rig.consumer.ask("status")
    assert status["running"] is True
    assert status["durable"] is True
    assert status["subscriptions"] == {"total": 1, "by_type": {"*": 1}}
    assert status["total_events"] == received.total()
    by_type: dict[str, int] = {}
    for (_, type_), count in received.items():
        by_type[type_] = by_type.get(type_, 0) + count
    assert {k: v for k, v in status["events_by_type"].items() if k not in ("gap", "unknown")} == by_type
    assert status["nats"]["connected"] is True
    assert status["nats"]["server"].count(".") == 2
    assert status["nats"]["server"][0].isdigit()
    assert (status["nats"]["backlog"], status["nats"]["dropped"], status["nats"]["uncertain"]) == (0, 0, 0)
    assert status["nats"]["published"] == rig.consumer.received
