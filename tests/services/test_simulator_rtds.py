"""The manners of RTDS, one trade as three feeds tell it, and RTDS's faults and ledger over sockets."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import anyio
import pytest

from polybus_services.simulator import RtdsChoices, Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Commented, PriceMoved
from polybus_services.simulator.feeds import Answer, Frame, Say
from polybus_services.simulator.people import People
from polybus_services.simulator.prices import Prices
from polybus_services.simulator.probe import AdminClient, Client, connected
from polybus_services.simulator.rtds_feed import BAD_REQUEST, RETIRED, RtdsFeed
from polybus_services.simulator.surroundings import Pace, Surroundings

NOW = 1_782_753_357_000
EMPTY = Say("")


class Talk:
    """One client's conversation with RTDS."""

    def __init__(self, choices: RtdsChoices | None = None) -> None:
        self.prices = Prices(1, NOW)
        self.feed = RtdsFeed(People(1), self.prices, choices or RtdsChoices())
        self.client = self.feed.greet("rtds-1", NOW)

    def says(self, message: object, now_ms: int = NOW) -> list[Any]:
        """Say something; the answers, frames decoded."""
        text = message if isinstance(message, str) else json.dumps(message)
        return [self.read(answer) for answer in self.client.receive_text(text, now_ms)]

    def subscribes(self, *subscriptions: dict[str, str], action: str = "subscribe") -> list[Any]:
        return self.says({"action": action, "subscriptions": list(subscriptions)})

    def read(self, answer: Answer) -> Any:
        return json.loads(self.client.address(answer).text) if isinstance(answer, Frame) else answer

    def hears(self, *seconds: int) -> list[Any]:
        """What this client is sent of the prices of these seconds."""
        return [
            self.read(message)
            for second in seconds
            for moved in self.prices.tick(NOW + second * 1_000)
            for message, readers in self.feed.publish(moved)
            if self.client in readers
        ]


def asked(topic: str, kind: str = "*", filters: str | None = None) -> dict[str, str]:
    return {"topic": topic, "type": kind} | ({} if filters is None else {"filters": filters})


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("PING", [EMPTY]),
        ("ping", []),
        ("hello", [BAD_REQUEST]),
        ("{}", [BAD_REQUEST]),
        ('{"action":"dance","subscriptions":[]}', [BAD_REQUEST]),
        (
            '{"action":"subscribe","subscriptions":[{"topic":"activity","type":"*","filters":{}}]}',
            [BAD_REQUEST],
        ),
        ('{"action":"subscribe","subscriptions":[{"topic":"clob_market","type":"*"}]}', [RETIRED]),
        ('{"action":"subscribe","subscriptions":[{"topic":"clob_user","type":"order"}]}', [RETIRED]),
        ('{"action":"subscribe","subscriptions":[{"topic":"weather","type":"*"}]}', []),
        ('{"action":"subscribe","subscriptions":[{"topic":"activity","type":"dances"}]}', []),
        ('{"action":"subscribe","subscriptions":[{"topic":"rfq","type":"*"}]}', [EMPTY]),
        ('{"action":"unsubscribe","subscriptions":[{"topic":"activity","type":"*"}]}', []),
    ],
)
def test_what_is_answered(talk: Talk, text: str, answers: list[Answer]) -> None:
    """Each text of the table in the module has its answer."""
    assert talk.says(text) == answers


def test_lowercase_ping_by_choice() -> None:
    """Whether the old client's `ping` is answered is a choice."""
    assert Talk(RtdsChoices(lowercase_ping=True)).says("ping") == [EMPTY]


def test_everything_without_a_filter(talk: Talk) -> None:
    """No snapshot; one update a second and symbol, each with the connection's id."""
    assert talk.subscribes(asked("crypto_prices_chainlink", "update")) == [EMPTY]
    first, second = talk.hears(1), talk.hears(2)
    assert {update["payload"]["symbol"] for update in first} == {
        f"{base}/usd" for base in ("btc", "eth", "sol", "xrp", "doge", "bnb", "hype", "zec")
    }
    assert len(first) == len(second) == 8
    assert {update["connection_id"] for update in first} == {first[0]["connection_id"]}
    assert talk.feed.greet("rtds-2", NOW).address(Frame(())).text != talk.client.address(Frame(())).text


