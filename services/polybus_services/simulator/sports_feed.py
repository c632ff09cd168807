"""The manners of the sports feed: everything for everybody, and the server asks who is still there.

A client says nothing to begin with.  The server sends the text `ping`, and closes the connection of who has not
said `pong` ten seconds later.  Anything else a client says is passed over.
"""

from collections.abc import Iterator

import msgspec

from polybus_services.simulator import sports_frames as frames
from polybus_services.simulator.facts import GameChanged, Happening
from polybus_services.simulator.feeds import FUTURE, Answer, Close, Manners, Publication, Say

NO_PONG = Close(1008, "no pong")
"""The code is not documented."""


class SportsChoices(msgspec.Struct, frozen=True):
    """The times, as documented, and what changed with the documents."""

    ping_every_s: float = 5.0
    pong_within_s: float = 10.0
    uppercase: bool = False
    """`PING`, as older documents print it.  A pong counts in either case."""


class SportsManners(Manners):
    """The venue's side of one connection."""

    def __init__(self, feed: "SportsFeed", now_ms: int) -> None:
        self._feed = feed
        self._pinged_ms = now_ms
        self._owed_ms: int | None = None
        # When the oldest ping without a pong was sent.

    def receive_text(self, text: str, now_ms: int) -> list[Answer]:  # noqa: ARG002 - it only matters that it came
        """Take in one text frame, of which only a pong means anything."""
        if text.lower() == "pong":
            self._owed_ms = None
        return []

    def tick(self, now_ms: int) -> list[Answer]:
        """Ping, or end the connection of a client that owes a pong for too long."""
        choices = self._feed.choices
        if self._owed_ms is not None and now_ms - self._owed_ms >= choices.pong_within_s * 1_000:
            return [NO_PONG]
        if now_ms - self._pinged_ms < choices.ping_every_s * 1_000:
            return []
        self._pinged_ms = now_ms
        self._owed_ms = now_ms if self._owed_ms is None else self._owed_ms
        return [Say("PING" if choices.uppercase else "ping")]

    def made_up(self, subject: str, number: int) -> str:
        """An object that is no game."""
        return f'{{"{FUTURE}":"{subject}","number":{number}}}'

    def leave(self) -> None:
        """The connection is over."""
        self._feed.leave(self)


class SportsFeed:
    """Games, told to everybody who is connected."""

    name = "sports"
    paths: tuple[str, ...] = ("/sports/ws",)
    arrays = False

    def __init__(self, choices: SportsChoices) -> None:
        self.choices = choices
        self._readers: dict[SportsManners, None] = {}

    def greet(self, connection: str = "", now_ms: int = 0) -> SportsManners:  # noqa: ARG002 - nobody is named here
        """A client connected, and is told of every game from now on."""
        manners = SportsManners(self, now_ms)
        self._readers[manners] = None
        return manners

    def leave(self, manners: SportsManners) -> None:
        """Publish no more to this client."""
        self._readers.pop(manners, None)

    def publish(self, happening: Happening) -> Iterator[Publication]:
        """Say how a game stands."""
        if isinstance(happening, GameChanged) and self._readers:
            yield frames.result(happening.game, happening.now_ms), self._readers
