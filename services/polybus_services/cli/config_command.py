"""`polybus config`: the settings in force."""

import click

from polybus_services import present
from polybus_services.cli.support import Invocation, common_options, json_option, pass_invocation, print_json
from polybus_services.config import show


@click.command(
    "config",
    epilog="""\b
Examples:
  polybus config                                 every setting, and where it comes from
  polybus config --config gateway.toml           is this file right?
  polybus config --json | jq '."nats.url".value'
  polybus config --json | jq 'map_values(.remark // empty)'     what will not work, such as half an account

Each key can be set in the file as [section] key, and as the variable POLYBUS_<SECTION>__<KEY>; a secret also
from a file, named by the variable with _FILE added. NATS_URL, NATS_USER, NATS_PASSWORD, NATS_TOKEN and
NATS_CREDS are understood too.

An account is [accounts.alice] with api_key, secret and passphrase, or POLYBUS_ACCOUNTS__ALICE__API_KEY and so on;
its label may have letters, digits and single `_`.
""",
)
@json_option
@common_options()
@pass_invocation
def config(invocation: Invocation, *, as_json: bool) -> None:
    """Show the effective configuration.

    Every key with its value and where that comes from; secrets are masked. Below them is what will not work.
    """
    settings = show(invocation.config())
    if as_json:
        print_json(settings)
    else:
        invocation.console().print(present.settings(settings))
