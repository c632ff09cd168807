"""The README and the pages in docs/: every snippet is run, and every table compared with the code.

Snippets are told apart by their language.  JSON ones have a comment above them that says what they are an example of.
Addresses are moved to those of a scene set up for it; nothing else is changed.

- `python`: run as a program; one that goes on for ever has to print three lines, and tests in it have to pass.
- `sh`: `polybus` is run, `run` and `simulate` until they are ready; `nats` and `curl` are sent as the same subject or
  path with the same payload; `make` is asked what it would do (this test is run by one of them).
- `toml`: read as the configuration.
- `js`: checked by Node.js where there is one, and run where the NATS client is installed.
- `json`: decoded with the struct it is an example of, whose fields it must have, all and no others.
- `text`: what a program prints; compared with it, numbers apart.
"""

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import anyio
import msgspec
import nats
import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from polybus_actors.venue.pools import ACCOUNT_FEEDS
from polybus_protocol import asset_pattern, decode_event, encode_event, market_pattern, parse_subject, type_of
from polybus_protocol.control.asking import ASKING, EVENT_TYPES
from polybus_protocol.control.replies import REPLIES, ErrorReply, encode_reply
from polybus_protocol.control.requests import VERBS
from polybus_protocol.door import DIALECTS
from polybus_protocol.errors import CODES
from polybus_protocol.events import GAP_REASONS, AnyEvent
from polybus_protocol.legacy import CHANNELS, DELIVERY, FEED_OF_TYPE, FIELDS, TYPES
from polybus_services.cli import support
from polybus_services.config import Config, load, show
from polybus_services.simulator.faults import FAULTS, fault_of
from polybus_services.simulator.probe import request

from .scene import CREDENTIALS, ROOT, Scene, checked_by_node, first_lines, node_with_transport, scene
from .terminal import environment, polybus, running
from .test_examples import example

pytestmark = pytest.mark.anyio

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

TEXT = "\n\n".join(page.read_text(encoding="utf-8") for page in PAGES)

ANSWER_WITHIN_S = 10.0


class Snippet(msgspec.Struct):
    """One block of code."""

    language: str
    about: str
    """What the comment above it says."""
    text: str
    page: str
    line: int

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def snippets(page: Path) -> list[Snippet]:
    """Those of a page, in order."""
    text = page.read_text(encoding="utf-8")
    block = re.compile(
        r"(?:<!-- (?P<about>[^\n]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)\n```", re.DOTALL
    )
    return [
        Snippet(
            match["language"],
            match["about"] or "",
            match["text"],
            page.name,
            text.count("\n", 0, match.start("text")),
        )
        for match in block.finditer(text)
    ]


SNIPPETS = [snippet for page in PAGES for snippet in snippets(page)]


def of(language: str) -> list[Snippet]:
    """The snippets of a language."""
    return [snippet for snippet in SNIPPETS if snippet.language == language]


