"""The sports feed: every sample frame, every shape a game comes in, and odd input."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol import Unknown, decode
from polybus_protocol.events import SportResult
from polybus_protocol.feeds.reading import Word
from polybus_protocol.feeds.sports import EVERY_GAME, SportsDialect

from .samples import Samples, heard, mutated, survives, wire

SAMPLES = Samples("sports")
SOCCER: dict[str, Any] = SAMPLES.frames["sport_result_soccer.json"]


def read_one(frame: dict[str, Any]) -> SportResult:
    """The one event of a frame."""
    (event,) = decode("sports", wire(frame))
    assert isinstance(event, SportResult)
    return event


@pytest.mark.parametrize("file", sorted(SAMPLES.inbound))
def test_a_frame_from_the_venue(file: str) -> None:
    """Each sample becomes exactly what the index says."""
    assert heard(SportsDialect(), SAMPLES.frames[file]) == SAMPLES.becomes[file]


def test_the_server_asks_and_we_answer() -> None:
    """In either case; the answer, which the session gives in the same case, is the only thing ever said."""
    dialect = SportsDialect()
    assert dialect.words[b"ping"] is dialect.words[b"PING"] is Word.PING
    assert SAMPLES.outbound == {"pong.json"}
    assert SAMPLES.frames["pong.json"] == SAMPLES.frames["ping.json"].replace("i", "o")
    assert dialect.ping is None
    assert dialect.opening([EVERY_GAME]) is None
    assert dialect.subscribe([EVERY_GAME]) is dialect.unsubscribe([EVERY_GAME]) is None


@pytest.mark.parametrize(
    ("ids", "game"),
    [
        ({"gameId": 7, "metadataGameId": "m", "slug": "s"}, "7"),
        ({"gameId": "7"}, "7"),
        ({"gameId": None, "metadataGameId": "m", "sportradarGameId": "r"}, "m"),
        ({"sportradarGameId": "r", "slug": "s"}, "r"),
        ({"slug": "s"}, "s"),
        ({"gameId": 0}, "0"),
        ({"score": "1-0"}, None),
    ],
)
def test_which_game_it_is(ids: dict[str, Any], game: str | None) -> None:
    """The first id there is, as text; without one, the subject's token is `_`."""
    assert read_one(ids).game == game


@pytest.mark.parametrize("spelling", ["finished_timestamp", "finishedTimestamp"])
@pytest.mark.parametrize("written", ["2026-07-25T12:05:54.595448902Z", "2026-07-25T12:05:54.595+00:00"])
def test_when_it_finished(spelling: str, written: str) -> None:
    """Both spellings mean the same; the text stays, the milliseconds are cut, not rounded."""
    game = read_one({"gameId": 7, spelling: written})
    assert game.finished_timestamp == written
    assert game.source_time == 1784981154595


def test_the_last_update_is_the_source_time() -> None:
    """Before the state's, before the finish's."""
    last = "2026-07-25T12:05:54.999999999Z"
    game = read_one(SOCCER | {"last_update": last, "finished_timestamp": "2026-07-25T13:00:00Z"})
    assert game.source_time == 1784981154999
    assert read_one(SOCCER | {"last_update": "yesterday"}).source_time is None


def test_the_league_is_lower_case() -> None:
    """So that one subject holds all of it; the other words stay the venue's."""
    game = read_one(SOCCER | {"leagueAbbreviation": "NBA", "status": "InProgress"})
    assert (game.league, game.status) == ("nba", "InProgress")


def test_empty_strings_are_no_value() -> None:
    """Wherever they stand."""
    blank = {name: "" for name, value in SOCCER.items() if isinstance(value, str)} | {"gameId": 7}
    game = read_one(SOCCER | blank | {"eventState": SOCCER["eventState"] | {"elapsed": "", "type": ""}})
    assert (game.league, game.home_team, game.score, game.elapsed) == (None, None, None, None)
    assert game.event_state is not None
    assert (game.event_state.type, game.event_state.elapsed) == (None, None)


@pytest.mark.parametrize("frame", [{}, {"weather": "fine"}, {"type": "hello"}])
def test_what_is_no_game(frame: dict[str, Any]) -> None:
    """An object without any field of a game is passed on raw."""
    (event,) = decode("sports", wire(frame))
    assert isinstance(event, Unknown)
    assert (event.kind, json.loads(event.raw)) == ("event", frame)


def test_unknown_fields_are_counted_and_shown_once() -> None:
    """Also those within the state."""
    dialect = SportsDialect()
    odd = SOCCER | {"shiny": 1, "eventState": SOCCER["eventState"] | {"glint": 1}}
    kinds = [type(event).__name__ for _ in range(2) for _, event in dialect.read(wire(odd))]
    assert sorted(kinds) == ["SportResult", "SportResult", "Unknown", "Unknown"]
    assert dialect.unknown_fields == {"sport_result.shiny": 2, "sport_result.eventState.glint": 2}


@given(st.binary() | st.text().map(lambda text: "{" + text) | mutated(SAMPLES.json_frames))
def test_nothing_raises(frame: bytes | str) -> None:
    """Noise and mutated samples alike."""
    survives("sports", wire(frame) if isinstance(frame, str) else frame)
