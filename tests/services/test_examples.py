"""The examples, run as their first lines say."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import nats
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream
from nats.aio.client import Client

from polybus_protocol import decode_event, encode_event, parse_subject
from polybus_services.simulator.probe import AdminClient

from ..support import nats_command
from ..support.packages import installed_by_npm
from .scene import ROOT, Scene, checked_by_node, first_lines, node_with_transport, scene
from .terminal import PATIENCE_S, environment

pytestmark = pytest.mark.anyio

EXAMPLES = ROOT / "examples"

NATS_COMMAND = nats_command.__file__


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """One loop for the module, since its scene outlives a test."""
    return "asyncio"


@pytest.fixture(scope="module")
async def here() -> AsyncIterator[Scene]:
    """One scene for all of them."""
    async with scene() as running:
        yield running


def example(name: str) -> ModuleType:
    """An example, imported by its path."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_followed(lines: list[str], asset: str) -> None:
    """What a follower prints: it begins with a book; in doubt it is from a gap to the next book alone."""
    words = [line.split() for line in lines]
    assert words[0][4] in ("begins", "book")
    trusted = False
    for trust, name, bid, ask, type_, *_ in words:
        trusted = type_ in ("begins", "book") or (trusted and type_ != "gap")
        assert (trust, name) == ("ok" if trusted else "??", asset[:6])
        assert not trusted or Decimal(0) < Decimal(bid) < Decimal(ask) < 1


async def test_follow_keeps_a_book(here: Scene) -> None:
    """A bare nats-py client asks for an asset, gets its book first, also as the second to ask, and keeps it trusted."""
    asset = here.simulator.assets[2]
    command = [sys.executable, str(EXAMPLES / "follow.py"), asset]
    for _ in range(2):  # the first is killed, and what it asked for stands
        is_followed(await first_lines(command, 8, **here.variables), asset)


async def test_live_book_keeps_a_book(here: Scene) -> None:
    """With the kit: once the book is trusted it stays so while nothing is lost, and has a top."""
    asset = here.simulator.assets[6]
    command = [sys.executable, str(EXAMPLES / "live_book.py"), asset]
    words = [line.split() for line in await first_lines(command, 12, **here.variables)]
    trusted = [trust for trust, *_ in words]
    assert trusted == sorted(trusted)  # `??` before `ok`
    for trust, name, bid, ask, *_ in words:
        assert name == asset[:6]
        assert trust == "??" or Decimal(0) < Decimal(bid) < Decimal(ask) < 1


async def test_follow_without_arguments_says_what_it_needs() -> None:
    """A forgotten argument is a sentence, no traceback."""
    done = await anyio.run_process(
        [sys.executable, str(EXAMPLES / "follow.py")], check=False, env=environment()
    )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("which assets?")


async def test_follow_in_javascript(here: Scene, tmp_path: Path) -> None:
    """It is JavaScript wherever there is a Node.js; where its NATS client is installed, too, it follows an asset."""
    script = tmp_path / "follow.mjs"
    script.write_bytes((EXAMPLES / "follow.mjs").read_bytes())
    await checked_by_node(script)
    if node := await node_with_transport(tmp_path):
        asset = here.simulator.assets[4]
        is_followed(await first_lines([node, str(script), asset], 12, **here.variables), asset)


@pytest.fixture
async def bare(here: Scene) -> AsyncIterator[Client]:
    """A NATS client that knows nothing of polybus."""
    client = await nats.connect(here.nats)
    yield client
    await client.close()


async def bare_book(client: Client, asset: str) -> Any:
    """What the gateway says an asset's book is."""
    request = json.dumps({"asset": asset}).encode()
    return json.loads((await client.request("polymarket.v1.control.book", request, timeout=PATIENCE_S)).data)


def both_sides(book: Any) -> list[list[tuple[Decimal, Decimal]]]:
    """The levels of a book, cheapest first, whoever tells it."""
    return [
        sorted((Decimal(level["price"]), Decimal(level["size"])) for level in book[side])
        for side in ("bids", "asks")
    ]