def table(*header: str) -> list[list[str]]:
    """The rows of the table with this header, cells without their back quotes."""
    head = "| " + " | ".join(header) + " |\n"
    assert TEXT.count(head) == 1, header
    rows = TEXT.partition(head)[2].partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip().strip("`") for cell in row.strip("|").split("|")] for row in rows]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, since its scene outlives a test."""
    return "asyncio"


@pytest.fixture(scope="module")
async def here() -> AsyncIterator[Scene]:
    """One scene for all of it."""
    async with scene() as running_scene:
        yield running_scene


@pytest.fixture
async def bare(here: Scene) -> AsyncIterator[Client]:
    """A NATS client that knows nothing of polybus."""
    client = await nats.connect(here.nats)
    yield client
    await client.close()


async def ask(client: Client, subject: str, payload: str) -> Any:
    """What `nats req` does, with the answer decoded."""
    reply = await client.request(subject, payload.encode(), timeout=ANSWER_WITHIN_S)
    answer = json.loads(reply.data)
    refused = "Nats-Service-Error-Code" in (reply.headers or {})
    assert refused == ("error" in answer)
    return answer


# --- snippets --------------------------------------------------------------------------------------


def test_every_snippet_is_checked() -> None:
    """No snippet is in a language that nobody looks at."""
    assert {snippet.language for snippet in SNIPPETS} == {"python", "sh", "toml", "js", "json", "text"}


async def test_its_assets_are_those_of_the_simulator(here: Scene) -> None:
    """Who follows the text by hand finds the assets it names at the simulator of the usual seed."""
    named = [json.loads(s.text).get("asset") for s in of("json") if s.about == "json: event"]
    assert {asset for asset in named if asset} == set(here.simulator.assets[:2])


def test_its_account_is_the_simulators(here: Scene) -> None:
    """The credentials it names open the simulator of the usual seed, and its URLs are the simulator's."""
    (text,) = [snippet.text for snippet in of("toml") if snippet.about == "toml: all-feeds.toml"]
    named = tomllib.loads(here.moved_here(text))
    (alice, *_) = here.simulator.accounts
    assert named["accounts"] == {"alice": {name: alice[name] for name in CREDENTIALS}}
    assert {feed: entry["url"] for feed, entry in named["feeds"].items()} == here.simulator.feeds


@pytest.mark.parametrize("snippet", of("python"), ids=str)
async def test_python(snippet: Snippet, here: Scene) -> None:
    """It runs as it stands, and says something."""
    program = [sys.executable, "-c", here.moved_here(snippet.text)]
    if "async for" in snippet.text:
        lines = await first_lines(program, 3)
        assert all(re.match(r"[A-Z]\w+\(", line) for line in lines), lines
    elif "def test_" in snippet.text:
        there: dict[str, Any] = {}
        exec(snippet.text, there)
        for name, test in there.items():
            if name.startswith("test_"):
                test()
    else:
        done = await anyio.run_process(program, env=environment())
        assert b"not live: 123456789" in done.stdout
        assert done.stderr == b""


@pytest.mark.parametrize("snippet", of("js"), ids=str)
async def test_javascript(snippet: Snippet, here: Scene, tmp_path: Path) -> None:
    """It listens on the asset's subjects; Node.js takes it, and where the NATS client is installed it shows events."""
    (asset,) = re.findall(r'asset = "(\d+)"', snippet.text)
    (pattern,) = re.findall(r"subscribe\(`(\S+)`\)", snippet.text)
    assert pattern.replace("${asset}", asset) == asset_pattern(asset)
    script = tmp_path / "snippet.mjs"
    script.write_text(here.moved_here(snippet.text), encoding="utf-8")
    await checked_by_node(script)
    if node := await node_with_transport(tmp_path):
        lines = await first_lines([node, str(script)], 3)
        assert all(re.fullmatch(r"\d+ \d+ [a-z_]+", line) for line in lines), lines


@pytest.mark.parametrize("snippet", of("toml"), ids=str)
def test_toml(snippet: Snippet, tmp_path: Path) -> None:
    """It is a configuration."""
    file = tmp_path / "polybus.toml"
    file.write_text(snippet.text, encoding="utf-8")
    assert load(file, {}).sources


@pytest.mark.parametrize("snippet", of("json"), ids=str)
def test_json(snippet: Snippet) -> None:
    """It decodes as what it is an example of, and lacks no field that polybus would send."""
    match snippet.about.split():
        case ["json:", "event"]:
            again = encode_event(decode_event(snippet.text))
        case ["json:", "reply", verb]:
            again = encode_reply(msgspec.json.decode(snippet.text, type=REPLIES[verb]))
        case ["json:", "error"]:
            again = encode_reply(msgspec.json.decode(snippet.text, type=ErrorReply))
        case _:
            raise AssertionError(f"what is it an example of? {snippet.about!r}")
    assert json.loads(again) == json.loads(snippet.text)


