"""The configuration: layers, errors that a person can act on, and secrets that stay secret."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.profile import PROFILES
from polybus_services.config import MASK, Config, ConfigError, NatsConfig, load, mask_url, show
from polybus_services.settings import variable_of

SECRET = "open-sesame-4711"

CREDS = """-----BEGIN NATS USER JWT-----
eyJ0
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
SUA
------END USER NKEY SEED------
"""


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in an empty folder, so that no file of the project is found by accident."""
    monkeypatch.chdir(tmp_path)


def written(text: str, name: str = "gateway.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def complaint(text: str = "", **environ: str) -> str:
    """What is said about a faulty configuration."""
    with pytest.raises(ConfigError) as caught:
        load(written(text), environ)
    return str(caught.value)


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

    assert config.nats == NatsConfig(url="nats://flag", name="file", user="ours", connect_timeout_s=1.0)
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
    """A named file, else polybus.toml in the working directory, else the one in POLYBUS_CONFIG."""
    elsewhere = written('[gateway]\nreplica = "variable"\n', "other.toml")
    environ = {"POLYBUS_CONFIG": str(elsewhere)}
    assert load(None, environ).gateway.replica == "variable"

    written('[gateway]\nreplica = "here"\n', "polybus.toml")
    assert load(None, environ).gateway.replica == "here"
    assert load(written('[gateway]\nreplica = "named"\n'), environ).gateway.replica == "named"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[nats", "gateway.toml is not valid TOML: "),
        ("x = 1", "x (gateway.toml:1): there is no such section; there are gateway, nats, feeds, log"),
        ("[nats]\nulr = 'x'", "nats.ulr (gateway.toml:2): there is no such key; did you mean nats.url?"),
        (
            "[feeds.sports]\nurl = 'ws://x'",
            "feeds.sports (gateway.toml:1): there is no such section; there are market",
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
        (
            "[feeds.market]\nassets_per_connection = 501",
            "feeds.market.assets_per_connection (gateway.toml:2): 501 is not valid; expected a whole number from 1 to 500",
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
        ("NATS_TOKEN_FILE", "/nowhere", "nats.token (NATS_TOKEN_FILE): /nowhere cannot be read"),
        ("NATS_PASSWORD", SECRET, "nats.password (NATS_PASSWORD): a password needs a user"),
    ],
)
def test_a_fault_in_the_environment_is_named(name: str, value: str, said: str) -> None:
    """A typo must not pass, and the variable is named."""
    assert said in complaint(**{name: value})


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


def test_secrets_come_from_files_too() -> None:
    """As container platforms mount them, with the newline that editors add; both ways at once is a fault."""
    environ = {"NATS_USER": "u", "NATS_PASSWORD_FILE": str(written(f"{SECRET}\n", "password"))}

    assert load(None, environ).nats.password == SECRET
    with pytest.raises(ConfigError, match="both NATS_PASSWORD and NATS_PASSWORD_FILE are set"):
        load(None, environ | {"NATS_PASSWORD": SECRET})


def test_secrets_show_nowhere() -> None:
    """Neither in what `polybus config` shows, nor in a repr, nor in an error."""
    config = load(
        None,
        {"NATS_URL": f"nats://u:{SECRET}@a,nats://u:{SECRET}@b:1", "NATS_USER": "u", "NATS_PASSWORD": SECRET}
        | {"POLYBUS_NATS__TOKEN": SECRET},
    )

    assert config.nats.password == config.nats.token == SECRET
    assert SECRET not in repr(config) + str(config) + repr(config.nats) + str(show(config))
    assert show(config)["nats.password"]["value"] == MASK
    assert config.nats.shown_url == f"nats://{MASK}@a,nats://{MASK}@b:1"
    for faulty in (
        f"nats://u:{SECRET}@x:port",
        f"x://u:{SECRET}@h",
        f"nats://u:{SECRET}@h h",
        f"ws://u:{SECRET}@h",
    ):
        assert SECRET not in complaint(NATS_URL=faulty)
        assert SECRET not in complaint(POLYBUS_FEEDS__MARKET__URL=faulty)
    assert SECRET not in complaint(f"[nats]\npassword = ['{SECRET}']")
    assert SECRET not in complaint(f"[nats]\npasword = '{SECRET}'")


@given(
    user=st.text("abc%-_.", min_size=1), password=st.text("xyz%:@/?#", min_size=1), hosts=st.integers(1, 3)
)
def test_a_masked_url_keeps_the_hosts_only(user: str, password: str, hosts: int) -> None:
    """Whatever is in the login part, also what should have been escaped there."""
    url = ",".join(f"nats://{user}:{password}@host{number}:4222" for number in range(hosts))

    assert mask_url(url) == ",".join(f"nats://{MASK}@host{number}:4222" for number in range(hosts))


def test_only_credentials_pass_for_credentials() -> None:
    """nats-py loops for ever on a file without a JWT, so such a file is refused here."""
    good = written(CREDS, "good.creds")
    bad = written(CREDS.replace("NATS USER JWT", "SOMETHING"), "bad.creds")

    assert load(None, {"NATS_CREDS": str(good)}).nats.creds == str(good)
    assert "it holds no NATS USER JWT" in complaint(NATS_CREDS=str(bad))
    assert "it holds no NATS USER JWT" in complaint(NATS_CREDS=os.devnull)


def test_servers_have_a_scheme() -> None:
    """A list with commas, as NATS' own command line takes it."""
    assert NatsConfig(url="a:1, tls://b ,nats://c").servers == ["nats://a:1", "tls://b", "nats://c"]


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
