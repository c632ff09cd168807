"""The supervisor: what can be restarted is, what cannot goes up."""

import logging
from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest

from polybus_actors.supervisor import RestartPolicy, Supervisor, TooManyRestarts
from polybus_actors.venue.pacer import DialPacer

pytestmark = pytest.mark.anyio


class Accident(Exception):
    pass


class Failing:
    """An actor that fails some times and then returns."""

    def __init__(self, times: int, before: Callable[[], object] = lambda: None) -> None:
        self.runs = 0
        self._times = times
        self._before = before

    async def run(self) -> None:
        self.runs += 1
        self._before()
        await anyio.lowlevel.checkpoint()
        if self.runs <= self._times:
            raise Accident(f"number {self.runs}")


async def test_an_actor_that_returns_is_done() -> None:
    """No restart without a failure."""
    supervisor, actor = Supervisor(), Failing(times=0)
    await supervisor.supervise("actor", actor.run)
    assert (actor.runs, supervisor.restarts) == (1, 0)


async def test_restarts_up_to_the_intensity(caplog: pytest.LogCaptureFixture) -> None:
    """As many failures as the policy allows are survived, each logged with its traceback, and counted."""
    supervisor, actor = Supervisor(), Failing(times=3)
    with anyio.fail_after(60), caplog.at_level(logging.ERROR):
        await supervisor.supervise("actor", actor.run, RestartPolicy(intensity=3, first_delay_s=0.001))
    assert (actor.runs, supervisor.restarts) == (4, 3)
    assert [record.exc_info is not None for record in caplog.records] == [True] * 3


async def test_one_failure_more_is_escalated() -> None:
    """Past the intensity the supervisor gives up, with the last failure as the cause."""
    supervisor, actor = Supervisor(), Failing(times=9)
    with anyio.fail_after(60), pytest.raises(TooManyRestarts, match="actor failed 3 times") as raised:
        await supervisor.supervise("actor", actor.run, RestartPolicy(intensity=2, first_delay_s=0.001))
    assert str(raised.value.__cause__) == "number 3"
    assert supervisor.restarts == 2


async def test_failures_that_lie_apart_are_forgiven() -> None:
    """Only failures within the period count: one now and then is survived for ever."""
    supervisor, actor = Supervisor(), Failing(times=6)
    # Each restart waits longer than the period, so that each failure stands alone.
    policy = RestartPolicy(intensity=1, period_s=0.01, first_delay_s=0.02)
    with anyio.fail_after(60):
        await supervisor.supervise("actor", actor.run, policy)
    assert actor.runs == 7


async def test_delays_double() -> None:
    """Each further restart in the period waits twice as long."""
    begun: list[float] = []
    actor = Failing(times=3, before=lambda: begun.append(anyio.current_time()))
    with anyio.fail_after(60):
        await Supervisor().supervise("actor", actor.run, RestartPolicy(first_delay_s=0.02))
    delays = [after - before for before, after in pairwise(begun)]
    assert all(delay >= least for delay, least in zip(delays, (0.02, 0.04, 0.08), strict=True))


async def test_cancellation_is_no_failure() -> None:
    """A cancelled actor is not started again."""
    supervisor = Supervisor()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervisor.supervise, "actor", anyio.sleep_forever)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert supervisor.restarts == 0


async def test_dials_take_turns() -> None:
    """The pacer lets dials through in the order of asking, one per interval, however many ask at once."""
    pacer, passed = DialPacer(0.03), list[tuple[int, float]]()
    begun = anyio.current_time()

    async def dial(number: int) -> None:
        await pacer.turn()
        passed.append((number, anyio.current_time() - begun))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(dial, number)
    assert [number for number, _ in passed] == [0, 1, 2, 3]
    # Loops wake up a little early or late, as their clocks have it.
    assert all(at >= number * 0.03 - 0.002 for number, at in passed)


async def test_the_first_dial_does_not_wait() -> None:
    """Pacing costs nothing to who comes alone."""
    pacer = DialPacer(3600)
    with anyio.fail_after(1):
        await pacer.turn()
