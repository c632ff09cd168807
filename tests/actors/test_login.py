"""How a NATS client is opened: TLS that nobody talks us out of, credentials that are looked at before each use."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import nkeys
import pytest
from nats.aio.client import Client

from polybus_actors.publishing.bus import Bus
from polybus_actors.publishing.edges import dismiss
from polybus_actors.publishing.login import (
    LoginError,
    NatsSettings,
    new_client,
    options,
    read_creds,
    words,
    writer_of,
)
from polybus_actors.publishing.outbox import Outbox
from polybus_protocol.stream import Stream
from polybus_services.nats_server import NatsServer, nats_server

from ..support.chaos_servers import free_ports
from ..support.nats_keys import Key, Operator, creds_of
from ..support.proxy import proxy_to
from ..support.until import a_moment, until

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).parent.parent / "support" / "untrusted.pem"
"""Of this machine, signed by itself, with its key."""

SECRET = "open-sesame-4711"


@asynccontextmanager
async def server(folder: Path, config: str) -> AsyncIterator[NatsServer]:
    """A server with a configuration of its own."""
    file = folder / "nats.conf"
    file.write_text(config)
    async with nats_server(jetstream=False, config=file) as running:
        yield running


def tls(more: str = "") -> str:
    return f'tls {{ cert_file: "{CERTIFICATE}", key_file: "{CERTIFICATE}", {more} }}\n'


def settings(url: str, **more: Any) -> NatsSettings:
    return NatsSettings(url=url, **more)


async def no_loss(_streams: list[Stream]) -> None:
    pass


@asynccontextmanager
async def connected(where: NatsSettings) -> AsyncIterator[Bus]:
    """A bus that runs, for the length of a block."""
    bus = Bus(where, Outbox(10, 1000), no_loss)
    with anyio.fail_after(60):
        await bus.connect()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bus.run, lambda _client: anyio.sleep_forever())
            yield bus
            tasks.cancel_scope.cancel()


async def complaint(where: NatsSettings) -> str:
    """The first thing that goes wrong when one tries to connect, which is then tried again and again."""
    client, heard, failed = new_client(where), list[str](), anyio.Event()

    async def note(error: Exception) -> None:
        heard.append(words(error))
        failed.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(
                partial(client.connect, error_cb=note, max_reconnect_attempts=-1, **options(where))
            )
            await failed.wait()
            tasks.cancel_scope.cancel()
        await dismiss(client, 2)
    return heard[0]


def is_encrypted(client: Client | None) -> bool:
    assert client is not None
    return client._transport._io_writer.get_extra_info("ssl_object") is not None  # type: ignore[union-attr]


async def test_no_tls_no_login(nats: NatsServer) -> None:
    """A server that speaks no TLS hears nothing from us where TLS is demanded, whatever demands it."""
    async with proxy_to(nats.port) as proxy:
        for where in (
            settings(f"tls://127.0.0.1:{proxy.port}", user="u", password=SECRET),
            settings(f"nats://u:{SECRET}@127.0.0.1:{proxy.port}", tls=True),
            settings(f"nats://127.0.0.1:{proxy.port}", ca=str(CERTIFICATE), token=SECRET),
        ):
            assert "the server does not offer TLS" in await complaint(where)
        assert proxy.heard == b""
        first = settings(proxy.url, tls_first=True, token=SECRET)
        assert "WRONG_VERSION_NUMBER" in await complaint(first)
        assert SECRET.encode() not in proxy.heard


async def test_tls_only_with_whom_we_trust(tmp_path: Path) -> None:
    """With the right CA the connection is encrypted; with another the reason is said in time."""
    async with server(tmp_path, tls()) as nats:
        for url in (nats.url, nats.url.replace("nats:", "tls:")):
            async with connected(settings(url, ca=str(CERTIFICATE))) as bus:
                assert is_encrypted(bus.client)
            assert "certificate verify failed" in await complaint(settings(url, tls=True))


async def test_tls_from_the_first_byte(tmp_path: Path) -> None:
    """Where the server is set up so, not even its greeting goes in clear."""
    async with (
        server(tmp_path, tls("handshake_first: 50ms")) as nats,
        connected(settings(nats.url, ca=str(CERTIFICATE), tls_first=True)) as bus,
    ):
        assert is_encrypted(bus.client)


async def test_a_certificate_of_our_own(tmp_path: Path) -> None:
    """A server that wants to see ours gets it, and a renewed one at the next connection."""
    own = tmp_path / "own.pem"
    shutil.copy(CERTIFICATE, own)
    async with (
        server(tmp_path, tls(f'verify: true, ca_file: "{CERTIFICATE}"')) as nats,
        proxy_to(nats.port) as proxy,
    ):
        where = settings(proxy.url, ca=str(CERTIFICATE), cert=str(own))
        async with connected(where) as bus:
            own.write_text("no certificate")
            proxy.cut()
            await until(lambda: "nats.cert" in bus._said)
            shutil.copy(CERTIFICATE, own)
            await until(lambda: bus.is_connected and bus.reconnects > 0)
        assert "nats.cert" not in await complaint(settings(nats.url, ca=str(CERTIFICATE)))


async def test_an_nkey(tmp_path: Path) -> None:
    """A seed logs in; after a rotation on both sides the new one does, without a restart."""
    first, second, file = Key(), Key(), tmp_path / "gateway.nk"
    file.write_text(first.seed + "\n")
    users = "authorization {{ users: [ {{ nkey: {} }} ] }}\n"
    async with server(tmp_path, users.format(first.public)) as nats:
        async with connected(settings(nats.url, nkey=str(file))) as bus:
            file.write_text(second.seed)
            (tmp_path / "nats.conf").write_text(users.format(second.public))
            nats.reload()
            await until(lambda: bus.reconnects > 0 and bus.is_connected)
        file.write_text(first.seed)
        assert "uthorization" in await complaint(settings(nats.url, nkey=str(file)))


async def test_credentials(tmp_path: Path) -> None:
    """A credentials file logs in, also with the line ends of Windows; one that turns bad is said and waited for."""
    operator, file = Operator(), tmp_path / "gateway.creds"
    file.write_bytes(operator.creds().replace("\n", "\r\n").encode())
    async with server(tmp_path, operator.config) as nats, proxy_to(nats.port) as proxy:
        async with connected(settings(proxy.url, creds=str(file))) as bus:
            file.write_text("half a fi")
            proxy.cut()
            await until(lambda: "nats.creds" in bus._said)
            file.write_text(operator.creds())
            await until(lambda: bus.is_connected and bus.reconnects > 0)
        file.write_text(Operator().creds())
        assert "uthorization" in await complaint(settings(nats.url, creds=str(file)))


async def test_a_password_of_a_file(tmp_path: Path) -> None:
    """It is read for each login, so that it can be changed."""
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    users = 'authorization {{ user: u, password: "{}" }}\n'
    async with server(tmp_path, users.format(SECRET)) as nats:
        async with connected(settings(nats.url, user="u", password_file=str(file))) as bus:
            file.write_text("another-4711")
            (tmp_path / "nats.conf").write_text(users.format("another-4711"))
            nats.reload()
            await until(lambda: bus.reconnects > 0 and bus.is_connected)
        file.write_text(SECRET)
        said = await complaint(settings(nats.url, user="u", password_file=str(file)))
    assert "uthorization" in said
    assert SECRET not in said


KEY = Key(raw=bytes(32))

GOOD = creds_of("a.b.c", KEY.seed)


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("creds", None, "no such file"),
        ("creds", b"", "does not hold a NATS USER JWT"),
        ("creds", GOOD.replace("NATS USER JWT", "SOMETHING").encode(), "does not hold a NATS USER JWT"),
        ("creds", GOOD.replace("USER NKEY SEED", "SOMETHING").encode(), "does not hold a NATS USER JWT"),
        ("creds", GOOD.partition("------END USER")[0].encode(), "does not hold a NATS USER JWT"),
        ("creds", creds_of("a.b.c", "SUAX").encode(), "no valid seed of a user"),
        ("creds", b"\xff\xfe", "not text"),
        ("nkey", b"\n", "is empty"),
        ("nkey", KEY.public.encode(), "no valid seed of a user"),
        ("nkey", b"SU", "no valid seed of a user"),
        ("nkey", "SÜ".encode(), "no valid seed of a user"),
        ("nkey", Key(nkeys.PREFIX_BYTE_ACCOUNT, bytes(32)).seed.encode(), "no valid seed of a user"),
        ("password_file", b" \n", "is empty"),
        ("ca", None, "no such file"),
        ("ca", b"no certificate", "holds no certificates"),
        ("cert", None, "no such file"),
        ("cert", b"no certificate", "are not a certificate and its key"),
        (
            "cert",
            CERTIFICATE.read_bytes().partition(b"-----BEGIN PRIV")[0],
            "are not a certificate and its key",
        ),
    ],
)
def test_a_file_that_cannot_be_used(key: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    """It is named with its setting before anybody is dialled."""
    file = tmp_path / "file"
    if content is not None:
        file.write_bytes(content)
    where = NatsSettings(user="u", **{key: str(file)})  # type: ignore[arg-type]
    with pytest.raises(LoginError) as caught:
        options(where)
    assert caught.value.key == key
    assert str(caught.value).startswith(f"nats.{key}: {file}")
    assert said in str(caught.value)


def test_good_credentials_are_read_whole(tmp_path: Path) -> None:
    """What nats-py is given is what the file says, whatever stands around it."""
    file = tmp_path / "file"
    file.write_text(f"for the gateway\n{GOOD}")
    lines = read_creds(str(file)).splitlines()
    assert lines[1] == "a.b.c"
    assert lines[4] in GOOD


async def test_an_inbox_of_our_own() -> None:
    """The prefix holds before the connection stands too, since the bus' markers go there."""
    client = new_client(NatsSettings(inbox_prefix="_INBOX_gateway"))
    assert client.new_inbox().startswith("_INBOX_gateway.")


