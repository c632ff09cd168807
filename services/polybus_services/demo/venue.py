"""Asking the simulator's admin interface."""

import http.client
from urllib.parse import urlsplit

import anyio
import msgspec

ANSWER_WITHIN_S = 10.0
"""The simulator waits up to 5 s for slow readers when it is paused."""


class VenueFailed(Exception):
    """The simulator does not answer."""


class Sent(msgspec.Struct):
    """What `GET /admin/sent` says of all connections to one feed, or of all there are, together."""

    frames: int
    """Data frames written to sockets."""
    totals: dict[str, int]
    """Events by what became of them; `sent` are those that arrived, or should have."""
    feeds: dict[str, "Sent"] = {}
    """By feed, those that somebody connected to."""


class Paused(msgspec.Struct):
    """What `POST /admin/pause` says."""

    unflushed: list[str]
    """Connections that did not take all that was queued for them."""


async def pause(admin: str) -> list[str]:
    """Stop the flow of events, and wait until all of it is written; the connections where it is not.

    Raises:
        VenueFailed: no such answer.
    """
    return (await _ask("POST", f"{admin}/pause", Paused)).unflushed


async def sent(admin: str) -> Sent:
    """What has been sent so far.

    Raises:
        VenueFailed: no such answer.
    """
    return await _ask("GET", f"{admin}/sent", Sent)


async def _ask[Answer: msgspec.Struct](method: str, url: str, answer: type[Answer]) -> Answer:
    def ask() -> bytes:
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_WITHIN_S)
        try:
            connection.request(method, parts.path)
            return connection.getresponse().read()
        finally:
            connection.close()

    try:
        return msgspec.json.decode(await anyio.to_thread.run_sync(ask, abandon_on_cancel=True), type=answer)
    except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
        raise VenueFailed(f"the simulator does not answer {method} {url}: {error}") from None
