"""Who trades: accounts with credentials, for which the user feed speaks, and the rest, who only have wallets.

Who owns an order is worked out from its number, so nothing has to be kept, the crowd's history stays what its
seed says, and every feed names the same person.  Credentials are made up from the seed: they open nothing but
this simulator.
"""

import base64
import hashlib
import uuid
from collections.abc import Iterable

import msgspec

from polybus_services.simulator.facts import Traded

STRANGERS = 97
"""People without an account here; enough that the two sides of a trade are seldom one person."""

_SPREAD = 2_654_435_761
"""Knuth's multiplier (2^32 over the golden ratio): spreads consecutive numbers over 32 bits."""

_FIRST = ("Adored", "Brisk", "Candid", "Dapper", "Earnest", "Frosty", "Gentle", "Hasty", "Idle", "Jolly")
_SECOND = (
    "Disparity",
    "Walnut",
    "Harbor",
    "Lantern",
    "Meadow",
    "Pebble",
    "Quarry",
    "Ribbon",
    "Saddle",
    "Tundra",
)


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who trades and comments."""

    wallet: str
    """0x and 40 hex digits."""
    name: str
    pseudonym: str
    api_key: str
    """A UUID; the venue names the owner of an order by it."""


class Account(Person, frozen=True, kw_only=True):
    """Somebody whose credentials the ready line tells."""

    label: str
    secret: str
    passphrase: str

    def show(self) -> dict[str, str]:
        """As the ready line shows it; the field names are those of polybus's configuration."""
        return {name: getattr(self, name) for name in ("label", "api_key", "secret", "passphrase", "wallet")}


class People:
    """Everybody, and who owns which order.

    Args:
        seed: of all names, wallets and credentials.
        labels: of the accounts.
        account_share: how much of all orders belongs to the accounts, 0 to 1.
    """

    def __init__(
        self, seed: int, labels: Iterable[str] = ("alice", "bob"), account_share: float = 0.1
    ) -> None:
        self._seed = seed
        self.accounts = {label: self._account(label) for label in labels}
        self.strangers = [
            Person(
                wallet=self._wallet(f"stranger {number}"),
                name=f"trader.{number}",
                pseudonym=f"{_FIRST[number % 10]}-{_SECOND[number // 10]}",
                api_key=self._uuid(f"stranger {number}"),
            )
            for number in range(STRANGERS)
        ]
        self._by_number = list(self.accounts.values())
        self._below = int(account_share * 2**32) if self._by_number else 0
        self._claimed: dict[int, Account] = {}

    def owner(self, order_id: int) -> Person:
        """Whose order that is."""
        return self.account(order_id) or self.strangers[order_id % STRANGERS]

    def account(self, order_id: int) -> Account | None:
        """The account whose order that is; None for anybody else's."""
        if order_id in self._claimed:
            return self._claimed[order_id]
        if order_id * _SPREAD % 2**32 >= self._below:
            return None
        return self._by_number[order_id % len(self._by_number)]

    def claim(self, order_id: int, account: Account) -> None:
        """From now on that order is this account's: for orders placed on demand."""
        self._claimed[order_id] = account

    def admits(self, api_key: str, secret: str, passphrase: str) -> Account | None:
        """The account with these credentials; None where one of the three is wrong."""
        for account in self._by_number:
            if (account.api_key, account.secret, account.passphrase) == (api_key, secret, passphrase):
                return account
        return None

    def order_hash(self, order_id: int) -> str:
        """The id the venue shows for an order: 0x and 64 hex digits."""
        return f"0x{self._digest(f'order {order_id}').hex()}"

    def _account(self, label: str) -> Account:
        return Account(
            label=label,
            wallet=self._wallet(label),
            name=label,
            pseudonym=f"Simulated-{label.capitalize()}",
            api_key=self._uuid(label),
            secret=base64.urlsafe_b64encode(self._digest(f"secret {label}")).decode(),
            passphrase=self._digest(f"passphrase {label}").hex(),
        )

    def _wallet(self, whose: str) -> str:
        return f"0x{self._digest(f'wallet {whose}').hex()[:40]}"

    def _uuid(self, whose: str) -> str:
        return str(uuid.UUID(bytes=self._digest(f"key {whose}")[:16], version=4))

    def _digest(self, of: str) -> bytes:
        return hashlib.sha256(f"polybus simulator {self._seed} {of}".encode()).digest()


def trade_id(trade: Traded) -> str:
    """A trade's UUID, the same through all its statuses."""
    return str(uuid.UUID(hex=trade.transaction_hash[2:34], version=4))
