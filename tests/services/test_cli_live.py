"""The command line beside a venue, a gateway and NATS."""

import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from polybus_services.nats_server import NatsServer
from polybus_services.settings import variable_of
from polybus_services.simulator import Pace, Simulator, SimulatorOptions, running_simulator
from polybus_services.simulator.fault_kinds import fault_of

from .terminal import PATIENCE_S, Running, environment, polybus, running


class Stage(msgspec.Struct):
    """A venue, a gateway and NATS between them."""

    simulator: Simulator
    gateway: Running
    nats: str


@pytest.fixture
async def stage(nats: NatsServer) -> AsyncIterator[Stage]:
    """A simulator, and a gateway in a process of its own that follows it and has its first account."""
    pace = Pace(price_s=0.2, comment_s=0.1, game_s=0.1)
    async with running_simulator(SimulatorOptions(markets=3, rate=60, pace=pace)) as simulator:
        settings = {variable_of(f"feeds.{feed}.url"): url for feed, url in simulator.feeds.items()}
        alice, *_ = simulator.accounts
        settings |= {
            variable_of(f"accounts.alice.{name}"): alice[name] for name in ("api_key", "secret", "passphrase")
        }
        async with running(["run", "--json"], NATS_URL=nats.url, **settings) as gateway:
            await gateway.json()
            yield Stage(simulator, gateway, nats.url)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration but the test's: none lies in the working directory."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.anyio
async def test_a_gateway_says_what_will_not_work(nats: NatsServer) -> None:
    """In its log, at the start; it runs nevertheless, and refuses what needs the account with 401."""
    async with running(
        ["run", "--json"],
        NATS_URL=nats.url,
        POLYBUS_GATEWAY__PROBE="false",
        POLYBUS_ACCOUNTS__ALICE__SECRET="open sesame",
    ) as gateway:
        assert (await gateway.json())["accounts"] == ["alice"]
        refused = await polybus("subscribe", "--feed", "user", NATS_URL=nats.url)
        gateway.process.send_signal(signal.SIGTERM)
        status, err = await gateway.end()

    assert (refused.status, refused.out) == (1, "")
    assert "POLYBUS_ACCOUNTS__ALICE__API_KEY, POLYBUS_ACCOUNTS__ALICE__PASSPHRASE" in refused.err
    assert refused.err.endswith(" (401)\n")
    assert refused.err.count("\n") == 1
    assert status == 0
    told = [
        entry["message"] for line in err.splitlines() if (entry := json.loads(line))["level"] == "warning"
    ]
    assert any(text.startswith("accounts.alice.secret: it is no base64") for text in told)
    assert any(text.startswith("accounts.alice.api_key: not set") for text in told)
    assert "sesame" not in err