async def test_publishing_before_the_loss_is_noticed(nats: NatsServer) -> None:
    """A connection that is lost, with nats-py's flusher dead and nats-py none the wiser, takes in what is published."""
    where = settings(nats.url)
    client = new_client(where)
    await client.connect(**options(where))
    try:
        flusher, reader = client._flusher_task, client._reading_task
        assert flusher is not None
        assert reader is not None
        flusher.cancel()
        reader.cancel()
        writer = writer_of(client)
        assert writer is not None
        writer.transport.abort()
        await until(lambda: flusher.done() and getattr(writer.transport, "_loop", None) is None)
        assert client.is_connected
        await client.publish("somewhere", b"something")
    finally:
        await dismiss(client, 1)


async def test_a_lost_connection_leaves_no_trace(nats: NatsServer) -> None:
    """What is written to it waits for nothing: its file descriptor is soon another socket's."""
    where = settings(nats.url)
    client = new_client(where)
    await client.connect(**options(where))
    writer = writer_of(client)
    assert writer is not None
    assert client._transport is not None
    number = writer.get_extra_info("socket").fileno()
    writer.transport.abort()
    client._transport.writelines([b"PING\r\n"])
    assert number not in asyncio.get_running_loop()._selector.get_map()  # type: ignore[attr-defined]
    await dismiss(client, 1)


