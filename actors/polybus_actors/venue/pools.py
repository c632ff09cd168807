"""The pools of a gateway: one per feed, and one per account where a feed is about an account."""

from collections.abc import Callable, Iterator

from polybus_protocol.control.asking import ASKING
from polybus_protocol.control.interest import Subscription
from polybus_protocol.control.wish import Wish
from polybus_protocol.door import DIALECTS
from polybus_protocol.feeds.dialect import Dialect, Proof
from polybus_protocol.profile import FeedProfile

from .accounts import Accounts
from .pool import Pool

type MakePool = Callable[[str, FeedProfile, Callable[[], Dialect]], Pool]
"""Makes a pool of a name, a feed's settings, and what makes its dialects."""

ACCOUNT_FEEDS = frozenset(feed for feed, dialect in DIALECTS.items() if dialect().proof is not Proof.NONE)
"""The feeds that want to know who asks."""


class Pools:
    """All pools, made at the start; a pool without interest has no connection.

    Args:
        profiles: by feed.
        accounts: the operator's.
        make: makes a pool.
    """

    def __init__(self, profiles: dict[str, FeedProfile], accounts: Accounts, make: MakePool) -> None:
        self._accounts = accounts
        self._pools: dict[str, Pool] = {}
        for feed in ASKING:
            for label in accounts if feed in ACCOUNT_FEEDS else (None,):
                name = _name(feed, label)
                self._pools[name] = make(name, profiles[feed], self._speaker(feed, label, profiles[feed]))

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def account_for(self, wish: Wish) -> str | None:
        """The account that a wish is about; None where the feed has none.

        Raises:
            ControlError: 400 or 401, see `Accounts.label`.
        """
        return self._accounts.label(wish.account, wish.feed) if wish.feed in ACCOUNT_FEEDS else None

    def pool_of(self, wish: Wish) -> Pool | None:
        """The pool that serves a wish; None if its account is configured no longer."""
        return self._pools.get(_name(wish.feed, wish.account))

    def subscriptions(self) -> list[Subscription]:
        """All subscriptions, pool by pool."""
        return [s for pool in self for s in pool.interest.subscriptions.values()]

    def _speaker(self, feed: str, label: str | None, profile: FeedProfile) -> Callable[[], Dialect]:
        """What makes the dialects of a pool.  An account that is not complete is never spoken for."""

        def speak() -> Dialect:
            credentials = None if label is None else self._accounts.credentials(label)
            return DIALECTS[feed].spoken(profile, label, credentials)

        return speak


def _name(feed: str, label: str | None) -> str:
    return feed if label is None else f"{feed}-{label}"
