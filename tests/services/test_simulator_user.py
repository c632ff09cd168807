"""The manners of the user feed, as conversations without a network, and its faults and ledger over sockets."""

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from polybus_services.simulator import Simulator, SimulatorOptions, UserChoices, running_simulator
from polybus_services.simulator.crowd import Crowd, CrowdOptions
from polybus_services.simulator.exchange import Exchange
from polybus_services.simulator.facts import Settled, Traded
from polybus_services.simulator.feeds import Answer, AuthFate, Close, Cut, Frame, Say
from polybus_services.simulator.people import Account, People
from polybus_services.simulator.probe import AdminClient, AdminError, Client, connected
from polybus_services.simulator.settlement import plan
from polybus_services.simulator.user_feed import UserFeed

NOW = 1_782_753_357_257
PONG = Say("PONG")
INVALID = Say("INVALID OPERATION")


class Talk:
    """One client's conversation with the user feed of five markets, in which the two accounts own every order."""

    def __init__(self, choices: UserChoices | None = None, fate: AuthFate = "admit") -> None:
        self.exchange = Exchange()
        self.people = People(1, account_share=1.0)
        self.crowd = Crowd(self.exchange, 1, CrowdOptions(0, 0))
        self.markets = [self.crowd.open_market(NOW) for _ in range(5)]
        self.feed = UserFeed(self.people, choices or UserChoices(), lambda _connection: fate)
        self.client = self.feed.greet("user-1", NOW)

    def says(self, message: object, now_ms: int = NOW) -> list[Answer]:
        text = message if isinstance(message, str) else json.dumps(message)
        return self.client.receive_text(text, now_ms)

    def hears(self, happening: Any) -> list[Any]:
        """What this client is sent of it."""
        return [
            json.loads(message.text)
            for message, readers in self.feed.publish(happening)
            if self.client in readers and isinstance(message, Frame)
        ]

    def follows(self, count: int) -> list[Any]:
        """Let the crowd act so often, and every trade settle at once; what this client is sent."""
        heard: list[Any] = []
        for number in range(count):
            fact = self.crowd.act(NOW + number)
            heard += self.hears(fact)
            if isinstance(fact, Traded):
                for _, status in plan(fact):
                    heard += self.hears(Settled(fact, NOW + number + 2_000, status))
        return heard


def opening(account: Account | dict[str, str], **more: object) -> dict[str, object]:
    shown = account if isinstance(account, dict) else account.show()
    auth = {"apiKey": shown["api_key"], "secret": shown["secret"], "passphrase": shown["passphrase"]}
    return {"auth": auth, "type": "user", **more}


@pytest.fixture
def talk() -> Talk:
    return Talk()


@pytest.fixture
def alice(talk: Talk) -> Account:
    return talk.people.accounts["alice"]


def test_right_credentials_are_answered_with_silence(talk: Talk, alice: Account) -> None:
    """No acknowledgement and no snapshot; then PING and PONG, and operations, which are not answered either."""
    assert talk.says(opening(alice)) == []
    assert talk.says("PING") == [PONG]
    assert talk.says({"operation": "subscribe", "markets": ["0x1"]}) == []
    assert talk.says({"operation": "unsubscribe", "markets": ["0x1"]}) == []
    assert list(talk.client.tick(NOW + 10**7)) == []


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("PING", Close(1008, "invalid subscription payload")),
        ("no JSON", INVALID),
        ({"type": "user"}, INVALID),
        ({"operation": "subscribe", "markets": []}, INVALID),
        ({"type": "market", "auth": {"apiKey": "", "secret": "", "passphrase": ""}}, INVALID),
    ],
)
def test_bad_beginnings(talk: Talk, message: object, answer: Answer) -> None:
    """What is no opening message is refused in the market channel's words."""
    assert talk.says(message) == [answer]


@pytest.mark.parametrize("wrong", ["api_key", "secret", "passphrase"])
def test_wrong_credentials_are_cut_after_a_moment(talk: Talk, alice: Account, wrong: str) -> None:
    """One wrong part is enough: no word, PONGs for a second, then no connection."""
    assert talk.says(opening(alice.show() | {wrong: "another"})) == []
    assert talk.says("PING") == [PONG]
    assert list(talk.client.tick(NOW + 999)) == []
    assert list(talk.client.tick(NOW + 1_000)) == [Cut("wrong credentials")]
    assert list(talk.client.tick(NOW + 1_015)) == []


