"""The configuration: layers, errors that a person can act on, and secrets that stay secret."""

import json
from pathlib import Path

import pytest

from polybus_actors.publishing.login import NatsSettings
from polybus_protocol.profile import PROFILES
from polybus_services.config import Config, ConfigError, load, show
from polybus_services.settings import variable_of

from ..support.configured import SECRET, complaint, written

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_without_a_word_the_defaults_hold() -> None:
    """An empty environment gives the built-in values, the venue's URL among them."""
    config = load(None, {})

    assert (config.gateway, config.nats, config.log) == (Config().gateway, Config().nats, Config().log)
    assert config.feeds == dict(PROFILES)
    assert config.sources == {}


def test_later_layers_win_key_by_key() -> None:
    """File, then NATS_*, then POLYBUS_*, then the command line; a layer overrides only what it names."""
    path = written(
        '[nats]\nurl = "nats://file"\nname = "file"\nuser = "file"\nconnect_timeout_s = 1\n'
        '[feeds.market]\nurl = "ws://127.0.0.1:1/ws/market"\n[feeds.market.backoff]\nfirst_s = 0.5\n'
    )

    config = load(
        path,
        {
            "NATS_URL": "nats://usual",
            "NATS_USER": "usual",
            "POLYBUS_NATS__USER": "ours",
            "POLYBUS_FEEDS__MARKET__BACKOFF__LONGEST_S": "60",
            "POLYBUS_FEEDS__MARKET__CUSTOM_FEATURES": "false",
        },
        {"nats.url": ("nats://flag", "--nats")},
    )

    assert config.nats == NatsSettings(url="nats://flag", name="file", user="ours", connect_timeout_s=1.0)
    market = config.feeds["market"]
    assert (market.url, market.custom_features) == ("ws://127.0.0.1:1/ws/market", False)
    assert (market.backoff.first_s, market.backoff.longest_s) == (0.5, 60.0)
    assert market.ping_interval_s == PROFILES["market"].ping_interval_s
    shown = show(config)
    assert shown["nats.url"] == {"value": "nats://flag", "source": "--nats"}
    assert shown["nats.name"]["source"] == "gateway.toml:3"
    assert shown["nats.user"]["source"] == "POLYBUS_NATS__USER"
    assert shown["feeds.market.backoff.first_s"]["source"] == "gateway.toml:9"
    assert shown["feeds.market.ping_interval_s"]["source"] == "default"


