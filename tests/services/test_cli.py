"""The command line, as a person and as a script meet it, where there is neither NATS nor a gateway."""

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

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

from .terminal import environment, polybus


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


# --- what `tail` shows ------------------------------------------------------------------------------


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
