"""What is measured: the gateway, and its rivals, each a process that is started, subscribed and ended alike."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from bench import machine
from polybus_protocol.control.replies import StatusReply
from polybus_services.client import ControlClient

ROOT = Path(__file__).parents[1]

READY_WITHIN_S = 60.0
"""Seconds a subject may take to start and subscribe: 20,000 assets take a loaded machine ten."""

LONGEST_LINE_BYTES = 1 << 20

ASSETS_PER_REQUEST = 2_000
"""Assets in one request to the gateway, whose reply lists the subjects of each: both stay far below 1 MB."""


class Kind(msgspec.Struct, frozen=True):
    """One kind of subject."""

    name: str
    title: str
    """What it is made of, as a table says it."""
    is_rival: bool = True
    """Whether it is a module in `rivals`."""
    is_foreign: bool = True
    """Whether it runs with the packages in `.bench`."""
    settings: str = ""
    """The gateway's, where they are not the defaults."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("gateway", "polybus", is_rival=False, is_foreign=False),
        Kind(
            "bookless",
            "polybus, `books = false`",
            is_rival=False,
            is_foreign=False,
            settings="books = false\n",
        ),
        Kind("script", "(a) websockets + json + nats-py"),
        Kind("official", "(b) polymarket-client + nats-py"),
        Kind("fastest", "(c) picows + msgspec + nats-py"),
        Kind("floor", "(d) our splitter + msgspec + nats-py", is_foreign=False),
    )
}


class Unfair(Exception):
    """A subject did not do the job that it was measured at."""


class Line:
    """A child process that is spoken to by JSON lines."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        assert process.stdin is not None
        self.process = process
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._stdin = process.stdin

    async def hear(self) -> dict[str, object]:
        """The next line."""
        line = await self._lines.receive_until(b"\n", LONGEST_LINE_BYTES)
        answer: dict[str, object] = json.loads(line)
        return answer

    async def ask(self, **command: object) -> dict[str, object]:
        """Say a command, and wait until it was obeyed."""
        await self._stdin.send(json.dumps(command).encode() + b"\n")
        return await self.hear()

    async def end(self) -> None:
        """Say that nothing more is wanted."""
        await self._stdin.aclose()


@asynccontextmanager
async def started(command: list[str], cores: set[int]) -> AsyncIterator[Line]:
    """A child process for the length of a block, on these cores."""
    process = await anyio.open_process(command, cwd=ROOT, stderr=None)
    try:
        machine.pin(process.pid, cores)
        yield Line(process)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
                with anyio.move_on_after(5):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
            await process.aclose()


class Subject:
    """One that runs and has subscribed."""

    def __init__(
        self, kind: Kind, line: Line, control: ControlClient | None, metrics: str | None = None
    ) -> None:
        self.kind = kind
        self.control = control
        self.metrics = metrics
        """URL of the gateway's metrics, if it has any."""
        self._line = line

    @property
    def pid(self) -> int:
        """Its process."""
        return self._line.process.pid

    async def published(self) -> int:
        """How many messages it published, by its own count; a rival ends with that.

        Raises:
            Unfair: the gateway had to announce a gap.
        """
        if self.control is None:
            await self._line.end()
            published = (await self._line.hear())["published"]
            assert isinstance(published, int)
            return published
        status: StatusReply = await self.control.status()
        if status.gaps:
            raise Unfair(f"the gateway announced {status.gaps} gaps: {status.checks}, {status.unknown}")
        return status.total_events


@asynccontextmanager
async def running(
    kind: Kind, feed: str, nats: str, assets: list[str], scratch: Path, settings: str = ""
) -> AsyncIterator[Subject]:
    """A subject that has subscribed, for the length of a block.

    Args:
        kind: which.
        feed: URL of the market feed.
        nats: URL of NATS.
        assets: to subscribe.
        scratch: a folder for files.
        settings: more of the gateway's configuration, from `[feeds.market]` on.
    """
    own, _ = machine.cores()
    if kind.is_rival:
        python = str(ROOT / ".bench/bin/python") if kind.is_foreign else sys.executable
        file = scratch / "assets.json"
        file.write_text(json.dumps(assets))
        command = [python, "-m", f"bench.rivals.{kind.name}", feed, nats, str(file)]
    else:
        config = _configured(feed, nats, scratch, kind.settings + settings)
        command = [sys.executable, "-m", "polybus_services", "run", "--json", "--config", config]
    async with started(command, own) as line:
        with anyio.fail_after(READY_WITHIN_S):
            said = await line.hear()
        if kind.is_rival:
            yield Subject(kind, line, None)
            return
        async with ControlClient.connect(nats) as control:
            await subscribe(control, assets)
            yield Subject(kind, line, control, f"{said['http']}/metrics" if said.get("http") else None)


async def subscribe(control: ControlClient, assets: list[str]) -> None:
    """Subscribe through the control service, and wait for data of each.

    Raises:
        Unfair: some have none.
    """
    for first in range(0, len(assets), ASSETS_PER_REQUEST):
        some = assets[first : first + ASSETS_PER_REQUEST]
        reply = await control.subscribe(assets=some, wait="data", wait_timeout_s=READY_WITHIN_S)
        if reply.missing:
            raise Unfair(f"{len(reply.missing)} assets have no data: {reply.missing[0]}")


def _configured(feed: str, nats: str, scratch: Path, settings: str) -> str:
    """A configuration file: core delivery, which is what the rivals do; all else as it is by default."""
    file = scratch / "polybus.toml"
    file.write_text(
        f'[gateway]\nprobe = false\n[nats]\nurl = "{nats}"\n[log]\nlevel = "error"\n[streams]\nmanage = false\n'
        f'[delivery]\nmarket = "core"\nbooks = "core"\n[feeds.market]\nurl = "{feed}"\nrest_url = ""\n{settings}'
    )
    return str(file)
