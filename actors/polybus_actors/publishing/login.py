"""The login: how a NATS client is opened, over TLS or not, and as whom.

What nats-py does with TLS and with credentials is not safe as it stands: `tls://` against a server without TLS
connects in clear and sends the password; a credentials file without a JWT makes it spin for ever; and a
certificate is read once.  So our client looks again each time it is about to log in, the thousandth reconnect
included: is this TLS if it must be, and what do the files say now.
"""

import asyncio
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import nats.errors
import nkeys
from msgspec import Meta
from nats.aio.client import Client, RawCredentials

MASK = "***"
"""What stands for a secret where a person can see it."""

_CREDS = re.compile(
    r"-----BEGIN NATS USER JWT-----\s+(?P<jwt>[\w.-]+)\s+------END NATS USER JWT------"
    r".*-----BEGIN USER NKEY SEED-----\s+(?P<seed>\w+)\s+------END USER NKEY SEED------",
    re.DOTALL | re.ASCII,
)


class NatsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """`[nats]`: where NATS is and how to log in.  Its `repr` shows no secret."""

    url: str = "nats://127.0.0.1:4222"
    """One server, or several of a cluster separated by commas."""
    name: str | None = None
    """What the server lists this client as; made up from the program's name if absent."""
    user: str | None = None
    password: str | None = None
    password_file: str | None = None
    """A file with the password, read again for each login."""
    token: str | None = None
    creds: str | None = None
    """Path of a credentials file (JWT and nkey seed)."""
    nkey: str | None = None
    """Path of a file with the seed of an nkey."""
    tls: bool = False
    """Nothing is said to a server that does not speak TLS.  So it is too if a URL begins with `tls://` or any
    certificate is named."""
    tls_first: bool = False
    """TLS from the first byte, for servers that are set up so (`handshake_first`, since 2.10)."""
    ca: str | None = None
    """Path of the certificates to trust instead of the system's."""
    cert: str | None = None
    """Path of the certificate that we show, with `key`."""
    key: str | None = None
    inbox_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
            extra_json_schema={"description": "letters, digits, `-` and `_`, in tokens separated by dots"},
        ),
    ] = "_INBOX"
    """First tokens of the subjects we take answers on: one's own keeps them from everybody else's eyes."""
    context: str | None = None
    """A context of the NATS command line that says what is not said here; see `polybus_services.context`."""
    connect_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 5.0
    """Seconds to reach a server at start before saying that it cannot be reached."""

    @property
    def servers(self) -> list[str]:
        """The servers one by one, each with its scheme."""
        return [part if "://" in part else f"nats://{part}" for part in split_urls(self.url)]

    @property
    def shown_url(self) -> str:
        """The URL without user names and passwords, for people and logs."""
        return mask_url(self.url)

    @property
    def demands_tls(self) -> bool:
        """Whether a server without TLS will not do."""
        named = self.tls or self.tls_first or self.ca is not None or self.cert is not None
        return named or any(server.startswith("tls://") for server in self.servers)

    def __repr__(self) -> str:
        return (
            f"NatsSettings(url={self.shown_url!r}, name={self.name!r}, user={self.user!r}, "
            f"creds={self.creds!r}, nkey={self.nkey!r})"
        )


class NatsUnreachable(Exception):
    """NATS cannot be reached, or does not let us in; the text says where and why."""


class LoginError(nats.errors.Error):
    """We will not, or cannot, log in to this server; nats-py tries the next one, and again.

    Attributes:
        key: the setting that is to blame.
        problem: what is wrong with it; like the error's text, it names files and no secret.
    """

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"nats.{key}: {problem}")
        self.key = key
        self.problem = problem


