"""What every test may ask for.

The core's tests run where none of anyio, httpx and nats-py is installed, so a fixture that needs them imports them itself.
"""

import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from polybus_services.nats_server import NatsServer

# An example's time says more about the machine's other work than about the code; thirty of each find what they find
# while the whole suite stays under three minutes on two cores.
settings.register_profile("unhurried", settings(deadline=None, max_examples=30, derandomize=True))
settings.load_profile("unhurried")
# The same ones each time, or a change would be refused for what it has not done: new ones are looked for by
# `make thorough`.
settings.register_profile("thorough", max_examples=1000, deadline=None)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: the collector need not go through it again and again."""
    gc.freeze()


@pytest.fixture
def anyio_backend() -> str:
    """Run async tests on asyncio, the loop that nats-py needs."""
    return "asyncio"


@pytest.fixture
async def nats() -> "AsyncIterator[NatsServer]":
    """Run a fresh nats-server with JetStream for one test, which may kill, freeze and restart it.

    It starts in about 50 ms, so no two tests need to share one.
    """
    from polybus_services.nats_server import nats_server

    async with nats_server() as server:
        yield server


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that no file of the project is found by accident."""
    monkeypatch.chdir(tmp_path)
