"""The venue's own clients, which we did not write, against the simulator.

They are installed from tests/clients, at the versions and hashes in its locks, into a cache of the user's: never into
the project's environment.  A test is skipped only where there is no Node.js or no registry; with `CI=true` a machine
that has Node.js must also get at the TypeScript client.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

from polybus_services.simulator import Pace, Simulator, SimulatorOptions, ready_line, running_simulator
from polybus_services.simulator.probe import AdminClient

CLIENTS = Path(__file__).parents[1] / "clients"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "polybus-tests"
INSTALL_S = 300.0
GUARD_S = 60.0
LONGEST_LINE_BYTES = 4 * 1024 * 1024

UNREACHABLE = (
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "E404",
    "No matching distribution",
    "Failed to establish a new connection",
)
"""What npm and pip say where the registry, or the package in it, cannot be had."""


def installed(name: str, lock: str, *commands: list[str], probe: str, required: bool = False) -> Path:
    """The folder in which a client is installed; made at the first use, and again when its lock changes.

    Args:
        name: of its folder in tests/clients.
        lock: the lock's file name.
        commands: what installs it, run in the new folder.
        probe: a path in the folder that tells that the last command has done its work.
        required: a registry out of reach is a failure, not a reason to skip.
    """
    source = CLIENTS / name
    digest = hashlib.sha256((source / lock).read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = CACHE / f"{name}-{digest}"
    done = folder / "installed"
    if not (done.exists() and (folder / probe).exists()):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        for command in commands:
            ran = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False
            )
            said = f"{ran.stdout}\n{ran.stderr}"
            why = [line for line in said.splitlines() if any(word in line for word in UNREACHABLE)]
            if ran.returncode and why and not required:
                pytest.skip(f"{name}: the registry, or a package in it, cannot be had: {why[-1]}")
            assert ran.returncode == 0, said
        done.touch()
    else:
        # The driver may be newer than the installation.
        for script in source.glob("driver.*"):
            shutil.copy(script, folder)
    return folder


class Driver:
    """A client in its own process, which prints a line of JSON for each event."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self._lines = BufferedByteReceiveStream(process.stdout)
        self.heard: list[Any] = []

    async def hear(self) -> Any:
        """The next line."""
        self.heard.append(json.loads(await self._lines.receive_until(b"\n", LONGEST_LINE_BYTES)))
        return self.heard[-1]


@asynccontextmanager
async def driven(folder: Path, *command: str) -> AsyncIterator[Driver]:
    """A driver for as long as the block lasts; then it must end by itself."""
    async with await anyio.open_process(command, cwd=folder, stderr=None) as process:
        try:
            yield Driver(process)
        finally:
            assert process.stdin is not None
            await process.stdin.aclose()
            # What it still says is of no interest, but must not keep it from ending.
            assert process.stdout is not None
            with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                async for _ in process.stdout:
                    pass
                await process.wait()
            if process.returncode is None:
                process.kill()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A lively simulator: comments and games several times a second, half of all orders are the accounts'."""
    options = SimulatorOptions(
        markets=6, seed=3, rate=100, account_share=0.5, pace=Pace(price_s=0.5, comment_s=0.1, game_s=0.1)
    )
    with anyio.fail_after(GUARD_S):
        async with running_simulator(options) as running:
            yield running


@pytest.fixture(scope="session")
def rtds_js() -> Path:
    """`@polymarket/real-time-data-client`, installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("Node.js and npm are not on this machine")
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    in_ci = os.environ.get("CI") == "true"
    return installed(
        "rtds-js", "package-lock.json", install, probe="node_modules/@polymarket", required=in_ci
    )


@pytest.fixture(scope="session")
def polymarket_client() -> Path:
    """`polymarket-client`, installed in an environment of its own."""
    python = str(Path("venv") / ("Scripts" if os.name == "nt" else "bin") / "python")
    return installed(
        "polymarket-client",
        "requirements.lock",
        [sys.executable, "-m", "venv", "venv"],
        [python, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", "requirements.lock"],
        probe=python,
    )


ACTIVITY = {
    "asset": str,
    "conditionId": str,
    "eventSlug": str,
    "outcome": str,
    "outcomeIndex": int,
    "price": (int, float),
    "proxyWallet": str,
    "side": str,
    "size": (int, float),
    "timestamp": int,
    "transactionHash": str,
}
COMMENT = {
    "id": str,
    "body": str,
    "parentEntityType": str,
    "parentEntityID": int,
    "createdAt": str,
    "profile": dict,
}
REACTION = {
    "id": str,
    "commentID": int,
    "reactionType": str,
    "icon": str,
    "userAddress": str,
    "createdAt": str,
}
PAYLOADS: dict[tuple[str, str], dict[str, Any]] = {
    ("activity", "trades"): ACTIVITY,
    ("activity", "orders_matched"): ACTIVITY,
    ("comments", "comment_created"): COMMENT,
    ("comments", "comment_removed"): COMMENT,
    ("comments", "reaction_created"): REACTION,
    ("comments", "reaction_removed"): REACTION,
}
"""Topic and type -> the fields of the payload, with their types, as the client's README gives them."""


