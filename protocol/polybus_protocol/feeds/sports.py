"""The sports feed: it asks nothing, it says everything to everyone.

Facts: docs.polymarket.com sports pages, and 229 frames captured on 2026-07-25, whose key sets differ by
sport.  No element names its kind, so every object with a field of a game is a game's update.  The key of
every event is `EVERY_GAME`.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

import msgspec

from ..events import Event, EventState, SportResult
from .careful import Drift, Element, read_frame
from .dialect import EVERYTHING, Manners
from .reading import Keyed, Word, present, unknown
from .values import ABSENT, Loose, iso_moment, text

FEED = "sports"

EVERY_GAME = EVERYTHING
"""The key of all games.  The feed has no filter; ours are `league=<league>`."""


class WireEventState(msgspec.Struct, rename="camel", gc=False):
    """`eventState`: soccer and tennis have it."""

    type: str | None = None
    created_at: str | None = None
    updated_at: str | None = None
    score: Loose = ABSENT
    elapsed: Loose = ABSENT
    period: Loose = ABSENT
    live: bool | None = None
    ended: bool | None = None
    tournament_name: str | None = None
    tennis_round: str | None = None


class WireGame(msgspec.Struct, rename="camel", gc=False):
    """A game's update.  No field is in every frame."""

    game_id: Loose = ABSENT
    metadata_game_id: Loose = ABSENT
    sportradar_game_id: Loose = ABSENT
    league_abbreviation: str | None = None
    slug: str | None = None
    home_team: str | None = None
    away_team: str | None = None
    status: str | None = None
    score: Loose = ABSENT
    period: Loose = ABSENT
    elapsed: Loose = ABSENT
    live: bool | None = None
    ended: bool | None = None
    turn: str | None = None
    last_update: str | None = msgspec.field(name="last_update", default=None)
    last_update_camel: str | None = msgspec.field(name="lastUpdate", default=None)
    """Not seen yet: the other spelling of each time has turned up sooner or later."""
    finished_timestamp: str | None = msgspec.field(name="finished_timestamp", default=None)
    """In the venue's pages."""
    finished_timestamp_camel: str | None = msgspec.field(name="finishedTimestamp", default=None)
    """On the wire."""
    event_state: WireEventState | None = None


_read_game = msgspec.json.Decoder(WireGame).decode
_NOTHING = WireGame()


class SportsDialect(Manners):
    """The language of the sports feed, as one connection speaks it."""

    feed: str = FEED
    ping: str | None = None
    """The server asks, every 5 s, and closes 10 s later if it gets no answer."""
    words: Mapping[bytes, Word] = MappingProxyType({b"ping": Word.PING, b"PING": Word.PING, b"": Word.IDLE})

    def __init__(self) -> None:
        self._drift = Drift(FEED)

    @property
    def unknown_fields(self) -> Counter[str]:
        """How often a field was met that this version does not know, by `sport_result.field`."""
        return self._drift.fields

    def is_quiet(self, key: str) -> bool:  # noqa: ARG002
        """All are: there may be no game on."""
        return True

    def answers(self, key: str, event: Event, keys: Collection[str]) -> list[str]:
        """A game answers its league, and the wish for all games."""
        league = f"league={event.league}" if isinstance(event, SportResult) else key
        return super().answers(league, event, keys)

    def opening(self, keys: Collection[str]) -> str | None:  # noqa: ARG002 - all feeds take the same questions
        """Nothing: whoever connects is told everything."""
        return None

    def subscribe(self, keys: Collection[str]) -> str | None:  # noqa: ARG002
        """Nothing."""
        return None

    def unsubscribe(self, keys: Collection[str]) -> str | None:  # noqa: ARG002
        """Nothing."""
        return None

    def read(self, frame: bytes) -> list[Keyed]:
        """Read one JSON frame: its events in order, with `unknown` ones for what cannot be read.

        Never raises for anything the venue may send.
        """
        return read_frame(FEED, frame, self._read_element)

    def _read_element(self, element: Element) -> list[Keyed]:
        wire = _read_game(element)
        if wire == _NOTHING:
            return [(None, unknown(FEED, "event", "the element has no field of a game", element))]
        drift = self._drift.look("sport_result", element, WireGame, {"eventState": WireEventState})
        return [(EVERY_GAME, _sport_result(wire)), *drift]


def _sport_result(wire: WireGame) -> SportResult:
    state = wire.event_state
    ids = (text(wire.game_id), text(wire.metadata_game_id), text(wire.sportradar_game_id), present(wire.slug))
    last_update = present(wire.last_update or wire.last_update_camel)
    finished = present(wire.finished_timestamp or wire.finished_timestamp_camel)
    return SportResult(
        present((wire.league_abbreviation or "").lower()),
        next((each for each in ids if each), None),
        *ids,
        present(wire.home_team),
        present(wire.away_team),
        present(wire.status),
        text(wire.score),
        text(wire.period),
        text(wire.elapsed),
        wire.live,
        wire.ended,
        present(wire.turn),
        last_update,
        finished,
        _event_state(state) if state else None,
        source_time=iso_moment(last_update or (state and state.updated_at) or finished),
    )


def _event_state(wire: WireEventState) -> EventState:
    return EventState(
        present(wire.type),
        present(wire.created_at),
        present(wire.updated_at),
        text(wire.score),
        text(wire.elapsed),
        text(wire.period),
        wire.live,
        wire.ended,
        present(wire.tournament_name),
        present(wire.tennis_round),
    )
