"""A bounded mailbox: how one actor asks another, and why every question gets exactly one answer."""

from collections.abc import AsyncIterator
from types import TracebackType
from typing import Self

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream


class ActorStopped(Exception):
    """The actor is gone, or went before it could answer; the question may be asked again elsewhere."""


class Answer[T]:
    """The place for one answer.  The first one counts; later ones are ignored."""

    def __init__(self) -> None:
        self._given = anyio.Event()
        self._value: T | None = None
        self._error: Exception | None = None

    def give(self, value: T) -> None:
        """Answer the question."""
        if not self._given.is_set():
            self._value = value
            self._given.set()

    def refuse(self, error: Exception) -> None:
        """Answer with an error, which is raised where the question was asked."""
        if not self._given.is_set():
            self._error = error
            self._given.set()

    async def wait(self) -> T:
        """Wait for the answer.

        Raises:
            Exception: what the question was refused with; `ActorStopped` if the actor went away.
        """
        await self._given.wait()
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Question[T]:
    """A message that wants an answer; subclasses add what is asked."""

    def __init__(self) -> None:
        self.answer: Answer[T] = Answer()


class Mailbox[M]:
    """The messages for one actor, oldest first.

    When it is full, the sender waits: there is no message here that may be lost, and whoever sends can
    bear to wait.  An actor never sends to itself.  Leaving the mailbox's `async with` block, however it
    happens, refuses every question still in it with `ActorStopped`.

    Args:
        capacity: messages it holds; a burst of commands fits, a runaway sender is slowed down.
    """

    def __init__(self, capacity: int = 64) -> None:
        send: MemoryObjectSendStream[M]
        receive: MemoryObjectReceiveStream[M]
        send, receive = anyio.create_memory_object_stream[M](capacity)
        self._send, self._receive = send, receive
        self._closed = False

    async def put(self, message: M) -> None:
        """Deliver a message, waiting for room.

        Raises:
            ActorStopped: the actor takes no messages any more.
        """
        try:
            await self._send.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ActorStopped("the actor has stopped") from None

    async def ask[T](self, question: Question[T]) -> T:
        """Deliver a question and wait for its answer.

        Raises:
            ActorStopped: the actor takes no messages any more, or went before it answered.
            Exception: what the actor refused the question with.
        """
        await self.put(question)  # type: ignore[arg-type]
        return await question.answer.wait()

    async def receive(self) -> M:
        """Take the oldest message, waiting for one; for the actor itself."""
        return await self._receive.receive()

    def __aiter__(self) -> AsyncIterator[M]:
        return self._receive.__aiter__()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        while True:
            try:
                message = self._receive.receive_nowait()
            except (anyio.WouldBlock, anyio.EndOfStream, anyio.ClosedResourceError):
                break
            if isinstance(message, Question):
                message.answer.refuse(ActorStopped("the actor has stopped"))
        self._receive.close()
        self._send.close()