def test_every_event_and_reply_has_an_example() -> None:
    """Each type of the market feed is shown, others at least by fields they do have, and the reply of each verb."""
    shown = {json.loads(s.text)["type"] for s in of("json") if s.about == "json: event"}
    assert shown >= {*ASKING["market"].types, "gap", "unknown", "connection"}
    structs = {type_of(event): event for event in get_args(AnyEvent)}
    listed = table("event", "of", "fields")
    for types, feeds, fields in listed:
        for type_ in re.findall(r"\w+", types):
            assert all(type_ in ASKING[feed].types for feed in re.findall(r"\w+", feeds)), type_
            had = {field.encode_name for field in msgspec.structs.fields(structs[type_])}
            assert set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", fields))) <= had, type_
    assert {*ASKING["market"].types, *re.findall(r"\w+", " ".join(row[0] for row in listed))} == set(
        EVENT_TYPES
    )
    replies = {s.about for s in of("json") if "reply" in s.about}
    assert replies == {f"json: reply {verb}" for verb in VERBS}


class Shell:
    """Carries out the lines of one block, as the README's reader would."""

    def __init__(self, here: Scene, client: Client, folder: Path) -> None:
        self.here = here
        self.folder = folder
        self.client = client
        self.listening: list[Subscription] = []

    async def run(self, line: str) -> None:
        """Carry out one line."""
        if line.startswith('"$('):  # the embedded nats-server: is it there?
            bin_ = Path(sys.executable).parent
            path = f"{bin_}{os.pathsep}{os.environ['PATH']}"
            version = await anyio.run_process(["bash", "-c", f"{line} --version"], env=environment(PATH=path))
            assert b"nats-server" in version.stdout
            return
        words = shlex.split(self.here.moved_here(line))
        variables = dict(self.here.variables)
        while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
            name, _, value = words.pop(0).partition("=")
            variables[name] = value
        carry_out: dict[str, Callable[[list[str], dict[str, str]], Awaitable[None]]] = {
            "polybus": self.polybus,
            "nats": self.nats,
            "curl": self.curl,
            "make": self.make,
            "source": self.source,
        }
        await carry_out[words[0]](words[1:], variables)

    async def polybus(self, words: list[str], variables: dict[str, str]) -> None:
        """One of our commands, to its end or until it is ready."""
        for snippet in of("toml"):  # the files shown beside the commands
            file = self.folder / snippet.about.removeprefix("toml: ")
            file.write_text(self.here.moved_here(snippet.text), encoding="utf-8")
            words = [str(file) if word == file.name else word for word in words]
        if words[0] not in ("run", "simulate"):
            done = await polybus(*words, **variables)
            assert done.status == 0, done
            return
        # Beside the scene's own gateway: under another prefix, and on any free port.
        apart = {"POLYBUS_GATEWAY__PREFIX": "apart", "POLYBUS_GATEWAY__REPLICA": "apart"}
        words = ["0" if word == "8765" else word for word in words]
        async with running([*words, "--json"], **variables, **apart) as process:
            assert "feeds" in await process.json()
            process.process.terminate()
            status, _ = await process.end()
            assert status == 0

    async def nats(self, words: list[str], _variables: dict[str, str]) -> None:
        """What NATS' own command line would send."""
        match words:
            case ["sub", subject]:
                self.listening.append(await self.client.subscribe(subject))
            case ["req", subject, payload]:
                if subject.endswith(".unsubscribe"):
                    await self.hears()  # who types is slower than the first book
                assert "error" not in await ask(self.client, subject, payload)
            case _:
                raise AssertionError(f"nats {shlex.join(words)}")

    async def hears(self) -> None:
        """Whoever listens hears something."""
        for subscription in self.listening:
            heard = await subscription.next_msg(timeout=ANSWER_WITHIN_S)
            assert parse_subject(heard.subject).type == type_of(decode_event(heard.data))
        self.listening = []

    async def curl(self, words: list[str], _variables: dict[str, str]) -> None:
        """A request to the simulator."""
        method, body, url = "GET", None, ""
        rest = iter(words)
        for word in rest:
            match word:
                case "-X":
                    method = next(rest)
                case "-d":
                    body = json.loads(next(rest))
                case _:
                    url = word
        status, answer = await request(url, method, body)
        assert status == 200, answer

    async def make(self, words: list[str], _variables: dict[str, str]) -> None:
        """What a target would do."""
        clean = {key: value for key, value in environment().items() if not key.startswith("MA")}
        done = await anyio.run_process(["make", "-n", *words], cwd=ROOT, env=clean)
        says = {"demo": b"polybus demo", "demo SECONDS=15": b"demo --seconds 15", "test": b"pytest --quiet"}
        assert says[" ".join(words)] in done.stdout

    async def source(self, words: list[str], _variables: dict[str, str]) -> None:
        """Where set-up puts the commands."""
        assert words == [".venv/bin/activate"]