def test_which_file_is_read() -> None:
    """A named file, else the one in POLYBUS_CONFIG, else polybus.toml in the working directory."""
    written('[gateway]\nreplica = "here"\n', "polybus.toml")
    assert load(None, {}).gateway.replica == "here"
    assert load(None, {"POLYBUS_CONFIG": ""}).gateway.replica == "here"

    elsewhere = written('[gateway]\nreplica = "variable"\n', "other.toml")
    environ = {"POLYBUS_CONFIG": str(elsewhere)}
    assert load(None, environ).gateway.replica == "variable"
    assert load(written('[gateway]\nreplica = "named"\n'), environ).gateway.replica == "named"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[nats", "gateway.toml is not valid TOML: "),
        (
            "x = 1",
            "x (gateway.toml:1): there is no such section; there are gateway, nats, feeds, accounts, prices, streams, delivery, log",
        ),
        ("[nats]\nulr = 'x'", "nats.ulr (gateway.toml:2): there is no such key; did you mean nats.url?"),
        (
            "[feeds.perps]\nurl = 'ws://x'",
            "feeds.perps (gateway.toml:1): there is no such section; there are market, user, rtds, polybolt, sports",
        ),
        ("accounts = 3", "accounts (gateway.toml:1): this is a section, with tables of its own; not a value"),
        (
            f"[accounts]\nalice = '{SECRET}'",
            "accounts.alice (gateway.toml:2): this is a section, with api_key, secret, passphrase; not a value",
        ),
        (
            f"[accounts.alice]\napiKey = '{SECRET}'",
            "accounts.alice.apiKey (gateway.toml:2): there is no such key; did you mean accounts.alice.api_key?",
        ),
        ("[accounts.alice]\nsecret = 4711", "accounts.alice.secret (gateway.toml:2): expected text"),
        (
            "[accounts.my-bot]",
            "accounts.my-bot (gateway.toml): a label is 1 to 32 lower-case letters and digits",
        ),
        (
            "[accounts.Alice]",
            "accounts.Alice (gateway.toml): a label is 1 to 32 lower-case letters and digits",
        ),
        ("nats = 3", "nats (gateway.toml:1): this is a section, with url, name, "),
        ("[nats]\n\nurl = 3", "nats.url (gateway.toml:3): expected text"),
        ("[nats]\nurl = 'http://x'", "nats.url (gateway.toml:2): the URL must begin with nats:// or tls://"),
        (
            "[nats]\nurl = 'nats://x:0'",
            "nats.url (gateway.toml:2): the URL's port must be a number from 1 to 65535",
        ),
        ("[nats]\nurl = ','", "nats.url (gateway.toml:2): it names no server"),
        (
            "[nats]\ncreds = '/nowhere'",
            "nats.creds (gateway.toml:2): /nowhere cannot be read: no such file or directory",
        ),
        (
            "[feeds.market]\nurl = 'x'",
            "feeds.market.url (gateway.toml:2): the URL must begin with ws:// or wss://",
        ),
        *(
            (
                f"[feeds.market]\nrest_url = '{url}'",
                f"feeds.market.rest_url (gateway.toml:2): the URL{problem}",
            )
            for url, problem in (
                ("wss://x", " must begin with http:// or https://"),
                ("https://", " names no host"),
                ("http://x:0", "'s port must be"),
                ("http://me:mine@x", " must not contain a user name"),
                ("http://x/?a=b", " must have no query"),
            )
        ),
        (
            "[feeds.market]\nassets_per_connection = 501",
            "feeds.market.assets_per_connection (gateway.toml:2): 501 is not valid; expected a whole number from 1 to 500",
        ),
        (
            "[feeds.market]\nbooks = false\ntwin_connections = true",
            "feeds.market (gateway.toml:2, gateway.toml:3): twin_connections and rotate_after_s need books = true",
        ),
        (
            "[feeds.market.backoff]\nlongest_s = 0.1",
            "feeds.market.backoff (gateway.toml:2): longest_s must be at least first_s (0.25), not 0.1",
        ),
        ("[gateway]\ndrain_timeout_s = nan", "gateway.drain_timeout_s (gateway.toml:2): "),
        (
            "[gateway]\nprobe = 'yes'",
            "gateway.probe (gateway.toml:2): 'yes' is not valid; expected true or false",
        ),
        ("[gateway]\nreplica = 'a.b'", "expected 1 to 32 letters, digits, `-` or `_`"),
        ("[gateway]\nprefix = 'a..b'", "expected letters, digits, `-` and `_`, in tokens separated by dots"),
        ("[log]\nlevel = 'loud'", "'loud' is not valid; expected debug, info, warning or error"),
    ],
)
def test_a_fault_in_the_file_is_named(text: str, said: str) -> None:
    """The key, the line, what is wrong and what is allowed, in one line."""
    message = complaint(text)

    assert said in message
    assert "\n" not in message
    assert SECRET not in message
    assert "4711" not in message


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "POLYBUS_NATS__ULR",
            "x",
            "nats.ulr (the variable POLYBUS_NATS__ULR): there is no such key; did you mean nats.url?",
        ),
        (
            "POLYBUS_NAT__URL",
            "x",
            "nat (the variable POLYBUS_NAT__URL): there is no such section; did you mean nats?",
        ),
        ("POLYBUS_NATS_URL", "x", "the variable POLYBUS_NATS_URL means nothing: write POLYBUS_NATS__URL"),
        ("POLYBUS_NATS__URL__X", "x", "POLYBUS_NATS__URL__X"),
        (
            "POLYBUS_FEEDS__MARKET",
            "x",
            "feeds.market (the variable POLYBUS_FEEDS__MARKET): this is a section",
        ),
        (
            "POLYBUS_FEEDS__MARKET__PING_INTERVAL_S",
            "inf",
            "(POLYBUS_FEEDS__MARKET__PING_INTERVAL_S): 'inf' is not valid; expected a number above 0",
        ),
        (
            "POLYBUS_ACCOUNTS__ALICE_SECRET",
            SECRET,
            "accounts.alice_secret (the variable POLYBUS_ACCOUNTS__ALICE_SECRET): this is a section, with api_key",
        ),
        (
            "POLYBUS_ACCOUNTS__ALICE__KEY",
            SECRET,
            "accounts.alice.key (the variable POLYBUS_ACCOUNTS__ALICE__KEY): there is no such key",
        ),
        (
            "POLYBUS_ACCOUNTS__MY-BOT__SECRET",
            SECRET,
            "accounts.my-bot (the variable POLYBUS_ACCOUNTS__MY-BOT__SECRET): a label is",
        ),
        (
            "POLYBUS_ACCOUNTS__ALICE__SECRET_FILE",
            "/nowhere",
            "accounts.alice.secret (POLYBUS_ACCOUNTS__ALICE__SECRET_FILE): /nowhere cannot be read",
        ),
        ("NATS_TOKEN_FILE", "/nowhere", "nats.token (NATS_TOKEN_FILE): /nowhere cannot be read"),
        ("NATS_PASSWORD", SECRET, "nats.password (NATS_PASSWORD): a password needs a user"),
    ],
)
def test_a_fault_in_the_environment_is_named(name: str, value: str, said: str) -> None:
    """A typo must not pass, and the variable is named."""
    message = complaint(**{name: value})

    assert said in message
    assert SECRET not in message