@pytest.mark.anyio
async def test_the_typescript_client(rtds_js: Path, simulator: Simulator) -> None:
    """It connects, subscribes to activity and comments, and hands out every type, as its README types it.

    Once the simulator is paused, the client has heard what the ledger says was sent, type by type.
    """
    wanted = set(PAYLOADS)
    async with driven(rtds_js, "node", "driver.js", simulator.feeds["rtds"]) as driver:
        while wanted:
            message = await driver.hear()
            wanted.discard((message["topic"], message["type"]))
        admin = AdminClient(simulator.admin)
        await admin.ask("POST", "/pause")
        sent = Counter[str]()
        for (_, kind), count in (await admin.sent("rtds-1"))["sent"].items():
            sent[kind] += count
        while len(driver.heard) < sent.total():
            await driver.hear()
        assert Counter(message["type"] for message in driver.heard) == sent
    for message in driver.heard:
        assert isinstance(message["timestamp"], int)
        assert isinstance(message["connection_id"], str)
        for field, kind in PAYLOADS[message["topic"], message["type"]].items():
            assert isinstance(message["payload"][field], kind), field


EVENTS = {
    "market": {
        "MarketBookEvent",
        "MarketPriceChangeEvent",
        "MarketLastTradePriceEvent",
        "MarketBestBidAskEvent",
    },
    "user": {"UserOrderEvent", "UserTradeEvent"},
    "sports": {"SportsResultEvent"},
    "comments": {
        "CommentCreatedEvent",
        "CommentRemovedEvent",
        "ReactionCreatedEvent",
        "ReactionRemovedEvent",
    },
    "crypto_prices": {"CryptoPricesBinanceEvent"},
    "crypto_prices_chainlink": {"CryptoPricesChainlinkEvent"},
    "crypto_prices_twap_thirty": {"CryptoPricesChainlinkTwapEvent"},
    "crypto_prices_twap_sixty": {"CryptoPricesChainlinkTwapEvent"},
    "equity_prices": {"EquityPricesUpdateEvent"},
    "price.crypto": {"CryptoPriceSnapshotEvent", "CryptoPriceUpdateEvent"},
    "price.crypto.twap": {"CryptoTwapPriceSnapshotEvent", "CryptoTwapPriceUpdateEvent"},
    "price.equity": {"EquityPriceSnapshotEvent", "EquityPriceUpdateEvent"},
    "price.equity.twap": {"EquityTwapPriceSnapshotEvent", "EquityTwapPriceUpdateEvent"},
}
"""Every stream of the Python client that has one here -> the events it must hand out."""


@pytest.mark.anyio
async def test_the_python_client(polymarket_client: Path, simulator: Simulator) -> None:
    """Market, user, sports, RTDS and PolyBolt: it is let in everywhere and reads what it is told, to the digit."""
    wanted = {(stream, event) for stream, events in EVENTS.items() for event in events}
    python = str(polymarket_client / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    ready = json.dumps(ready_line(simulator))
    async with driven(polymarket_client, python, "driver.py", ready) as driver:
        while wanted:
            line = await driver.hear()
            wanted.discard((line["stream"], line.get("event")))
    prices = {
        Decimal(line["content"]["payload"]["value"])
        for line in driver.heard
        if line.get("event") == "CryptoPriceUpdateEvent" and line["content"]["payload"]["symbol"] == "btcusd"
    }
    assert prices <= {
        Decimal(price.value).scaleb(-8)
        for price in simulator.venue.surroundings.prices.series["crypto", "btcusd"].history
    }
    owners = {
        line["content"]["payload"]["owner"] for line in driver.heard if line.get("event") == "UserOrderEvent"
    }
    assert owners == {simulator.accounts[0]["api_key"]}
