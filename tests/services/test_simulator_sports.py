"""The manners of the sports feed, without a network, and its faults and ledger over sockets."""

import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from polybus_services.simulator import (
    Simulator,
    SimulatorOptions,
    SportsChoices,
    ready_line,
    running_simulator,
)
from polybus_services.simulator.feeds import Close, Frame, Say
from polybus_services.simulator.games import Games
from polybus_services.simulator.probe import AdminClient, Client, connected
from polybus_services.simulator.sports_feed import SportsFeed

NOW = 1_784_980_000_000


@pytest.mark.parametrize(
    ("choices", "word", "answer"),
    [
        (SportsChoices(), "ping", "pong"),
        (SportsChoices(), "ping", "PONG"),
        (SportsChoices(uppercase=True), "PING", "pong"),
    ],
)
def test_the_server_pings(choices: SportsChoices, word: str, answer: str) -> None:
    """Every five seconds, in the chosen case; a pong in either case keeps the connection."""
    client = SportsFeed(choices).greet("sports-1", NOW)
    for second in range(1, 31):
        said = list(client.tick(NOW + second * 1_000))
        assert said == ([Say(word)] if second % 5 == 0 else [])
        if said:
            assert client.receive_text(answer, NOW + second * 1_000 + 500) == []


def test_no_pong_no_connection() -> None:
    """Ten seconds after the first ping that is not answered, whatever else the client says."""
    client = SportsFeed(SportsChoices()).greet("sports-1", NOW)
    assert list(client.tick(NOW + 5_000)) == [Say("ping")]
    assert client.receive_text("hello", NOW + 6_000) == []
    assert list(client.tick(NOW + 10_000)) == [Say("ping")]
    assert list(client.tick(NOW + 14_999)) == []
    assert list(client.tick(NOW + 15_000)) == [Close(1008, "no pong")]


def identity(event: Any) -> object:
    """The id of a game: whichever it has."""
    return event.get("gameId") or event.get("metadataGameId") or event["slug"]


def play(seconds: int) -> list[Any]:
    """What a client hears of so many changes."""
    feed, games = SportsFeed(SportsChoices()), Games(1, NOW)
    client = feed.greet("sports-1", NOW)
    heard = [
        json.loads(frame.text)
        for second in range(seconds)
        for changed in games.tick(NOW + second * 1_000)
        for frame, readers in feed.publish(changed)
        if client in readers and isinstance(frame, Frame)
    ]
    client.leave()
    assert not [frame for changed in games.tick(NOW) for frame in feed.publish(changed)]
    return heard


def test_every_shape_occurs() -> None:
    """Key sets differ by sport, as in captures and documents; always a score, a period, `live` and `ended`."""
    heard = play(2_000)
    always = set.intersection(*(set(event) for event in heard))
    assert always == {"score", "period", "live", "ended"}
    assert {event.get("leagueAbbreviation") for event in heard} == {
        "nfl",
        "NBA",
        "kor",
        "atp",
        "lol",
        "cs2",
        "cricket",
        None,
    }
    some = {key for event in heard for key in event} - always
    assert some >= {"gameId", "metadataGameId", "slug", "homeTeam", "status", "elapsed", "turn", "eventState"}
    assert some >= {"finished_timestamp", "finishedTimestamp", "last_update"}
    assert len({tuple(sorted(event)) for event in heard}) >= 10
    assert {event["status"] for event in heard if "status" in event} == {
        "InProgress",
        "inprogress",
        "running",
        "finished",
    }


def test_a_game_ends_once_and_scores_never_fall() -> None:
    """What is over is over; another game of the sport begins; soccer's sub-object repeats the rest."""
    ended: set[object] = set()
    scores: dict[object, tuple[int, int]] = {}
    for event in play(2_000):
        game = identity(event)
        assert game not in ended
        assert event["live"] is not event["ended"]
        if event["ended"]:
            ended.add(game)
            finish = event.get("finishedTimestamp") or event.get("finished_timestamp") or event["last_update"]
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.(\d{3}|\d{9})Z", finish)
        if event.get("leagueAbbreviation") == "kor":
            home, away = (int(side) for side in event["score"].split("-"))
            before = scores.get(game, (0, 0))
            assert (home >= before[0], away >= before[1]) == (True, True)
            scores[game] = home, away
            assert (
                event["eventState"].items()
                >= {key: event[key] for key in ("score", "period", "live")}.items()
            )
    assert len(ended) > 20


