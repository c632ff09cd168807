"""What is secret in the configuration: passwords and accounts, where they come from, and that they show nowhere."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_actors.publishing.login import MASK, mask_url
from polybus_actors.venue.accounts import Account, Accounts
from polybus_protocol.errors import ControlError
from polybus_services.config import ConfigError, load, remarks, show
from polybus_services.settings import variable_of

from ..support.configured import SECRET, complaint, written
from ..support.nats_keys import Key, creds_of

pytestmark = pytest.mark.usefixtures("elsewhere")

ALICE = {
    "POLYBUS_ACCOUNTS__ALICE__API_KEY": "00000000-0000-4000-8000-00000000a11c",
    "POLYBUS_ACCOUNTS__ALICE__SECRET": "b3Blbi1zZXNhbWUtNDcxMS1vcGVuLXNlc2FtZS00NzE=",
    "POLYBUS_ACCOUNTS__ALICE__PASSPHRASE": SECRET,
}
"""Credentials in their right form."""

CREDS = creds_of("eyJ0", Key().seed)


def test_secrets_come_from_files_too() -> None:
    """As container platforms mount them, with the newline that editors add; both ways at once is a fault."""
    environ = {"NATS_TOKEN_FILE": str(written(f"{SECRET}\n", "token"))}

    assert load(None, environ).nats.token == SECRET
    with pytest.raises(ConfigError, match="both NATS_TOKEN and NATS_TOKEN_FILE are set"):
        load(None, environ | {"NATS_TOKEN": SECRET})


@pytest.mark.parametrize("variable", ["NATS_PASSWORD_FILE", "POLYBUS_NATS__PASSWORD_FILE"])
def test_the_file_of_a_password_stays_a_file(variable: str) -> None:
    """It is a setting of its own, since it is read again for each login."""
    file = written(f"{SECRET}\n", "password")
    config = load(None, {"NATS_USER": "u", variable: str(file)})

    assert (config.nats.password, config.nats.password_file) == (None, str(file))
    assert SECRET not in str(show(config))
    with pytest.raises(ConfigError, match=r"nats\.password_file .* is set too"):
        load(None, {"NATS_USER": "u", variable: str(file), "NATS_PASSWORD": SECRET})
    with pytest.raises(ConfigError, match="a password needs a user"):
        load(None, {variable: str(file)})


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


def test_accounts_come_from_every_layer() -> None:
    """The file, variables, and files that variables name; a label may have a `_`, and layers meet in one account."""
    path = written(
        "[accounts]\n[accounts.alice]\napi_key = 'file'\npassphrase = 'file'\n[prices]\naccount = 'alice'\n"
    )
    secret = written(f"{SECRET}\n", "secret")

    config = load(
        path,
        {
            "POLYBUS_ACCOUNTS__ALICE__API_KEY": "variable",
            "POLYBUS_ACCOUNTS__MY_BOT_2__SECRET_FILE": str(secret),
            "POLYBUS_ACCOUNTS__EMPTY__SECRET": "",
        },
    )

    assert config.accounts == {
        "alice": Account("variable", None, "file"),
        "my_bot_2": Account(None, SECRET, None),
        "empty": Account(),
    }
    assert config.prices.account == "alice"
    assert config.sources["accounts.alice.passphrase"] == "gateway.toml:4"
    assert config.sources["accounts.my_bot_2.secret"] == "POLYBUS_ACCOUNTS__MY_BOT_2__SECRET_FILE"


@given(st.from_regex(r"[a-z0-9]+(_[a-z0-9]+)*", fullmatch=True).filter(lambda label: len(label) <= 32))
def test_a_label_is_found_again_in_a_variable(label: str) -> None:
    """Whatever label is allowed, its variable leads back to it, and the service's refusals name that variable."""
    variable = variable_of(f"accounts.{label}.secret")
    config = load(None, {variable: SECRET})

    assert config.accounts == {label: Account(None, SECRET, None)}
    with pytest.raises(ControlError) as caught:
        Accounts(config.accounts).label(None, "user")
    assert caught.value.code == 401
    assert variable.replace("__SECRET", "__PASSPHRASE") in caught.value.message


def test_credentials_show_nowhere() -> None:
    """Masked in `polybus config`, absent from every repr and from what is said about them."""
    config = load(None, ALICE | {"POLYBUS_ACCOUNTS__BOB__SECRET": f"not base64 {SECRET}"})
    shown = str(show(config)) + repr(config) + str(config) + repr(config.accounts) + str(remarks(config))

    assert config.accounts["alice"].missing == []
    assert show(config)["accounts.alice.api_key"]["value"] == MASK
    assert not [value for value in [*ALICE.values(), SECRET] if value in shown]


def test_good_credentials_leave_nothing_to_remark() -> None:
    """Neither for one account, nor for two where it is said whom PolyBolt is asked as."""
    bob = {name.replace("ALICE", "BOB"): value for name, value in ALICE.items()}

    assert remarks(load(None, {})) == {}
    assert remarks(load(None, ALICE)) == {}
    assert remarks(load(None, ALICE | bob | {"POLYBUS_PRICES__ACCOUNT": "bob"})) == {}


@pytest.mark.parametrize(
    ("environ", "key", "says"),
    [
        (
            {"POLYBUS_ACCOUNTS__ALICE__SECRET": ""},
            "accounts.alice.secret",
            "refused until it is there, say in POLYBUS_ACCOUNTS__ALICE__SECRET",
        ),
        (
            {"POLYBUS_ACCOUNTS__ALICE__API_KEY": "0x" + "a" * 40},
            "accounts.alice.api_key",
            "it looks like no UUID",
        ),
        ({"POLYBUS_ACCOUNTS__ALICE__API_KEY": "a" * 32}, "accounts.alice.api_key", "it looks like no UUID"),
        ({"POLYBUS_ACCOUNTS__ALICE__SECRET": "b3Bl!"}, "accounts.alice.secret", "builder or wrong key?"),
        (
            {"POLYBUS_ACCOUNTS__ALICE__SECRET": "b3BlbiA=\n"},
            "accounts.alice.secret",
            "begins or ends with a blank",
        ),
        (
            {"POLYBUS_ACCOUNTS__ALICE__SECRET": "b3Bl", "POLYBUS_ACCOUNTS__ALICE__PASSPHRASE": "b3Bl"},
            "accounts.alice.passphrase",
            "the same as the secret",
        ),
        (
            {"POLYBUS_ACCOUNTS__BOB__SECRET": "b3Bl"},
            "prices.account",
            "polybolt is refused until it names one of",
        ),
        ({"POLYBUS_PRICES__ACCOUNT": "carol"}, "prices.account", "there is no account 'carol'"),
    ],
)
def test_what_will_not_work_is_remarked_on(environ: dict[str, str], key: str, says: str) -> None:
    """It is no error, since the rest works, but it is said beside the key."""
    config = load(None, ALICE | environ)

    assert says in remarks(config)[key]
    assert show(config)[key]["remark"] == remarks(config)[key]


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
    assert "does not hold a NATS USER JWT" in complaint(NATS_CREDS=str(bad))
    assert "does not hold a NATS USER JWT" in complaint(NATS_CREDS=os.devnull)
