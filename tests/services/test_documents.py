"""What the pages say of the code besides snippets and tables: the picture's names, and the public names."""

import importlib
import re
from pathlib import Path

import pytest

from polybus_actors.publishing.delivery import DeliverySettings
from polybus_actors.publishing.streams import PLANS, StreamsSettings, stream_name
from polybus_protocol.contract.record import KEPT, Kept

from .scene import ROOT

PACKAGES = ("protocol/polybus_protocol", "actors/polybus_actors", "services/polybus_services")


def modules(folder: str) -> set[str]:
    """The names of a package's modules and subpackages."""
    return {path.stem for path in (ROOT / folder).rglob("*") if path.suffix == ".py" or path.is_dir()}


def test_the_picture_names_what_there_is() -> None:
    """Each box of the gateway is an actor, each line of the core in it a module, and the packages are where they are."""
    picture = (ROOT / "docs/architecture.svg").read_text(encoding="utf-8")
    words = re.findall(r'<text class="t( b)?" x="(\d+)" y="(\d+)"[^>]*>([^<]+)</text>', picture)
    boxes = {text for bold, x, y, text in words if bold and 200 < int(x) < 690 and 60 < int(y) < 410}
    core = {text.partition(":")[0] for bold, x, _, text in words if not bold and x == "244"}
    assert boxes, core
    assert boxes <= modules("actors/polybus_actors")
    assert core <= modules("protocol/polybus_protocol")
    assert {text for bold, _, y, text in words if bold and y == "490"} == set(PACKAGES)


def test_the_architecture_page_names_what_there_is() -> None:
    """Each module that it speaks of is one."""
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+)`", page)) - {"epoch", "seq", "restart"} <= set().union(
        *map(modules, PACKAGES)
    )


def test_each_page_can_be_found() -> None:
    """The site's menu has every page, once."""
    menu = re.findall(r'= "([\w-]+\.md)" }', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    assert sorted(menu) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_the_readme_is_short() -> None:
    """What it is and where to go next: what is longer is a page in docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250


def test_the_contract_tells_the_streams_as_they_are() -> None:
    """Name, limits and delivery of each family's stream are the defaults of the settings."""
    settings, delivery = StreamsSettings(), DeliverySettings()
    made = {
        family: Kept(
            stream_name(settings.name, plan),
            getattr(delivery, family),
            int(getattr(settings, plan.key).max_age_s),
            getattr(settings, plan.key).max_bytes,
            plan.per_subject if plan.per_subject > 0 else None,
        )
        for plan in PLANS
        for family in plan.families
    }
    assert made == KEPT


def public() -> list[str]:
    """The modules whose names are public, as the page on the core lists them."""
    page = (ROOT / "docs/core.md").read_text(encoding="utf-8")
    rows = page.partition("| public | which names |\n")[2].partition("\n\n")[0].splitlines()[1:]
    return [name for row in rows for name in re.findall(r"`(polybus_[\w.]+)`", row.split("|")[1])]


@pytest.mark.parametrize("name", public())
def test_public_names_are_listed_and_there(name: str) -> None:
    """Each module that is said to be public lists its names, each once, and each is there."""
    module = importlib.import_module(name)
    assert len(set(module.__all__)) == len(module.__all__) > 0
    for each in module.__all__:
        assert hasattr(module, each), each


def test_the_pages_import_public_names_alone() -> None:
    """What a reader is told to import is public."""
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*.py")]
    imports = re.compile(r"^from (polybus_[\w.]+) import (\([^)]+\)|.+)$", re.MULTILINE)
    for page in pages:
        for name, names in imports.findall(page.read_text(encoding="utf-8")):
            assert name in public(), (page.name, name)
            listed = importlib.import_module(name).__all__
            assert set(re.findall(r"\w+", names)) <= set(listed), page.name


@pytest.mark.parametrize("folder", PACKAGES)
def test_each_package_is_typed(folder: str) -> None:
    """Type checkers of others read our annotations."""
    assert (Path(ROOT) / folder / "py.typed").exists()