# -- over sockets -----------------------------------------------------------------------------------------------


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A paused simulator that pings often."""
    options = SimulatorOptions(
        markets=2, seed=3, paused=True, sports=SportsChoices(ping_every_s=0.05, pong_within_s=0.2)
    )
    with anyio.fail_after(20):
        async with running_simulator(options) as running:
            yield running


async def hear_all(client: Client, count: int) -> list[Any]:
    """So many games, and one ping more, so that there is not one too many; every ping is answered."""
    heard: list[Any] = []
    while True:
        text = await client.hear()
        assert text is not None, client.closed
        if text != "ping":
            heard.append(json.loads(text))
            continue
        await client.say("pong")
        if len(heard) >= count:
            return heard


@pytest.mark.anyio
async def test_the_ledger_agrees(simulator: Simulator) -> None:
    """What a client counted is what the ledger says, per league and game."""
    async with connected(simulator.feeds["sports"]) as client:
        await hear_all(client, 0)
        await AdminClient(simulator.admin).pass_time(200)
        seen = Counter(
            (
                f"{event.get('leagueAbbreviation', '_').lower()}/{identity(event)}",
                "sport_result",
            )
            for event in await hear_all(client, 100)
        )
        assert seen.total() == 100
        assert await AdminClient(simulator.admin).sent("sports-1") == {"sent": seen}


@pytest.mark.anyio
async def test_a_client_without_pongs_is_closed(simulator: Simulator) -> None:
    """The close frame names the reason."""
    async with connected(simulator.feeds["sports"]) as client:
        while await client.hear() is not None:
            pass
        assert client.closed is not None
        assert client.closed.reason == "no pong"


@pytest.mark.anyio
async def test_a_stall_goes_on_pinging(simulator: Simulator) -> None:
    """`stall`: pings and no games."""
    admin = AdminClient(simulator.admin)
    async with connected(simulator.feeds["sports"]) as client:
        await admin.fault_on("stall", feed="sports")
        await admin.pass_time(20)
        assert await hear_all(client, 0) == []
        assert sum((await admin.sent("sports-1"))["withheld"].values()) == 10


@pytest.mark.anyio
async def test_the_ready_line_names_all_feeds(simulator: Simulator) -> None:
    """Five feeds, each with its URL, and the accounts with what a configuration needs."""
    ready = json.loads(json.dumps(ready_line(simulator)))
    base = simulator.rest.replace("http", "ws")
    assert ready["feeds"] == {
        "market": f"{base}/ws/market",
        "user": f"{base}/ws/user",
        "rtds": f"{base}/rtds",
        "polybolt": f"{base}/polybolt/ws",
        "sports": f"{base}/sports/ws",
    }
    assert [account["label"] for account in ready["accounts"]] == ["alice", "bob"]
    for account in ready["accounts"]:
        assert list(account) == ["label", "api_key", "secret", "passphrase", "wallet"]
        assert re.fullmatch(r"0x[0-9a-f]{40}", account["wallet"])


@pytest.mark.anyio
async def test_one_seed_one_world() -> None:
    """Two simulators with one seed, stepped alike, send the same scores, though not at the same time."""
    heard: list[list[Any]] = []
    options = SimulatorOptions(markets=2, seed=9, paused=True, sports=SportsChoices(ping_every_s=0.05))
    with anyio.fail_after(20):
        for _ in range(2):
            async with (
                running_simulator(options) as simulator,
                connected(simulator.feeds["sports"]) as client,
            ):
                await hear_all(client, 0)
                await AdminClient(simulator.admin).step(400)
                games = await hear_all(client, 50)
                heard.append([(event.get("leagueAbbreviation"), event["score"]) for event in games])
    assert heard[0] == heard[1] != []
