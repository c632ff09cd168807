"""The venue's own clients, which we did not write, against the simulator."""

import json
import os
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

from ..support.packages import CLIENTS, installed, installed_by_npm

GUARD_S = 60.0
LONGEST_LINE_BYTES = 4 * 1024 * 1024


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
    return installed_by_npm(CLIENTS / "rtds-js", probe="node_modules/@polymarket")


@pytest.fixture(scope="session")
def polymarket_client() -> Path:
    """`polymarket-client`, installed in an environment of its own."""
    python = str(Path("venv") / ("Scripts" if os.name == "nt" else "bin") / "python")
    return installed(
        CLIENTS / "polymarket-client",
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
