"""The servers that chaos is brought to: how they are configured, and what else they have to bear."""

import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio
from nats.aio.client import Client
from nats.errors import Error as NatsError

from .consumer import PREFIX
from .nats_keys import Key

MAX_PAYLOAD = 1_048_576
"""Bytes that a message may have, as is the default."""

DISK_BYTES = 8 * 1024 * 1024
"""Of a small disk: more than a run stores."""

CONFIG = """
max_payload: {max_payload}
max_pending: 2097152
write_deadline: "1s"
{cluster}
jetstream: {{ store_dir: "{store}", max_file_store: 4GB }}
authorization {{ users: [
  {{ nkey: {gateway}, permissions: {{ publish: {{ allow: ">", deny: [{deny}] }}, subscribe: ">" }} }}
  {{ user: other, password: x }}
] }}
"""
"""Of a server: whoever reads slowly is soon cut off; and what a reload is to change.  JetStream is named here because
nats-server 2.9.10 switches it off at a reload where its command line asks for it, and its room, which is else three
quarters of what the disk has."""


def mute_subscriber(port: int) -> socket.socket:
    """A subscriber that wants everything twenty times and reads nothing, with as little room in its kernel as can be."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port))
    wishes = "".join(f"SUB {PREFIX}.> {number}\r\n" for number in range(1, 21))
    raw.sendall(
        b'CONNECT {"user": "other", "pass": "x", "verbose": false}\r\n' + wishes.encode() + b"PING\r\n"
    )
    return raw


def new_key(folder: Path, name: str = "gateway.nk") -> str:
    """Write a new key; its public half."""
    key = Key()
    (folder / name).write_text(key.seed)
    return key.public


def configure(
    folder: Path,
    number: int,
    *,
    gateway: str,
    cluster: str = "",
    max_payload: int = MAX_PAYLOAD,
    deny: str = "",
) -> tuple[Path, Path]:
    """Write the configuration of a server; where it is, and where the server is to keep its store.

    Args:
        folder: for both.
        number: of the server.
        gateway: public key of the gateway.
        cluster: what makes it one of several.
        max_payload: bytes that a message may have.
        deny: subjects that the gateway may not publish on, in quotes, separated by commas.
    """
    config, store = folder / f"{number}.conf", folder / str(number)
    config.write_text(
        CONFIG.format(store=store, gateway=gateway, cluster=cluster, max_payload=max_payload, deny=deny)
    )
    return config, store


async def until_elected(client: Client, nodes: int) -> None:
    """Wait until a cluster has somebody to ask about streams, and finds room for as many copies as it has nodes."""
    js = client.jetstream(timeout=0.5)
    while True:
        # Who has just been elected may know of too few others, and refuse.
        with suppress(NatsError):
            await js.add_stream(name="probe", subjects=["probe"], num_replicas=nodes)
            await js.delete_stream("probe")
            return
        await anyio.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of its own that is soon full, for the length of a block.

    Raises:
        subprocess.CalledProcessError: it cannot be mounted, as by anybody but root.
    """
    folder.mkdir()
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder], check=True, capture_output=True
    )
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def can_mount() -> bool:
    """Whether there can be a `small_disk`."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk"):
                return True
        except (subprocess.CalledProcessError, OSError):
            return False


def version_of(program: Path) -> str:
    """The version of a nats-server, such as `2.9.10`."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return told.strip().rpartition("v")[2]
