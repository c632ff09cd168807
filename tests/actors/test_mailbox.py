"""The mailbox: every question gets exactly one answer, also from an actor that is dying."""

import anyio
import pytest

from polybus_actors.mailbox import ActorStopped, Answer, Mailbox, Question

pytestmark = pytest.mark.anyio


class Double(Question[int]):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class TooOdd(Exception):
    pass


async def answering(mailbox: Mailbox[Double], *, up_to: int) -> None:
    """An actor that answers some questions and ends, leaving the others in its mailbox."""
    async with mailbox:
        for _ in range(up_to):
            question = await mailbox.receive()
            if question.number % 2:
                question.answer.refuse(TooOdd())
            else:
                question.answer.give(question.number * 2)


async def ask(mailbox: Mailbox[Double], number: int, into: dict[int, object]) -> None:
    try:
        answer: int = await mailbox.ask(Double(number))
        into[number] = answer
    except (ActorStopped, TooOdd) as error:
        into[number] = type(error)


async def test_answers_and_refusals_reach_who_asked() -> None:
    """An answer is returned and a refusal raised where the question was asked."""
    mailbox: Mailbox[Double] = Mailbox()
    answers: dict[int, object] = {}
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: answering(mailbox, up_to=2))
            tasks.start_soon(ask, mailbox, 4, answers)
            tasks.start_soon(ask, mailbox, 5, answers)
    assert answers == {4: 8, 5: TooOdd}


@pytest.mark.parametrize("capacity", [1, 64])
async def test_a_dying_actor_answers_everybody(capacity: int) -> None:
    """Who is in the mailbox, who waits for room in it and who comes too late: each is refused."""
    mailbox: Mailbox[Double] = Mailbox(capacity)
    answers: dict[int, object] = {}
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(0, 10, 2):
                tasks.start_soon(ask, mailbox, number, answers)
            await anyio.wait_all_tasks_blocked()
            tasks.start_soon(lambda: answering(mailbox, up_to=1))
        await ask(mailbox, 99, answers)
    assert answers.pop(0) == 0
    assert answers == dict.fromkeys((2, 4, 6, 8, 99), ActorStopped)


async def test_a_cancelled_actor_answers_too() -> None:
    """Cancellation is a way to die like any other."""
    mailbox: Mailbox[Double] = Mailbox()
    answers: dict[int, object] = {}
    with anyio.fail_after(60):
        async with anyio.create_task_group() as askers:
            async with anyio.create_task_group() as actor:
                actor.start_soon(lambda: answering(mailbox, up_to=1))
                askers.start_soon(ask, mailbox, 2, answers)
                await anyio.wait_all_tasks_blocked()
                actor.cancel_scope.cancel()
            await ask(mailbox, 4, answers)
    assert answers == {2: 4, 4: ActorStopped}


async def test_the_first_answer_counts() -> None:
    """A question is answered once: later answers and refusals change nothing."""
    answer: Answer[int] = Answer()
    answer.give(1)
    answer.give(2)
    answer.refuse(ActorStopped())
    assert await answer.wait() == 1


async def test_a_full_mailbox_makes_the_sender_wait() -> None:
    """Messages are neither dropped nor reordered: the sender waits for room."""
    mailbox: Mailbox[Double] = Mailbox(capacity=1)
    sent: list[int] = []

    async def send() -> None:
        for number in range(3):
            await mailbox.put(Double(number))
            sent.append(number)

    with anyio.fail_after(60):
        async with mailbox, anyio.create_task_group() as tasks:
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            assert sent == [0]
            assert [(await mailbox.receive()).number for _ in range(3)] == [0, 1, 2]
