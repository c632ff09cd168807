"""The rescuer actor: second looks over REST, and the climb from one remedy to the next for assets that stay silent.

The connections tell which assets are doubtful or overdue; the witness is asked about them, and what it says goes
back to whoever carries them.  An asset that stays silent is asked for again on its socket (its connection does that
by itself), then on another one, then on a new one, and then it is given up loudly, and asked for ever more seldom.
"""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import anyio

from polybus_protocol.books.asset_stream import AssetStream
from polybus_protocol.books.liveness import Rung
from polybus_protocol.events import Book

from .witness import Testimony, Witness, WitnessFailure

logger = logging.getLogger("polybus.rescue")

MOST_DOUBTS = 20_000
"""Assets that wait for a second look at most; what is beyond is left out, and doubted again at its next look."""

NEW_SOCKET_INTERVAL_S = 60.0
"""Seconds from one new socket for silent assets to the next: those that come meanwhile share it."""

type MakeWitness = Callable[[str], Witness]


class Rescuer:
    """See the module.

    Args:
        url: of the venue's REST API; without one there are no second looks.
        checks: counts what was tried, and what came of it.
        testify: told what the witness says of assets.
        move: told which assets should go to another connection that is open.
        move_to_new: told which should go to a new one.
        give_up: told which assets nothing has helped.
        make_witness: makes whoever asks the venue.
    """

    def __init__(
        self,
        url: str | None,
        checks: Counter[str],
        testify: Callable[[dict[str, Book]], None],
        move: Callable[[str], None],
        move_to_new: Callable[[str], None],
        give_up: Callable[[str], None],
        make_witness: MakeWitness = Witness,
    ) -> None:
        self._url = url or None
        self._checks = checks
        self._testify = testify
        self._move = move
        self._move_to_new = move_to_new
        self._give_up = give_up
        self._make_witness = make_witness
        self._doubtful: dict[str, None] = {}
        self._has_doubts = anyio.Event()
        self._new_socket_at = -math.inf

    def look(self, assets: Iterable[str]) -> None:
        """Have a second look at these, soon."""
        for asset in assets:
            if len(self._doubtful) >= MOST_DOUBTS:
                self._checks["second_looks_left_out"] += 1
                continue
            self._doubtful[asset] = None
        self._has_doubts.set()

    def overdue(self, stream: AssetStream, waited_s: float, time: int) -> None:
        """An asset was asked for and stays silent: try the next thing.

        Args:
            stream: the asset's.
            waited_s: for how long.
            time: nanoseconds since the epoch.
        """
        if stream.trust.is_believed:
            return  # begun by a book of REST, and the stream goes on from there
        asset, before = stream.asset, stream.liveness.rung
        rung = stream.liveness.climb()
        if rung is before:
            return
        stream.remember(f"no snapshot in {waited_s:.0f} s: {_WORDS[rung]}", time)
        self.look([asset])
        if rung is Rung.MOVED:
            self._move(asset)
        elif rung is Rung.NEW_SOCKET:
            now = anyio.current_time()
            if now >= self._new_socket_at + NEW_SOCKET_INTERVAL_S:
                self._new_socket_at = now
                self._move_to_new(asset)
            else:
                self._move(asset)
        elif rung is Rung.GIVEN_UP:
            self._give_up(asset)

    async def run(self) -> None:
        """Serve until cancelled."""
        if self._url is None:
            await anyio.sleep_forever()
            return
        async with self._make_witness(self._url) as witness:
            while True:
                await self._has_doubts.wait()
                self._has_doubts = anyio.Event()
                doubtful, self._doubtful = list(self._doubtful), {}
                self._hear(await witness.books(doubtful))

    def _hear(self, answers: Mapping[str, Testimony]) -> None:
        books: dict[str, Book] = {}
        for asset, answer in answers.items():
            if isinstance(answer, WitnessFailure):
                self._checks[f"witness_{answer.reason}"] += 1
            else:
                books[asset] = answer
        self._testify(books)


_WORDS = {
    Rung.RESUBSCRIBED: "asked for again on the same socket",
    Rung.MOVED: "moved to another socket",
    Rung.NEW_SOCKET: "moved to a new socket",
    Rung.GIVEN_UP: "given up; it is asked for again ever more seldom",
}