class _Client(Client):
    """nats-py's client, with a second look at each login."""

    def __init__(self, settings: NatsSettings) -> None:
        super().__init__()
        self._settings = settings
        # `connect` does so too, but the subjects of our own inbox are needed before.
        self._inbox_prefix = bytearray(settings.inbox_prefix.encode())

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Made anew for each connection, so that a renewed certificate is taken up."""
        return tls_context(self._settings)

    def _write_while_open(self, payload: list[bytes]) -> None:
        # On CPython 3.12.1 and others `writelines` to a connection that is lost waits for its file descriptor to take
        # more.  That is closed a moment later, and the next socket with its number is never said to be connected: the
        # selector believes that it waits for it already.
        if (writer := writer_of(self)) is not None and not writer.transport.is_closing():
            writer.writelines(payload)

    async def _process_connect_init(self) -> None:
        if writer_of(self) is not None:
            self._transport.writelines = self._write_while_open  # type: ignore[method-assign,union-attr]
        try:
            await super()._process_connect_init()
        except BaseException:
            # nats-py would leave the socket of each attempt that failed to the garbage collector, open.
            if (writer := writer_of(self)) is not None:
                writer.transport.abort()
            raise

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:  # noqa: FBT001, FBT002
        # nats-py takes the limit from the first INFO of a connection only.
        self._max_payload = info.get("max_payload", self._max_payload)
        await super()._process_info(info, initial_connection)

    async def _flush_pending(self, force_flush: bool = False) -> Any:  # noqa: FBT001, FBT002 - nats-py's own
        # Between the loss of a connection and nats-py's noticing, its flusher may be dead already, and publishing
        # would write by itself to a transport that has forgotten its loop (an AttributeError, on CPython 3.12).
        if (writer := writer_of(self)) is not None and writer.transport.is_closing():
            done = asyncio.get_running_loop().create_future()
            done.set_result(None)
            return done
        return await super()._flush_pending(force_flush)

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002 - nats-py's own
        try:
            await super()._close(status, do_cbs)
        except (AttributeError, OSError):
            # nats-py writes its last words also where the server has hung up, which raises before anybody is told that
            # this client is closed: the bus would wait for ever.  So once more, without last words.
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await super()._close(status, do_cbs)

    def _connect_command(self) -> bytes:
        # nats-py calls this for each connection after TLS, if there is any, and before anything of ours is sent.
        settings = self._settings
        writer = writer_of(self)
        if settings.demands_tls and (writer is None or writer.get_extra_info("ssl_object") is None):
            raise LoginError(
                "tls", "the server does not offer TLS, which is demanded; nothing was sent to it"
            )
        if settings.creds is not None:
            self._user_credentials = RawCredentials(read_creds(settings.creds))
        if settings.nkey is not None:
            self._nkeys_seed_str = read_seed(settings.nkey)
        if settings.creds is not None or settings.nkey is not None:
            self._auth_configured = True
            self._setup_nkeys_connect()
        return super()._connect_command()


def new_client(settings: NatsSettings) -> Client:
    """A client that is not connected yet: to be connected with `options` of the same settings."""
    return _Client(settings)


def writer_of(client: Client) -> asyncio.StreamWriter | None:
    """nats-py's writer, which it has no public way to reach; None over a WebSocket, or before the first dial."""
    return getattr(client._transport, "_io_writer", None)  # noqa: SLF001


def options(settings: NatsSettings, name: str = "polybus") -> dict[str, Any]:
    """What `Client.connect` is told of where to go and as whom.

    Args:
        settings: ours.
        name: what the server lists us as, unless the settings have a name.

    Raises:
        LoginError: a file that the settings name cannot be used.
    """
    check_files(settings)
    password: str | Callable[[], str] | None = settings.password
    if (file := settings.password_file) is not None:
        password = lambda: read_line("password_file", file)  # noqa: E731
    login = {"user": settings.user, "password": password, "token": settings.token}
    return {
        "servers": settings.servers,
        "name": settings.name or name,
        "inbox_prefix": settings.inbox_prefix,
        "tls_handshake_first": settings.tls_first,
        # Absent settings are left out, since nats-py takes None for a value in places.
        **{key: value for key, value in login.items() if value is not None},
    }


