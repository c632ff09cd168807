"""Games that are played while the simulator runs: one per sport, in every shape the sports feed was seen to have."""

import random
from collections.abc import Callable, Iterator

from polybus_services.simulator.facts import GameChanged

ENDING_CHANCE = 0.04
"""Per change of a game; then another of its sport begins."""


class Game:
    """One game: what is known about it, under names of our own."""

    def __init__(self, sport: str, number: int, now_ms: int) -> None:
        self.sport = sport
        self.number = number
        self.created_ms = now_ms
        self.home, self.away = 0, 0
        self.minute = 0
        self.part = 1
        self.ended = False


class Games:
    """All games, each of another sport.

    Args:
        seed: of their course.
        now_ms: when they begin.
    """

    def __init__(self, seed: int, now_ms: int) -> None:
        self._random = random.Random(f"games {seed}")
        self._next_number = 90_106_111
        self.running = [self._begin(sport, now_ms) for sport in PLAYS]

    def tick(self, now_ms: int) -> Iterator[GameChanged]:
        """Let something happen in one game."""
        place = self._random.randrange(len(self.running))
        game = self.running[place]
        PLAYS[game.sport](game, self._random)
        game.ended = self._random.random() < ENDING_CHANCE
        if game.ended:
            self.running[place] = self._begin(game.sport, now_ms)
        yield GameChanged(game, now_ms)

    def _begin(self, sport: str, now_ms: int) -> Game:
        self._next_number += 1
        return Game(sport, self._next_number, now_ms)


def _score(most: int, parts: int, part_minutes: int) -> Callable[[Game, random.Random], None]:
    """A sport in which either side scores up to `most` at a time, in `parts` of so many minutes."""

    def play(game: Game, pick: random.Random) -> None:
        points = pick.randrange(1, most + 1)
        if pick.random() < 0.5:
            game.home += points
        else:
            game.away += points
        game.minute = min(game.minute + pick.randrange(4), parts * part_minutes)
        game.part = min(1 + game.minute // part_minutes, parts)

    return play


PLAYS: dict[str, Callable[[Game, random.Random], None]] = {
    "nfl": _score(7, 4, 15),
    "nba": _score(3, 4, 12),
    "soccer": _score(1, 2, 45),
    "football": _score(1, 2, 45),
    "tennis": _score(1, 3, 40),
    "lol": _score(1, 3, 30),
    "cs2": _score(1, 3, 30),
    "cricket": _score(6, 1, 120),
}
