"""All checks of one configuration."""

import anyio

from polybus_services.config import Config, remarks

from . import bus, venue
from .finding import WRONG_SETTING, Finding, fail, finding, ok, side_by_side, skipped

CREDENTIALS = "take the API credentials derived for trading; `polybus config` shows where each value is from"


async def examine(config: Config) -> list[Finding]:
    """Look at everything: the accounts' form, the way to the venue, NATS and what it permits and stores."""
    seen_of_venue: list[Finding] = []
    seen_of_bus: list[Finding] = []

    async def look_at_venue() -> None:
        seen_of_venue.extend(await side_by_side(venue.checks(config)))

    async def look_at_bus() -> None:
        seen_of_bus.extend(await bus.examine(config))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(look_at_venue)
        tasks.start_soon(look_at_bus)
    return [*accounts(config), *seen_of_venue, *seen_of_bus]


def accounts(config: Config) -> list[Finding]:
    """The form of each account's credentials: whether they are right, the venue tells nobody who does not trade."""
    if not config.accounts:
        why = "none is configured, so the feeds user and polybolt are not served"
        return [finding("credentials", "accounts", skipped(why))]
    problems = {
        key: text for key, text in remarks(config).items() if key.startswith(("accounts.", "prices."))
    }
    findings = []
    for label in config.accounts:
        own = [
            f"{key.rpartition('.')[2]}: {text}"
            for key, text in problems.items()
            if key.startswith(f"accounts.{label}.")
        ]
        right = ok("key, secret and passphrase have the right form")
        verdict = fail("; ".join(own), CREDENTIALS, WRONG_SETTING) if own else right
        findings.append(finding("credentials", label, verdict))
    if "prices.account" in problems:
        remedy = "set prices.account to one of the accounts"
        findings.append(
            finding("credentials", "prices", fail(problems["prices.account"], remedy, WRONG_SETTING))
        )
    return findings
