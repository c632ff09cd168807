"""The manners of PolyBolt, as conversations without a network, and its faults and ledger over sockets."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from itertools import pairwise
from typing import Any

import anyio
import pytest
from wsproto.events import CloseConnection, Ping

from polybus_services.simulator import PolyboltChoices, Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.feeds import Answer, AuthFate, Close, Frame, ProtocolPing, Say
from polybus_services.simulator.people import People
from polybus_services.simulator.polybolt_feed import PolyboltFeed
from polybus_services.simulator.prices import Prices
from polybus_services.simulator.probe import AdminClient, Client, connected

NOW = 1_788_973_000_000
CHANNELS = ("price.crypto", "price.crypto.twap", "price.equity", "price.equity.twap")


class Talk:
    """One client's conversation with PolyBolt."""

    def __init__(self, choices: PolyboltChoices | None = None, fate: AuthFate = "admit") -> None:
        self.exchange = Exchange()
        self.crowd = Crowd(self.exchange, 1, CrowdOptions(0, 0))
        self.market = self.crowd.open_market(NOW)
        self.prices = Prices(1, NOW)
        self.people = People(1)
        self.feed = PolyboltFeed(
            self.exchange, self.people, self.prices, choices or PolyboltChoices(), lambda _: fate
        )
        self.client = self.feed.greet("polybolt-1", NOW)

    def says(self, message: object, now_ms: int = NOW) -> list[Any]:
        """Say something; the answers, decoded."""
        text = message if isinstance(message, str) else json.dumps(message)
        return [self.read(answer) for answer in self.client.receive_text(text, now_ms)]

    def read(self, answer: Answer) -> Any:
        if isinstance(answer, Frame):
            return json.loads(self.client.address(answer).text)
        return json.loads(answer.text) if isinstance(answer, Say) else answer

    def auths(self, **changes: str) -> list[Any]:
        return self.says(auth(self.people.accounts["alice"].show() | changes))

    def hears(self, happening: Any) -> list[Any]:
        """What this client is sent of it."""
        return [self.read(frame) for frame, readers in self.feed.publish(happening) if self.client in readers]

    def lets_pass(self, seconds: int) -> list[Any]:
        return [
            heard
            for second in range(1, seconds + 1)
            for moved in self.prices.tick(NOW + second * 1_000)
            for heard in self.hears(moved)
        ]


def auth(account: dict[str, str], rid: str | None = "a1") -> dict[str, object]:
    credentials = {
        "apiKey": account["api_key"],
        "secret": account["secret"],
        "passphrase": account["passphrase"],
    }
    return {"op": "auth", "auth": credentials, **({"rid": rid} if rid else {})}


def item(channel: str, symbol: str, **more: object) -> dict[str, object]:
    window = {"window_seconds": 60} if channel.endswith("twap") else {}
    return {"channel": channel, "filter": {"symbol": symbol, **window, **more}}


def subscribing(*items: dict[str, object], rid: str = "s1", op: str = "subscribe") -> dict[str, object]:
    return {"op": op, "rid": rid, "subscriptions": list(items)}


@pytest.fixture
def talk() -> Talk:
    """A client that has authenticated."""
    talk = Talk()
    assert talk.auths() == [{"op": "authed", "rid": "a1"}]
    return talk


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ({"op": "ping", "rid": "p1"}, {"op": "pong", "rid": "p1"}),
        ({"op": "ping"}, {"op": "pong"}),
        ({"op": "dance", "rid": "d1"}, {"op": "error", "code": "bad_op", "rid": "d1"}),
        ("PING", {"op": "error", "code": "bad_op"}),
        ({"op": "subscribe", "rid": "s1"}, {"op": "error", "code": "bad_channel", "rid": "s1"}),
        (
            subscribing(item("price.weather", "btcusd")),
            {"op": "error", "code": "bad_channel", "channel": "price.weather", "rid": "s1"},
        ),
        (
            subscribing({"channel": "price.crypto", "filter": {"symbol": 7}}),
            {"op": "error", "code": "bad_filter", "channel": "price.crypto", "rid": "s1"},
        ),
        (
            subscribing({"channel": "price.crypto", "filter": '{"symbol":"btcusd"}'}),
            {"op": "error", "code": "bad_filter", "channel": "price.crypto", "rid": "s1"},
        ),
        (
            subscribing(
                {"channel": "price.crypto.twap", "filter": {"symbol": "btcusd", "window_seconds": 30}}
            ),
            {"op": "error", "code": "bad_filter", "channel": "price.crypto.twap", "rid": "s1"},
        ),
        (
            subscribing(item("price.crypto", "btcusd", provider="binance")),
            {"op": "error", "code": "bad_filter", "channel": "price.crypto", "rid": "s1"},
        ),
        (
            subscribing({"channel": "price.polymarket", "filter": {}}),
            {"op": "error", "code": "bad_filter", "channel": "price.polymarket", "rid": "s1"},
        ),
        (
            {"op": "unsubscribe", "channel": "price.crypto", "filter": {"symbol": "btcusd"}},
            {"op": "unsubscribed", "channel": "price.crypto"},
        ),
    ],
)
def test_what_is_answered(talk: Talk, message: object, answer: object) -> None:
    """Each message has its answer, with its `rid`."""
    assert talk.says(message) == [answer]


