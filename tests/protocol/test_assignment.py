"""Which connection carries which key: within capacity, with no move that nobody asked for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.conversation.assignment import Assignment

KEYS = st.lists(st.integers(0, 30).map(str), max_size=12)
CALLS = st.lists(st.tuples(st.booleans(), KEYS), max_size=30)


@given(st.integers(1, 5), CALLS)
def test_nothing_moves_without_a_reason(capacity: int, calls: list[tuple[bool, list[str]]]) -> None:
    """No connection over capacity or empty; a key stays where it is until it is released."""
    assignment, model = Assignment(capacity), dict[str, int]()
    for assigns, keys in calls:
        if assigns:
            result = assignment.assign(keys)
            assert {key for each in result.values() for key in each} == set(keys) - set(model)
            model |= {key: number for number, each in result.items() for key in each}
        else:
            result = assignment.release(keys)
            assert {key: number for number, each in result.items() for key in each} == {
                key: model.pop(key) for key in dict.fromkeys(keys) if key in model
            }
        order = list(dict.fromkeys(keys))
        assert all(each == sorted(each, key=order.index) for each in result.values())

        assert all(assignment.carrier_of(str(key)) == model.get(str(key)) for key in range(31))
        carried = {
            number: {key for key, at in model.items() if at == number} for number in set(model.values())
        }
        assert assignment.connections == carried
        assert all(len(each) <= capacity for each in carried.values())


@given(st.integers(1, 5), CALLS, KEYS)
def test_few_connections_are_disturbed(
    capacity: int, calls: list[tuple[bool, list[str]]], new: list[str]
) -> None:
    """What fits goes where there is room, fullest first; only what is left over opens connections."""
    assignment = Assignment(capacity)
    for assigns, keys in calls:
        (assignment.assign if assigns else assignment.release)(keys)
    room = {number: capacity - len(keys) for number, keys in assignment.connections.items()}
    before = set(room)

    result = assignment.assign(new)

    count = sum(map(len, result.values()))
    opened = set(result) - before
    assert len(opened) == math.ceil(max(0, count - sum(room.values())) / capacity)
    used = sorted(room[number] for number in result if number in before)
    with_room = sorted(each for each in room.values() if each)
    assert used == with_room[: len(used)]
    assert all(len(result[number]) == room[number] for number in list(result)[:-1] if number in before)


def test_numbers_are_used_again() -> None:
    """Connections count from 1, and the lowest free number is next."""
    assignment = Assignment(1)
    assert assignment.assign("abc") == {1: ["a"], 2: ["b"], 3: ["c"]}
    assert assignment.release("b") == {2: ["b"]}
    assert assignment.assign("de") == {2: ["d"], 4: ["e"]}


def test_two_thousand_assets_take_ten_connections() -> None:
    """At 200 each."""
    assignment = Assignment(200)
    assert [len(keys) for keys in assignment.assign(map(str, range(2000))).values()] == [200] * 10


def test_a_connection_must_carry_something() -> None:
    """Else nothing could ever be assigned."""
    with pytest.raises(ValueError, match="at least one key, not 0"):
        Assignment(0)
