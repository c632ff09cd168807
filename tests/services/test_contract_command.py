"""`polybus contract`, and what others' tools make of its document."""

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from polybus_protocol.contract import files
from polybus_protocol.control.requests import VERBS
from polybus_services.cli import main

from ..support.contract import CONTRACT, document
from ..support.packages import CLIENTS, installed_by_npm

GUARD_S = 60.0


class Answer(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


type Say = Callable[..., Answer]


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `polybus contract` in this process, in a folder and with an environment that hold no settings."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("POLYBUS_", "NATS_")):
            monkeypatch.delenv(name)

    def run(*arguments: str) -> Answer:
        with pytest.raises(SystemExit) as left:
            main(["contract", *arguments])
        assert isinstance(left.value.code, int)
        out, err = capsys.readouterr()
        return Answer(left.value.code, out, err)

    return run


def test_the_official_parser_accepts_it() -> None:
    """Without an error or a warning, and it finds each subject with its message and each verb with its two answers.

    The parser takes seconds, so it is asked once for each document, and what it said is kept beside it.
    """
    folder = installed_by_npm(CLIENTS / "asyncapi", probe="node_modules/@asyncapi/parser")
    file = CONTRACT / "asyncapi.json"
    shown = hashlib.sha256(file.read_bytes() + (folder / "driver.js").read_bytes()).hexdigest()
    told = folder / f"{shown}.json"
    if not told.exists():
        command = ["node", "driver.js", str(file)]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=GUARD_S, check=True)
        told.write_text(ran.stdout, encoding="utf-8")
    read: dict[str, Any] = json.loads(told.read_text(encoding="utf-8"))
    assert [each for each in read["complaints"] if each["code"] != "asyncapi-latest-version"] == []
    assert read["channels"] == [
        [name, channel["address"], len(channel["messages"])]
        for name, channel in document()["channels"].items()
    ]
    answers = {name: replies for name, action, replies in read["operations"] if action == "receive"}
    assert answers == {verb: [f"{verb}_reply", "refusal"] for verb in VERBS}
    assert {name for name, action, _ in read["operations"] if action == "send"} == {
        f"publish_{name}" for name in document()["channels"] if not name.startswith("control_")
    }


def test_it_prints_the_document(said: Say) -> None:
    """On standard output, as it lies in the repository; on one line, and for another prefix, if asked."""
    assert said().out == (CONTRACT / "asyncapi.json").read_text(encoding="utf-8")
    line = said("--json", "--prefix", "desk.pm").out
    assert line.count("\n") == 1
    assert json.loads(line)["channels"]["unknown"]["address"] == "desk.pm.unknown.{feed}"


def test_it_writes_all_files(said: Say, tmp_path: Path) -> None:
    """Into a folder that it makes; where it cannot, it says where."""
    told = json.loads(said("--out", "new/contract", "--json").out)
    written = tmp_path / "new" / "contract"
    assert {path: (written / path).read_bytes() for path in told["files"]} == files()
    assert f"{len(files())} files written" in said("--out", "new/contract").out
    (tmp_path / "full").touch()
    refused = said("--out", "full/contract")
    assert (refused.status, "cannot be written" in refused.err) == (1, True)
    unclear = said("--out", "x", "--against", "full")
    assert (unclear.status, "give one of them" in unclear.err) == (2, True)


def test_it_says_what_breaks(said: Say, tmp_path: Path) -> None:
    """A document that promises more than this version keeps: exit status 1, and a sentence for each breach."""
    for prefix in ("polymarket.v1", "desk.pm"):
        text = json.dumps(document()).replace("polymarket.v1", prefix)
        (tmp_path / "kept.json").write_text(text)
        (tmp_path / "broken.json").write_text(text.replace("market_book", "market_depth"))
        assert said("--against", "kept.json") == (0, "all that kept.json promises is kept\n", "")
        broken = said("--against", "broken.json")
        assert broken.status == 1
        assert broken.out.startswith("channel market_depth: removed")
        told = json.loads(said("--against", "broken.json", "--json").out)
        assert told["breaking_changes"] == broken.out.splitlines()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"asyncapi":"3.0.0","id":"x","info":{}}'])
def test_what_is_no_contract_is_refused(text: str, said: Say, tmp_path: Path) -> None:
    """With a sentence that names the file."""
    (tmp_path / "other.json").write_text(text)
    refused = said("--against", "other.json")
    assert refused.status == 1
    assert "other.json is not an AsyncAPI document of polybus" in refused.err