def test_what_kubernetes_adds_is_no_fault() -> None:
    """Service links and empty variables change nothing."""
    config = load(
        None,
        {
            "POLYBUS_SERVICE_HOST": "10.0.0.1",
            "POLYBUS_PORT_4222_TCP": "tcp://10.0.0.1:4222",
            "POLYBUS_NATS__URL": "",
            "NATS_URL": "",
        },
    )

    assert config.sources == {}


def test_a_file_that_cannot_be_read_is_named() -> None:
    """Absent, a folder, or no text: the file and why."""
    Path("folder").mkdir()
    Path("binary").write_bytes(b"\xff\xfe")
    for name, said in (("absent", "no such file"), ("folder", "directory"), ("binary", "not UTF-8")):
        with pytest.raises(ConfigError, match=f"{name} .*{said}"):
            load(Path(name), {})


def context(name: str, told: str) -> None:
    folder = Path("home/nats/context")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(told)


def test_a_context_says_what_nobody_else_does() -> None:
    """A context of the NATS command line lies below every other layer; who we are comes from one place only."""
    told = {
        "url": "nats://context",
        "user": "u",
        "password": SECRET,
        "creds": "",
        "inbox_prefix": "_INBOX_me",
        "tls_first": True,
        "color_scheme": "bold",
    }
    context("prod", json.dumps(told))
    environ = {"XDG_CONFIG_HOME": "home", "NATS_CONTEXT": "prod"}
    config = load(None, environ)

    assert (config.nats.url, config.nats.inbox_prefix, config.nats.tls_first) == (
        "nats://context",
        "_INBOX_me",
        True,
    )
    assert (config.nats.user, config.nats.password) == ("u", SECRET)
    assert show(config)["nats.url"]["source"] == "context prod"
    assert SECRET not in str(show(config))
    config = load(None, environ | {"NATS_URL": "nats://usual", "NATS_TOKEN": "t"})
    assert (config.nats.url, config.nats.token) == ("nats://usual", "t")
    assert (config.nats.user, config.nats.password) == (None, None)
    assert load(None, {"XDG_CONFIG_HOME": "home"}).nats.url == "nats://127.0.0.1:4222"


@pytest.mark.parametrize(
    ("name", "told", "said"),
    [
        ("absent", None, "absent.json cannot be read: no such file"),
        ("../x", None, "the name of a context"),
        ("odd", "[]", "odd.json is not a JSON object"),
        ("odd", '{"url": 3}', "odd.json: url is not text"),
        ("odd", '{"nsc": "nsc://o/a/u", "url": "x"}', "odd.json has nsc, which polybus cannot do"),
        ("odd", '{"url": "http://x"}', "nats.url (context odd): the URL must begin with"),
        ("odd", '{"creds": "~/nowhere.creds"}', "nats.creds (context odd): "),
    ],
)
def test_a_context_that_cannot_be_used(name: str, told: str | None, said: str) -> None:
    """It is named, with what is wrong in it."""
    if told is not None:
        context(name, told)
    message = complaint(NATS_CONTEXT=name, XDG_CONFIG_HOME="home")

    assert said in message
    assert "~" not in message


def test_servers_have_a_scheme() -> None:
    """A list with commas, as NATS' own command line takes it."""
    assert NatsSettings(url="a:1, tls://b ,nats://c").servers == ["nats://a:1", "tls://b", "nats://c"]


def test_every_key_can_be_set_from_the_environment() -> None:
    """What `config` shows, written as variables, gives the same configuration again."""
    config = load(None, {"NATS_URL": "nats://a,nats://b", "POLYBUS_GATEWAY__PROBE": "false"})
    environ = {
        variable_of(key): str(setting["value"])
        for key, setting in show(config).items()
        if setting["value"] is not None
    }

    again = load(None, environ)

    assert {key: setting["value"] for key, setting in show(again).items()} == {
        key: setting["value"] for key, setting in show(config).items()
    }
    assert set(again.sources.values()) == set(environ)
