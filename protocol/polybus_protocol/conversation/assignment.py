"""Which connection carries which key: bounded per connection, and nothing moves without a reason.

Adding a key never touches another one, removing keys only ever empties connections, and the keys of a
connection that is gone are spread over the others by the same rule.
"""

from collections.abc import Iterable, Mapping


class Assignment:
    """The keys of one feed, spread over its connections.

    Args:
        keys_per_connection: how many keys one connection carries at most.
    """

    def __init__(self, keys_per_connection: int) -> None:
        if keys_per_connection < 1:
            raise ValueError(f"a connection must carry at least one key, not {keys_per_connection}")
        self._capacity = keys_per_connection
        self._keys: dict[int, set[str]] = {}
        self._carrier: dict[str, int] = {}

    @property
    def connections(self) -> Mapping[int, set[str]]:
        """The keys each connection carries; connections are numbered from 1."""
        return self._keys

    def carrier_of(self, key: str) -> int | None:
        """The connection that carries a key."""
        return self._carrier.get(key)

    def assign(self, keys: Iterable[str]) -> dict[int, list[str]]:
        """Give each new key a carrier: the fullest connection with room, else a new one.

        The fullest first, so that few sockets are needed and those that empty can close.  A number is used
        again once its connection is gone.

        Returns:
            The new keys by connection, in the order in which they were named.
        """
        assigned: dict[int, list[str]] = {}
        room = sorted((n for n in self._keys if self._room(n)), key=lambda n: (self._room(n), n))
        for key in dict.fromkeys(keys):
            if key in self._carrier:
                continue
            while room and not self._room(room[0]):
                room.pop(0)
            number = room[0] if room else self._open()
            if not room:
                room.append(number)
            self._keys[number].add(key)
            self._carrier[key] = number
            assigned.setdefault(number, []).append(key)
        return assigned

    def release(self, keys: Iterable[str]) -> dict[int, list[str]]:
        """Take keys from their carriers; unknown ones are skipped.

        Returns:
            The released keys by connection.  A connection that carries nothing any more is gone from
            `connections`.
        """
        released: dict[int, list[str]] = {}
        for key in dict.fromkeys(keys):
            if (number := self._carrier.pop(key, None)) is not None:
                self._keys[number].remove(key)
                released.setdefault(number, []).append(key)
        for number in released:
            if not self._keys[number]:
                del self._keys[number]
        return released

    def move(self, key: str, *, to_new: bool) -> tuple[int, int] | None:
        """Give a key another carrier: the fullest other connection with room, or a new one.

        Returns:
            The old carrier and the new one; None if the key is not carried, or there is no other with room.  The
            old one is gone from `connections` if it carries nothing any more.
        """
        old = self._carrier.get(key)
        if old is None:
            return None
        others = [n for n in self._keys if n != old and self._room(n)]
        if to_new:
            new = self._open()
        elif others:
            new = min(others, key=lambda n: (self._room(n), n))
        else:
            return None
        self.release([key])
        self._keys[new].add(key)
        self._carrier[key] = new
        return old, new

    def _room(self, number: int) -> int:
        return self._capacity - len(self._keys[number])

    def _open(self) -> int:
        number = next(n for n in range(1, len(self._keys) + 2) if n not in self._keys)
        self._keys[number] = set()
        return number
