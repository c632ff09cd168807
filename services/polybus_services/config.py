"""The configuration: what can be set, and one `load` that reads it from a file and the environment.

Later layers win: the defaults, a context of the NATS command line where one is named, the TOML file, the usual `NATS_*` variables, `POLYBUS_<SECTION>__<KEY>`, and what
the command line says.  How the layers are read is in `polybus_services.settings`; what is wrong with a value is
always told with the key and the place it came from, and never shows a secret.
"""

import base64
import binascii
import re
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from polybus_actors.publishing.delivery import DeliverySettings
from polybus_actors.publishing.login import MASK, LoginError, NatsSettings, check_files, mask_url, split_urls
from polybus_actors.publishing.streams import StreamsSettings
from polybus_actors.venue.accounts import Account
from polybus_protocol.profile import PROFILES, FeedProfile
from polybus_protocol.subjects import PREFIX
from polybus_protocol.websocket.handshake import parse_url
from polybus_services.context import LOGIN, ContextError, read_context
from polybus_services.settings import ConfigError, Settings, named_tables, variable_of

__all__ = [
    "Config",
    "ConfigError",
    "GatewayConfig",
    "HttpConfig",
    "LogConfig",
    "load",
    "remarks",
    "show",
]

DEFAULT_FILE = Path("polybus.toml")
"""Read if it is in the working directory and no other file was named, be it by a variable."""

NATS_VARIABLES = {
    "NATS_URL": "nats.url",
    "NATS_USER": "nats.user",
    "NATS_PASSWORD": "nats.password",
    "NATS_TOKEN": "nats.token",
    "NATS_CREDS": "nats.creds",
    "NATS_NKEY": "nats.nkey",
    "NATS_CA": "nats.ca",
    "NATS_CERT": "nats.cert",
    "NATS_KEY": "nats.key",
    "NATS_CONTEXT": "nats.context",
    "NATS_PASSWORD_FILE": "nats.password_file",
}
"""The variables that NATS' own command line reads, which many already have set (`NATS_TOKEN` and `NATS_PASSWORD_FILE` are only ours)."""

SECRETS = frozenset({"nats.password", "nats.token"})
"""Masked wherever they are shown; each can also come from a file, named by its variable with `_FILE` added."""

_ONE_OF = (
    ("nats.password", "nats.password_file"),
    ("nats.creds", "nats.nkey"),
)
"""Settings that say the same thing twice."""

_TOKEN = r"[A-Za-z0-9_-]"  # noqa: S105 - of a subject, not of a login

_LABEL = r"(?=.{1,32}$)[a-z0-9]+(_[a-z0-9]+)*"
"""What can be a part of a variable's name too, and be found again there: the shell knows no `-` in one, `__` ends the
part, and variables are all upper case."""

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1)]


class GatewayConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[gateway]`: the process itself."""

    replica: Annotated[
        str,
        Meta(
            pattern=f"^{_TOKEN}{{1,32}}$",
            extra_json_schema={"description": "1 to 32 letters, digits, `-` or `_`"},
        ),
    ] = "gw0"
    """Name of this process: part of connection ids and of the `system` subjects, so unlike any other's."""
    prefix: Annotated[
        str,
        Meta(
            pattern=rf"^{_TOKEN}+(\.{_TOKEN}+)*$",
            extra_json_schema={"description": "letters, digits, `-` and `_`, in tokens separated by dots"},
        ),
    ] = PREFIX
    """First tokens of every subject."""
    bucket: Annotated[
        str,
        Meta(
            pattern=f"^{_TOKEN}{{1,64}}$",
            extra_json_schema={"description": "1 to 64 letters, digits, `-` or `_`"},
        ),
    ] = "polybus_subscriptions"
    """The JetStream KV bucket that keeps the subscriptions."""
    drain_timeout_s: Seconds = 10.0
    """Seconds from SIGTERM to the end, at most (the last telemetry may take one more); Kubernetes kills after 30."""
    backlog_messages: Count = 200_000
    """Events kept while NATS is away, at most: 20 s of a busy venue (10,000 a second)."""
    backlog_bytes: Annotated[int, Meta(ge=64 * 1024)] = 64 * 1024 * 1024
    """Bytes of them, at most: what the 200,000 take at 335 bytes each."""
    probe: bool = True
    """Dial the venue once at start, to say at once whether it can be reached."""


class LogConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[log]`: what the gateway says on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "text", "json"] = "auto"
    """`auto`: text on a terminal, JSON lines elsewhere."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[http]`: probes and metrics, for Kubernetes and Prometheus.  Without a port there are none."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` in a container.  There is no login: keep it from who is not to see it."""
    port: Annotated[int, Meta(ge=0, le=65_535)] | None = None
    """0 takes a free one, which the ready line tells."""
    ready_share: Annotated[float, Meta(ge=0, le=1)] = 0.8
    """How much of what is wanted must be live for `/ready`.  Not all of it: closed markets are never live."""
    live_within_s: Seconds = 10.0
    """Seconds in which the event loop must have turned for `/live`: far more than any honest load takes."""


class PricesConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`[prices]`: whom PolyBolt is asked as."""

    account: str | None = None
    """Label of the account; needed only where there are several."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    gateway: GatewayConfig = GatewayConfig()
    nats: NatsSettings = NatsSettings()
    feeds: dict[str, FeedProfile] = msgspec.field(default_factory=lambda: dict(PROFILES))
    """By name; `[feeds.market]` and so on override single values of the built-in profiles."""
    accounts: dict[str, Account] = {}
    """`[accounts.<label>]`: credentials by the label that subjects carry.  What is missing of them is no error here
    (see `remarks`): the other feeds need none, and a request that does is refused with what is missing."""
    prices: PricesConfig = PricesConfig()
    streams: StreamsSettings = StreamsSettings()
    delivery: DeliverySettings = DeliverySettings()
    log: LogConfig = LogConfig()
    http: HttpConfig = HttpConfig()
    sources: dict[str, str] = {}
    """Where each value came from: dotted key to `file:line` or the name of a variable or flag.  A key that is not
    here has its default."""

    def __repr__(self) -> str:
        return f"Config({self.gateway!r}, {self.nats!r}, feeds={list(self.feeds)}, {self.log!r})"


def load(
    path: Path | None,
    environ: Mapping[str, str],
    options: Mapping[str, tuple[str, str]] | None = None,
) -> Config:
    """Read the configuration.

    Args:
        path: the TOML file; without it the one that the variable `POLYBUS_CONFIG` names, else `polybus.toml` in the
            working directory if it is there, else none.
        environ: the environment.  A variable that is set to nothing counts as not set.
        options: what the command line says: dotted key to its text and the name of the flag.

    Raises:
        ConfigError: one sentence: which key, where it came from, what is wrong with it, what is allowed.
    """
    if path is None and environ.get("POLYBUS_CONFIG"):
        path = Path(environ["POLYBUS_CONFIG"])
    elif path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    settings = _settings(Config(accounts=dict.fromkeys(_labels(path, environ), Account())))
    if path is not None:
        settings.read_file(path)
    settings.read_variables(environ, NATS_VARIABLES)
    for key, (text, flag) in (options or {}).items():
        settings.set_text(key, text, flag)
    _read_context(settings, environ)
    _check(settings)
    config = Config(**settings.build(), sources=settings.sources)
    try:
        check_files(config.nats)
    except LoginError as error:
        raise settings.error(f"nats.{error.key}", error.problem) from None
    return config


def show(config: Config) -> dict[str, dict[str, object]]:
    """The effective configuration: dotted key to `value` (secrets masked), `source` and, where there is one, `remark`.

    >>> show(Config())["nats.url"]
    {'value': 'nats://127.0.0.1:4222', 'source': 'default'}
    """
    shown: dict[str, dict[str, object]] = {
        key: {"value": _masked(key, value), "source": config.sources.get(key, "default")}
        for key, value in _settings(config).values().items()
    }
    for key, remark in remarks(config).items():
        shown[key]["remark"] = remark
    return shown


def remarks(config: Config) -> dict[str, str]:
    """What will not work, though nothing of it is an error: dotted key to a sentence that shows no secret."""
    found: dict[str, str] = {}
    for label, account in config.accounts.items():
        section = f"accounts.{label}"
        for name in account.missing:
            found[f"{section}.{name}"] = (
                f"not set: whatever needs the account {label} is refused until it is there, "
                f"say in {variable_of(f'{section}.{name}')}"
            )
        for name, problem in _credential_problems(account):
            found[f"{section}.{name}"] = problem
    asked_as, labels = config.prices.account, sorted(config.accounts)
    if asked_as is not None and asked_as not in labels:
        found["prices.account"] = (
            f"there is no account {asked_as[:60]!r}, so the feed polybolt is refused; "
            f"there {'is' if len(labels) == 1 else 'are'} {', '.join(labels) or 'none'}"
        )
    elif asked_as is None and len(labels) > 1:
        found["prices.account"] = (
            f"not set: the feed polybolt is refused until it names one of {', '.join(labels)}"
        )
    return found


def _credential_problems(account: Account) -> Iterator[tuple[str, str]]:
    """What is wrong with the form of credentials, with the field; the venue answers wrong ones with silence, or not at all.

    API credentials that are derived for trading are a UUID, base64 (of 32 bytes) and text.
    """
    if account.api_key and not _is_uuid(account.api_key.strip()):
        yield (
            "api_key",
            "it looks like no UUID, as the key of API credentials is: a builder's, or a wallet's address?",
        )
    if account.secret and not _is_base64(account.secret.strip()):
        yield "secret", "it is no base64, as the secret of API credentials is: builder or wrong key?"
    if account.passphrase and account.passphrase == account.secret:
        yield "passphrase", "it is the same as the secret: one of the two is wrong"
    for name in account.__struct_fields__:
        value = getattr(account, name)
        if value and value != value.strip():
            yield name, "it begins or ends with a blank, which was hardly meant"


