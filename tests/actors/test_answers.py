"""Commands under trouble: late ones, repeated ones, and a memory that has an end."""

import json
import time
from typing import Any

import anyio
import pytest

from polybus_actors.control import answers
from polybus_actors.control.answers import Answer, Answers
from polybus_protocol.control.requests import UnsubscribeRequest
from polybus_protocol.errors import ControlError

from ..support.consumer import Refused
from ..support.rig import Rig, rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]


class Worker:
    """Counts what it does, and may be made to wait or to refuse."""

    def __init__(self, *refusals: int) -> None:
        self.done = 0
        self.goes_on = anyio.Event()
        self.goes_on.set()
        self._refusals = list(refusals)

    async def __call__(self) -> Answer:
        await self.goes_on.wait()
        self.done += 1
        refusal = ControlError(self._refusals.pop(0), "no") if self._refusals else None
        return b"%d" % self.done, refusal


def request(id_: str | None, *, owner: str = "me", deadline: int | None = None) -> UnsubscribeRequest:
    return UnsubscribeRequest(owner=owner, request_id=id_, deadline=deadline)


async def test_the_same_again() -> None:
    """Under one id a request is done once, with whatever deadline; without one, or of another verb, each time."""
    memory, work = Answers(), Worker()
    for deadline in (None, 1, 2):
        assert await memory.once("unsubscribe", request("a", deadline=deadline), work) == (b"1", None)
    assert await memory.once("renew", request("a"), work) == (b"2", None)
    assert [await memory.once("unsubscribe", request(None), work) for _ in "ab"] == [
        (b"3", None),
        (b"4", None),
    ]
    with pytest.raises(ControlError) as refused:
        await memory.once("unsubscribe", request("a", owner="you"), work)
    assert (refused.value.code, refused.value.field) == (409, "request_id")


@pytest.mark.parametrize(
    ("code", "times"), [(400, 1), (404, 1), (422, 1), (408, 2), (429, 2), (500, 2), (503, 2)]
)
async def test_a_refusal_is_remembered_if_it_is_final(code: int, times: int) -> None:
    """What would be refused again is; what was only not possible then is tried anew."""
    memory, work = Answers(), Worker(code)
    for _ in "ab":
        await memory.once("renew", request("a"), work)
    assert work.done == times


async def test_asked_again_while_it_is_done() -> None:
    """Who asks again before the answer is there gets that one; if the first is given up, the second does it."""
    memory, work, heard = Answers(), Worker(), list[Answer]()

    async def ask() -> None:
        heard.append(await memory.once("renew", request("a"), work))

    work.goes_on = anyio.Event()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as others:
            async with anyio.create_task_group() as first:
                first.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                others.start_soon(ask)
                others.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
            work.goes_on.set()
    assert heard == [(b"1", None)] * 2


@pytest.mark.parametrize(("most", "value"), [("MOST_ANSWERS", 3), ("MOST_BYTES", 3)])
async def test_the_memory_has_an_end(most: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest answers are forgotten first, by number and by size."""
    monkeypatch.setattr(answers, most, value)
    memory, work = Answers(), Worker()
    for id_ in "abcdef":
        await memory.once("renew", request(id_), work)
    assert len(memory) == 3
    assert await memory.once("renew", request("f"), work) == (b"6", None)
    assert await memory.once("renew", request("a"), work) == (b"7", None)


@pytest.fixture
async def rig() -> Any:
    with anyio.fail_after(60):
        async with rigged() as made:
            yield made


async def test_over_nats(rig: Rig) -> None:
    """Late: refused, and nothing done.  Repeated: the very same answer, though the name in it was made up."""
    asset = rig.assets[0]
    with pytest.raises(Refused) as refused:
        await rig.consumer.ask("subscribe", assets=[asset], deadline=time.time_ns() - 10**9)
    assert (refused.value.code, refused.value.error["field"]) == (408, "deadline")
    assert (await rig.consumer.ask("status"))["subscriptions"]["total"] == 0
    timely: dict[str, Any] = {"assets": [asset], "deadline": time.time_ns() + 60 * 10**9, "request_id": "r"}
    first = await rig.consumer.ask("subscribe", **timely)
    assert await rig.consumer.ask("subscribe", **timely) == first
    assert (await rig.consumer.ask("status"))["subscriptions"]["total"] == 1


async def test_what_statistics_say(rig: Rig) -> None:
    """NATS' own statistics have the time that answers took, and how many were refusals."""
    with pytest.raises(Refused):
        await rig.consumer.ask("subscribe")
    await rig.consumer.ask("subscribe", assets=["1"], wait="data", wait_timeout_s=0.2)
    answer = await rig.consumer.client.request("$SRV.STATS.polybus", timeout=5)
    stats = {each["name"]: each for each in json.loads(answer.data)["endpoints"]}["subscribe"]
    assert (stats["num_requests"], stats["num_errors"]) == (2, 1)
    assert stats["processing_time"] >= 0.2 * 10**9
    assert stats["average_processing_time"] == stats["processing_time"] // 2
