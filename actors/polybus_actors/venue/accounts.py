"""The operator's accounts: labels that may be shown, and credentials that never are."""

from collections.abc import Iterator, Mapping

import msgspec

from polybus_protocol.errors import ControlError
from polybus_protocol.feeds.credentials import Credentials


class Account(msgspec.Struct, frozen=True):
    """`[accounts.<label>]`: the CLOB API credentials of one account, as far as they are configured."""

    api_key: str | None = None
    """A UUID; of the API credentials derived for trading, since builder keys are not accepted."""
    secret: str | None = None
    passphrase: str | None = None

    def __repr__(self) -> str:
        return "Account(...)"

    @property
    def missing(self) -> list[str]:
        """The fields that are not set."""
        return [name for name in self.__struct_fields__ if not getattr(self, name)]


class Accounts:
    """All accounts, by label.

    Args:
        accounts: as configured.
        prices: the label of the account that PolyBolt is asked with; the only one if absent.
    """

    def __init__(self, accounts: Mapping[str, Account], prices: str | None = None) -> None:
        self._accounts = accounts
        self._prices = prices

    def __iter__(self) -> Iterator[str]:
        return iter(self._accounts)

    def label(self, wanted: str | None, feed: str) -> str:
        """The account that a request means.

        Raises:
            ControlError: 400 or 422 if it could be more than one, 401 if there is none, or its credentials are not all
                there; the text says which account or variable is missing.
        """
        wanted = wanted or (self._prices if feed == "polybolt" else None)
        if wanted is None and len(self._accounts) > 1:
            names = ", ".join(sorted(self._accounts))
            if feed == "polybolt":
                raise ControlError(
                    422, f"which of the accounts {names} asks for prices? Set prices.account", field="feed"
                )
            raise ControlError(400, f"account: which of {names} is meant?", field="account")
        label = wanted or next(iter(self._accounts), None)
        if label is None:
            raise ControlError(
                401,
                f"the feed {feed!r} needs an account, and none is configured: set {_variables('<LABEL>', _FIELDS)}, "
                "or [accounts.<label>] in the configuration",
                field="account",
            )
        account = self._accounts.get(label)
        if account is None:
            raise ControlError(
                401,
                f"account: there is no account {label[:80]!r}; set {_variables(label, _FIELDS)}",
                field="account",
            )
        if account.missing:
            raise ControlError(
                401,
                f"account: the credentials of {label!r} are not complete; set {_variables(label, account.missing)}",
                field="account",
            )
        return label

    def credentials(self, label: str) -> Credentials:
        """The credentials of an account whose label was checked."""
        account = self._accounts[label]
        return Credentials(account.api_key or "", account.secret or "", account.passphrase or "")


_FIELDS = list(Account.__struct_fields__)


def _variables(label: str, fields: list[str]) -> str:
    return ", ".join(f"POLYBUS_ACCOUNTS__{label.upper()}__{field.upper()}" for field in fields)
