"""What the README and the examples are tried on: the simulator they speak of, a gateway, and NATS between them."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from polybus_services.nats_server import nats_server
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator

from .terminal import PATIENCE_S, environment, running

ROOT = Path(__file__).parents[2]

TRANSPORT = "@nats-io/transport-node"
"""The NATS client that the JavaScript examples import."""

A_MODULE_S = 600.0
"""Seconds that all tests of one module may take together, on a machine that has other things to do."""

CREDENTIALS = ("api_key", "secret", "passphrase")


class Scene(msgspec.Struct):
    """A simulated venue as `polybus simulate` starts it, but busier, and a gateway that follows it."""

    simulator: Simulator
    nats: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which a command meets this scene."""
        feeds = {f"POLYBUS_FEEDS__{feed.upper()}__URL": url for feed, url in self.simulator.feeds.items()}
        alice = self.simulator.accounts[0]
        account = {f"POLYBUS_ACCOUNTS__ALICE__{name.upper()}": alice[name] for name in CREDENTIALS}
        rest = {"POLYBUS_FEEDS__MARKET__REST_URL": self.simulator.rest}
        return {"NATS_URL": self.nats} | feeds | rest | account

    def moved_here(self, text: str) -> str:
        """A text whose addresses are those of this scene instead of the usual ones."""
        here = self.simulator.rest.removeprefix("http://")
        return text.replace("nats://127.0.0.1:4222", self.nats).replace("127.0.0.1:8765", here)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """Set it up for the length of a block."""
    async with nats_server() as nats, running_simulator(SimulatorOptions(rate=150)) as simulator:
        here = Scene(simulator, nats.url)
        async with running(["run", "--json"], A_MODULE_S, **here.variables) as gateway:
            await gateway.json()
            yield here


async def first_lines(command: Sequence[str], count: int, **variables: str) -> list[str]:
    """Run a program that never ends until it has printed so many lines; then end it."""
    async with await anyio.open_process(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environment(**variables)
    ) as process:
        assert process.stdout is not None
        out, lines = BufferedByteReceiveStream(process.stdout), list[str]()
        try:
            with anyio.fail_after(PATIENCE_S):
                while len(lines) < count:
                    lines.append((await out.receive_until(b"\n", 1 << 20)).decode())
        except anyio.IncompleteRead:
            raise AssertionError(f"it ended by itself; it said: {''.join(lines)}") from None
        finally:
            if process.returncode is None:
                process.kill()
        return lines


async def checked_by_node(script: Path) -> None:
    """Have Node.js, where there is one, say that a script is JavaScript.

    Raises:
        CalledProcessError: it is not.
    """
    if node := shutil.which("node"):
        await anyio.run_process([node, "--check", str(script)])


async def node_with_transport(folder: Path) -> str | None:
    """Node.js, with the NATS client within reach of scripts in a folder; None where one of them is not installed.

    The client is found where CommonJS looks: in `node_modules` here or above, or in a folder of `NODE_PATH`.
    """
    if (node := shutil.which("node")) is None:
        return None
    find = f"console.log(require.resolve('{TRANSPORT}'))"
    found = await anyio.run_process([node, "-e", find], check=False, cwd=ROOT, env=dict(os.environ))
    if found.returncode != 0:
        return None
    modules = found.stdout.decode().strip().partition(f"/{TRANSPORT}/")[0]
    (folder / "node_modules").symlink_to(modules)
    return node
