"""The core does no I/O: it does not even load what could."""

import subprocess
import sys

import pytest

LOADED_WITH_THE_CORE = """
import importlib, pkgutil, sys
sys.path[:0] = sys.argv[1:]
import polybus_protocol
for module in pkgutil.walk_packages(polybus_protocol.__path__, "polybus_protocol."):
    importlib.import_module(module.name)
print("\\n".join(sys.modules))
"""


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Import every module of the core in a fresh interpreter, and tell all that was loaded."""
    run = subprocess.run(
        [sys.executable, "-c", LOADED_WITH_THE_CORE, *sys.path], capture_output=True, text=True, check=True
    )
    return set(run.stdout.split())


def test_every_module_of_the_core_was_looked_at(loaded: set[str]) -> None:
    """The other test here would pass for nothing if the core had not been imported."""
    assert {"polybus_protocol", "polybus_protocol.websocket.framing"} <= loaded


@pytest.mark.parametrize(
    "name",
    [
        "anyio",
        "asyncio",
        "multiprocessing",
        "nats",
        "polybus_actors",
        "polybus_services",
        "selectors",
        "socket",
        "ssl",
    ],
)
def test_the_core_does_not_load(loaded: set[str], name: str) -> None:
    """Neither by itself nor by way of msgspec, wsproto or h11."""
    assert name not in loaded