def test_a_challenge_is_answered_with_a_nonce(talk: Talk) -> None:
    """A UUID, and the `rid`."""
    (answer,) = talk.says({"op": "challenge", "rid": "c1"})
    assert (answer["op"], answer["rid"], len(answer["nonce"])) == ("challenge", "c1", 36)


def test_everything_needs_credentials() -> None:
    """Before `auth` each item is refused by itself."""
    answers = Talk().says(subscribing(item("price.crypto", "btcusd"), item("price.equity", "aapl")))
    assert answers == [
        {"op": "error", "code": "auth_required", "channel": channel, "rid": "s1"}
        for channel in ("price.crypto", "price.equity")
    ]


@pytest.mark.parametrize("wrong", ["api_key", "secret", "passphrase"])
def test_wrong_credentials(wrong: str) -> None:
    """Eight attempts are answered, the ninth ends the connection; by choice the first does."""
    talk = Talk()
    for _ in range(8):
        assert talk.auths(**{wrong: "another"}) == [{"op": "error", "code": "auth_invalid", "rid": "a1"}]
    last, close = talk.auths(**{wrong: "another"})
    assert (last["code"], close.code) == ("auth_attempts", 4008)
    strict = Talk(PolyboltChoices(wrong_credentials="close"))
    assert strict.auths(**{wrong: "another"}) == [Close(4001, "credential refused")]


def test_auth_by_fault() -> None:
    """Silence, also to what follows, but not to pings; or a close, whatever the credentials."""
    silent = Talk(fate="silent")
    assert silent.auths() == []
    assert silent.says(subscribing(item("price.crypto", "btcusd"))) == []
    assert silent.says({"op": "ping", "rid": "p1"}) == [{"op": "pong", "rid": "p1"}]
    assert Talk(fate="4001").auths() == [Close(4001, "credential refused")]


@pytest.mark.parametrize(
    ("channel", "symbol"),
    [
        ("price.crypto", "btcusd"),
        ("price.crypto", "BTCUSD"),
        ("price.crypto.twap", "btcusd"),
        ("price.equity", "aapl"),
        ("price.equity.twap", "aapl"),
    ],
)
@pytest.mark.parametrize("provider", [None, "pyth", "chainlink"])
def test_acknowledged_then_a_snapshot_then_updates(
    talk: Talk, channel: str, symbol: str, provider: str | None
) -> None:
    """Numbered from 1, snapshot included; every payload names its source; exact values as text."""
    wish = item(channel, symbol, **({"provider": provider} if provider else {}))
    ack, snapshot = talk.says(subscribing(wish))
    assert ack == {"op": "subscribed", "channel": channel, "rid": "s1"}
    assert (snapshot["v"], snapshot["seq"], snapshot["snapshot"]) == (1, 1, True)
    updates = talk.lets_pass(3)
    assert [update["seq"] for update in updates] == [2, 3, 4]
    class_ = "equity" if "equity" in channel else "crypto"
    for frame in (snapshot, *updates):
        payload = frame["payload"]
        assert (payload["symbol"], payload["source"]) == (symbol.lower(), provider or "pyth")
        assert payload.get("window_seconds") == (60 if channel.endswith("twap") else None)
        assert payload.get("market_status") == ("open" if class_ == "equity" else None)
        for point in payload.get("data", [payload]):
            assert abs(Decimal(point["full_accuracy_value"]) - Decimal(str(point["value"]))) <= Decimal(
                "0.005"
            )
    if not channel.endswith("twap"):
        exact = Decimal(updates[-1]["payload"]["full_accuracy_value"])
        assert exact == Decimal(talk.prices.series[class_, symbol.lower()].last.value).scaleb(-8)
    assert "snapshot" not in updates[0]


