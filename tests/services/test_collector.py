"""What the garbage collector is spared."""

import gc

import anyio
import pytest

from polybus_services.collector import put_aside


@pytest.mark.anyio
async def test_what_has_come_to_stay_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once no more streams come those that are there are out of the collector's sight, until the end of the task."""
    monkeypatch.setattr("polybus_services.collector.SETTLED_S", 0.001)
    streams: list[list[int]] = []
    thresholds = gc.get_threshold()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_aside, lambda: len(streams))
            await anyio.wait_all_tasks_blocked()
            assert gc.get_threshold() > thresholds
            streams += [[number] for number in range(1000)]
            # What is put aside is not among the objects that the collector tells of.
            while any(each is streams[-1] for each in gc.get_objects()):
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
    assert any(each is streams[-1] for each in gc.get_objects()), "it is collected again"
    assert gc.get_threshold() == thresholds