@pytest.mark.parametrize(
    ("topic", "filters", "symbol", "live"),
    [
        ("crypto_prices", "solusdt,btcusdt", "btcusdt", True),
        ("crypto_prices", '{"symbol":"btcusdt"}', "btcusdt", True),
        ("crypto_prices_chainlink", '{"symbol":"eth/usd"}', "eth/usd", True),
        ("crypto_prices_chainlink", '{"symbol": "eth/usd"}', "eth/usd", False),
        ("crypto_prices_twap_thirty", '{"symbol":"btc/usd"}', "btc/usd", True),
        ("crypto_prices_twap_sixty", '{"symbol":"btc/usd"}', "btc/usd", True),
        ("equity_prices", '{"symbol":"AAPL"}', "aapl", True),
    ],
)
def test_filters_give_a_snapshot(talk: Talk, topic: str, filters: str, symbol: str, live: bool) -> None:
    """A filtered price topic begins with a minute of history; a space in the filter makes that the end, too."""
    empty, *snapshots = talk.subscribes(asked(topic, "update", filters))
    assert empty == EMPTY
    found = next(frame for frame in snapshots if frame["payload"]["symbol"] == symbol)
    assert (found["topic"], found["type"], len(found["payload"]["data"])) == (topic, "subscribe", 60)
    times = [point["timestamp"] for point in found["payload"]["data"]]
    assert times == sorted(set(times))
    heard = talk.hears(1)
    assert (symbol in {update["payload"]["symbol"] for update in heard}) is live
    assert len(heard) == (len(snapshots) if live else 0)


def test_exact_values(talk: Talk) -> None:
    """The exact value is scaled by 1e18 for Chainlink and averages, plain for equities; `value` is near it."""
    talk.subscribes(
        *(asked(topic) for topic in ("crypto_prices", "crypto_prices_chainlink", "equity_prices"))
    )
    talk.subscribes(asked("crypto_prices_twap_sixty"))
    heard = {(update["topic"], update["payload"]["symbol"]): update["payload"] for update in talk.hears(1)}
    btc = Decimal(talk.prices.series["crypto", "btcusd"].last.value).scaleb(-8)
    assert Decimal(str(heard["crypto_prices", "btcusdt"]["value"])) == btc
    chainlink = heard["crypto_prices_chainlink", "btc/usd"]
    assert Decimal(chainlink["full_accuracy_value"]).scaleb(-18) == btc
    assert abs(Decimal(str(chainlink["value"])) - btc) <= Decimal("0.005")
    assert heard["crypto_prices_twap_sixty", "btc/usd"]["window_s"] == 60
    aapl = talk.prices.series["equity", "aapl"].last.value
    assert Decimal(heard["equity_prices", "aapl"]["full_accuracy_value"]) == Decimal(aapl).scaleb(-8)


def test_unsubscribing_one_type_of_all(talk: Talk) -> None:
    """After `*`, taking one type away leaves the others."""
    talk.subscribes(asked("comments"))
    talk.subscribes(asked("comments", "comment_created"), action="unsubscribe")
    assert {kind for _, kind in talk.client.subscriptions} == {
        "comment_removed",
        "reaction_created",
        "reaction_removed",
    }
    talk.client.leave()
    assert talk.client.subscriptions == {}


def test_one_bad_topic_silences_the_message(talk: Talk) -> None:
    """Nothing of such a message is done; by choice, what is good in it is."""
    bad = (asked("crypto_prices"), asked("weather"))
    assert talk.subscribes(*bad) == []
    assert talk.hears(1) == []
    mild = Talk(RtdsChoices(bad_topic_silences=False))
    assert mild.subscribes(*bad) == [EMPTY]
    assert len(mild.hears(1)) == 8


def test_stale_without_pings(talk: Talk) -> None:
    """Six minutes after the last PING no data reaches the client any more, and a PING does not bring it back."""
    talk.says("PING", NOW + 100_000)
    for late_ms, stale in ((459_999, False), (460_001, True)):
        assert list(talk.client.tick(NOW + late_ms)) == []
        assert talk.client.stale is stale
    assert talk.says("PING", NOW + 461_000) == [EMPTY]
    talk.client.tick(NOW + 461_001)
    assert talk.client.stale
    patient = Talk(RtdsChoices(stale_after_s=None))
    patient.client.tick(NOW + 10**9)
    assert not patient.client.stale


@pytest.mark.parametrize(("after_s", "stale"), [(0, True), (5, True), (5.001, False)])
def test_neglect(talk: Talk, after_s: float, stale: bool) -> None:
    """The fault asks how long ago the last PING was; at once asks nothing."""
    talk.says("PING", NOW + 1_000)
    talk.client.neglect(after_s, NOW + 6_000)
    assert talk.client.stale is stale