def test_a_repeated_subscription_gives_no_new_snapshot(talk: Talk) -> None:
    """It is acknowledged, and that is all; after leaving and coming back there is one, and numbers go on."""
    wish = subscribing(item("price.crypto", "btcusd"))
    talk.says(wish)
    assert talk.says(wish) == [{"op": "subscribed", "channel": "price.crypto", "rid": "s1"}]
    talk.says(wish | {"op": "unsubscribe"})
    assert talk.lets_pass(1) == []
    assert talk.says(wish)[1]["seq"] == 2


def test_numbers_are_per_channel(talk: Talk) -> None:
    """Two symbols of a channel share its numbers, another channel has its own."""
    talk.says(
        subscribing(
            item("price.crypto", "btcusd"), item("price.crypto", "ethusd"), item("price.equity", "aapl")
        )
    )
    heard = [(update["channel"], update["seq"]) for update in talk.lets_pass(2)]
    assert [seq for channel, seq in heard if channel == "price.crypto"] == [3, 4, 5, 6]
    assert [seq for channel, seq in heard if channel == "price.equity"] == [2, 3]


def test_a_symbol_that_does_not_exist(talk: Talk) -> None:
    """It is acknowledged and has an empty snapshot."""
    _, snapshot = talk.says(subscribing(item("price.crypto", "moonusd")))
    assert snapshot["payload"] == {"symbol": "moonusd", "source": "pyth", "data": []}


def test_a_closed_exchange(talk: Talk) -> None:
    """A change of status repeats the last price and its time; averages say nothing of it."""
    talk.says(subscribing(item("price.equity", "aapl"), item("price.equity.twap", "aapl")))
    heard = [update["payload"] for update in talk.lets_pass(3_000) if update["channel"] == "price.equity"]
    changes = [number for number, payload in enumerate(heard) if payload["is_carried_forward"]]
    assert len(changes) > 2
    for number in changes[1:]:
        before, change = heard[number - 1], heard[number]
        assert change["market_status"] != before["market_status"]
        assert change["timestamp"] == before["timestamp"]
        assert change["full_accuracy_value"] == before["full_accuracy_value"]


def test_tops_of_books(talk: Talk) -> None:
    """`price.polymarket`: the best bid and ask at once, then whenever one of them moves."""
    asset = talk.market.listing.assets[1]
    wish: dict[str, object] = {"channel": "price.polymarket", "filter": {"asset_id": asset}}
    ack, snapshot = talk.says(subscribing(wish))
    assert (ack["op"], snapshot["snapshot"], snapshot["payload"]["asset_id"]) == ("subscribed", True, asset)
    tops = [snapshot["payload"]]
    for number in range(3_000):
        fact = talk.crowd.act(NOW + number)
        heard = talk.hears(fact)
        assert len(heard) == bool(getattr(fact, "top_moved", False))
        tops += [update["payload"] for update in heard]
    assert len(tops) > 20
    for before, after in pairwise(tops):
        assert (before["best_bid"], before["best_ask"]) != (after["best_bid"], after["best_ask"])
    assert talk.says(subscribing({"channel": "price.polymarket", "filter": {"asset_id": "404"}})) == [
        {"op": "subscribed", "channel": "price.polymarket", "rid": "s1"}
    ]


def test_sixty_four_subscriptions(talk: Talk) -> None:
    """The sixty-fifth item is refused by itself; room that is made can be used."""
    answers = talk.says(subscribing(*(item("price.crypto", f"coin{number}usd") for number in range(66))))
    codes = Counter((answer.get("op"), answer.get("code")) for answer in answers)
    assert codes == {("subscribed", None): 64, (None, None): 64, ("error", "sub_limit"): 2}
    talk.says(subscribing(item("price.crypto", "coin0usd"), op="unsubscribe"))
    assert talk.says(subscribing(item("price.crypto", "coin65usd")))[0]["op"] == "subscribed"


