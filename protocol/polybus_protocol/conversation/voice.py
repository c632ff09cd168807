"""What one connection says to the venue: messages in small frames, drained by whoever writes them."""

from collections.abc import Collection

from ..feeds.dialect import Dialect


class Voice:
    """Speaks a feed's language, and keeps what was not written yet.

    Args:
        dialect: the language.
        keys_per_frame: keys in one message at most; the venue closes on a message with thousands.
    """

    def __init__(self, dialect: Dialect, keys_per_frame: int) -> None:
        self._dialect = dialect
        self._size = keys_per_frame
        self._unwritten: list[str] = []

    def drain(self) -> list[str]:
        """Hand out the messages to write, in order; each is handed out once."""
        unwritten, self._unwritten = self._unwritten, []
        return unwritten

    def say(self, message: str | None) -> None:
        """Say something; None where the dialect has no words for it."""
        if message is not None:
            self._unwritten.append(message)

    def open(self, keys: Collection[str]) -> None:
        """Open the subscription with as many keys as one frame takes, and add the others."""
        first, *rest = self._chunks(keys) or [[]]
        self.say(self._dialect.opening(first))
        for chunk in rest:
            self.say(self._dialect.subscribe(chunk))

    def ask(self, keys: Collection[str]) -> None:
        """Add keys to the subscription."""
        for chunk in self._chunks(keys):
            self.say(self._dialect.subscribe(chunk))

    def take_back(self, keys: Collection[str]) -> None:
        """Take keys from the subscription."""
        for chunk in self._chunks(keys):
            self.say(self._dialect.unsubscribe(chunk))

    def repeat(self, keys: Collection[str]) -> None:
        """Ask for keys again.

        A feed that answers with a snapshot ignores an active key, so each is taken back first.  On the others that
        would bring nothing, and tear a hole into what the key has begun to say meanwhile.
        """
        for chunk in self._chunks(keys):
            taken_back = self._dialect.unsubscribe(chunk)
            if self._dialect.has_snapshots:
                self.say(taken_back)
            self.say(self._dialect.subscribe(chunk))

    def _chunks(self, keys: Collection[str]) -> list[list[str]]:
        listed = list(keys)
        return [listed[start : start + self._size] for start in range(0, len(listed), self._size)]