@pytest.mark.parametrize(
    ("talk", "answers"),
    [
        (Talk(UserChoices(wrong_credentials="silent")), []),
        (Talk(fate="silent"), []),
        (Talk(fate="4001"), [Close(4001, "credential refused")]),
    ],
)
def test_other_ways_to_be_refused(talk: Talk, answers: list[Answer]) -> None:
    """Silence for ever, by choice or by fault; or a close code, whether or not the credentials are right."""
    fault = talk.feed.gate("user-1") != "admit"
    account = talk.people.accounts["alice"].show()
    assert talk.says(opening(account if fault else account | {"secret": "another"})) == answers
    assert list(talk.client.tick(NOW + 10**9)) == []
    assert talk.follows(300) == []


@pytest.mark.parametrize("markets", [None, []])
def test_all_markets(talk: Talk, alice: Account, markets: list[str] | None) -> None:
    """Without markets, or with none, an account hears of all of them, and of nobody else's orders."""
    talk.says(opening(alice) if markets is None else opening(alice, markets=markets))
    heard = talk.follows(600)
    assert {event["market"] for event in heard} == {market.listing.market for market in talk.markets}
    assert {event["owner"] for event in heard} == {alice.api_key}


def test_some_markets(talk: Talk, alice: Account) -> None:
    """Operations add markets and take them away."""
    first, second = (market.listing.market for market in talk.markets[:2])
    talk.says(opening(alice, markets=[first]))
    assert {event["market"] for event in talk.follows(400)} == {first}
    talk.says({"operation": "subscribe", "markets": [second]})
    assert {event["market"] for event in talk.follows(400)} == {first, second}
    talk.says({"operation": "unsubscribe", "markets": [first]})
    assert {event["market"] for event in talk.follows(400)} == {second}
    talk.client.leave()
    assert talk.follows(100) == []


def test_an_order_lives_and_its_sizes_add_up(talk: Talk, alice: Account) -> None:
    """Placed once with nothing matched; each update has more matched and one more trade; cancelled with what was."""
    talk.says(opening(alice))
    seen: dict[str, list[Any]] = {}
    for event in talk.follows(14_000):
        if event["event_type"] == "order":
            seen.setdefault(event["id"], []).append(event)
    placed = [events for events in seen.values() if events[0]["type"] == "PLACEMENT"]
    assert len(placed) > 1_000
    partly = 0
    for events in placed:
        assert [event["type"] for event in events[1:-1]] == ["UPDATE"] * len(events[1:-1])
        assert events[0]["size_matched"] == "0"
        matched = [float(event["size_matched"] or 0) for event in events]
        assert matched == sorted(matched)
        for number, event in enumerate(events):
            if event["type"] == "UPDATE":
                assert len(event["associate_trades"]) == number
                assert event["status"] == (
                    "MATCHED" if matched[number] == float(event["original_size"]) else "LIVE"
                )
        if events[-1]["type"] == "CANCELLATION":
            assert matched[-1] == (matched[-2] if len(events) > 1 else 0)
            assert matched[-1] < float(events[-1]["original_size"])
            partly += matched[-1] > 0
    assert partly


def test_a_trade_goes_through_its_statuses(talk: Talk, alice: Account) -> None:
    """One id; MATCHED first and without a hash, then MINED and CONFIRMED, sometimes RETRYING, sometimes FAILED."""
    talk.says(opening(alice))
    stories: dict[str, list[Any]] = {}
    for event in talk.follows(14_000):
        if event["event_type"] == "trade":
            stories.setdefault(event["id"], []).append(event)
    kinds = Counter(tuple(event["status"] for event in story) for story in stories.values())
    assert kinds.most_common(1)[0][0] == ("MATCHED", "MINED", "CONFIRMED")
    assert ("MATCHED", "RETRYING", "MINED", "CONFIRMED") in kinds
    assert ("MATCHED", "RETRYING", "FAILED") in kinds
    for matched, *later in stories.values():
        assert not matched["transaction_hash"]
        assert len({event["transaction_hash"] for event in later}) == 1
        assert sum(float(maker["matched_amount"]) for maker in matched["maker_orders"]) == pytest.approx(
            float(matched["size"])
        )
    assert {story[0]["trader_side"] for story in stories.values()} == {"TAKER", "MAKER"}