def test_twenty_frames_a_second(talk: Talk) -> None:
    """The twenty-first in a second is refused and not done, however many items it has; pings do not count."""
    batch = subscribing(item("price.crypto", "btcusd"), item("price.crypto", "ethusd"))
    for number in range(20):
        assert talk.says(batch, NOW + number)[0]["op"] == "subscribed"
        assert talk.says({"op": "ping"}, NOW + number) == [{"op": "pong"}]
    refused = [{"op": "error", "code": "rate_limited", "rid": "s1"}]
    assert talk.says(subscribing(item("price.equity", "aapl")), NOW + 999) == refused
    assert talk.says(subscribing(item("price.equity", "aapl")), NOW + 1_000)[0]["op"] == "subscribed"


def test_a_frame_too_large(talk: Talk) -> None:
    """64 KB are taken, a byte more ends the connection."""
    pad = len(json.dumps({"op": "ping", "rid": ""}))
    assert talk.says({"op": "ping", "rid": "x" * (64 * 1024 - pad)})[0]["op"] == "pong"
    assert talk.says({"op": "ping", "rid": "x" * (64 * 1024 - pad + 1)}) == [Close(4008, "frame too large")]


def test_pings_of_the_server(talk: Talk) -> None:
    """One every 25 s; after two without a pong the connection is closed, with one it is not."""
    assert list(talk.client.tick(NOW + 24_999)) == []
    assert list(talk.client.tick(NOW + 25_000)) == [ProtocolPing()]
    talk.client.receive_pong()
    assert list(talk.client.tick(NOW + 50_000)) == [ProtocolPing()]
    assert list(talk.client.tick(NOW + 75_000)) == [ProtocolPing()]
    assert list(talk.client.tick(NOW + 100_000)) == [Close(4002, "pong timeout")]


# -- over sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with three markets."""
    with anyio.fail_after(20):
        async with running_simulator(SimulatorOptions(markets=3, seed=3, paused=True)) as running:
            yield running


async def until_pong(client: Client) -> list[Any]:
    """All up to the answer of a ping."""
    await client.say({"op": "ping", "rid": "done"})
    heard: list[Any] = []
    while True:
        text = await client.hear()
        assert text is not None, client.closed
        heard.append(json.loads(text))
        if heard[-1].get("op") == "pong":
            return heard[:-1]


async def begin(client: Client, simulator: Simulator, *items: dict[str, object]) -> list[Any]:
    await client.say(auth(simulator.accounts[0]))
    await client.say(subscribing(*items))
    return [heard for heard in await until_pong(client) if "op" not in heard]


def stream_of(frame: Any) -> tuple[str, str]:
    """The stream and type of a frame, as the ledger names them, worked out from the frame alone."""
    if frame["channel"] == "price.polymarket":
        return f"polymarket/{frame['payload']['asset_id']}", "quote"
    class_ = frame["channel"].removeprefix("price.").replace(".", "_")
    return f"{class_}/{frame['payload']['symbol']}", "snapshot" if frame.get("snapshot") else "update"