@pytest.fixture(scope="session")
def keep_books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The TypeScript example, with its types made from the contract that is in the repository, and built."""
    source = EXAMPLES / "typescript"
    folder = tmp_path_factory.mktemp("typescript")
    packages = installed_by_npm(source, probe="node_modules/typescript")
    for name in ("package.json", "tsconfig.json", "types.js"):
        shutil.copy(source / name, folder)
    shutil.copytree(source / "src", folder / "src", ignore=shutil.ignore_patterns("contract.ts"))
    (folder / "node_modules").symlink_to(packages / "node_modules")
    for command in (["types.js", str(ROOT / "contract/schemas")], ["node_modules/typescript/bin/tsc"]):
        done = subprocess.run(["node", *command], cwd=folder, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), done
    return folder


async def test_typescript_keeps_whole_books(keep_books: Path, here: Scene, bare: Client) -> None:
    """It type-checks, stops trusting at a gap, trusts again at the next book, and ends with the venue's own books."""
    assets = here.simulator.assets[8:12]
    admin = AdminClient(here.simulator.admin)
    trusted = dict.fromkeys(assets, False)
    seen: dict[str, tuple[int, int]] = dict.fromkeys(assets, (0, 0))
    script = str(keep_books / "build/keep_books.js")
    async with await anyio.open_process(["node", script, *assets], env=environment(**here.variables)) as node:
        assert node.stdout is not None
        out = BufferedByteReceiveStream(node.stdout)

        async def line() -> list[str]:
            """The next line; what it says of an asset is noted."""
            words = (await out.receive_until(b"\n", 1 << 20)).decode().split()
            (asset,) = [asset for asset in assets if asset.startswith(words[1])]
            seen[asset], trusted[asset] = (int(words[2]), int(words[3])), words[0] == "ok"
            return words

        with anyio.fail_after(PATIENCE_S):
            while not all(trusted.values()):
                await line()
            await admin.fault_on("drop", feed="market")
            while any(trusted.values()):
                words = await line()
                assert words[0] == "ok" or "connection_lost:" in words, words
            while not all(trusted.values()):
                await line()
            await admin.ask("POST", "/pause")
            try:
                theirs = {asset: both_sides(await admin.book(asset)) for asset in assets}
                for asset in assets:
                    while both_sides(told := await bare_book(bare, asset)) != theirs[asset]:
                        pass
                    while seen[asset] < (told["epoch"], told["seq"]):
                        await line()
                node.terminate()  # while the venue stands still: what comes later is no part of the comparison
                rest = b"".join([chunk async for chunk in out])
            finally:
                await admin.ask("POST", "/resume")
    books = [json.loads(each) for each in rest.splitlines() if each.startswith(b"{")]
    assert {book["asset"]: both_sides(book) for book in books} == theirs
    assert all(book["trusted"] for book in books)


async def test_listen_in_shell(here: Scene, tmp_path: Path) -> None:
    """With two words of the NATS command line: answer, book, as many events as were asked for; a refusal ends it."""
    (tmp_path / "nats").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" "{NATS_COMMAND}" "$@"\n', encoding="utf-8"
    )
    (tmp_path / "nats").chmod(0o755)
    asset = here.simulator.assets[14]
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    with anyio.fail_after(PATIENCE_S):
        done = await anyio.run_process(
            ["sh", str(EXAMPLES / "listen.sh"), asset, "5"], env=environment(PATH=path, **here.variables)
        )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    events = [one for one in told if "seq" in one and "type" in one]
    (asked, book, ended) = [one for one in told if one not in events]
    assert len(events) == 5
    assert {event["asset"] for event in events} == {book["asset"]} == {asset}
    assert ended["ids"] == [asked["id"]]
    with anyio.fail_after(PATIENCE_S):
        refused = await anyio.run_process(
            ["sh", str(EXAMPLES / "listen.sh"), "0x12", "5"],
            env=environment(PATH=path, **here.variables),
            check=False,
        )
    assert refused.returncode == 1
    assert refused.stdout == b""
    assert json.loads(refused.stderr)["error"]["code"] == 400