def test_the_venues_moods(talk: Talk, alice: Account) -> None:
    """Seconds and milliseconds, both spellings of the match's time, empty strings, a sentence for a status."""
    talk.says(opening(alice))
    heard = talk.follows(7_000)
    assert {len(event["timestamp"]) for event in heard} == {10, 13}
    trades = [event for event in heard if event["event_type"] == "trade"]
    orders = [event for event in heard if event["event_type"] == "order"]
    assert {"matchtime" in event for event in trades} == {True, False}
    assert all(("matchtime" in event) != ("match_time" in event) for event in trades)
    assert {len(event["created_at"]) for event in orders} == {0, 10, 13}
    assert {event["fee_rate_bps"] for event in trades} == {"0", ""}
    sentences = [event for event in orders if " " in event["status"]]
    assert 0 < len(sentences) < len(orders) / 10
    assert any(event["size_matched"] == "" for event in sentences)
    assert {event["associate_trades"] is None for event in orders if event["type"] == "PLACEMENT"} == {True}


def test_a_decided_market_cancels_what_rests(talk: Talk, alice: Account) -> None:
    """Every resting order of the account is cancelled, with the reason as its status."""
    talk.says(opening(alice))
    market = talk.markets[0]
    resting = [order for order in market.resting() if talk.people.account(order.id) is alice]
    heard = talk.hears(talk.crowd.resolve(market, 0, NOW))
    assert [event["id"] for event in heard] == [talk.people.order_hash(order.id) for order in resting]
    assert {event["status"] for event in heard} == {"CANCELED_MARKET_RESOLVED"}


def test_who_owns_what() -> None:
    """About the share asked for belongs to accounts, evenly; a claim stands over it; strangers have no account."""
    people = People(5, ("alice", "bob", "carol"), 0.2)
    owned = Counter(getattr(people.account(number), "label", None) for number in range(1, 30_001))
    assert all(1_600 < owned[label] < 2_400 for label in ("alice", "bob", "carol"))
    stranger = next(number for number in range(1, 100) if people.account(number) is None)
    assert people.owner(stranger) in people.strangers
    people.claim(stranger, people.accounts["bob"])
    assert people.owner(stranger) is people.accounts["bob"]
    assert People(5).accounts["alice"] == people.accounts["alice"] != People(6).accounts["alice"]


# -- over sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator with six markets; half of all orders are the accounts'."""
    options = SimulatorOptions(
        markets=6, seed=3, paused=True, account_share=0.5, user=UserChoices(cut_after_s=0.05)
    )
    with anyio.fail_after(20):
        async with running_simulator(options) as running:
            yield running


async def until_pong(client: Client) -> list[Any]:
    await client.say("PING")
    heard: list[Any] = []
    while (text := await client.hear()) != "PONG":
        assert text is not None
        heard.append(json.loads(text))
    return heard


@pytest.mark.anyio
async def test_the_ledger_agrees(simulator: Simulator) -> None:
    """What two accounts counted is what the ledger says, per account, market and type."""
    async with connected(simulator.feeds["user"]) as first, connected(simulator.feeds["user"]) as second:
        for client, account in zip((first, second), simulator.accounts, strict=True):
            await client.say(opening(account))
            await until_pong(client)
        await AdminClient(simulator.admin).step(1_500)
        everything: Counter[tuple[str, str]] = Counter()
        for number, (client, account) in enumerate(zip((first, second), simulator.accounts, strict=True), 1):
            seen = Counter(
                (f"{account['label']}/{event['market']}", event["event_type"])
                for event in await until_pong(client)
            )
            assert await AdminClient(simulator.admin).sent(f"user-{number}") == {"sent": seen}
            everything += seen
        told = (await AdminClient(simulator.admin).ledger())["feeds"]["user"]
        assert (told["opened"], told["frames"]) == (2, everything.total())
        assert {
            (stream, kind): count
            for stream, fates in told["streams"].items()
            for kind, count in fates["sent"].items()
        } == everything


@pytest.mark.anyio
async def test_wrong_credentials_over_a_socket(simulator: Simulator) -> None:
    """The connection ends without a close frame, which client libraries call 1006."""
    async with connected(simulator.feeds["user"]) as client:
        await client.say(opening(simulator.accounts[0] | {"secret": "another"}))
        assert await client.hear() is None
        assert (client.closed, client.cut) == (None, True)


