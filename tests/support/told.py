"""What somebody was told, live or by the record, and the account that is made of it."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec
from nats.aio.msg import Msg

from .consumer import Place


class Account(msgspec.Struct):
    """What became of the events of one run."""

    events: int = 0
    in_gaps: int = 0
    """Not stored, and covered by a gap of the record."""
    given_up: int = 0
    """Those of them that are counted as dropped or too large: they have reached nobody."""
    doubted: int = 0
    """Counted as uncertain or unrecorded: each may have been stored."""
    doubted_stored: int = 0
    """Those of the doubted that were stored."""
    twice: int = 0
    """Stored or received once more, in the same words and under the same place."""
    recovered_s: float = 0.0
    """Seconds from the end of the fault until all is published, every asset is live and every stream stores again."""
    faults: list[str] = []
    """What is missing without a gap, and what else breaks a promise."""


class Told:
    """What somebody was told of one stream key.

    Of what the record lacks a gap tells once it stores again, to everybody: it may stand behind what follows.
    """

    def __init__(self) -> None:
        self.events: dict[Place, dict[str, Any]] = {}
        self.gaps: list[tuple[dict[str, Any], tuple[Place, Place]]] = []
        """Those that tell of a loss, and what they cover: from after the one place to the other."""
        self.twice = 0
        self._late: list[Place] = []
        self._odd: list[str] = []

    def take(self, event: dict[str, Any], *, has_id: bool) -> None:
        """Take one event in."""
        place = event["epoch"], event["seq"]
        if event["type"] == "gap" and event["lost"] is not None:
            after = event["last_epoch"] or event["epoch"], event["last_seq"] or 0
            self.gaps.append((event, (after, place)))
        elif place not in self.events:
            if self.events and place < max(self.events):
                self._late.append(place)
            self.events[place] = event
        elif self.events[place] == event and has_id:
            self.twice += 1
        else:
            self._odd.append(f"{place} came twice, and nobody could know")

    def covers(self, place: Place) -> bool:
        """Whether it lies in a gap."""
        return any(after < place <= up_to for _, (after, up_to) in self.gaps)

    def faults(self) -> list[str]:
        """What breaks a promise: out of order without a gap that says so, twice without an id."""
        return self._odd + [
            f"{place} came late, and is in no gap" for place in self._late if not self.covers(place)
        ]


class Heard:
    """What somebody was told, by stream key."""

    def __init__(self) -> None:
        self.streams: defaultdict[str, Told] = defaultdict(Told)

    async def take(self, message: Msg) -> None:
        """Take one message in."""
        key = message.subject.rpartition(".")[0]
        self.streams[key].take(json.loads(message.data), has_id="Nats-Msg-Id" in (message.headers or {}))


def missing(key: str, what: str, wanted: Iterable[Place]) -> list[str]:
    """A line that tells what is not; none where there is nothing to tell."""
    found = sorted(wanted)
    return [f"{key}: {len(found)} are not {what}: {found[:9]}"] if found else []