async def test_parse_reads_frames() -> None:
    """Frames in, subjects and canonical events out, with the protocol package alone."""
    change = '{"asset_id":"7","price":"0.5","size":"0","side":"BUY","best_bid":"0.4","best_ask":"0.6"}'
    frame = f'{{"event_type":"price_change","market":"0xab","timestamp":"1","price_changes":[{change}]}}'
    done = await anyio.run_process(
        [sys.executable, str(EXAMPLES / "parse.py")], input=f"PONG\n{frame}\n?\n".encode(), env=environment()
    )
    lines = [line.split(" ", 1) for line in done.stdout.decode().splitlines()]
    assert [parse_subject(subject).type for subject, _ in lines] == ["price_change", "market"]
    assert [encode_event(decode_event(payload)).decode() for _, payload in lines] == [
        payload for _, payload in lines
    ]


async def test_parse_reads_any_feed() -> None:
    """A feed that is named is read in its own language."""
    frame = b'{"gameId":7,"leagueAbbreviation":"NFL","score":"3-0","live":true}\n'
    done = await anyio.run_process(
        [sys.executable, str(EXAMPLES / "parse.py"), "sports"], input=frame, env=environment()
    )
    subject, _, _ = done.stdout.decode().partition(" ")
    assert subject == "polymarket.v1.sports.nfl.7.sport_result"


def event(type_: str, epoch: int, seq: int, **fields: Any) -> dict[str, Any]:
    """An event as it arrives, with no more than what the example looks at."""
    return {"type": type_, "epoch": epoch, "seq": seq, "bids": [], "asks": [], "changes": []} | fields


def test_follow_applies_changes_to_a_trusted_book_alone() -> None:
    """A change sets a level and zero removes it, whatever the price's spelling; in doubt nothing is applied."""
    book = example("follow").Book()
    level = {"price": "0.50", "size": "10"}
    change = {"price": ".5", "size": "0", "side": "BUY"}
    book.take(event("book", 1, 1, bids=[level]))
    assert str(book.top()[0]) == "0.50"
    book.take(event("price_change", 1, 2, changes=[change]))
    assert book.top() == (None, None)

    book.take(event("gap", 2, 1))
    book.take(event("price_change", 2, 2, changes=[change | {"size": "3"}]))
    assert (book.trusted, book.top()) == (False, (None, None))


def test_follow_begins_with_what_the_gateway_has() -> None:
    """A book that may be believed is the beginning; what it holds already is passed over, and so is an older change."""
    book = example("follow").Book()
    change = {"price": ".5", "size": "7", "side": "BUY"}
    book.begin({"trust": "suspect", "epoch": 1, "seq": 4, "bids": [], "asks": []})
    assert not book.trusted
    level = {"price": "0.50", "size": "10"}
    book.begin({"trust": "live", "epoch": 1, "seq": 4, "bids": [level], "asks": [], "source_time": 30})
    for seq, time, size in ((4, 30, "10"), (5, 29, "10"), (6, 30, "7"), (7, None, "7")):
        book.take(event("price_change", 1, seq, changes=[change], source_time=time))
        assert book.trusted
        assert [str(left) for left in book.sides["BUY"].values()] == [size]
    book.take(event("gap", 1, 3))
    assert book.trusted
    book.take(event("gap", 1, 7))
    assert not book.trusted


def test_follow_stays_in_doubt_after_a_late_gap() -> None:
    """A gap for events that NATS never confirmed, and which came after all, ends trust and takes no step back."""
    book = example("follow").Book()
    for one in (event("book", 1, 1), event("price_change", 1, 2), event("price_change", 1, 3)):
        book.take(one)
    book.take(event("gap", 1, 3))
    assert not book.trusted
    book.take(event("best_bid_ask", 1, 4))
    assert not book.trusted
    book.take(event("book", 1, 5))
    assert book.trusted
