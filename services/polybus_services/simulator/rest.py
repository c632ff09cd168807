"""The venue's REST side, as far as it concerns books, and its clock.

| request | answer |
| --- | --- |
| `GET /book?token_id=` | the book, worst to best, with all that goes into its hash |
| `POST /books` `[{"token_id": ...}, ...]` | those of up to 500 tokens; one that is unknown or decided is left out |
| `GET /time` | seconds since the epoch, with the `Date` of the answer; no fault of the books is one of it |

Time and hash are those of the book's last change, so that they stay the same while it does (docs.polymarket.com,
prices-order-books).  The limit and its words, and that unknown ones are left out in silence, were measured in May
2026 (third-party public repository file, index id 69416788659).  Errors are `{"error": "..."}`.
"""

import time
from email.utils import formatdate

import anyio
import msgspec

from polybus_services.http import Request, Response
from polybus_services.simulator import past
from polybus_services.simulator.faults import RestTreatment
from polybus_services.simulator.venue import Venue

MOST_TOKENS = 500
"""In one `POST /books`."""

HANG_S = 60.0
"""How long a request goes without an answer where `rest-down` hangs; then the connection is cut."""


class _Token(msgspec.Struct):
    token_id: str


class Rest:
    """Answers requests for books."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    async def handle(self, request: Request) -> Response | None:
        """Answer one request; None to hang up without an answer."""
        match request.method, request.path:
            case "GET", "/time":
                now = time.time()
                return Response(200, int(now), [("Date", formatdate(now, usegmt=True))])
            case "GET", "/book":
                token = request.query.get("token_id")
                if not token:
                    return _error(400, "Invalid token id")
                tokens = [token]
            case "POST", "/books":
                try:
                    tokens = [token.token_id for token in _read_tokens(request.body)]
                except msgspec.DecodeError as error:
                    return _error(400, f"Invalid payload: {error}")
                if len(tokens) > MOST_TOKENS:
                    return _error(400, "Payload exceeds the limit")
            case _:
                return _error(404, f"there is no {request.method} {request.path}")
        treatment = self._venue.faults.on_rest(tokens, anyio.current_time())
        if treatment.retry_after_s is not None:
            return _error(429, "Too Many Requests", ("Retry-After", str(treatment.retry_after_s)))
        if treatment.down == "refuse":
            return _error(503, "Service Unavailable")
        if treatment.down is not None:
            if treatment.down == "hang":
                await anyio.sleep(HANG_S)
            return None
        books = [book for token in tokens if (book := self._book(token, treatment)) is not None]
        if request.method == "POST":
            return Response(200, books)
        return (
            Response(200, books[0])
            if books
            else _error(404, "No orderbook exists for the requested token id")
        )

    def _book(self, token: str, treatment: RestTreatment) -> dict[str, object] | None:
        found = self._venue.exchange.assets.get(token)
        if found is None or found[0].resolved:
            return None
        market, outcome = found
        is_stale = token in treatment.stale
        moment = past.after(market, treatment.stale_since) if is_stale else past.now(market)
        return moment.show(market, outcome)


_read_tokens = msgspec.json.Decoder(list[_Token]).decode


def _error(status: int, words: str, *headers: tuple[str, str]) -> Response:
    return Response(status, {"error": words}, list(headers))
