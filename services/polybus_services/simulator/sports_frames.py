"""Games as the sports feed tells them: every sport in other words, with other fields, as captures show.

Letter case, spelling of the finish's time, presence of ids and teams: none of it is an accident here.
"""

from collections.abc import Callable

import msgspec

from polybus_services.simulator.feeds import Entry, Frame
from polybus_services.simulator.games import Game
from polybus_services.simulator.rtds_frames import iso

ABSENT = "_"
"""What stands for an id that does not apply, as in polybus's subjects."""

NANOSECONDS = 9
"""Digits of the sources' own times."""


def result(game: Game, now_ms: int) -> Frame:
    """A game as it stands now.  There is no type on the wire: every object is a game."""
    event = SHAPES[game.sport](game, now_ms)
    league = str(event.get("leagueAbbreviation", ABSENT)).lower()
    identity = event.get("gameId") or event.get("metadataGameId") or event["slug"]
    return Frame((Entry(f"{league}/{identity}", "sport_result", msgspec.json.encode(event).decode()),))


def _nfl(game: Game, now_ms: int) -> dict[str, object]:
    event = _teams(game, "nfl", "LAC", "BUF", "InProgress")
    return {
        **event,
        "slug": f"nfl-lac-buf-{game.number}",
        "score": f"{game.home}-{game.away}",
        "period": f"Q{game.part}",
        "elapsed": f"{game.minute % 15}:18",
        **_state(game),
        **_finished(game, now_ms, "finished_timestamp", 3),
        "turn": "lac" if game.home <= game.away else "buf",
    }


def _nba(game: Game, now_ms: int) -> dict[str, object]:
    return {
        **_teams(game, "NBA", "Lakers", "Celtics", "InProgress"),
        "score": f"{game.home}-{game.away}",
        "period": f"Q{game.part}",
        "elapsed": f"{game.minute % 12:02}:12",
        **_state(game),
        **_finished(game, now_ms, "finishedTimestamp", NANOSECONDS),
    }


def _soccer(game: Game, now_ms: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "score": f"{game.home}-{game.away}",
        "elapsed": str(game.minute),
        "period": "FT" if game.ended else f"{game.part}H",
        **_state(game),
    }
    return {
        **_teams(game, "kor", "Gimcheon Sangmu FC", "Daejeon Hana Citizen FC", "InProgress"),
        "eventState": _event_state("soccer", game, now_ms, facts),
        **facts,
        **_finished(game, now_ms, "finishedTimestamp", NANOSECONDS),
    }


def _football(game: Game, now_ms: int) -> dict[str, object]:
    """As on one page of the documents: no league, no id but the slug."""
    return {
        "slug": f"mci-liv-{game.number}",
        **_state(game),
        "score": f"{game.home}-{game.away}",
        "period": "FT" if game.ended else f"{game.part}H",
        "elapsed": f"{game.minute}:15",
        "last_update": iso(now_ms, 3),
    }


def _tennis(game: Game, now_ms: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "score": f"4-6, {game.home}-{game.away}",
        "period": f"S{game.part + 1}",
        **_state(game),
    }
    tournament = {"tournamentName": "Generali Open", "tennisRound": "Final"}
    return {
        **_teams(game, "atp", "Alexander Bublik", "Quentin Halys", "inprogress"),
        "eventState": _event_state("tennis", game, now_ms, facts | tournament),
        **facts,
        **_finished(game, now_ms, "finishedTimestamp", NANOSECONDS),
    }


def _lol(game: Game, now_ms: int) -> dict[str, object]:
    return {
        **_teams(game, "lol", "Team One", "Team Two", "running"),
        **_series(game),
        **_finished(game, now_ms, "finishedTimestamp", NANOSECONDS),
    }


def _cs2(game: Game, now_ms: int) -> dict[str, object]:
    return {
        **_teams(game, "cs2", "ARCRED", "The glecs", "running"),
        "slug": f"cs2-arcred-the-glecs-{game.number}",
        **_series(game),
        "last_update": iso(now_ms, 3),
        **_finished(game, now_ms, "finished_timestamp", 3),
    }


def _cricket(game: Game, now_ms: int) -> dict[str, object]:
    """No game id, no teams, no status."""
    return {
        "metadataGameId": f"id27036{game.number}",
        "leagueAbbreviation": "cricket",
        "score": f"{game.home}-{game.away}",
        "period": "FT" if game.ended else "Live",
        **_state(game),
        **_finished(game, now_ms, "finishedTimestamp", NANOSECONDS),
    }


SHAPES: dict[str, Callable[[Game, int], dict[str, object]]] = {
    "nfl": _nfl,
    "nba": _nba,
    "soccer": _soccer,
    "football": _football,
    "tennis": _tennis,
    "lol": _lol,
    "cs2": _cs2,
    "cricket": _cricket,
}


def _teams(game: Game, league: str, home: str, away: str, status: str) -> dict[str, object]:
    return {
        "gameId": game.number,
        "leagueAbbreviation": league,
        "homeTeam": home,
        "awayTeam": away,
        "status": "finished" if game.ended else status,
    }


def _state(game: Game) -> dict[str, object]:
    return {"live": not game.ended, "ended": game.ended}


def _series(game: Game) -> dict[str, object]:
    """Map score, series score, best of; as if each side had won at most two maps."""
    return {
        "score": f"000-000|{min(game.home, 2)}-{min(game.away, 2)}|Bo3",
        "period": f"{game.part}/3",
        **_state(game),
    }


def _event_state(kind: str, game: Game, now_ms: int, facts: dict[str, object]) -> dict[str, object]:
    times = {"createdAt": iso(game.created_ms, NANOSECONDS), "updatedAt": iso(now_ms, NANOSECONDS)}
    return {"type": kind, **times, **facts}


def _finished(game: Game, now_ms: int, name: str, digits: int) -> dict[str, object]:
    return {name: iso(now_ms, digits)} if game.ended else {}
