"""Interest: who wants what, reference-counted, with leases; and the steps from wanted to active.

The desired state is a set of subscriptions.  A key (an asset) is wanted as long as one of them names
it; what must be asked of the venue or taken back follows from the difference between two such sets.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

import msgspec

from .asking import keys_of
from .wish import Wish


class Subscription(Wish, frozen=True, kw_only=True):
    """A named, leased piece of interest: the desired state, as it is kept in the KV bucket."""

    id: str
    owner: str
    deliver: str = "subjects"
    """`subjects`, or `log` for one log line per event as well."""
    ttl_s: float | None = None
    """Seconds a lease lasts from its last renewal; None for ever."""
    created: int
    """Nanoseconds since the epoch."""
    expires: int | None = None
    """Nanoseconds since the epoch; None for never."""

    def renewed(self, now: int, ttl_s: float | None = None) -> "Subscription":
        """The same subscription with its lease counted from `now` (nanoseconds since the epoch)."""
        ttl_s = ttl_s or self.ttl_s
        expires = None if ttl_s is None else now + int(ttl_s * 1e9)
        return msgspec.structs.replace(self, ttl_s=ttl_s, expires=expires)

    def asks_the_same_as(self, other: "Subscription") -> bool:
        """Whether a repeated request with this id wants nothing new."""
        return _wish(self) == _wish(other)


def _wish(subscription: Subscription) -> tuple[object, ...]:
    s = subscription
    wishes: list[str | list[str] | None] = [getattr(s, name) for name in Wish.__struct_fields__]
    return s.owner, s.deliver, s.ttl_s, *(set(w) if isinstance(w, list) else w for w in wishes)


class Steps(msgspec.Struct, frozen=True):
    """What leads from the active keys to the wanted ones."""

    add: list[str]
    remove: list[str]

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def steps(wanted: Collection[str], active: Collection[str]) -> Steps:
    """The difference between what is wanted and what is active, each in the order of its side."""
    wanted_set, active_set = set(wanted), set(active)
    return Steps(
        [key for key in dict.fromkeys(wanted) if key not in active_set],
        [key for key in dict.fromkeys(active) if key not in wanted_set],
    )


class Interest:
    """All subscriptions of one pool of connections, and the keys they want."""

    def __init__(self) -> None:
        self._subscriptions: dict[str, Subscription] = {}
        self._wanted: Counter[str] = Counter()

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """All subscriptions by id, in the order in which they came."""
        return self._subscriptions

    @property
    def wanted(self) -> Collection[str]:
        """The keys that at least one subscription wants, in the order in which they came."""
        return self._wanted.keys()

    def put(self, subscription: Subscription) -> Steps:
        """Add a subscription, or replace the one of that id."""
        added = keys_of(subscription)
        old = self._subscriptions.get(subscription.id)
        self._subscriptions[subscription.id] = subscription
        return self._count(added, keys_of(old) if old else [])

    def remove(self, ids: Iterable[str]) -> Steps:
        """Forget subscriptions; ids that are unknown are skipped."""
        gone = [self._subscriptions.pop(id_) for id_ in dict.fromkeys(ids) if id_ in self._subscriptions]
        return self._count([], [key for subscription in gone for key in keys_of(subscription)])

    def of_owner(self, owner: str) -> list[Subscription]:
        """An owner's subscriptions, in the order in which they came."""
        return [s for s in self._subscriptions.values() if s.owner == owner]

    def expired(self, now: int) -> list[Subscription]:
        """The subscriptions whose lease is over (nanoseconds since the epoch)."""
        return [s for s in self._subscriptions.values() if s.expires is not None and s.expires <= now]

    def next_expiry(self) -> int | None:
        """When the next lease ends, in nanoseconds since the epoch; None if none ever does."""
        return min((s.expires for s in self._subscriptions.values() if s.expires is not None), default=None)

    def _count(self, added: list[str], removed: list[str]) -> Steps:
        touched = dict.fromkeys(added + removed)
        before = [key for key in touched if key in self._wanted]
        self._wanted.update(added)
        self._wanted.subtract(removed)
        for key in touched:
            if not self._wanted[key]:
                del self._wanted[key]
        return steps([key for key in touched if key in self._wanted], before)
