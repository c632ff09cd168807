"""What was answered to whom: a request that is repeated is not carried out again, and is answered the same.

A reply may be lost on its way, and who asked cannot know whether the request was.  So a request can have an id of
its own; asking again under it, within a bounded memory of ours, gives the first answer.
"""

import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from polybus_protocol.errors import ControlError

MOST_ANSWERS = 1024
"""Answers kept: at ten commands a second those of a minute and a half, longer than a request can wait for data."""

MOST_BYTES = 8 * 1024 * 1024
"""Bytes of payload kept: an answer is some hundred bytes, but may fill the megabyte that NATS takes."""

type Answer = tuple[bytes, ControlError | None]
"""A reply's payload, and the refusal if it is one."""


class _Known:
    def __init__(self, question: bytes) -> None:
        self.question = question
        self.answer: Answer | None = None
        self.done = anyio.Event()


class Answers:
    """See the module."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Known] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._known)

    async def once(self, verb: str, request: Any, work: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer to a request: from memory, or from `work`, which is then remembered.

        Args:
            verb: what is asked.
            request: with its `request_id` and `deadline`; a repeated one may have another deadline.
            work: carries it out.  It may be cancelled; who waits for the same answer then does it anew.

        Raises:
            ControlError: 409: the id was that of another request.
        """
        if request.request_id is None:
            return await work()
        key, question = (verb, request.request_id), _digest(request)
        while (known := self._known.get(key)) is not None:
            if known.question != question:
                raise ControlError(409, "another request had this request_id", field="request_id")
            await known.done.wait()
            if known.answer is not None:
                return known.answer
        known = self._known[key] = _Known(question)
        try:
            answer = await work()
            if _is_final(answer):
                known.answer = answer
        finally:
            if known.answer is None:
                del self._known[key]
            known.done.set()
        if known.answer is not None:
            self._bytes += len(answer[0])
            self._forget()
        return answer

    def _forget(self) -> None:
        """Give up the oldest answers; those that are under way stay."""
        for key, known in list(self._known.items()):
            if len(self._known) <= MOST_ANSWERS and self._bytes <= MOST_BYTES:
                return
            if known.answer is not None:
                del self._known[key]
                self._bytes -= len(known.answer[0])


def _is_final(answer: Answer) -> bool:
    """Whether asking again would say the same: not so if nothing was done for want of time, room or luck."""
    _, refusal = answer
    return refusal is None or (refusal.code < 500 and refusal.code not in (408, 429))


def _digest(request: Any) -> bytes:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(request, deadline=None))).digest()