@pytest.mark.parametrize("snippet", of("sh"), ids=str)
async def test_shell(snippet: Snippet, here: Scene, bare: Client, tmp_path: Path) -> None:
    """Each line does what it is there for, one after another; who listens hears something."""
    shell = Shell(here, bare, tmp_path)
    for line in snippet.text.splitlines():
        await shell.run(line)
    await shell.hears()


async def test_what_the_demo_says(here: Scene) -> None:
    """The summary shown is what the demo prints, but for the numbers."""
    done = await polybus("demo", "--seconds", "1")
    assert done.status == 0, done

    def labels(text: str) -> list[str]:
        return [" ".join(re.sub(r"[\d,.│╭╮╰╯─]", "", line).split()) for line in text.strip().splitlines()]

    (shown,) = (block for block in of("text") if "frames sent" in block.text)
    expected = labels(shown.text)
    assert labels(done.out)[-len(expected) :] == expected


# --- tables ----------------------------------------------------------------------------------------


def test_subjects() -> None:
    """The subjects are what the code makes of ids, and each type stands beside its own."""
    rows = table("subject", "carries")
    for subject, _ in rows:
        plain = re.sub(r"<(\w+)>", r"\1", subject)
        assert str(parse_subject(plain)) == plain
    carried = re.findall(r"`(\w+)`", " ".join(f"`{cells}`" for _, cells in rows))
    assert set(EVENT_TYPES) <= set(carried)
    patterns = dict(table("you want", "pattern"))
    named = {"ASSET": "<asset>", "MARKET": "<market>"}
    made = [asset_pattern("ASSET"), market_pattern("MARKET")]
    assert [*patterns.values()][:2] == [re.sub("ASSET|MARKET", lambda m: named[m[0]], p) for p in made]


def test_feeds() -> None:
    """The table has each feed, what it takes and whether it wants an account; the text says what `decode` knows."""
    words = " ".join(TEXT.split())
    rows = table("feed", "brings", "account", "fields of a request", "subjects after `polymarket.v1.`")
    assert [row[0] for row in rows] == list(ASKING) == list(DIALECTS)
    for feed, _, account, fields, _ in rows:
        assert set(re.findall(r"\w+", fields)) == ASKING[feed].fields
        assert account == ("yes" if feed in ACCOUNT_FEEDS else "no")
    *most, last = DIALECTS
    assert f"`decode`, which knows the feeds {', '.join(f'`{feed}`' for feed in most)} and `{last}`." in words


def test_gap_reasons() -> None:
    """Every reason a gap can have is explained, and no other."""
    assert sorted(reason for reason, _ in table("reason of a gap", "what happened")) == sorted(GAP_REASONS)