def check_files(settings: NatsSettings) -> None:
    """Read what the settings name once, so that what is wrong is told at the start.

    Raises:
        LoginError: a file cannot be used; the text says which and why.
    """
    if settings.password_file is not None:
        read_line("password_file", settings.password_file)
    if settings.creds is not None:
        read_creds(settings.creds)
    if settings.nkey is not None:
        read_seed(settings.nkey)
    if settings.demands_tls:
        tls_context(settings)


def tls_context(settings: NatsSettings) -> ssl.SSLContext:
    """TLS as the settings want it: the server is always verified.

    Raises:
        LoginError: a certificate cannot be used.
    """
    for name in ("ca", "cert", "key"):
        if (path := getattr(settings, name)) is not None:
            _read(name, path)  # for OpenSSL does not say which file it could not open
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except ssl.SSLError:
        raise LoginError("ca", f"{settings.ca} holds no certificates") from None
    if settings.cert is not None:
        try:
            context.load_cert_chain(settings.cert, settings.key, password=_no_password)
        except (ssl.SSLError, ValueError):
            key = settings.key or "its key in the same file"
            problem = f"{settings.cert} and {key} are not a certificate and its key, without a password"
            raise LoginError("cert", problem) from None
    return context


def read_creds(path: str) -> str:
    """The credentials of a file, as the NATS tools write it.

    Raises:
        LoginError: it cannot be read, or does not hold a user JWT and the seed of a user.
    """
    found = _CREDS.search(_read("creds", path))
    if found is None:
        raise LoginError(
            "creds",
            f"{path} is not a credentials file: it does not hold a NATS USER JWT and a USER NKEY SEED",
        )
    _check_seed("creds", path, found["seed"])
    return (
        f"-----BEGIN NATS USER JWT-----\n{found['jwt']}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{found['seed']}\n------END USER NKEY SEED------\n"
    )


def read_seed(path: str) -> str:
    """The seed in a file of an nkey.

    Raises:
        LoginError: it cannot be read, or is no seed of a user.
    """
    seed = read_line("nkey", path)
    _check_seed("nkey", path, seed)
    return seed


def read_line(key: str, path: str) -> str:
    """The one line of the file that a setting names.

    Raises:
        LoginError: the file cannot be read, or is empty.
    """
    line = _read(key, path).strip()
    if not line:
        raise LoginError(key, f"{path} is empty")
    return line


def _check_seed(key: str, path: str, seed: str) -> None:
    try:
        pair = nkeys.from_seed(bytearray(seed, "ascii"))  # type: ignore[no-untyped-call]
        is_users = bytes(pair.public_key).startswith(b"U")
        pair.wipe()
    except (nkeys.NkeysError, ValueError, IndexError):
        is_users = False
    if not is_users:
        raise LoginError(key, f"{path} holds no valid seed of a user, which begins with SU")


def _read(key: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise LoginError(key, f"{path} is not text") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise LoginError(key, f"{path} cannot be read: {reason}") from None


def _no_password() -> str:
    # Without this, OpenSSL would ask on the terminal for the password of an encrypted key.
    return ""


def words(error: BaseException) -> str:
    """What an error says; its name where it says nothing, as many of nats-py's do."""
    return str(error) or type(error).__name__


def is_denial(said: str) -> bool:
    """Whether an error says that our permissions do not allow what we did: the connection stays, the act is void."""
    return "permissions violation" in said.lower()


def split_urls(url: str) -> list[str]:
    """URLs that are separated by commas."""
    return [part.strip() for part in url.split(",") if part.strip()]


def mask_url(url: str) -> str:
    """A URL, or several separated by commas, without user names and passwords."""
    return ",".join(re.sub(r"^([a-z]+://)?.*@", rf"\1{MASK}@", part) for part in split_urls(url))
