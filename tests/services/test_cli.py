"""The command line, as a person and as a script meet it."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import click
import msgspec
import pytest
from click.testing import CliRunner
from nats.aio.client import Client
from nats.aio.msg import Msg

from polybus_protocol import Notice, __version__, encode_event, subject_for
from polybus_services.cli import main
from polybus_services.cli.commands import COMMANDS
from polybus_services.cli.commands import polybus as group
from polybus_services.cli.control_commands import subscribe
from polybus_services.cli.support import Invocation
from polybus_services.cli.tail_command import JsonOutput, TextOutput, Viewer
from polybus_services.cli.wishes import feed_meant
from polybus_services.client import NatsUnreachable
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
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but those of the test."""
    for name in os.environ:
        if name.startswith(("POLYBUS_", "NATS_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process: exit status, standard output, standard error."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    assert isinstance(left.value.code, int)
    out, err = capsys.readouterr()
    return left.value.code, out, err


# --- without a network -----------------------------------------------------------------------------


def test_help_lists_every_command_and_says_how_to_start() -> None:
    """In the order in which one meets them, each with the first sentence of its own help."""
    out = CliRunner().invoke(group, ["--help"], terminal_width=200).output

    context = click.Context(group)
    own = {name: group.get_command(context, name) for name in group.list_commands(context)}
    listed = [line.split(maxsplit=1) for line in out.partition("Commands:")[2].splitlines()[1:] if line]
    assert listed[: len(own)] == [
        [name, command and command.get_short_help_str(200)] for name, command in own.items()
    ]
    assert "Start here" in out


@pytest.mark.parametrize(
    ("command", "not_needed"),
    [
        ("", {"anyio", "asyncio", "nats", "rich", "wsproto", "polybus_actors"}),
        ("simulate", {"nats", "rich", "httpx", "opentelemetry", "polybus_actors"}),
        ("run", {"rich", "httpx", "opentelemetry", "nats"}),
    ],
)
def test_help_imports_little(command: str, not_needed: set[str]) -> None:
    """It is there at once: what only other commands need, or this one at work, is not imported."""
    arguments = [*command.split(), "--help"]
    script = f"import sys; sys.argv[1:] = {arguments}; import atexit, polybus_services.cli as cli;"
    script += "atexit.register(lambda: print(*sys.modules)); cli.main()"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment())

    *shown, imported = run.stdout.splitlines()
    assert shown[0].startswith(f"Usage: {' '.join(['polybus', *command.split()])} [OPTIONS]")
    assert not_needed.isdisjoint(imported.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_examples_and_json(command: str) -> None:
    """Help shows how it is used, not only what it takes."""
    out = CliRunner().invoke(group, [command, "--help"]).output

    assert f"polybus {command}" in out.partition("Examples:")[2]
    assert "--json" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the one version there is."""
    assert said(capsys, "--version") == (0, f"polybus {__version__}\n", "")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("nope", "no such command 'nope'"),
        ("run --nope", "no such option '--nope'"),
        ("subscribe", "name at least one ASSET or --market"),
        ("subscribe 0x61", "assets: '0x61' is not a token id"),
        (f"subscribe 0x{'ab' * 32}", "it looks like a condition id: put it in `markets`"),
        ("subscribe 1 --market 2", "markets: '2' is not a condition id"),
        ("subscribe 1 --type nope", "invalid value for '--type'"),
        ("subscribe 1 --ttl soon", "'soon' is not a time such as 90, 90s, 30m, 2h or 1d"),
        ("subscribe 1 --wait data --timeout 2h", "wait_timeout_s: "),
        ("subscribe @absent", "ids cannot be read from @absent: no such file or directory"),
        ("subscribe --feed perps", "invalid value for '--feed'"),
        (
            "subscribe --symbol btcusd",
            "--symbol could mean the feeds rtds and polybolt: say which with --feed",
        ),
        ("subscribe --type update", "--type update could mean the feeds rtds and polybolt"),
        ("subscribe --league nfl --topic activity", "no feed takes --topic with --league"),
        ("subscribe --account alice --type book", "no feed takes --account with --type book"),
        ("subscribe --feed sports --symbol btcusd", "symbols: means nothing on the feed 'sports'"),
        (
            "subscribe --topic clob_user",
            "the venue has retired 'clob_user' on this feed; subscribe to the feed 'user'",
        ),
        ("subscribe --topic nope", "topics: 'nope' is not one of activity, comments, crypto_prices"),
        ("subscribe --feed rtds", "topics: name at least one of activity"),
        ("subscribe --class gold --symbol x", "classes: 'gold' is not one of crypto, crypto_twap, equity"),
        ("subscribe --feed polybolt", "symbols: name at least one, such as `btcusd`"),
        ("tail --feed perps", "invalid value for '--feed' / '--family'"),
        ("tail --feed sports --symbol btcusd", "--symbol means nothing to sports"),
        ("unsubscribe", "name either the ID of a subscription or an --owner"),
        ("unsubscribe a --owner b", "name either the ID of a subscription or an --owner"),
        ("tail a..b", "'a..b' is not a NATS subject"),
        ("tail --since 5m --last", "--since, --from-seq and --last are three beginnings"),
        ("tail --last --feed sports", "--last is about books"),
        ("tail --since 5m --feed unknown", "'polymarket.v1.unknown.>' is not recorded"),
        ("tail --from-seq 3", "--from-seq is about one stream"),
        ("tail --count 0", "invalid value for '--count'"),
        ("simulate --port 65536", "invalid value for '--port'"),
        ("demo --markets 0", "invalid value for '--markets'"),
        ("--nats nats://a demo", "the demo starts everything itself"),
        ("status --nats http://x", "nats.url (--nats): the URL must begin with nats:// or tls://"),
        ("config --config absent.toml", "the configuration file absent.toml cannot be read"),
        ("config --prefix a..b", "gateway.prefix (--prefix): 'a..b' is not valid"),
    ],
)
def test_wrong_usage_is_one_sentence(capsys: pytest.CaptureFixture[str], command: str, sentence: str) -> None:
    """On standard error, in one line, with status 2; with --json the same as an object."""
    status, out, err = said(capsys, *command.split())
    assert (status, out) == (2, "")
    assert sentence in err
    assert err.startswith("polybus: ")
    assert err.count("\n") == 1

    if command != "nope":
        status, out, err = said(capsys, *command.split(), "--json")
        assert (status, out) == (2, "")
        assert sentence in msgspec.json.decode(err)["error"]["message"]


@pytest.mark.parametrize("command", ["status", "subscribe 1", "unsubscribe a", "subscriptions", "tail"])
def test_nats_out_of_reach_is_status_3(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """Said in one sentence that names the server, by every command that needs it."""
    outcome = said(capsys, *command.split(), "--nats", "nats://u:secret@127.0.0.1:1")

    sentence = "polybus: NATS at nats://***@127.0.0.1:1 cannot be reached: nothing listens there\n"
    assert outcome == (3, "", sentence)


@pytest.mark.anyio
async def test_a_gateway_without_nats_is_status_3() -> None:
    """As for any other command, once the time to connect is over."""
    outcome = await polybus(
        *("run", "--nats", "nats://u:secret@127.0.0.1:1"),
        POLYBUS_GATEWAY__PROBE="false",
        POLYBUS_NATS__CONNECT_TIMEOUT_S="0.5",
        POLYBUS_LOG__LEVEL="error",
    )

    assert (outcome.status, outcome.out) == (3, "")
    assert outcome.err.startswith("polybus: NATS at nats://")
    assert outcome.err.count("\n") == 1
    assert "secret" not in outcome.err


@pytest.mark.parametrize(
    ("arguments", "feed"),
    [
        ("1", "market"),
        (f"--market 0x{'ab' * 32}", "market"),
        ("--type new_market", "market"),
        ("1 --type book", "market"),
        ("--account alice", "user"),
        ("1 --account alice", "user"),
        ("1 --type order", "user"),
        ("1 --topic activity", "rtds"),
        ("1 --type trades", "rtds"),
        (f"--market 0x{'ab' * 32} --type trade", "user"),
        ("--type order", "user"),
        ("--topic comments", "rtds"),
        ("--event-slug fed", "rtds"),
        ("--type trades", "rtds"),
        ("--class equity --symbol aapl", "polybolt"),
        ("--league nfl", "sports"),
        ("--type sport_result", "sports"),
        ("--feed sports", "sports"),
        ("--feed rtds --topic crypto_prices --symbol btcusd", "rtds"),
    ],
)
def test_the_feed_follows_from_what_is_given(arguments: str, feed: str) -> None:
    """It needs to be named only where the rest does not tell."""
    given = subscribe.make_context("subscribe", arguments.split()).params

    assert (given.pop("feed") or feed_meant(given)) == feed


def test_the_examples_of_subscribe_are_right(capsys: pytest.CaptureFixture[str]) -> None:
    """Each gets as far as asking NATS, which is not there."""
    text = CliRunner().invoke(group, ["subscribe", "--help"]).output
    examples = [
        re.split(r" {2,}", line.strip())[0] for line in text.splitlines() if "  polybus subscribe" in line
    ]

    assert len(examples) > 8
    for example in examples:
        if "@" not in example:
            arguments = example.replace("0xd7a1...", f"0x{'d7' * 32}").split()[1:]
            status, _, err = said(capsys, *arguments, "--nats", "nats://127.0.0.1:1")
            assert (status, "nothing listens there" in err) == (3, True), example


def test_options_stand_before_or_after_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Both ways are common, so both work; `config` shows that they arrived."""
    before = said(capsys, "--nats", "nats://a", "--prefix", "p", "config", "--json")
    after = said(capsys, "config", "--json", "--nats", "nats://a", "--prefix", "p")

    assert before == after
    shown = msgspec.json.decode(before[1])
    assert shown["nats.url"] == {"value": "nats://a", "source": "--nats"}
    assert shown["gateway.prefix"] == {"value": "p", "source": "--prefix"}


def test_config_masks_secrets_also_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows the host and hides the login; its sources are named."""
    status, out, _ = said(capsys, "config", "--nats", "nats://u:secret@a")

    assert status == 0
    assert "nats://***@a" in out
    assert "secret" not in out


def test_config_says_what_will_not_work(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an account is no error, but is said in words; as JSON beside the key."""
    monkeypatch.setenv("POLYBUS_ACCOUNTS__ALICE__SECRET", "open sesame")

    status, out, err = said(capsys, "config")
    assert (status, err) == (0, "")
    assert "accounts.alice.secret: it is no base64" in out
    assert "say in POLYBUS_ACCOUNTS__ALICE__API_KEY" in out
    assert "sesame" not in out
    shown = msgspec.json.decode(said(capsys, "config", "--json")[1])
    assert shown["accounts.alice.secret"]["value"] == "***"
    assert "builder" in shown["accounts.alice.secret"]["remark"]


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


# --- with everything -------------------------------------------------------------------------------


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
@pytest.mark.parametrize("types", [frozenset[str](), frozenset({"book"})], ids=["all", "books"])
async def test_tail_tells_of_jumps(capsys: pytest.CaptureFixture[str], types: frozenset[str]) -> None:
    """In their place among the events; with --json on standard error.  Also in events that are not shown."""

    async def messages() -> AsyncIterator[Msg]:
        for seq in (1, 3):
            event = Notice(replica="gw0", level="info", text=f"[{seq}]", epoch=1, seq=seq)
            yield Msg(_client=Client(), subject=subject_for(event), data=encode_event(event))

    for output in (TextOutput(Invocation()), JsonOutput()):
        with pytest.raises(NatsUnreachable):
            await Viewer(output, types, in_order=True).follow(messages(), None)
    out, err = capsys.readouterr()

    lines = out.splitlines()
    shown = [] if types else ["[1]", "[3]"]
    assert [line[-3:] for line in lines if line.endswith("]")] == shown
    assert [line for line in lines if "1 event missing" in line] == [lines[len(shown) // 2]]
    assert [json.loads(line)["seq"] for line in lines if line.startswith("{")] == ([] if types else [1, 3])
    assert json.loads(err)["jump"]["reason"] == "1 event missing"


@pytest.mark.anyio
async def test_tail_cuts_lines_at_the_width_of_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is one line there too; a pipe gets all of it."""
    event = Notice(replica="gw0", level="info", text="word " * 40, epoch=1, seq=1)
    message = Msg(_client=Client(), subject=subject_for(event), data=encode_event(event))

    TextOutput(Invocation()).event(message, event)
    assert capsys.readouterr().out.count("word") == 40
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    TextOutput(Invocation()).event(message, event)
    (line,) = capsys.readouterr().out.splitlines()
    assert "word" in line
    assert "…" in line


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
