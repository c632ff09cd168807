"""Whether an asset may be believed: budgets that follow its habits, second looks, checks, and the ladder."""

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from polybus_protocol.books.liveness import FIRST_RETRY_S, RELOOK_S, Budgets, Liveness, Rung, Trust

BUDGETS = Budgets(shortest_s=15, first_s=30, longest_s=600)


def live(tried: Counter[str] | None = None) -> Liveness:
    """A stream that has begun, and was looked at for the first time at 0."""
    liveness = Liveness(BUDGETS, Counter() if tried is None else tried)
    liveness.begun()
    liveness.heard(0)
    return liveness


def trust(liveness: Liveness) -> Trust:
    """What may be believed now."""
    return liveness.trust


def test_waiting_until_it_has_begun() -> None:
    """Before that nothing is odd, however long it takes: its connection asks again by itself."""
    liveness = Liveness(BUDGETS, Counter())
    liveness.heard(0)
    assert not liveness.is_overdue(10_000)
    assert trust(liveness) is Trust.WAITING
    liveness.begun()
    assert trust(liveness) is Trust.LIVE


@pytest.mark.parametrize(
    ("pause_s", "budget_s"),
    [(0.1, 15), (1, 15), (10, 40), (60, 240), (1000, 300)],
    ids=lambda value: f"{value:g}s",
)
def test_the_budget_follows_the_habit(pause_s: float, budget_s: float) -> None:
    """Four times the usual pause, between the shortest and half of the longest."""
    liveness = live()
    for number in range(1, 6):
        liveness.heard(number * pause_s)
    last = 5 * pause_s
    assert not liveness.is_overdue(last + budget_s - 0.01)
    assert liveness.is_overdue(last + budget_s)
    assert (trust(liveness), liveness.why) == (
        Trust.SUSPECT,
        f"it has said nothing for {budget_s:.0f} s, which is unusual",
    )


def test_one_long_pause_is_forgotten_slowly() -> None:
    """An asset that slept for a minute is not doubted after the next five seconds."""
    liveness = live()
    liveness.heard(60)
    for second in range(61, 64):
        liveness.heard(second)
    assert not liveness.is_overdue(63 + 100)


def test_a_silence_that_is_confirmed_is_quiet_and_looked_at_ever_more_seldom() -> None:
    """And with its first word it is live again."""
    liveness, looks = live(), []
    for second in range(2000):
        if liveness.is_overdue(second):
            looks.append(second)
            assert trust(liveness) in (Trust.SUSPECT, Trust.QUIET)
            liveness.confirmed()
            assert trust(liveness) is Trust.QUIET
    assert looks == [30, 60, 120, 240, 480, 960, 1560]
    liveness.heard(2000)
    assert trust(liveness) is Trust.LIVE


def test_a_silence_nobody_confirms_ends_with_asking_again() -> None:
    """Not before even the idlest asset would have spoken."""
    liveness = live()
    assert liveness.is_overdue(30)
    assert not liveness.is_out_of_patience(599)
    assert liveness.is_out_of_patience(600)


def test_another_book_twice_is_a_frozen_stream() -> None:
    """Once may be what is on its way to us; the second look comes soon."""
    liveness = live()
    assert liveness.is_overdue(30)
    assert not liveness.refuted(31)
    assert trust(liveness) is Trust.SUSPECT
    assert not liveness.is_overdue(31 + RELOOK_S - 0.1)
    assert liveness.is_overdue(31 + RELOOK_S)
    assert liveness.refuted(31 + RELOOK_S)
    assert trust(liveness) is Trust.FROZEN


def test_a_word_between_the_two_looks_is_what_was_on_its_way() -> None:
    """Then the first look no longer counts."""
    liveness = live()
    assert liveness.is_overdue(30)
    assert not liveness.refuted(31)
    liveness.heard(32)
    assert trust(liveness) is Trust.LIVE
    assert liveness.is_overdue(32 + 200)
    assert not liveness.refuted(300)


def test_one_failed_check_is_suspect_two_in_a_row_are_a_resync() -> None:
    """And one that passes ends the doubt."""
    liveness = live()
    assert not liveness.failed("crossed", 1)
    assert (trust(liveness), liveness.why) == (Trust.SUSPECT, "crossed")
    liveness.heard(1)
    assert trust(liveness) is Trust.SUSPECT, "that it speaks does not make the book right"
    liveness.passed()
    assert (trust(liveness), liveness.why) == (Trust.LIVE, None)
    assert not liveness.failed("crossed", 3)
    assert liveness.failed("crossed", 4)


