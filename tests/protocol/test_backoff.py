"""Backoff delays and the meaning of close codes."""

import math
import random
from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from polybus_protocol.websocket.backoff import (
    CLOSE_VERDICTS,
    Backoff,
    BackoffPolicy,
    Verdict,
    close_reason,
    close_verdict,
)

POLICIES = st.builds(
    lambda first_s, factor, later_s, spread_s: BackoffPolicy(first_s, first_s * factor, later_s, spread_s),
    st.floats(0.001, 60),
    st.floats(1, 10_000),
    st.floats(0, 600),
    st.floats(0, 600),
)
# A failure with its verdict and Retry-After; None stands for data that came through.
CALLS = st.lists(
    st.one_of(
        st.none(),
        st.tuples(st.sampled_from(Verdict), st.one_of(st.none(), st.floats(-5, 3600, width=32))),
    ),
    max_size=60,
)


@given(POLICIES, st.integers(), CALLS)
def test_delays_stay_in_their_bounds(
    policy: BackoffPolicy, seed: int, calls: list[tuple[Verdict, float | None] | None]
) -> None:
    """Never below what the server or the policy asks for; above it at most the ceiling, doubled per failure."""
    backoff = Backoff(policy, random.Random(seed).random)
    failures = 0
    for call in calls:
        if call is None:
            backoff.data_seen()
            failures = 0
        else:
            verdict, retry_after_s = call
            delay = backoff.next_delay(verdict, retry_after_s)
            if verdict is Verdict.RETRY_SPREAD:
                assert 0 <= delay <= policy.spread_s
                assert backoff.failures == failures, "being asked to come back is no failure"
                continue
            least = max(retry_after_s or 0.0, policy.later_s if verdict is Verdict.RETRY_LATER else 0.0)
            ceiling = min(policy.first_s * 2**failures, policy.longest_s)
            assert delay == math.inf if verdict is Verdict.NEVER else least <= delay <= least + ceiling
            failures += 1
        assert backoff.failures == failures


@given(POLICIES, st.integers(), CALLS)
def test_the_same_random_numbers_give_the_same_delays(
    policy: BackoffPolicy, seed: int, calls: list[tuple[Verdict, float | None] | None]
) -> None:
    """Nothing but the policy, the calls and the random source decides."""

    def delays() -> list[float]:
        backoff = Backoff(policy, random.Random(seed).random)
        answers = []
        for call in calls:
            if call is None:
                backoff.data_seen()
            else:
                answers.append(backoff.next_delay(call[0], call[1]))
        return answers

    assert delays() == delays()


def test_the_ceiling_doubles_up_to_the_longest() -> None:
    """With the default policy: a quarter of a second, doubled until 30."""
    backoff = Backoff(BackoffPolicy(), lambda: 0.5)

    assert [2 * backoff.next_delay() for _ in range(9)] == [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_is_full() -> None:
    """A delay may be as short as nothing at all."""
    assert Backoff(BackoffPolicy(), lambda: 0.0).next_delay() == 0.0


def test_only_data_starts_anew() -> None:
    """After data the first delay is short again."""
    backoff = Backoff(BackoffPolicy(first_s=1, longest_s=8), lambda: 0.5)
    assert [backoff.next_delay() for _ in range(3)] == [0.5, 1, 2]

    backoff.data_seen()

    assert backoff.failures == 0
    assert backoff.next_delay() == 0.5


def test_jitter_comes_on_top_of_a_minimum() -> None:
    """A crowd told the same Retry-After does not come back as a crowd; the greater minimum counts."""
    backoff = Backoff(BackoffPolicy(first_s=4, longest_s=4, later_s=30), lambda: 0.25)

    assert backoff.next_delay(Verdict.RETRY, 10) == 11
    assert backoff.next_delay(Verdict.RETRY_LATER, 10) == 31
    assert backoff.next_delay(Verdict.RETRY_LATER, 60) == 61


def test_a_server_that_goes_is_no_failure() -> None:
    """Everybody comes back within 10 s, spread evenly; the ceiling stays where it was."""
    numbers = iter([0.0, 0.25, 0.999, 0.5])
    backoff = Backoff(BackoffPolicy(), lambda: next(numbers))

    assert [backoff.next_delay(Verdict.RETRY_SPREAD) for _ in range(3)] == [0, 2.5, 9.99]
    assert backoff.failures == 0
    assert backoff.next_delay() == 0.125


@pytest.mark.parametrize(
    "settings",
    [
        {"first_s": 0},
        {"first_s": -1},
        {"first_s": math.nan},
        {"first_s": 2, "longest_s": 1},
        {"longest_s": math.inf},
        {"later_s": -1},
        {"spread_s": -1},
        {"spread_s": math.inf},
    ],
)
def test_a_senseless_policy_is_refused(settings: Mapping[str, float]) -> None:
    """The message names the field at fault, also when the policy comes from a configuration."""
    field = list(settings)[-1]

    with pytest.raises(ValueError, match=f"{field} must be"):
        BackoffPolicy(**settings)
    with pytest.raises(msgspec.ValidationError, match=f"{field} must be"):
        msgspec.convert(settings, BackoffPolicy)


@pytest.mark.parametrize(
    ("code", "verdict", "word"),
    [
        (1000, Verdict.RETRY, "normal"),
        (1001, Verdict.RETRY, "going away"),
        (1002, Verdict.RETRY_LATER, "protocol"),
        (1003, Verdict.RETRY_LATER, "kind"),
        (1005, Verdict.RETRY, "without a code"),
        (1006, Verdict.RETRY, "without a close frame"),
        (1007, Verdict.RETRY_LATER, "UTF-8"),
        (1008, Verdict.RETRY_LATER, "PING"),
        (1009, Verdict.RETRY_LATER, "too big"),
        (1010, Verdict.RETRY_LATER, "extension"),
        (1011, Verdict.RETRY, "internal"),
        (1012, Verdict.RETRY, "restarting"),
        (1013, Verdict.RETRY, "slow reader"),
        (1100, Verdict.RETRY_LATER, "unassigned"),
        (3000, Verdict.RETRY_LATER, "library"),
        (4000, Verdict.RETRY_LATER, "own code"),
        (4001, Verdict.NEVER, "credentials"),
        (4002, Verdict.RETRY, "too slowly"),
        (4003, Verdict.RETRY_SPREAD, "about to go"),
        (4004, Verdict.RETRY_LATER, "own code"),
        (4008, Verdict.NEVER, "policy"),
    ],
)
def test_close_codes(code: int, verdict: Verdict, word: str) -> None:
    """What each code means, and in words; those from 4001 are PolyBolt's."""
    assert close_verdict(code) is verdict
    assert word in close_reason(code)


def test_a_feed_may_bring_its_own_close_codes() -> None:
    """Policy is data: another table gives another answer."""
    table = {**CLOSE_VERDICTS, 1008: Verdict.NEVER}

    assert close_verdict(1008, table) is Verdict.NEVER
    assert close_verdict(1006, table) is Verdict.RETRY
