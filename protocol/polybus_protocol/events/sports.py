"""Scores (the sports feed).  The venue warns that they may be late or wrong."""

from typing import ClassVar

import msgspec

from .base import Event


class EventState(msgspec.Struct, frozen=True, gc=False):
    """The game's state as its source has it; repeats some of the fields around it."""

    type: str | None = None
    """The sport, such as `soccer` or `tennis`."""
    created_at: str | None = None
    """ISO 8601, with up to nine fractional digits."""
    updated_at: str | None = None
    """ISO 8601, with up to nine fractional digits."""
    score: str | None = None
    """As in `SportResult`."""
    elapsed: str | None = None
    """As in `SportResult`."""
    period: str | None = None
    """As in `SportResult`."""
    live: bool | None = None
    """Whether the game is being played."""
    ended: bool | None = None
    """Whether it is over."""
    tournament_name: str | None = None
    """Tennis only."""
    tennis_round: str | None = None
    """Tennis only."""


class SportResult(Event, tag="sport_result"):
    """The score or the state of a game changed.

    Scores, periods and statuses are the venue's own words: each sport has its own, and they are no closed set.
    `source_time` is the last update's, else the finish's; the texts it was read from stand beside it, since
    they are finer than milliseconds.
    """

    family: ClassVar[str] = "sports"

    league: str | None
    """The league's abbreviation, in lower case (the venue writes `NBA` and `nfl`)."""
    game: str | None
    """`game_id`, else `metadata_game_id`, else `sportradar_game_id`, else `slug`."""
    game_id: str | None = None
    """The venue's number of the game, as text; cricket has none."""
    metadata_game_id: str | None = None
    """Cricket has only this one."""
    sportradar_game_id: str | None = None
    """In the venue's SDK only; never seen."""
    slug: str | None = None
    """Of the venue's event; in its documentation, never seen."""
    home_team: str | None = None
    """Absent for cricket."""
    away_team: str | None = None
    """Absent for cricket."""
    status: str | None = None
    """Such as `InProgress`, `inprogress`, `running`, `finished`: the letter case differs by sport."""
    score: str | None = None
    """Such as `98-94`, `4-6, 1-2` (tennis sets), `000-000|2-0|Bo3` (map, series, best of)."""
    period: str | None = None
    """Such as `1H`, `HT`, `Q4`, `OT`, `Top 1st` or, in e-sports, `2/3`."""
    elapsed: str | None = None
    """`MM:SS` or whole minutes."""
    live: bool | None = None
    """Whether the game is being played."""
    ended: bool | None = None
    """Whether it is over."""
    turn: str | None = None
    """The team in possession (NFL and college football)."""
    last_update: str | None = None
    """ISO 8601."""
    finished_timestamp: str | None = None
    """ISO 8601."""
    event_state: EventState | None = None
    """Soccer and tennis only."""


SPORTS_EVENTS = (SportResult,)
"""The events that the sports feed brings."""