async def test_last_words_that_cannot_be_said(nats: NatsServer) -> None:
    """The server hangs up on us while there is something to write: whoever waits for the end is told all the same."""
    client, closed = new_client(settings(nats.url)), anyio.Event()

    async def told() -> None:
        closed.set()

    with anyio.fail_after(10):
        await client.connect(closed_cb=told, **options(settings(nats.url)))
        writer = writer_of(client)
        assert writer is not None
        # As when the server says that it does not let us in any more, and the kernel that it is gone.
        writer.transport.abort()
        await anyio.lowlevel.checkpoint()
        client._pending, client._pending_data_size = [b"PING\r\n"], 6
        await client._process_err("'User Authentication Revoked'")
        await closed.wait()
    assert client.is_closed


async def test_a_limit_that_is_told_later_is_heard(tmp_path: Path) -> None:
    """A reload of `max_payload` alone tells nobody; where the server says it, as when its cluster grows, we listen."""
    cluster = "cluster {{ name: c, listen: 127.0.0.1:{}, routes: [nats://127.0.0.1:{}] }}\n"
    one, other = free_ports(2)
    (tmp_path / "other").mkdir()
    async with server(tmp_path, cluster.format(one, other)) as first, connected(settings(first.url)) as bus:
        assert bus.client is not None
        assert bus.client.max_payload == 1_048_576
        (tmp_path / "nats.conf").write_text(cluster.format(one, other) + "max_payload: 5000\n")
        first.reload()
        while "Reloaded: max_payload = 5000" not in first.log.read_text():
            await a_moment()
        async with server(tmp_path / "other", cluster.format(other, one)):
            while bus.client.max_payload != 5000:
                await a_moment()
        assert bus.reconnects == 0
