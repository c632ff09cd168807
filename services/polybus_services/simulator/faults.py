"""Faults by name, each taken from a real incident, switched on and off while the simulator runs.

One struct per fault: its fields are its parameters, its docstring says what a client sees.  A new fault is a
new struct in `FAULTS` and, if it does something new to a frame, a new field of `Treatment`.

A fault on frames stays on until it is switched off, has happened `count` times, or `seconds` are over.
`drop` and `close-1013` without `count` and `probability` happen at once to each connection meant, and are over.
"""

import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Literal

import msgspec

ALL = "all"


class FaultError(ValueError):
    """A fault nobody knows, or a parameter it does not have; the text says which there are."""


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every fault has."""

    seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """How long it stays on; for ever if left out."""


class Selective(Fault, kw_only=True):
    """A fault that can be meant for one connection."""

    connection: str = ALL
    """A connection's id, such as "market-1", or "all"."""


class Recurring(Selective, kw_only=True):
    """A fault that happens to data frames, one by one."""

    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    """How often it happens before it is over."""
    assets: tuple[str, ...] = ()
    """Only frames about these assets; all frames if empty."""


class Ending(Recurring, kw_only=True):
    """A fault that ends the connection: at once, unless told to wait for a frame."""

    @property
    def at_once(self) -> bool:
        """Whether it happens now to each connection meant, rather than to frames to come."""
        return self.count is None and self.probability == 1.0 and not self.assets


class Drop(Ending):
    """TCP is cut, without a close frame."""


class Close1013(Ending):
    """The connection is closed with 1013 "slow consumer: send buffer full", however fast the client reads."""


class Stall(Selective):
    """The socket stays open and PONGs come back, but no data, as in py-clob-client #292.

    What is held back is never sent.
    """


class FreezeAsset(Selective):
    """These assets are silent, their first books too, while others go on, as in nautilus_trader #4901."""

    assets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]


class Refuse429(Fault):
    """Upgrades are answered with 429 and Retry-After."""

    count: Annotated[int, msgspec.Meta(gt=0)] | None = None
    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    retry_after_s: Annotated[int, msgspec.Meta(ge=0)] = 1


class Duplicate(Recurring):
    """A data frame is sent twice in a row."""


class CorruptFrame(Recurring):
    """A WebSocket frame in order, whose JSON is cut short or has one bit of a colon flipped.

    It never decodes: a flipped digit would pass for data, which no client could tell.
    """

    mode: Literal["cut", "flip", "either"] = "either"


class UnknownEvent(Recurring):
    """An event of an unknown type stands after a data frame or, with `inside`, in one array with its events."""

    inside: bool = False


FAULTS: Mapping[str, type[Fault]] = {
    "drop": Drop,
    "stall": Stall,
    "freeze-asset": FreezeAsset,
    "refuse-429": Refuse429,
    "duplicate": Duplicate,
    "corrupt-frame": CorruptFrame,
    "unknown-event": UnknownEvent,
    "close-1013": Close1013,
}


class Treatment(msgspec.Struct):
    """What befalls one data frame on its way to one connection.  By default: nothing."""

    drop: bool = False
    close: bool = False
    stall: bool = False
    frozen: frozenset[str] = frozenset()
    duplicate: bool = False
    corrupt: Literal["cut", "flip"] | None = None
    unknown: Literal["after", "inside"] | None = None


class _On(msgspec.Struct):
    """A fault that is on."""

    fault: Fault
    until: float | None


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

    def switch_on(self, name: str, fault: Fault, now: float) -> None:
        """Switch a fault on; one of the same name is replaced.  An `Ending` meant at once is none to stay.

        Args:
            name: the one it has in `FAULTS`.
            fault: as `fault_of` made it.
            now: the caller's clock, in seconds.
        """
        if not (isinstance(fault, Ending) and fault.at_once):
            self._on[name] = _On(fault, None if fault.seconds is None else now + fault.seconds)
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

    def refuses_upgrade(self, now: float) -> int | None:
        """Seconds for Retry-After if this upgrade is to be refused."""
        self._expire(now)
        on = self._on.get("refuse-429")
        if on is not None and isinstance(on.fault, Refuse429) and self._happens("refuse-429", on.fault):
            return on.fault.retry_after_s
        return None

    def treat(self, connection: str, subjects: Collection[str], now: float) -> Treatment:
        """Decide what befalls a data frame.

        Args:
            connection: where it is going.
            subjects: the assets and markets it speaks of.
            now: the caller's clock, in seconds.
        """
        self._expire(now)
        meant = {
            name: on.fault
            for name, on in self._on.items()
            if isinstance(on.fault, Selective) and on.fault.connection in (ALL, connection)
        }
        # What is not sent cannot be duplicated or corrupted, nor use up the count of a fault.
        treatment = Treatment(stall=any(isinstance(fault, Stall) for fault in meant.values()))
        for fault in meant.values():
            if isinstance(fault, FreezeAsset):
                treatment.frozen = frozenset(fault.assets)
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

    def _apply(self, fault: Recurring, treatment: Treatment) -> None:
        match fault:
            case Drop():
                treatment.drop = True
            case Close1013():
                treatment.close = True
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

    def _happens(self, name: str, fault: Recurring | Refuse429) -> bool:
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


def fault_of(name: str, parameters: object) -> Fault:
    """A fault as a person asks for it.

    Args:
        name: one of `FAULTS`.
        parameters: a mapping, as decoded from JSON.

    Raises:
        FaultError: no such fault, or no such parameter.
    """
    kind = FAULTS.get(name)
    if kind is None:
        raise FaultError(f"no fault is called {name!r}; there are: {', '.join(FAULTS)}")
    try:
        return msgspec.convert(parameters, kind)
    except msgspec.ValidationError as error:
        raise FaultError(
            f"{name}: {error}; its parameters are: {', '.join(kind.__struct_fields__)}"
        ) from None


def corrupted(text: str, mode: Literal["cut", "flip"]) -> str:
    """A frame's JSON, broken so that it can never decode."""
    if mode == "cut":
        return text[: len(text) // 2]
    # ":" and ";" differ in their lowest bit.  The first colon after a quote is never inside a string.
    return text.replace('":', '";', 1)


def _concerns(assets: Iterable[str], subjects: Collection[str]) -> bool:
    wanted = list(assets)
    return not wanted or any(asset in subjects for asset in wanted)