def test_resyncs_that_do_not_help_become_rare() -> None:
    """The wait doubles up to the longest budget, and a proof forgives all."""
    liveness, resyncs = live(), []
    for second in range(3000):
        if liveness.failed("mismatch", second):
            resyncs.append(second)
            liveness.retried(second)
            liveness.interrupted()
            liveness.begun()
    waits = [after - before for before, after in pairwise(resyncs)]
    assert waits[0] >= FIRST_RETRY_S
    assert waits == sorted(waits)
    assert max(waits) <= BUDGETS.longest_s + 1
    assert len(resyncs) < 12
    liveness.proved()
    liveness.failed("mismatch", 10_000)
    assert liveness.failed("mismatch", 10_001)
    liveness.retried(10_001)
    assert not liveness.failed("mismatch", 10_002)
    assert liveness.failed("mismatch", 10_001 + FIRST_RETRY_S)


def test_a_book_over_rest_is_only_as_good_as_suspect() -> None:
    """Until the stream itself has spoken."""
    liveness = Liveness(BUDGETS, Counter())
    liveness.begun(by_witness=True)
    assert trust(liveness) is Trust.SUSPECT
    assert not liveness.is_overdue(10_000), "its connection asks for it all the time"
    liveness.heard(10_000)
    assert trust(liveness) is Trust.LIVE


def test_the_ladder_is_climbed_once_and_its_success_is_counted() -> None:
    """Rung by rung; what helped is the last one tried."""
    tried = Counter[str]()
    liveness = live(tried)
    liveness.interrupted()
    assert [liveness.climb() for _ in range(2)] == [Rung.RESUBSCRIBED, Rung.MOVED]
    liveness.begun()
    assert (liveness.rung, trust(liveness)) == (Rung.NONE, Trust.LIVE)
    liveness.interrupted()
    assert [liveness.climb() for _ in range(5)] == [
        Rung.RESUBSCRIBED,
        Rung.MOVED,
        Rung.NEW_SOCKET,
        Rung.GIVEN_UP,
        Rung.GIVEN_UP,
    ]
    assert trust(liveness) is Trust.FROZEN
    assert tried == {
        "resubscribed": 2,
        "moved": 2,
        "moved_helped": 1,
        "new_socket": 1,
        "given_up": 1,
    }


STEPS = st.sampled_from(
    [
        "begun",
        "by witness",
        "interrupted",
        "heard",
        "overdue",
        "confirmed",
        "refuted",
        "passed",
        "failed",
        "proved",
        "climb",
    ]
)


@example([("climb", 0.0)] * 4 + [("confirmed", 0.0)])
@given(st.lists(st.tuples(STEPS, st.floats(0, 100)), max_size=60))
def test_whatever_happens(steps: list[tuple[str, float]]) -> None:
    """Live only after data and while no check fails; doubt always has its reason; resyncs keep their distance."""
    liveness, now, begun, resyncs = Liveness(BUDGETS, Counter()), 0.0, False, list[float]()
    for step, pause_s in steps:
        now += pause_s
        match step:
            case "begun" | "by witness":
                liveness.begun(by_witness=step == "by witness")
                begun = True
            case "interrupted":
                liveness.interrupted()
                begun = False
            case "heard":
                liveness.heard(now)
            case "overdue":
                liveness.is_overdue(now)
            case "failed" if begun:
                if liveness.failed("it is wrong", now):
                    liveness.retried(now)
                    resyncs.append(now)
            case "refuted" if begun:
                liveness.refuted(now)
            case "confirmed" | "passed" | "climb":
                getattr(liveness, step)()
            case "proved":
                liveness.proved()
                resyncs.clear()
            case _:
                pass
        if not begun:
            assert trust(liveness) in (Trust.WAITING, Trust.FROZEN)
        if trust(liveness) is Trust.LIVE:
            assert begun
            assert not liveness.is_failing
        assert (liveness.why is None) == (trust(liveness) in (Trust.LIVE, Trust.QUIET, Trust.WAITING))
    assert all(after - before >= FIRST_RETRY_S for before, after in pairwise(resyncs))
