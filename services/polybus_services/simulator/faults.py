"""Faults by name, switched on and off while the simulator runs: which are on, and what befalls a frame.

A fault on frames stays on until it is switched off, has happened `count` times, or `seconds` are over.
Those that end a connection (`drop`, `close-1013`, `drain-4003`, ...) happen, without `count` and `probability`,
at once to each connection meant, and are over.  What each fault does is told in `fault_kinds.py`.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from polybus_services.simulator.fault_kinds import (
    ALL,
    FAULTS,
    Auth,
    AuthSilent,
    CorruptFrame,
    Drop,
    DroppedCount,
    Duplicate,
    Ending,
    Fault,
    FaultError,
    FreezeAsset,
    LateData,
    LostFrame,
    Recurring,
    Refuse429,
    Reorder,
    Rest429,
    RestDown,
    RestFault,
    RestStale,
    RtdsStale,
    Selective,
    SeqGap,
    Stall,
    UnknownEvent,
    fault_of,
)
from polybus_services.simulator.feeds import AuthFate, Close

__all__ = [
    "ALL",
    "FAULTS",
    "Ending",
    "FaultError",
    "Faults",
    "Loss",
    "RestTreatment",
    "Treatment",
    "corrupted",
    "fault_of",
]


class Loss(msgspec.Struct, frozen=True):
    """A frame is not sent; see `Manners.lose`."""

    told: bool
    counted: bool


class Treatment(msgspec.Struct):
    """What befalls one data frame on its way to one connection.  By default: nothing."""

    drop: bool = False
    close: Close | None = None
    stall: bool = False
    stale_after_s: float | None = None
    """Go stale after so long without a PING."""
    late_s: float | None = None
    overtaken: bool = False
    lost: Loss | None = None
    frozen: frozenset[str] = frozenset()
    duplicate: bool = False
    corrupt: Literal["cut", "flip"] | None = None
    unknown: Literal["after", "inside"] | None = None


class RestTreatment(msgspec.Struct):
    """What befalls one request for books.  By default: nothing."""

    down: Literal["refuse", "cut", "hang"] | None = None
    retry_after_s: int | None = None
    """For a 429."""
    stale: frozenset[str] = frozenset()
    """The assets whose books are old."""
    stale_since: int = 0
    """How many changes the books of the exchange had had by then."""


class _On(msgspec.Struct):
    """A fault that is on."""

    fault: Fault
    until: float | None
    since: int
    """How many changes the exchange had had."""


class Faults:
    """Which faults are on; at most one of a name.

    Args:
        seed: of the dice for `probability`, apart from the exchange's, so that a fault changes no fact.
    """

    def __init__(self, seed: int) -> None:
        self._on: dict[str, _On] = {}
        self._happened = Counter[str]()
        self._random = random.Random(seed)

    @property
    def any_on(self) -> bool:
        """Whether there is anything to ask `treat` about."""
        return bool(self._on)

    def switch_on(self, name: str, fault: Fault, now: float, changes: int = 0) -> None:
        """Switch a fault on; one of the same name is replaced.  An `Ending` meant at once is none to stay.

        Args:
            name: the one it has in `FAULTS`.
            fault: as `fault_of` made it.
            now: the caller's clock, in seconds.
            changes: how many the books of the exchange have had, for what shows them as they were.
        """
        if not (isinstance(fault, Ending) and fault.at_once):
            self._on[name] = _On(fault, None if fault.seconds is None else now + fault.seconds, changes)
            self._happened[name] = 0

    def switch_off(self, name: str) -> bool:
        """Switch a fault off; whether it was on."""
        return self._on.pop(name, None) is not None

    def show(self, now: float) -> dict[str, object]:
        """Every fault there is, with its story, its parameters and, if it is on, how it is set."""
        self._expire(now)
        return {name: self._show(name, kind) for name, kind in FAULTS.items()}

    def _show(self, name: str, kind: type[Fault]) -> dict[str, object]:
        on = self._on.get(name)
        return {
            "on": on is not None,
            "set": None if on is None else msgspec.to_builtins(on.fault),
            "happened": self._happened[name],
            "parameters": kind.__struct_fields__,
            "story": " ".join((kind.__doc__ or "").split()),
        }

    def names_on(self, now: float) -> list[str]:
        """The faults that are on."""
        self._expire(now)
        return list(self._on)

    def refuses_upgrade(self, now: float, feed: str = ALL) -> int | None:
        """Seconds for Retry-After if this upgrade is to be refused."""
        self._expire(now)
        on = self._on.get("refuse-429")
        if on is None or not isinstance(on.fault, Refuse429) or on.fault.feed not in (ALL, feed):
            return None
        return on.fault.retry_after_s if self._happens("refuse-429", on.fault) else None

    def on_auth(self, connection: str, now: float) -> AuthFate:
        """Decide what becomes of an attempt to authenticate."""
        self._expire(now)
        for name, fault in self._meant(connection).items():
            if isinstance(fault, Auth) and self._happens(name, fault):
                return "silent" if isinstance(fault, AuthSilent) else "4001"
        return "admit"

    def on_rest(self, assets: Collection[str], now: float) -> RestTreatment:
        """Decide what befalls a request for these books."""
        self._expire(now)
        treatment = RestTreatment()
        for name, on in list(self._on.items()):
            fault = on.fault
            if not (
                isinstance(fault, RestFault)
                and _concerns(fault.assets, assets)
                and self._happens(name, fault)
            ):
                continue
            match fault:
                case RestStale():
                    treatment.stale = frozenset(fault.assets or assets)
                    treatment.stale_since = on.since
                case RestDown():
                    treatment.down = fault.mode
                case Rest429():
                    treatment.retry_after_s = fault.retry_after_s
                case _:
                    pass
        return treatment

    def treat(self, connection: str, subjects: Collection[str], now: float) -> Treatment:
        """Decide what befalls a data frame.

        Args:
            connection: where it is going.
            subjects: the assets and markets it speaks of, or its stream.
            now: the caller's clock, in seconds.
        """
        self._expire(now)
        meant = self._meant(connection)
        # What is not sent cannot be duplicated or corrupted, nor use up the count of a fault.
        treatment = Treatment(stall=any(isinstance(fault, Stall) for fault in meant.values()))
        for fault in meant.values():
            match fault:
                case FreezeAsset():
                    treatment.frozen = frozenset(fault.assets)
                case RtdsStale():
                    treatment.stale_after_s = fault.after_s
                case LateData():
                    treatment.late_s = fault.delay_s
                case _:
                    pass
        sent = [] if treatment.stall else [subject for subject in subjects if subject not in treatment.frozen]
        for name, fault in meant.items():
            if (
                sent
                and isinstance(fault, Recurring)
                and _concerns(fault.assets, sent)
                and self._happens(name, fault)
            ):
                self._apply(fault, treatment)
        return treatment

    def _meant(self, connection: str) -> dict[str, Selective]:
        return {
            name: on.fault
            for name, on in self._on.items()
            if isinstance(on.fault, Selective) and on.fault.meant_for(connection)
        }

    def _apply(self, fault: Recurring, treatment: Treatment) -> None:
        match fault:
            case Drop():
                treatment.drop = True
            case Ending():
                treatment.close = fault.close
            case SeqGap():
                treatment.lost = Loss(told=False, counted=True)
            case DroppedCount():
                treatment.lost = Loss(told=True, counted=fault.skip_seq)
            case LostFrame():
                treatment.lost = Loss(told=False, counted=False)
            case Reorder():
                treatment.overtaken = True
            case Duplicate():
                treatment.duplicate = True
            case CorruptFrame(mode="either"):
                treatment.corrupt = self._random.choice(("cut", "flip"))
            case CorruptFrame(mode="cut"):
                treatment.corrupt = "cut"
            case CorruptFrame():
                treatment.corrupt = "flip"
            case UnknownEvent():
                treatment.unknown = "inside" if fault.inside else "after"
            case _:
                pass

    def _happens(self, name: str, fault: Recurring | Refuse429 | Auth | RestFault) -> bool:
        """Throw the dice; the last time of a counted fault ends it."""
        if fault.probability < 1.0 and self._random.random() >= fault.probability:
            return False
        self._happened[name] += 1
        if fault.count is not None and self._happened[name] >= fault.count:
            del self._on[name]
        return True

    def _expire(self, now: float) -> None:
        for name in [name for name, on in self._on.items() if on.until is not None and now >= on.until]:
            del self._on[name]


def corrupted(text: str, mode: Literal["cut", "flip"]) -> str:
    """A frame's JSON, broken so that it can never decode."""
    if mode == "cut":
        return text[: len(text) // 2]
    # ":" and ";" differ in their lowest bit.  The first colon after a quote is never inside a string.
    return text.replace('":', '";', 1)


def _concerns(assets: Iterable[str], subjects: Collection[str]) -> bool:
    wanted = list(assets)
    return not wanted or any(asset in subjects for asset in wanted)
