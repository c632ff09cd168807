"""When a key is asked for again."""

import pytest

from polybus_protocol.conversation.waits import LONGEST_OVERDUE_S, RESYNC_INTERVAL_S, Waits


def test_patience_doubles_up_to_a_limit() -> None:
    """Each time it ends the key is overdue, and is asked for again."""
    waits, now, ends = Waits(30), 0.0, []
    waits.asked(["a"], now)
    while (deadline := waits.next_deadline()) is not None and deadline < 3000:
        now = deadline
        assert waits.overdue(now) == {"a": now}
        assert waits.due(now) == ["a"]
        waits.asked(waits.due(now), now)
        ends.append(now)
    assert ends[:5] == [30, 90, 210, 450, 930]
    assert ends[-1] - ends[-2] == LONGEST_OVERDUE_S


def test_patience_of_the_users_own_choosing_is_not_cut() -> None:
    """A timeout above the limit stands."""
    waits = Waits(5000)
    waits.asked(["a"], 0)
    waits.asked(waits.due(5000), 5000)
    assert waits.next_deadline() == 10_000


def test_a_doubt_is_answered_at_once_but_not_twice_in_a_moment() -> None:
    """The second request waits until the interval is over; it is not overdue then."""
    waits = Waits(30)
    assert waits.doubted(["a"], 0) == ["a"]
    waits.asked(["a"], 0)
    waits.delivered("a")
    assert waits.doubted(["a"], 0.5) == []
    assert waits.next_deadline() == RESYNC_INTERVAL_S
    assert waits.due(0.9) == []
    assert (waits.due(1.0), waits.overdue(1.0)) == (["a"], {})
    waits.asked(["a"], 1.0)
    assert waits.doubted(["a"], 2.0) == ["a"]


def test_doubts_do_not_put_off_the_report() -> None:
    """A key that is asked for again and again is reported as overdue all the same."""
    waits = Waits(30)
    for second in range(30):
        assert waits.overdue(second) == {}
        waits.asked(waits.doubted(["a"], second) if second else ["a"], second)
    assert waits.overdue(30) == {"a": 30}


@pytest.mark.parametrize("end", ["delivered", "forget"])
def test_the_end_of_a_wait(end: str) -> None:
    """Nothing falls due any more."""
    waits = Waits(30)
    waits.asked(["a", "b"], 0)
    assert list(waits) == ["a", "b"]
    for key in ("a", "b", "never asked for"):
        getattr(waits, end)(key)
    assert (len(waits), "a" in waits, waits.next_deadline()) == (0, False, None)
    assert waits.due(1e9) == []