@pytest.mark.anyio
async def test_a_life_of_a_subscription(stage: Stage) -> None:
    """Asked for, listed, seen in the status, listened to, dropped; each by its command, as JSON and as text."""
    ids, nats = " ".join(stage.simulator.assets), stage.nats

    made = await polybus(
        *["subscribe", "-", "--id", "bot", "--owner", "me", "--ttl", "30m", "--wait", "data", "--json"],
        stdin=ids,
        NATS_URL=nats,
    )
    assert (made.status, made.err) == (0, "")
    assert made.json()["id"] == "bot"
    assert (made.json()["state"], made.json()["missing"]) == ("data", [])
    again = await polybus(
        "--nats", nats, "subscribe", "-", "--id", "bot", "--owner", "me", "--ttl", "30m", stdin=ids
    )
    assert "subscription bot stood already" in again.out

    listed = await polybus("subscriptions", "--owner", "me", "--json", NATS_URL=nats)
    (one,) = listed.json()["subscriptions"]
    assert (one["id"], one["live_count"]) == ("bot", len(stage.simulator.assets))
    table = await polybus("subscriptions", "--assets", NATS_URL=nats)
    assert "bot" in table.out
    assert table.out.count("live") > len(stage.simulator.assets)

    status = await polybus("status", "--json", NATS_URL=nats)
    assert status.json()["connections"][0]["state"] == "live"
    assert "gw0-market-1" in (await polybus("status", NATS_URL=nats)).out

    tail = await polybus("tail", "--json", "--count", "5", NATS_URL=nats)
    assert (tail.status, tail.err) == (0, "")
    assert len([msgspec.json.decode(line)["seq"] for line in tail.out.splitlines()]) == 5
    lines = await polybus("tail", "--asset", stage.simulator.assets[0], "--count", "2", NATS_URL=nats)
    assert lines.err.endswith("2 events shown, 0 gaps seen, 0 jumps\n")
    assert len(lines.out.splitlines()) == 2

    tail = await polybus(
        "tail", "--feed", "market", "--from-seq", "2", "--json", "--count", "3", NATS_URL=nats
    )
    replayed = tail.out.splitlines()
    assert (tail.status, tail.err, len(replayed)) == (0, "", 3)
    tail = await polybus("tail", "--since", "1h", "--json", "--count", "4", NATS_URL=nats)
    assert tail.out.splitlines()[1:] == replayed

    assert f"{len(stage.simulator.assets)} live" in (await polybus("status", NATS_URL=nats)).out
    asset = stage.simulator.assets[0]
    once = (await polybus("book", asset, "--once", "--depth", "1", "--json", NATS_URL=nats)).json()
    assert (once["trust"], len(once["bids"]), len(once["asks"])) == ("live", 1, 1)
    async with running(["book", asset, "--json"], NATS_URL=nats) as book:
        while not (seen := await book.json())["trusted"]:
            assert seen["why"]
        assert seen["bids"]
        assert seen["asks"]
        book.process.send_signal(signal.SIGINT)
        assert await book.end() == (0, "")
    explained = await polybus("explain", asset, NATS_URL=nats)
    assert "It is live" in explained.out
    assert "what happened" in explained.out

    dropped = await polybus("unsubscribe", "bot", "--json", NATS_URL=nats)
    assert dropped.json() == {"ids": ["bot"]}
    unknown = await polybus("book", "1", NATS_URL=nats)
    assert (unknown.status, unknown.out) == (1, "")
    assert "subscribe to it first" in unknown.err
    gone = await polybus("unsubscribe", "bot", NATS_URL=nats)
    assert (gone.status, gone.out) == (1, "")
    assert "there is no subscription" in gone.err


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("arguments", "subject", "sight", "types"),
    [
        ("--account alice", "user.alice.*.>", "--account alice", {"order", "trade"}),
        ("--topic activity", "activity.*.*.>", "--feed activity", {"trades", "orders_matched"}),
        (
            "--topic comments",
            "comments.*.*.>",
            "--feed comments",
            {"comment_created", "comment_removed", "reaction_created", "reaction_removed"},
        ),
        (
            "--topic crypto_prices --symbol BTC/USD",
            "price.crypto.btcusd.>",
            "--symbol btcusdt",
            {"update", "snapshot"},
        ),
        ("--class equity --symbol AAPL", "price.equity.aapl.>", "--symbol aapl", {"update", "snapshot"}),
        ("--feed sports", "sports.*.*.>", "--feed sports", {"sport_result"}),
    ],
    ids=["user", "activity", "comments", "prices", "polybolt", "sports"],
)
async def test_every_feed_from_subscribe_to_tail(
    stage: Stage, arguments: str, subject: str, sight: str, types: set[str]
) -> None:
    """Asked for until there is data, listed, seen in the status, and looked at."""
    nats = stage.nats
    wanted = [*arguments.split(), "--id", "one", "--wait", "data", "--timeout", "30s"]

    made = await polybus("subscribe", *wanted, "--json", NATS_URL=nats)
    assert (made.status, made.err) == (0, "")
    assert (made.json()["state"], made.json()["subjects"]) == ("data", [f"polymarket.v1.{subject}"])
    feed = made.json()["feed"]

    listed = await polybus("subscriptions", "--assets", NATS_URL=nats)
    assert f"{feed} alice" in listed.out if feed == "user" else feed in listed.out
    status = (await polybus("status", NATS_URL=nats)).out
    (connection,) = (line for line in status.splitlines() if line.lstrip().startswith("gw0-"))
    login = "ok" if feed in ("user", "polybolt") else "-"
    assert connection.split()[1:5] == [feed, "1", "live", login]

    lines = await polybus("tail", *sight.split(), "--count", "5", NATS_URL=nats)
    assert lines.status == 0
    assert lines.err.endswith("5 events shown, 0 gaps seen, 0 jumps\n")
    assert all(any(type_ in line for type_ in types) for line in lines.out.splitlines())


@pytest.mark.anyio
async def test_accounts_that_are_not_there_are_refused(stage: Stage) -> None:
    """In one sentence with the variables to set, and 401."""
    outcome = await polybus("subscribe", "--account", "carol", NATS_URL=stage.nats)

    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith("polybus: the gateway refused: account: there is no account 'carol'; set ")
    assert "POLYBUS_ACCOUNTS__CAROL__API_KEY" in outcome.err
    reply = await polybus("subscribe", "--account", "carol", "--json", NATS_URL=stage.nats)
    error = json.loads(reply.err)["error"]
    assert (error["code"], error["field"]) == (401, "account")


