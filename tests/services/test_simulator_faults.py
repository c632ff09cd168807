"""Faults by name: what they take, when they strike, when they are over."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_services.simulator.fault_kinds import SLOW_CONSUMER
from polybus_services.simulator.faults import (
    FAULTS,
    Ending,
    FaultError,
    Faults,
    Loss,
    RestTreatment,
    Treatment,
    corrupted,
    fault_of,
)

DESIGNED = [
    "drop",
    "stall",
    "freeze-asset",
    "refuse-429",
    "duplicate",
    "corrupt-frame",
    "unknown-event",
    "close-1013",
    "auth-silent",
    "auth-4001",
    "drain-4003",
    "slow-4002",
    "policy-4008",
    "seq-gap",
    "dropped-count",
    "rtds-stale",
    "late-data",
    "lost-frame",
    "reorder",
    "rest-stale",
    "rest-down",
    "rest-429",
]


def on(seed: int = 1, **named: Mapping[str, object]) -> Faults:
    """These faults, switched on at second 0; underscores in the names stand for hyphens."""
    faults = Faults(seed)
    for name, parameters in named.items():
        name = name.replace("_", "-")
        faults.switch_on(name, fault_of(name, parameters), 0.0)
    return faults


def test_the_promised_names() -> None:
    """Every fault the design names is there, with its story."""
    assert list(FAULTS) == DESIGNED
    shown = Faults(1).show(0.0)
    assert all(isinstance(fault, dict) and fault["story"] and not fault["on"] for fault in shown.values())


@pytest.mark.parametrize(
    ("name", "parameters", "words"),
    [
        ("gremlins", {}, "there are: drop, stall, freeze-asset, refuse-429, duplicate"),
        ("stall", {"assets": ["1"]}, "unknown field `assets`; its parameters are: seconds, connection"),
        ("duplicate", {"count": 0}, "count"),
        ("duplicate", {"seconds": -1}, "seconds"),
        ("corrupt-frame", {"mode": "burn"}, "mode"),
        ("freeze-asset", {"assets": []}, "assets"),
        ("refuse-429", {"retry_after_s": "soon"}, "retry_after_s"),
    ],
)
def test_what_is_wrong_is_said(name: str, parameters: object, words: str) -> None:
    """A wrong name or parameter is named, with those there are."""
    with pytest.raises(FaultError, match=r"parameters are|there are") as error:
        fault_of(name, parameters)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("faults", "treatment"),
    [
        (on(), Treatment()),
        (on(drop={"count": 1}), Treatment(drop=True)),
        (on(drop={}), Treatment()),  # at once, so nothing is left for frames
        (on(close_1013={"assets": ["11"]}), Treatment(close=SLOW_CONSUMER)),
        (on(stall={}), Treatment(stall=True)),
        (on(stall={"connection": "market-2"}), Treatment()),
        (on(freeze_asset={"assets": ["11", "33"]}), Treatment(frozen=frozenset(("11", "33")))),
        (on(duplicate={}), Treatment(duplicate=True)),
        (on(duplicate={"assets": ["33"]}), Treatment()),
        (on(duplicate={"probability": 0}), Treatment()),
        (on(corrupt_frame={"mode": "cut"}), Treatment(corrupt="cut")),
        (on(corrupt_frame={"mode": "flip"}), Treatment(corrupt="flip")),
        (on(unknown_event={}), Treatment(unknown="after")),
        (on(unknown_event={"inside": True}), Treatment(unknown="inside")),
        (on(duplicate={}, unknown_event={}), Treatment(duplicate=True, unknown="after")),
        (on(refuse_429={}), Treatment()),
        (on(lost_frame={"assets": ["22"]}), Treatment(lost=Loss(told=False, counted=False))),
        (on(reorder={}), Treatment(overtaken=True)),
        (on(rest_down={}, rest_429={}, rest_stale={}), Treatment()),
        # What is not sent is not meddled with.
        (on(duplicate={}, stall={}), Treatment(stall=True)),
        (
            on(duplicate={"assets": ["11"]}, freeze_asset={"assets": ["11"]}),
            Treatment(frozen=frozenset(("11",))),
        ),
    ],
)
def test_what_befalls_a_frame(faults: Faults, treatment: Treatment) -> None:
    """A frame about assets 11 and 22 on its way to connection market-1."""
    assert faults.treat("market-1", ("11", "22"), 1.0) == treatment


@pytest.mark.parametrize(
    ("faults", "treatment"),
    [
        (on(), RestTreatment()),
        (on(drop={"count": 1}, stall={}, refuse_429={}), RestTreatment()),
        (on(rest_down={"mode": "cut"}), RestTreatment(down="cut")),
        (on(rest_down={"assets": ["22"]}), RestTreatment(down="refuse")),
        (on(rest_down={"assets": ["33"]}), RestTreatment()),
        (on(rest_429={"retry_after_s": 7}), RestTreatment(retry_after_s=7)),
        (on(rest_429={"probability": 0}), RestTreatment()),
        (on(rest_stale={}), RestTreatment(stale=frozenset(("11", "22")))),
        (on(rest_stale={"assets": ["22", "33"]}), RestTreatment(stale=frozenset(("22", "33")))),
    ],
)
def test_what_befalls_a_rest_request(faults: Faults, treatment: RestTreatment) -> None:
    """A request for the books of assets 11 and 22."""
    assert faults.on_rest(("11", "22"), 1.0) == treatment


def test_seconds_end_a_fault() -> None:
    """A fault with `seconds` is over when they are."""
    faults = on(stall={"seconds": 5})
    assert faults.treat("market-1", ("11",), 4.9).stall
    assert not faults.treat("market-1", ("11",), 5.0).stall
    assert faults.names_on(5.0) == []


@given(st.integers(1, 20), st.integers(0, 40))
def test_a_counted_fault_happens_that_often(count: int, frames: int) -> None:
    """`count` bounds how often, whatever the number of frames; withheld frames use nothing up."""
    faults = on(duplicate={"count": count}, freeze_asset={"assets": ["11"]})
    for _ in range(5):
        faults.treat("market-1", ("11",), 0.0)
    assert sum(faults.treat("market-1", ("22",), 0.0).duplicate for _ in range(frames)) == min(count, frames)
    shown = faults.show(0.0)["duplicate"]
    assert isinstance(shown, dict)
    assert (shown["happened"], shown["on"]) == (min(count, frames), frames < count)


def test_probability_is_of_each_frame_and_repeatable() -> None:
    """About the share asked for; the same seed strikes the same frames."""

    def strikes(seed: int) -> list[bool]:
        faults = on(seed, duplicate={"probability": 0.25})
        return [faults.treat("market-1", ("11",), 0.0).duplicate for _ in range(2_000)]

    assert 400 < sum(strikes(1)) < 600
    assert strikes(1) == strikes(1) != strikes(2)


def test_refusals_are_counted() -> None:
    """`refuse-429` with a count lets the next upgrade through."""
    faults = on(refuse_429={"count": 2, "retry_after_s": 3})
    assert [faults.refuses_upgrade(0.0) for _ in range(3)] == [3, 3, None]


@pytest.mark.parametrize("name", ["drop", "close-1013"])
@pytest.mark.parametrize(
    ("parameters", "at_once"), [({}, True), ({"count": 1}, False), ({"probability": 0.5}, False)]
)
def test_ending_faults_strike_at_once_or_wait(name: str, parameters: object, at_once: bool) -> None:
    """Without count and probability an ending fault is for now; with them it waits for frames."""
    fault = fault_of(name, parameters)
    assert isinstance(fault, Ending)
    assert fault.at_once is at_once


@pytest.mark.parametrize("mode", ["cut", "flip"])
@pytest.mark.parametrize("text", ['{"a":"1"}', '[{"market":"0x1","bids":[]},{"a":":"}]'])
def test_corrupted_never_decodes(mode: str, text: str) -> None:
    """However a frame is corrupted, it is no JSON any more."""
    broken = corrupted(text, "cut" if mode == "cut" else "flip")
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken)


def test_switching_off() -> None:
    """Off is off, and says whether there was anything to switch."""
    faults = on(stall={})
    assert faults.any_on
    assert [faults.switch_off("stall"), faults.switch_off("stall")] == [True, False]
    assert not faults.any_on
