"""Child processes that say one JSON line when they are ready, and never outlive us."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import msgspec
from anyio.streams.buffered import BufferedByteReceiveStream

from polybus_services.children import send_signal

READY_WITHIN_S = 20.0
"""How long a child may take to get ready.  It takes half a second; a busy machine takes longer."""

STOPPED_WITHIN_S = 10.0
"""How long a child may take to end in good order: what the gateway promises for its drain."""

LONGEST_READY_LINE_BYTES = 64 * 1024 * 1024
"""The simulator's names all its markets, at 250 bytes each."""

# Linux only: asks the kernel for a SIGKILL when we die, however we die, then becomes the program under the same
# process id.  The parent may have died before the request was made, hence the second look.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class ChildFailed(Exception):
    """A child did not get ready, or ended by itself; the message has its last words."""


class _Error(msgspec.Struct):
    message: str


class _Said(msgspec.Struct):
    """A line of a child's standard error."""

    error: _Error | None = None
    message: str = ""


class Child:
    """One `polybus` process; made by `child`."""

    def __init__(self, name: str, process: anyio.abc.Process, log: Path) -> None:
        self.name = name
        self.ready: dict[str, Any] = {}
        """Its ready line."""
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process id, also after it has ended."""
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status; None while it runs."""
        return self._process.returncode

    @property
    def end(self) -> str:
        """How it ended, in words."""
        if self.status is not None and self.status < 0:
            return f"killed by {signal.Signals(-self.status).name}"
        return f"status {self.status}"

    async def watch(self) -> None:
        """Wait for an end that nobody asked for.

        Raises:
            ChildFailed: always, when it has come.
        """
        await self._process.wait()
        raise ChildFailed(f"the {self.name} ended by itself ({self.end}); it said: {self._last_words()}")

    def kill(self) -> None:
        """End it at once."""
        send_signal(self._process, signal.SIGKILL)

    async def stop(self) -> None:
        """End it in good order and wait for it; killed if it has not ended in `STOPPED_WITHIN_S`."""
        with anyio.CancelScope(shield=True):
            send_signal(self._process, signal.SIGTERM)
            with anyio.move_on_after(STOPPED_WITHIN_S):
                await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._process.aclose()

    async def wait_until_ready(self) -> None:
        """Read its ready line.

        Raises:
            ChildFailed: it ended instead, or says nothing for `READY_WITHIN_S`.
        """
        assert self._process.stdout is not None
        try:
            with anyio.fail_after(READY_WITHIN_S):
                line = await BufferedByteReceiveStream(self._process.stdout).receive_until(
                    b"\n", LONGEST_READY_LINE_BYTES
                )
            self.ready = msgspec.json.decode(line, type=dict[str, Any])
        except TimeoutError:
            raise ChildFailed(f"the {self.name} does not get ready; it said: {self._last_words()}") from None
        except (anyio.EndOfStream, anyio.IncompleteRead, msgspec.DecodeError):
            raise ChildFailed(f"the {self.name} did not start; it said: {self._last_words()}") from None

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()
        if not lines:
            return "nothing"
        try:  # with --json, errors and log lines are objects
            entry = msgspec.json.decode(lines[-1], type=_Said)
        except msgspec.DecodeError:
            return lines[-1]
        return entry.error.message if entry.error is not None else entry.message


@asynccontextmanager
async def child(
    name: str, arguments: Sequence[str], log: Path, *, secrets: Mapping[str, str] | None = None
) -> AsyncIterator[Child]:
    """Run `polybus ARGUMENTS` for the length of a block, entered once it is ready.

    It sees none of our settings in its environment: what it needs, it is told.

    Args:
        name: what to call it.
        arguments: the command and its options, which anybody on this machine can read.
        log: a file for what it says on standard error.
        secrets: variables for what nobody else may read.

    Raises:
        ChildFailed: it does not get ready.
    """
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("POLYBUS_", "NATS_"))}
    environ |= secrets or {}
    command = [sys.executable, "-m", "polybus_services", *arguments]
    if sys.platform == "linux":
        command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
    with log.open("wb") as said:
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we decide who ends when.
        process = await anyio.open_process(
            command, stdin=subprocess.DEVNULL, stderr=said, env=environ, start_new_session=True
        )
    one = Child(name, process, log)
    try:
        await one.wait_until_ready()
        yield one
    finally:
        await one.stop()