@pytest.mark.anyio
async def test_status_counts_what_nobody_could_read(stage: Stage) -> None:
    """By kind, in words."""
    await polybus("subscribe", "--feed", "sports", "--wait", "data", NATS_URL=stage.nats)
    stage.simulator.venue.faults.switch_on(
        "unknown-event", fault_of("unknown-event", {}), anyio.current_time()
    )
    seen = await polybus("tail", "--family", "unknown", "--count", "1", NATS_URL=stage.nats)
    status = await polybus("status", NATS_URL=stage.nats)

    assert "  unknown " in seen.out
    (line,) = (line for line in status.out.splitlines() if "unknown events" in line)
    assert int(line.split()[-1].replace(",", "")) > 0


@pytest.mark.anyio
async def test_what_did_not_arrive_is_named_and_is_status_1(stage: Stage) -> None:
    """The subscription stands, the missing asset has a reason, and a script can tell."""
    arguments = ["subscribe", stage.simulator.assets[0], "77", "--wait", "data", "--timeout", "1s"]

    text = await polybus(*arguments, NATS_URL=stage.nats)
    assert text.status == 1
    assert "77 " in text.out.partition("missing")[2]
    assert text.err == "polybus: 1 of 2 assets did not get as far as `data`\n"

    reply = await polybus(*arguments, "--json", NATS_URL=stage.nats)
    assert (reply.status, reply.err) == (1, "")
    assert [missing["asset"] for missing in reply.json()["missing"]] == ["77"]


@pytest.mark.anyio
async def test_the_gateway_ends_well_at_sigterm(stage: Stage) -> None:
    """Status 0, its log in JSON lines where there is no terminal, no traceback."""
    stage.gateway.process.send_signal(signal.SIGTERM)

    status, err = await stage.gateway.end()

    assert status == 0
    assert all("message" in msgspec.json.decode(line) for line in err.splitlines())


@pytest.mark.anyio
async def test_no_gateway_is_status_3(nats: NatsServer) -> None:
    """NATS is there, but nobody answers: a sentence that says what to start."""
    outcome = await polybus("status", NATS_URL=nats.url)

    assert (outcome.status, outcome.out) == (3, "")
    assert "no gateway answers on polymarket.v1.control.status" in outcome.err
    assert "polybus run" in outcome.err


@pytest.mark.anyio
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_simulate_stays_until_told_to_stop(number: signal.Signals) -> None:
    """One ready line, then silence; Ctrl-C and SIGTERM are its ordinary end."""
    async with running(["simulate", "--markets", "2", "--seed", "7", "--json"]) as simulator:
        ready = await simulator.json()
        assert len(ready["markets"]) == 2
        simulator.process.send_signal(number)
        assert await simulator.end() == (0, "")


@pytest.mark.anyio
async def test_a_port_that_is_taken_is_one_sentence() -> None:
    """Status 1, and what is wrong with which address."""
    async with running(["simulate", "--json"]) as simulator:
        port = (await simulator.json())["rest"].rpartition(":")[2]
        outcome = await polybus("simulate", "--port", port)
    assert outcome.status == 1
    assert (
        outcome.err == f"polybus: the simulator cannot listen on 127.0.0.1:{port}: address already in use\n"
    )


@pytest.mark.anyio
async def test_a_reader_who_has_enough_is_no_failure(stage: Stage) -> None:
    """`polybus tail | head -1` ends quietly, with status 0 also for `pipefail`."""
    assert (await polybus("subscribe", *stage.simulator.assets, NATS_URL=stage.nats)).status == 0

    for flags in ("", "--json"):
        command = f"set -o pipefail; {sys.executable} -m polybus_services tail {flags} | head -n 1"
        with anyio.fail_after(PATIENCE_S):
            done = await anyio.run_process(
                ["bash", "-c", command], env=environment(NATS_URL=stage.nats), check=False
            )
        assert done.returncode == 0
        assert len(done.stdout.splitlines()) == 1
        assert all(line.startswith(b"listening on ") for line in done.stderr.splitlines())


@pytest.mark.anyio
async def test_tail_ends_well_at_ctrl_c(nats: NatsServer) -> None:
    """With its count, and status 0."""
    async with running(["tail"], NATS_URL=nats.url) as tail:
        await tail.err.receive()
        tail.process.send_signal(signal.SIGINT)
        status, err = await tail.end()
    assert status == 0
    assert err.endswith("0 events shown, 0 gaps seen, 0 jumps\n")
