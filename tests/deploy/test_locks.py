"""The locks: what the image installs is what the tests ran with, and nothing says where it comes from."""

import re
import tomllib

import pytest

from .manifests import ROOT

LOCKS = sorted(path.name for path in ROOT.glob("requirements*.lock"))


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