@pytest.mark.anyio
async def test_auth_silent(simulator: Simulator) -> None:
    """`auth-silent`: right credentials, PONGs and not one event, on this connection for good."""
    admin = AdminClient(simulator.admin)
    await admin.fault_on("auth-silent", feed="user", count=1)
    async with connected(simulator.feeds["user"]) as deaf, connected(simulator.feeds["user"]) as other:
        for client in (deaf, other):
            await client.say(opening(simulator.accounts[0]))
            await until_pong(client)
        await admin.step(500)
        assert await until_pong(deaf) == []
        assert await until_pong(other) != []


@pytest.mark.anyio
async def test_auth_4001(simulator: Simulator) -> None:
    """`auth-4001`: the credentials are answered with a close."""
    await AdminClient(simulator.admin).fault_on("auth-4001")
    async with connected(simulator.feeds["user"]) as client:
        await client.say(opening(simulator.accounts[0]))
        assert await client.hear() is None
        assert client.closed is not None
        assert client.closed.code == 4001


@pytest.mark.anyio
async def test_late_data(simulator: Simulator) -> None:
    """`late-data`: nothing for a while, then everything, in order, also what came after the fault was off."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["user"]) as late, connected(simulator.feeds["user"]) as prompt:
        for client in (late, prompt):
            await client.say(opening(simulator.accounts[0]))
            await until_pong(client)
        await admin.fault_on("late-data", connection="user-1", delay_s=0.3)
        await admin.step(300)
        assert await until_pong(late) == []
        await admin.fault_off("late-data")
        await admin.step(300)
        expected = await until_pong(prompt)
        assert [json.loads(await late.hear() or "") for _ in expected] == expected
        assert (await admin.sent("user-1"))["sent"] == (await admin.sent("user-2"))["sent"]


@pytest.mark.anyio
async def test_a_fault_of_one_feed_leaves_the_others_alone(simulator: Simulator) -> None:
    """`feed` narrows a fault: a stall of the user feed does not touch the market feed, nor does a 429."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["user"]) as user, connected(simulator.feeds["market"]) as market:
        await user.say(opening(simulator.accounts[0]))
        await until_pong(user)
        await market.say({"assets_ids": simulator.assets, "type": "market"})
        await market.hear_until_pong()
        await admin.fault_on("stall", feed="user")
        await admin.fault_on("refuse-429", feed="user")
        await admin.step(200)
        assert await until_pong(user) == []
        assert await market.hear_until_pong() != []
        async with connected(simulator.feeds["market"]):
            pass
        assert sum((await admin.sent("user-1"))["withheld"].values()) > 0


@pytest.mark.anyio
async def test_an_account_does_as_it_is_told(simulator: Simulator) -> None:
    """`order`, `cancel` and `trade` by an account, on demand; the settlement comes with the seconds."""
    admin, market = AdminClient(simulator.admin), str(simulator.markets[0]["market"])
    async with connected(simulator.feeds["user"]) as client:
        await client.say(opening(simulator.accounts[1], markets=[market]))
        await until_pong(client)
        await admin.happen("order", market, "bob")
        await admin.happen("cancel", market, "bob")
        placed, cancelled = await until_pong(client)
        assert (placed["type"], cancelled["type"], placed["id"]) == (
            "PLACEMENT",
            "CANCELLATION",
            cancelled["id"],
        )
        await admin.happen("trade", market, "bob")
        placed, updated, *others, matched = await until_pong(client)
        assert (placed["type"], updated["type"], updated["status"]) == ("PLACEMENT", "UPDATE", "MATCHED")
        assert {other["type"] for other in others} <= {"UPDATE"}
        assert (matched["status"], matched["trader_side"]) == ("MATCHED", "TAKER")
        assert matched["taker_order_id"] == placed["id"]
        await admin.pass_time(12)
        later = await until_pong(client)
        assert [event["status"] for event in later][-1] in ("CONFIRMED", "FAILED")
        assert {event["id"] for event in later} == {matched["id"]}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"event": "order"}, "404: account: None is none of alice, bob"),
        ({"event": "trade", "account": "carol"}, "404: account: 'carol' is none of alice, bob"),
    ],
)
async def test_wishes_that_cannot_be_granted(simulator: Simulator, wish: dict[str, str], words: str) -> None:
    """Who is nobody here, or has nothing to cancel, is named."""
    with pytest.raises(AdminError, match=words):
        await AdminClient(simulator.admin).ask(
            "POST", "/happen", wish | {"market": str(simulator.markets[0]["market"])}
        )
