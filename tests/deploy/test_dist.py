"""What `make dist` built, installed where nothing else is.

Only where `POLYBUS_DIST` names the folder, as `make dist` and `make check` do: it takes half a minute.
"""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from polybus_protocol import __version__

from .manifests import ROOT

DIST = os.environ.get("POLYBUS_DIST")

pytestmark = pytest.mark.skipif(not DIST, reason="POLYBUS_DIST names no folder: see `make dist`")

PACKAGES = ("polybus_actors", "polybus_protocol", "polybus_services")

WITHIN_S = 300.0

USE = """
import json

from polybus_protocol import __file__ as where, decode, parse_subject, subject_for
from polybus_protocol.contract import asyncapi

book = {"event_type": "book", "market": "0xab", "asset_id": "7", "timestamp": "1", "hash": "", "bids": [], "asks": []}
(event,) = decode("market", json.dumps(book))
assert "site-packages" in where, where
assert parse_subject(subject_for(event))["asset"] == "7"
assert asyncapi()["components"]["schemas"]["Book"]["description"], "docstrings are there"
print(subject_for(event))
"""


@pytest.fixture(scope="module")
def built() -> Path:
    """The folder with exactly one release in it."""
    folder = ROOT / (DIST or "")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"polybus-{__version__}-py3-none-any.whl",
        f"polybus-{__version__}.tar.gz",
    ]
    return folder


@pytest.fixture(scope="module")
def bin_(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of a clean environment with the wheel, and what it needs at the releases of the lock."""
    home = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", str(home), cwd=home)
    bin_ = home / ("Scripts" if os.name == "nt" else "bin")
    pip = (str(bin_ / "python"), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    for lock in ("build", "run"):
        hashes = ("--require-hashes", "--no-build-isolation", "-r", str(ROOT / f"requirements-{lock}.lock"))
        run(*pip, *hashes, cwd=home)
    run(*pip, "--no-index", "--no-deps", *map(str, built.glob("*.whl")), cwd=home)
    run(str(bin_ / "python"), "-I", "-m", "pip", "check", cwd=home)
    return bin_


def run(*command: str, cwd: Path) -> str:
    """What a command prints, without anything of ours in its environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "POLYBUS_"))}
    done = subprocess.run(
        command, cwd=cwd, env=clean, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_holds_three_packages(built: Path) -> None:
    """With our prefix each, typed, and nothing else; the licence is with them."""
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, f"polybus-{__version__}.dist-info"}
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_is_all_there(built: Path) -> None:
    """What one needs to test it is in it, and nothing that a working copy leaves behind."""
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {"Makefile", "README.md", "CHANGELOG.md", "contract/asyncapi.json", "docs/start.md"} <= set(names)
    assert not [
        name for name in names if "node_modules" in name or "__pycache__" in name or name.startswith(".venv")
    ]


def test_it_runs(bin_: Path, tmp_path: Path) -> None:
    """The command says its version, and the core reads a frame."""
    assert run(str(bin_ / "polybus"), "--version", cwd=tmp_path) == f"polybus {__version__}\n"
    assert run(str(bin_ / "python"), "-I", "-c", USE, cwd=tmp_path) == "polymarket.v1.market.0xab.7.book\n"
    assert "polybus tail" in run(str(bin_ / "polybus"), "tail", "--help", cwd=tmp_path)
