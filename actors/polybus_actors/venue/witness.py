"""The second look: asks the venue's REST API for books.

A fallible witness.  REST was seen stale for hours (py-clob-client issue 180), with hashes that fit what it showed:
what it says is evidence, which whoever asked weighs against what the stream has proved.
"""

import enum
import http
import ssl
import time
from collections import Counter
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Self

import anyio
import httpx
import msgspec

from polybus_protocol import __version__
from polybus_protocol.events import Book
from polybus_protocol.feeds.market_book import read_rest_books
from polybus_protocol.websocket.handshake import printable, retry_after

REQUESTS_PER_S = 5.0
"""A tenth of what the venue takes on `/books`, 500 in 10 s (docs.polymarket.com, rate-limits): others at the same
address ask too.  1,000 assets take two seconds."""

ASSETS_PER_REQUEST = 100
"""The venue takes 500 (measured in May 2026), but took three seconds over them; and a request that fails takes the
books of all its assets with it."""

MOST_WAIT_S = 10.0
"""How long a request waits for its turn; then whoever asked hears that there are too many."""

RETRY_AFTER_S = 10.0
"""How long to stay away after a 429 that does not say: the length of the venue's windows."""

MOST_BYTES = 16 * 1024 * 1024
"""Of an answer.  A hundred books of the finest grid, full, would be as much."""


class Failure(enum.StrEnum):
    """Why there is no book."""

    UNKNOWN = "unknown"
    """The venue has none: it does not know the asset, or its market is decided."""
    UNREACHABLE = "unreachable"
    """No answer, or not in time."""
    REFUSED = "refused"
    """An answer that is none, such as 503."""
    RATE_LIMITED = "rate_limited"
    """Not asked, or asked and answered 429: there is a time before which asking again is pointless."""
    UNREADABLE = "unreadable"
    """The answer makes no sense."""


class WitnessFailure(msgspec.Struct, frozen=True):
    """No book, and why not."""

    reason: Failure
    detail: str
    """For people, on one line."""
    retry_after_s: float | None = None
    """Seconds before which the same question has the same answer; None where nobody knows."""


type Testimony = Book | WitnessFailure
"""What the witness says of one asset."""


