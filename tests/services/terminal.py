"""Running `polybus` as a person or a script does: in a process of its own."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

import polybus_actors
import polybus_protocol
import polybus_services
from polybus_services.cli import main

ROOTS = [
    str(Path(package.__path__[0]).parent) for package in (polybus_protocol, polybus_actors, polybus_services)
]

PATIENCE_S = 60.0
"""No command of a test takes a second; a busy machine may make it many."""


def environment(**more: str) -> dict[str, str]:
    """Ours without any setting of polybus, NATS or OpenTelemetry, and with the code under test."""
    clean = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("POLYBUS_", "NATS_", "OTEL_", "COLUMNS"))
    }
    return clean | {"PYTHONPATH": os.pathsep.join(ROOTS), "PYTHONUNBUFFERED": "1"} | more


class Outcome(msgspec.Struct):
    """How a command ended."""

    status: int
    out: str
    err: str

    def json(self) -> Any:
        """What it printed, read as JSON."""
        return msgspec.json.decode(self.out)


# Importing all of polybus takes half a second of processor time, and the tests run hundreds of commands: a process that
# has imported it forks one for each.  What starts it from nothing is seen by `running`, and by the demo.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(["polybus_services.cli.commands"])


def _command(arguments: Sequence[str], folder: Path, variables: dict[str, str], here: str) -> None:
    """Be `polybus`, with files for a terminal."""
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(here)
    sys.stdin, sys.stdout, sys.stderr = streams = (
        (folder / "in").open(encoding="utf-8"),
        (folder / "out").open("w", encoding="utf-8"),
        (folder / "err").open("w", encoding="utf-8"),
    )
    for number, stream in enumerate(streams):
        os.dup2(stream.fileno(), number)
    sys.argv = ["polybus", *arguments]
    main(arguments)


async def polybus(*arguments: str, stdin: str = "", **variables: str) -> Outcome:
    """Run one command to its end."""
    with TemporaryDirectory() as name, anyio.fail_after(PATIENCE_S):
        folder = Path(name)
        (folder / "in").write_text(stdin, encoding="utf-8")
        process = _forks.Process(
            target=_command, args=(arguments, folder, environment(**variables), str(Path.cwd()))
        )
        process.start()
        try:
            await anyio.wait_readable(process.sentinel)
        finally:
            process.kill()
            process.join()
        status = process.exitcode
        out, err = ((folder / each).read_text(encoding="utf-8") for each in ("out", "err"))
        process.close()
    assert status is not None
    return Outcome(status, out, err)


class Running:
    """A command that goes on until it is told to stop."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdout is not None
        self._out = BufferedByteReceiveStream(process.stdout)
        self.process = process

    async def line(self) -> str:
        """The next line it prints."""
        return (await self._out.receive_until(b"\n", 1 << 26)).decode()

    async def json(self) -> Any:
        """The next line it prints, read as JSON."""
        return msgspec.json.decode(await self.line())

    async def end(self) -> tuple[int, str]:
        """Wait for its end: the status, and what it said on standard error."""
        assert self.process.stderr is not None
        said = bytearray()
        async for chunk in self.process.stderr:
            said += chunk
        return await self.process.wait(), said.decode()


@asynccontextmanager
async def running(
    arguments: Sequence[str], within_s: float = PATIENCE_S, /, **variables: str
) -> AsyncIterator[Running]:
    """Run a command for the length of a block, in a process group of its own; killed if it is still there at the end.

    Args:
        arguments: of `polybus`.
        within_s: seconds the block may take.
        variables: of the environment.
    """
    async with await anyio.open_process(
        [sys.executable, "-m", "polybus_services", *arguments],
        stdin=subprocess.DEVNULL,
        env=environment(**variables),
        start_new_session=True,
    ) as process:
        try:
            with anyio.fail_after(within_s):
                yield Running(process)
        finally:
            if process.returncode is None:
                process.kill()
