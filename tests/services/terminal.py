"""Running `polybus` as a person or a script does: in a process of its own."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

import polybus_actors
import polybus_protocol
import polybus_services
from polybus_services.cli import main
from polybus_services.cli.commands import COMMANDS

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
# has imported it forks one for each.  What starts from nothing are the gateways of `support/process.py`, the children of
# the demo, and what the documents tell to type.
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [
        *(f"polybus_services.cli.{module}" for module, _ in COMMANDS.values()),
        "polybus_services.cli.console",
        "polybus_services.demo",
        "polybus_services.gateway",
        "polybus_services.present.ready",
        "polybus_services.simulator",
    ]
)


def _command(arguments: Sequence[str], variables: dict[str, str], here: str, *files: Connection) -> None:
    """Be `polybus`, in a process group of its own, with these files for a terminal."""
    # Else the collector would go through all that was imported, and make a copy of each page.
    gc.freeze()
    os.setsid()
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(here)
    for number, file in enumerate(files):
        os.dup2(file.fileno(), number)
        file.close()
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["polybus", *arguments]
    main(arguments)


class Command:
    """A forked command; its parts have the names that they have of other processes."""

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str], *files: int) -> None:
        """Start it.

        Args:
            arguments: of `polybus`.
            variables: of the environment, besides ours.
            files: its standard input, output and error; closed here, once it has them.
        """
        handed = [Connection(file) for file in files]
        self._process = _forks.Process(
            target=_command, args=(arguments, environment(**variables), str(Path.cwd()), *handed)
        )
        self._process.start()
        for file in handed:
            file.close()

    @property
    def returncode(self) -> int | None:
        """The exit status, negative where a signal ended it; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing happens if it has ended."""
        pid = self._process.pid
        if pid is not None and self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end: the status."""
        await anyio.wait_readable(self._process.sentinel)
        self._process.join()
        assert self.returncode is not None
        return self.returncode


async def polybus(*arguments: str, stdin: str = "", **variables: str) -> Outcome:
    """Run one command to its end."""
    with TemporaryFile() as given, TemporaryFile() as out, TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        command = Command(arguments, variables, *(os.dup(file.fileno()) for file in (given, out, err)))
        try:
            with anyio.fail_after(PATIENCE_S):
                status = await command.wait()
        finally:
            command.kill()
        told = []
        for file in (out, err):
            file.seek(0)
            told.append(file.read().decode())
    return Outcome(status, *told)


class Pipe(anyio.abc.ByteReceiveStream):
    """What somebody writes into a pipe."""

    def __init__(self) -> None:
        self._file, self.other_end = os.pipe()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What has come.

        Raises:
            EndOfStream: nobody can write any more.
        """
        await anyio.wait_readable(self._file)
        if not (chunk := os.read(self._file, max_bytes)):
            raise anyio.EndOfStream
        return chunk

    async def aclose(self) -> None:
        """Read no more."""
        os.close(self._file)


class Running:
    """A command that goes on until it is told to stop."""

    def __init__(self, process: Command, out: Pipe, err: Pipe) -> None:
        self.process = process
        self.err = err
        self._out = BufferedByteReceiveStream(out)

    async def line(self) -> str:
        """The next line it prints."""
        return (await self._out.receive_until(b"\n", 1 << 26)).decode()

    async def json(self) -> Any:
        """The next line it prints, read as JSON."""
        return msgspec.json.decode(await self.line())

    async def end(self) -> tuple[int, str]:
        """Wait for its end: the status, and what it said on standard error."""
        said = bytearray()
        async for chunk in self.err:
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
    async with Pipe() as out, Pipe() as err:
        nothing = os.open(os.devnull, os.O_RDONLY)
        process = Command(arguments, variables, nothing, out.other_end, err.other_end)
        try:
            with anyio.fail_after(within_s):
                yield Running(process, out, err)
        finally:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.wait()


def is_gone(pid: int) -> bool:
    """Tell whether no process has this id, not even one that waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