def test_comments_by_parent() -> None:
    """A filter by parent lets through what is said there: comments, and reactions, which do not name it."""
    exchange, people = Exchange(), People(1)
    crowd = Crowd(exchange, 1, CrowdOptions())
    events = [crowd.open_market(NOW).listing.event_id for _ in range(2)]
    around = Surroundings(1, exchange, people, Pace(price_s=0, game_s=0), NOW)
    feed = RtdsFeed(people, around.prices, RtdsChoices())
    some, everything = feed.greet("rtds-1", NOW), feed.greet("rtds-2", NOW)
    filters = f'{{"parentEntityID":{events[0]},"parentEntityType":"Event"}}'
    for client, wish in ((some, asked("comments", "*", filters)), (everything, asked("comments"))):
        client.receive_text(json.dumps({"action": "subscribe", "subscriptions": [wish]}), NOW)
    kinds: Counter[tuple[str, bool]] = Counter()
    for happening in around.advance(900, NOW):
        assert isinstance(happening, Commented)
        for frame, readers in feed.publish(happening):
            assert isinstance(frame, Frame)
            assert (some in readers) is (str(happening.comment.parent_id) == events[0])
            assert everything in readers
            payload = json.loads(frame.text)["payload"]
            kinds[happening.kind, "parentEntityID" in payload] += 1
    assert set(kinds) == {
        ("comment_created", True),
        ("comment_removed", True),
        ("reaction_created", False),
        ("reaction_removed", False),
    }


def test_exchanges_close_and_open(talk: Talk) -> None:
    """A closed exchange's price stands still; the change itself is an update that repeats the last price."""
    carried = 0
    for second in range(1, 2_000):
        moves = list(talk.prices.tick(NOW + second * 1_000))
        assert all(isinstance(moved, PriceMoved) for moved in moves)
        moved = {move.series.symbol: move for move in moves}
        for series in talk.prices.series.values():
            move = moved.get(series.symbol)
            assert series.open or move is None or move.carried_forward
            carried += move is not None and move.carried_forward
    assert carried > 5


# -- over sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with six markets; half of all orders are the accounts'."""
    options = SimulatorOptions(markets=6, seed=3, paused=True, account_share=0.5)
    with anyio.fail_after(20):
        async with running_simulator(options) as running:
            yield running


async def until_pong(client: Client) -> list[Any]:
    """All data up to the answer of a PING."""
    await client.say("PING")
    heard: list[Any] = []
    while (text := await client.hear()) not in ("", "PONG"):
        assert text is not None
        heard.append(json.loads(text))
    return heard


async def subscribe(client: Client, *subscriptions: dict[str, str]) -> None:
    await client.say({"action": "subscribe", "subscriptions": list(subscriptions)})
    assert await client.hear() == ""


def stream_of(frame: Any) -> tuple[str, str]:
    """The stream and type of a frame, as the ledger names them, worked out from the frame alone."""
    topic, kind, payload = frame["topic"], frame["type"], frame["payload"]
    if topic == "activity":
        return f"{payload['eventSlug']}/{payload['conditionId']}", kind
    if topic == "comments":
        parent = payload.get("parentEntityType", "_"), payload.get("parentEntityID", "_")
        return f"{parent[0]}/{parent[1]}", kind
    symbol = payload["symbol"].replace("/", "").removesuffix("t" if topic == "crypto_prices" else "/")
    class_ = "equity" if topic == "equity_prices" else "crypto_twap" if "twap" in topic else "crypto"
    return f"{class_}/{symbol}", "snapshot" if kind == "subscribe" else kind


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/rtds", "/"])
async def test_the_ledger_agrees(simulator: Simulator, path: str) -> None:
    """What a client of all topics counted is what the ledger says, per stream and type; at either path."""
    async with connected(simulator.rest.replace("http", "ws") + path) as client:
        topics = ("activity", "comments", "crypto_prices", "crypto_prices_twap_sixty", "equity_prices")
        await subscribe(client, *(asked(topic) for topic in topics))
        await subscribe(client, asked("crypto_prices_chainlink", "*", '{"symbol":"btc/usd"}'))
        await AdminClient(simulator.admin).step(1_200)
        seen = Counter(stream_of(frame) for frame in await until_pong(client))
        assert await AdminClient(simulator.admin).sent("rtds-1") == {"sent": seen}
        assert {kind for _, kind in seen} >= {"trades", "orders_matched", "comment_created", "snapshot"}