@pytest.mark.anyio
async def test_the_ledger_agrees(simulator: Simulator) -> None:
    """What a client counted is what the ledger says, per stream and type; and no number is missing."""
    items = [item(channel, "btcusd" if "crypto" in channel else "aapl") for channel in CHANNELS]
    quotes: dict[str, object] = {"channel": "price.polymarket", "filter": {"asset_id": simulator.assets[0]}}
    async with connected(simulator.feeds["polybolt"]) as client:
        heard = await begin(client, simulator, *items, quotes)
        await AdminClient(simulator.admin).step(600)
        heard += await until_pong(client)
        seen = Counter(stream_of(frame) for frame in heard)
        assert await AdminClient(simulator.admin).sent("polybolt-1") == {"sent": seen}
        assert len({stream for stream, _ in seen}) == 5
        for channel in (*CHANNELS, "price.polymarket"):
            numbers = [frame["seq"] for frame in heard if frame["channel"] == channel]
            assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "parameters", "numbers", "dropped"),
    [
        ("seq-gap", {"count": 3}, [5, 6], []),
        ("seq-gap", {"count": 1, "assets": ["crypto/ethusd"]}, [2, 3, 4, 5, 6], []),
        ("dropped-count", {"count": 3}, [2, 3], [3]),
        ("dropped-count", {"count": 3, "skip_seq": True}, [5, 6], [3]),
        ("stall", {}, [], []),
        ("duplicate", {"count": 1}, [2, 2, 3, 4, 5, 6], []),
    ],
)
async def test_lost_frames(
    simulator: Simulator, fault: str, parameters: dict[str, object], numbers: list[int], dropped: list[int]
) -> None:
    """`seq-gap` leaves a hole in the numbers, `dropped-count` says how many are missing; both are on record."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["polybolt"]) as client:
        assert len(await begin(client, simulator, item("price.crypto", "btcusd"))) == 1
        await admin.fault_on(fault, **parameters)
        await admin.pass_time(5)
        heard = await until_pong(client)
        assert [frame["seq"] for frame in heard] == numbers
        assert [frame["dropped"] for frame in heard if "dropped" in frame] == dropped
        told = await admin.sent("polybolt-1")
        withheld = sum(told.get("withheld", {}).values())
        assert len(set(numbers)) + withheld == 5


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "parameters", "code"),
    [
        ("drain-4003", {}, 4003),
        ("slow-4002", {}, 4002),
        ("policy-4008", {}, 4008),
        ("drain-4003", {"count": 1}, 4003),
        ("close-1013", {"feed": "polybolt"}, 1013),
    ],
)
async def test_closes_by_name(
    simulator: Simulator, fault: str, parameters: dict[str, object], code: int
) -> None:
    """Each close code by its fault's name, at once or at the next frame; other feeds are left alone."""
    admin = AdminClient(simulator.admin)
    async with (
        connected(simulator.feeds["polybolt"]) as client,
        connected(simulator.feeds["market"]) as other,
    ):
        await begin(client, simulator, item("price.crypto", "btcusd"))
        await other.say({"assets_ids": simulator.assets, "type": "market"})
        await admin.fault_on(fault, **parameters)
        await admin.pass_time(1)
        assert await client.hear() is None
        assert client.closed is not None
        assert client.closed.code == code
        await other.hear_until_pong()


@pytest.mark.anyio
async def test_faults_of_authentication(simulator: Simulator) -> None:
    """`auth-silent` and `auth-4001`, as often as said."""
    admin = AdminClient(simulator.admin)
    await admin.fault_on("auth-silent", count=1)
    async with connected(simulator.feeds["polybolt"]) as client:
        assert await begin(client, simulator, item("price.crypto", "btcusd")) == []
    await admin.fault_on("auth-4001", feed="polybolt", count=1)
    async with connected(simulator.feeds["polybolt"]) as client:
        await client.say(auth(simulator.accounts[0]))
        assert await client.hear() is None
        assert client.closed is not None
        assert client.closed.code == 4001
    async with connected(simulator.feeds["polybolt"]) as client:
        assert len(await begin(client, simulator, item("price.crypto", "btcusd"))) == 1


@pytest.mark.anyio
async def test_a_ping_on_the_wire() -> None:
    """The server's ping is a WebSocket ping; a client that answers none is closed with 4002."""
    options = SimulatorOptions(markets=1, paused=True, polybolt=PolyboltChoices(ping_every_s=0.05))
    with anyio.fail_after(20):
        async with (
            running_simulator(options) as simulator,
            connected(simulator.feeds["polybolt"]) as client,
        ):
            pings = 0
            while client.closed is None:
                client.ws.receive_data(await client.stream.receive())
                for event in client.ws.events():
                    if isinstance(event, Ping):
                        pings += 1
                        if pings <= 2:
                            await client.stream.send(client.ws.send(event.response()))
                    elif isinstance(event, CloseConnection):
                        client.closed = event
            assert pings == 4
            assert client.closed.code == 4002


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["seq-gap", "dropped-count", "rtds-stale", "auth-silent", "auth-4001"])
async def test_a_fault_of_no_use_elsewhere_says_so(simulator: Simulator, name: str) -> None:
    """A feed that a fault cannot befall is refused, with those it can."""
    answer = await AdminClient(simulator.admin).ask("GET", "/faults")
    assert answer["faults"][name]["on"] is False
    with pytest.raises(Exception, match="feed: 'market' is none of"):
        await AdminClient(simulator.admin).fault_on(name, feed="market")