def _is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_base64(text: str) -> bool:
    """Whether it is base64, of the URL's or the plain alphabet."""
    try:
        return bool(base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True))
    except (binascii.Error, ValueError):
        return False


def _settings(config: Config) -> Settings:
    sections = {
        "gateway": config.gateway,
        "nats": config.nats,
        "feeds": config.feeds,
        "accounts": config.accounts,
        "prices": config.prices,
        "streams": config.streams,
        "delivery": config.delivery,
        "log": config.log,
        "http": config.http,
    }
    return Settings(sections, secrets=_secrets(config.accounts))


def _secrets(accounts: Collection[str]) -> frozenset[str]:
    return SECRETS | {
        f"accounts.{label}.{field}" for label in accounts for field in Account.__struct_fields__
    }


def _labels(path: Path | None, environ: Mapping[str, str]) -> list[str]:
    """The accounts that the file or the environment names, before anything is made of them.

    A variable that is set to nothing names its account too: somebody meant it to have credentials.

    Raises:
        ConfigError: a label that cannot stand in a variable's name.
    """
    named = dict.fromkeys(named_tables(path, "accounts"), str(path)) if path is not None else {}
    for name in environ:
        if match := re.fullmatch(r"POLYBUS_ACCOUNTS__(.+?)(__.*)?", name):
            named.setdefault(match[1].lower(), f"the variable {name}")
    for label, where in named.items():
        if not re.fullmatch(_LABEL, label):
            raise ConfigError(
                f"accounts.{label[:60]} ({where}): a label is 1 to 32 lower-case letters and digits, with single `_` "
                "between them if need be, because it is part of variables' names"
            )
    return list(named)


def _masked(key: str, value: object) -> object:
    if value is None:
        return None
    if key in SECRETS or key.startswith("accounts."):
        return MASK
    return mask_url(value) if key.endswith("url") and isinstance(value, str) else value


def _check(settings: Settings) -> None:
    """What the type of a single value cannot say.

    Raises:
        ConfigError: a bad URL, a login that is half there, a credentials file that is none.
    """
    values = settings.values()
    for key, value in values.items():
        if key.endswith(".url") and key.startswith("feeds."):
            try:
                parse_url(str(value))
            except ValueError as error:
                raise settings.error(key, str(error)) from None
        if key.endswith(".rest_url") and (problem := _rest_url_problem(str(value or ""))):
            raise settings.error(key, problem)
    if problem := _nats_url_problem(str(values["nats.url"])):
        raise settings.error("nats.url", problem)
    if values["nats.password"] is not None and values["nats.user"] is None:
        raise settings.error("nats.password", "a password needs a user: set nats.user (or NATS_USER) too")
    if values["nats.password_file"] is not None and values["nats.user"] is None:
        raise settings.error(
            "nats.password_file", "a password needs a user: set nats.user (or NATS_USER) too"
        )
    for one, other in _ONE_OF:
        if values[one] is not None and values[other] is not None:
            also = settings.sources.get(other, "default")
            raise settings.error(one, f"{other} ({also}) is set too; keep one of them")
    if values["nats.key"] is not None and values["nats.cert"] is None:
        raise settings.error("nats.key", "a key needs its certificate: set nats.cert (or NATS_CERT) too")


def _read_context(settings: Settings, environ: Mapping[str, str]) -> None:
    """Take from the context that is named what nobody else has said.

    Raises:
        ConfigError: the context cannot be used.
    """
    name = settings.values()["nats.context"]
    if name is None:
        return
    try:
        told = read_context(str(name), environ)
    except ContextError as error:
        raise settings.error("nats.context", str(error)) from None
    has_login = any(f"nats.{key}" in settings.sources for key in (*LOGIN, "password_file"))
    for key, value in told.items():
        if f"nats.{key}" not in settings.sources and not (has_login and key in LOGIN):
            settings.set_value(f"nats.{key}", value, f"context {name}")


def _rest_url_problem(url: str) -> str | None:
    """What is wrong with it, in the words for a feed's; nothing with an empty one."""
    if not url:
        return None
    if not re.match("https?://", url):
        return "the URL must begin with http:// or https://"
    try:
        parse_url(f"ws{url.removeprefix('http')}")
    except ValueError as error:
        return str(error)
    return "the URL must have no query" if "?" in url else None


def _nats_url_problem(url: str) -> str | None:
    """What is wrong with the URLs, without repeating them: they may hold a password."""
    if not split_urls(url):
        return "it names no server; expected something like nats://127.0.0.1:4222"
    for part in split_urls(url):
        if not part.isprintable() or " " in part:
            return "the URL contains a space or a control character"
        try:
            parts = urlsplit(part if "://" in part else f"nats://{part}")
            port = parts.port
        except ValueError:
            return "the URL's port must be a number from 1 to 65535"
        if parts.scheme not in ("nats", "tls"):
            return "the URL must begin with nats:// or tls://"
        if not parts.hostname:
            return "the URL names no host; expected something like nats://127.0.0.1:4222"
        if port == 0:
            return "the URL's port must be a number from 1 to 65535"
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            return "nothing may follow the host and port; expected something like nats://127.0.0.1:4222"
    return None