def test_faults() -> None:
    """Every fault is listed with the feeds it strikes, and no other."""

    def strikes(name: str) -> str:
        usual = fault_of(name, {"assets": ["1"]} if name == "freeze-asset" else {})
        only = [feed for feed in getattr(usual, "only", ()) if feed != "all"]
        return ", ".join(only) or getattr(usual, "feed", "all")

    listed = {name: feed for name, feed, _ in table("fault", "feed", "what a client sees")}
    assert listed == {name: strikes(name) for name in FAULTS}


def test_configuration() -> None:
    """Every key it names is one, and has the default it says."""
    shown = show(Config())
    for key, default, _ in table("key", "default", "what it is"):
        value = shown[key]["value"]
        assert default == ("-" if value is None else str(value)), key


def test_configuration_example() -> None:
    """The example file has every key that has a default, with that default."""
    file = ROOT / "polybus.example.toml"
    shown, defaults = show(load(file, {})), show(Config())
    assert {key for key, entry in shown.items() if entry["source"] != "default"} == {
        key for key, entry in defaults.items() if entry["value"] is not None
    }
    assert [entry["value"] for entry in shown.values()] == [entry["value"] for entry in defaults.values()]


def test_old_names() -> None:
    """Every old name that is understood is listed with what it stands for."""
    said: dict[str, str] = {}
    for old, today in table("old", "today"):
        kinds = ("event type", "callback type", "channel called", "without a channel")
        kind = next((word for word in kinds if old.startswith(word)), "field")
        said |= {f"{kind} {name}": today for name in re.findall(r"\w+", old.removeprefix(kind))}
    understood = {f"field {old}": new for old, new in FIELDS.items()}
    understood |= {f"event type {old}": new for old, new in TYPES.items()}
    understood |= {f"callback type {old}": new for old, new in DELIVERY.items()}
    understood |= {f"channel called {old}": new for old, new in CHANNELS.items()}
    understood |= {f"without a channel {old}": feed for old, feed in FEED_OF_TYPE.items()}
    assert said == understood


def test_exit_status() -> None:
    """The numbers are those of the command line."""
    meant = {0, support.FAILED, support.WRONG_USAGE, support.UNREACHABLE, support.INTERRUPTED}
    assert {int(status) for status, _ in table("status", "meaning")} == meant


def test_the_rule_for_consumers() -> None:
    """The worked example comes out as the example consumer does it: trusted after a row that applies something."""
    book = example("follow").Book()
    for type_, place, what in table("event", "epoch, seq", "what to do"):
        epoch, seq = map(int, place.split(","))
        book.take({"type": type_, "epoch": epoch, "seq": seq, "bids": [], "asks": [], "changes": []})
        assert book.trusted == (what in ("replace, trust", "apply")), (type_, place)


@pytest.mark.parametrize("row", table("code", "meaning", "for example"), ids=lambda row: row[0])
async def test_error_codes(row: list[str], here: Scene, bare: Client) -> None:
    """The request given as an example is refused with the code beside it."""
    code, _, request_ = row
    assert int(code) in CODES
    if not request_:
        assert code in ("429", "500", "503"), "a refusal that anyone can provoke has an example"
        return
    verb, _, payload = request_.partition(" ")
    if "all-new" in payload:  # made by an earlier line of the text
        await ask(bare, "polymarket.v1.control.subscribe", '{"types": ["new_market"], "id": "all-new"}')
    answer = await ask(bare, f"polymarket.v1.control.{verb}", payload)
    assert answer["error"]["code"] == int(code)


# --- links -----------------------------------------------------------------------------------------


LINKING = [
    *PAGES,
    *(ROOT / name for name in ("CHANGELOG.md", "CONTRIBUTING.md", "examples/README.md", "deploy/README.md")),
]


def headings(page: Path) -> set[str]:
    """What can be linked to within a page: its headings, as GitHub and the site spell them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """A link to a file leads to one, and one to a heading to a heading; from docs/, none leads out of the site."""
    for target in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, heading = target.partition("#")
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), target
        assert not heading or heading in headings(there), target
        assert page.parent.name != "docs" or there.parent.name == "docs", target