class Witness:
    """Asks for books, and never more often than the venue likes.  Use as an async context manager.

    Args:
        url: of the REST API, `http://` or `https://`.
        requests_per_s: how many requests it sends, at most, in the long run; a second's worth may go at once.
        concurrency: how many are under way at once.
        timeout_s: seconds for a request, from dialling to the last byte.
        tls: for `https://`; the system's trusted authorities if absent.
    """

    def __init__(
        self,
        url: str,
        *,
        requests_per_s: float = REQUESTS_PER_S,
        concurrency: int = 2,
        timeout_s: float = 5.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.requests = 0
        """How many were sent."""
        self.failures = Counter[Failure]()
        """How many assets there was no book of."""
        self._url = f"{url.rstrip('/')}/books"
        self._timeout_s = timeout_s
        self._slots = anyio.Semaphore(concurrency)
        self._bucket = _Bucket(requests_per_s)
        self._closed_until = 0.0
        self._http = httpx.AsyncClient(
            timeout=timeout_s,
            limits=httpx.Limits(max_connections=concurrency, keepalive_expiry=60.0),
            headers={"User-Agent": f"polybus/{__version__}", "Content-Type": "application/json"},
            verify=tls or _trust(url),
            # As for the sockets: no proxy, and no password out of somebody's .netrc.
            trust_env=False,
        )

    async def __aenter__(self) -> Self:
        """Nothing is dialled until the first question."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Hang up."""
        with anyio.CancelScope(shield=True):
            await self._http.aclose()

    async def books(self, assets: Collection[str]) -> dict[str, Testimony]:
        """Ask for books, a hundred to a request.

        Args:
            assets: token ids.

        Returns:
            For each asset its book, best level first, or why there is none; always within `MOST_WAIT_S` and the
            timeout.  Whatever the venue does, it is in here: nothing is raised, and nothing is asked twice.
        """
        wanted = list(dict.fromkeys(assets))
        answers: dict[str, Testimony] = {}
        async with anyio.create_task_group() as tasks:
            for start in range(0, len(wanted), ASSETS_PER_REQUEST):
                tasks.start_soon(self._answer, wanted[start : start + ASSETS_PER_REQUEST], answers)
        return {asset: answers[asset] for asset in wanted}

    async def _answer(self, assets: Sequence[str], answers: dict[str, Testimony]) -> None:
        said = await self._in_turn(assets)
        for asset in assets:
            answers[asset] = answer = said if isinstance(said, WitnessFailure) else said[asset]
            if isinstance(answer, WitnessFailure):
                self.failures[answer.reason] += 1

    async def _in_turn(self, assets: Sequence[str]) -> dict[str, Testimony] | WitnessFailure:
        try:
            with anyio.fail_after(MOST_WAIT_S):
                await self._slots.acquire()
        except TimeoutError:
            return _limited(f"no turn within {MOST_WAIT_S:g} s: too many books are asked for", None)
        try:
            away_s = self._closed_until - anyio.current_time()
            if away_s > 0:
                return _limited("the venue asked us to stay away", away_s)
            await self._bucket.take()
            self.requests += 1
            return await self._ask(assets)
        finally:
            self._slots.release()

    async def _ask(self, assets: Sequence[str]) -> dict[str, Testimony] | WitnessFailure:
        question = msgspec.json.encode([{"token_id": asset} for asset in assets])
        try:
            with anyio.fail_after(self._timeout_s):
                async with self._http.stream("POST", self._url, content=question) as response:
                    answer = await _whole(response)
        except (TimeoutError, httpx.TimeoutException):
            return WitnessFailure(Failure.UNREACHABLE, f"no answer within {self._timeout_s:g} s")
        except httpx.HTTPError as error:
            words = printable(str(error).encode()) or type(error).__name__
            return WitnessFailure(Failure.UNREACHABLE, f"no answer: {words}")
        if response.status_code != http.HTTPStatus.OK:
            return self._refused(response, answer)
        if len(answer) > MOST_BYTES:
            return WitnessFailure(Failure.UNREADABLE, f"the answer is longer than {MOST_BYTES} bytes")
        return _testimony(assets, answer)

    def _refused(self, response: httpx.Response, answer: bytes) -> WitnessFailure:
        status = response.status_code
        detail = f"the answer was {status}: {printable(answer)}"
        away_s = retry_after(response.headers.get("Retry-After", ""), time.time())
        if status == http.HTTPStatus.TOO_MANY_REQUESTS and away_s is None:
            away_s = RETRY_AFTER_S
        if away_s is not None:
            self._closed_until = max(self._closed_until, anyio.current_time() + away_s)
        if status == http.HTTPStatus.TOO_MANY_REQUESTS:
            return _limited(detail, away_s)
        return WitnessFailure(Failure.REFUSED, detail, away_s)


def _trust(url: str) -> ssl.SSLContext:
    # Reading the system's authorities takes 50 ms, for nothing where there is no TLS.
    return (
        ssl.create_default_context() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )


class _Bucket:
    """A token bucket: a second's worth at once, so many a second in the long run, in the order of asking."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._most = max(per_s, 1.0)
        self._tokens = self._most
        self._at = 0.0

    async def take(self) -> None:
        """Wait for a token.  Who gives up waiting has used it all the same."""
        now = anyio.current_time()
        self._tokens = min(self._most, self._tokens + (now - self._at) * self._per_s) - 1.0
        self._at = now
        if self._tokens < 0.0:
            # Below nothing stands what those before us wait for.
            await anyio.sleep(-self._tokens / self._per_s)


async def _whole(response: httpx.Response) -> bytes:
    """The body, no further than it is too long."""
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MOST_BYTES:
            break
    return bytes(body)


def _testimony(assets: Sequence[str], answer: bytes) -> dict[str, Testimony]:
    books, strange = read_rest_books(answer)
    found: dict[str, Testimony] = {book.asset: book for book in books}
    # Whose book could not be read is not told by what could not be read.
    missing = (
        WitnessFailure(Failure.UNREADABLE, strange[0].reason)
        if strange
        else WitnessFailure(Failure.UNKNOWN, "the venue has no book of it: it is unknown there, or decided")
    )
    return {asset: found.get(asset, missing) for asset in assets}


def _limited(detail: str, retry_after_s: float | None) -> WitnessFailure:
    return WitnessFailure(Failure.RATE_LIMITED, detail, retry_after_s)