@pytest.mark.anyio
async def test_one_trade_three_views(simulator: Simulator) -> None:
    """Market, user and activity tell the same trades: same ids, prices, sizes, hashes; and the same people."""
    admin, assets, accounts = AdminClient(simulator.admin), simulator.assets, simulator.accounts
    feeds = simulator.feeds
    async with (
        connected(feeds["market"]) as market,
        connected(feeds["user"]) as alice,
        connected(feeds["user"]) as bob,
        connected(feeds["rtds"]) as rtds,
    ):
        await market.say({"assets_ids": assets, "type": "market"})
        for client, account in ((alice, accounts[0]), (bob, accounts[1])):
            auth = {
                "apiKey": account["api_key"],
                "secret": account["secret"],
                "passphrase": account["passphrase"],
            }
            await client.say({"auth": auth, "type": "user"})
            await until_pong(client)
        await subscribe(rtds, asked("activity"))
        await market.hear_until_pong()
        await admin.step(2_500)
        await admin.pass_time(60)

        prints = {
            event["transaction_hash"]: event
            for event in await market.hear_until_pong()
            if event["event_type"] == "last_trade_price" and event["asset_id"] in assets
        }
        rows = [frame for frame in await until_pong(rtds) if frame["payload"]["asset"] in assets]
        matched = {
            row["payload"]["transactionHash"]: row["payload"]
            for row in rows
            if row["type"] == "orders_matched"
        }
        trades: dict[str, list[Any]] = {}
        for row in rows:
            if row["type"] == "trades":
                trades.setdefault(row["payload"]["transactionHash"], []).append(row["payload"])
        told = [
            (account, await until_pong(client))
            for client, account in ((alice, accounts[0]), (bob, accounts[1]))
        ]

    assert len(prints) > 10
    assert matched.keys() == trades.keys() <= prints.keys()
    for transaction, taker in matched.items():
        event = prints[transaction]
        assert trades[transaction][0] == taker
        assert (taker["asset"], taker["conditionId"], taker["side"]) == (
            event["asset_id"],
            event["market"],
            event["side"],
        )
        assert (Decimal(str(taker["price"])), Decimal(str(taker["size"]))) == (
            Decimal(event["price"]),
            Decimal(event["size"]),
        )
        makers = trades[transaction][1:]
        assert sum(Decimal(str(maker["size"])) for maker in makers) == Decimal(event["size"])

    mined_once = 0
    for account, events in told:
        orders = {event["id"] for event in events if event["event_type"] == "order"}
        for event in (event for event in events if event["event_type"] == "trade"):
            if event["status"] != "MINED" or event["asset_id"] not in assets:
                continue
            mined_once += 1
            rows_of_it = trades[event["transaction_hash"]]
            assert prints[event["transaction_hash"]]["price"] == event["price"]
            own = [row for row in rows_of_it if row["proxyWallet"] == account["wallet"]]
            expected = [maker for maker in event["maker_orders"] if maker["owner"] == account["api_key"]]
            assert all(maker["order_id"] in orders for maker in expected)
            if event["trader_side"] == "TAKER":
                assert event["taker_order_id"] in orders
            else:
                assert [(row["asset"], row["side"], Decimal(str(row["size"]))) for row in own] == [
                    (maker["asset_id"], maker["side"], Decimal(maker["matched_amount"])) for maker in expected
                ]
    assert mined_once > 5


@pytest.mark.anyio
async def test_rtds_stale_at_once_and_for_good(simulator: Simulator) -> None:
    """`rtds-stale`: PONGs and no data, also once the fault is off; a new connection is well."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["rtds"]) as stale, connected(simulator.feeds["rtds"]) as well:
        for client in (stale, well):
            await subscribe(client, asked("crypto_prices"))
        await admin.fault_on("rtds-stale", connection="rtds-1")
        await admin.pass_time(3)
        assert await until_pong(stale) == []
        await admin.fault_off("rtds-stale")
        await admin.pass_time(3)
        assert await until_pong(stale) == []
        assert len(await until_pong(well)) == 6 * 8
        assert sum((await admin.sent("rtds-1"))["withheld"].values()) == 6 * 8


@pytest.mark.anyio
async def test_rtds_stale_when_pings_stop(simulator: Simulator) -> None:
    """With `after_s`, who has sent a PING lately goes on."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["rtds"]) as client:
        await subscribe(client, asked("crypto_prices"))
        await admin.fault_on("rtds-stale", after_s=3_600)
        await admin.pass_time(1)
        assert len(await until_pong(client)) == 8


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "parameters", "count"),
    [
        ("stall", {}, 0),
        ("freeze-asset", {"assets": ["crypto/btcusd"]}, 7),
        ("duplicate", {"count": 1}, 9),
        ("corrupt-frame", {"count": 1, "mode": "cut"}, 7),
        ("unknown-event", {"count": 1, "inside": True}, 9),
    ],
)
async def test_older_faults_work_here_too(
    simulator: Simulator, fault: str, parameters: dict[str, object], count: int
) -> None:
    """Each fault on frames befalls RTDS as it does the market feed."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["rtds"]) as client:
        await subscribe(client, asked("crypto_prices"))
        await admin.fault_on(fault, feed="rtds", **parameters)
        await admin.pass_time(1)
        await client.say("PING")
        heard: list[Any] = []
        while text := await client.hear():
            try:
                heard.append(json.loads(text))
            except json.JSONDecodeError:
                assert fault == "corrupt-frame"
        assert len(heard) == count
        if fault == "unknown-event":
            assert heard[1]["topic"] == "some_future_topic"
