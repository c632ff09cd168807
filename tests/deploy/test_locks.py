"""The locks: what the image installs is what the tests ran with, and nothing says where it comes from."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from .manifests import ROOT

LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))

PACKAGE_LOCKS = sorted(
    path for folder in ("examples", "tests/clients") for path in (ROOT / folder).glob("*/package-lock.json")
)


def pins(lock: str) -> dict[str, str]:
    """The releases that a lock pins, by name."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+) ", text, re.MULTILINE))


def test_the_image_gets_what_was_tested() -> None:
    """Every dependency, in the release that the tests have; `make lock` makes it so."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    runs = pins("requirements-run.lock")
    assert {re.split(r"[\[><=]", one)[0] for one in wanted} <= set(runs)
    assert runs.items() <= pins("requirements.lock").items()


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_says_what_and_not_where(lock: str) -> None:
    """A hash for each release, and no address."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert "://" not in text
    assert all("--hash=sha256:" in entry for entry in re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize("lock", PACKAGE_LOCKS, ids=lambda path: path.parent.name)
def test_a_lock_of_npm_says_what_and_not_where(lock: Path) -> None:
    """Likewise: an exact release and a hash for each package, and no `resolved`."""
    packages = json.loads(lock.read_text(encoding="utf-8"))["packages"]
    fetched = [package for path, package in packages.items() if path]
    assert fetched
    assert all("resolved" not in package and package["integrity"] for package in fetched)
