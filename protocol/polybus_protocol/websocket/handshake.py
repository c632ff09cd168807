"""The client's side of the WebSocket upgrade, and what a refusal means.

wsproto writes the request and checks the answer; this module adds what a person needs when the answer is no.  It
dials nothing: the caller connects to `Handshake.endpoint`, writes `request` and feeds what comes back.
No extension is offered: the venue compresses nothing, and inflating would cost more than it saves.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

import h11
import msgspec
from wsproto.connection import ConnectionState, ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.handshake import H11Handshake
from wsproto.utilities import RemoteProtocolError

from .backoff import Verdict

LONGEST_RETRY_AFTER_S: Final = 3600.0
"""Cap of `Retry-After`, seconds.  Asking once an hour burdens nobody, and a slip in a header (a date in the wrong
year, milliseconds for seconds) must not silence a gateway for days."""

BODY_CHARACTERS: Final = 200
"""How much of a refusal's body is kept: a JSON error or the head of an error page, for one line of a log."""

_BODY_BYTES: Final = 4 * BODY_CHARACTERS
"""Bytes that hold so many characters whatever they are; UTF-8 takes at most four for one."""


class Endpoint(msgspec.Struct, frozen=True):
    """Where a WebSocket URL leads."""

    secure: bool
    """True for `wss`: TLS before anything else, with `host` as the name to verify."""
    host: str
    """To connect to; ASCII, an IPv6 address without its brackets."""
    port: int
    target: str
    """Path and query, as they go into the request line."""

    @property
    def authority(self) -> str:
        """The `Host` header: without the port where it is the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.secure else 80) else f"{host}:{self.port}"


def parse_url(url: str) -> Endpoint:
    """Take a `ws://` or `wss://` URL apart.

    Raises:
        ValueError: what is wrong with it, without repeating the URL, whose query may hold a secret.
    """
    if not url.isprintable() or " " in url:
        raise ValueError("the URL contains a space or a control character")
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss"):
        raise ValueError("the URL must begin with ws:// or wss://")
    if parts.username is not None or parts.password is not None:
        raise ValueError("the URL must not contain a user name or password")
    if parts.fragment:
        raise ValueError("the URL must not contain a fragment (#...)")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii():
        raise ValueError("characters outside ASCII in the URL's path or query must be percent-encoded")
    if not parts.hostname:
        raise ValueError("the URL names no host")
    try:
        host = parts.hostname.encode("idna").decode()
    except UnicodeError:
        raise ValueError("the URL's host is not a valid name") from None
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the URL's port must be a number from 1 to 65535")
    secure = parts.scheme == "wss"
    return Endpoint(secure, host, port or (443 if secure else 80), target)


class Accepted(msgspec.Struct, frozen=True):
    """The connection is a WebSocket now."""

    trailing: bytes
    """Frames, or their beginning, that came with the answer: the first thing to give to `FrameStream.receive`."""
    subprotocol: str | None
    """The one chosen of those offered; None where the server chose none."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """There is no WebSocket: drop the connection.  See `verdict` and `explain`."""

    status: int
    """HTTP status; 101 where the server agreed but did it wrongly, 0 where it did not speak HTTP or said nothing."""
    reason: str
    """What happened, in plain words."""
    retry_after_s: float | None = None
    """Seconds the server wants us to stay away, at most `LONGEST_RETRY_AFTER_S`; None where it did not say."""
    body: str = ""
    """The beginning of what the server sent along, on one line and safe to print."""
    server: str | None = None
    """Who answered, by its own account: `cloudflare` in front of the venue, another name for what is behind."""
    cf_ray: str | None = None
    """Cloudflare's name for this request, which its support, and the venue's, ask for."""
    location: str | None = None
    """Where a redirect points.  It is not followed: another host is for a person to decide."""


class Handshake:
    """One attempt to upgrade one connection.

    Write `request()`, then give `receive` what arrives until it answers.  A peer that speaks no HTTP is a
    refusal like any other (status 0), so that there is one way to fail.

    Args:
        url: `ws://` or `wss://`, with the path that names the channel.
        headers: extra request headers.
        subprotocols: those to offer, the best first.

    Raises:
        ValueError: the URL or a header is not usable, and why; a header's value is not repeated.
    """

    def __init__(
        self, url: str, *, headers: Mapping[str, str] | None = None, subprotocols: Iterable[str] = ()
    ) -> None:
        self.endpoint = parse_url(url)
        """Where to connect to."""
        self._wsproto = H11Handshake(ConnectionType.CLIENT)
        self._request = self._wsproto.send(
            Request(
                host=self.endpoint.authority,
                target=self.endpoint.target,
                extra_headers=[_header(name, value) for name, value in (headers or {}).items()],
                subprotocols=list(subprotocols),
            )
        )
        self._beginning = b""
        self._refusal: Refused | None = None
        self._body = b""

    def request(self) -> bytes:
        """The upgrade request, to be written once."""
        return self._request

    def receive(self, data: bytes, now: float) -> Accepted | Refused | None:
        """Take in what arrived.

        Args:
            data: any piece of the answer; empty does nothing.
            now: seconds since the Unix epoch, to measure a `Retry-After` that is a date.

        Returns:
            None while the answer is incomplete.  Once there is one, this object has done its work.
        """
        self._beginning += data[: _BODY_BYTES - len(self._beginning)]
        if not self._beginning.startswith(b"HTTP/"[: len(self._beginning)]):
            return self._no_http()
        try:
            # Line by line up to the end of the head, because what follows a 101 is no longer HTTP.
            while data and self._refusal is None:
                line, newline, data = data.partition(b"\n")
                if accepted := self._read(line + newline, now):
                    return Accepted(trailing=data, subprotocol=accepted.subprotocol)
            if data:
                self._read(data, now)
        except (RemoteProtocolError, UnicodeDecodeError) as error:
            self._take_events(now)  # What wsproto had understood before it stumbled.
            return self._broken(error)
        return self._finished()

    def receive_eof(self) -> Refused:
        """The peer closed its side, or the caller waited long enough: the refusal as far as it is known."""
        if self._refusal is not None:
            return self._with_body(self._refusal)
        if self._beginning:
            return Refused(
                status=0, reason="the server broke off in the middle of its answer", body=self._said()
            )
        return Refused(status=0, reason="the server closed the connection without an answer")

    def _read(self, data: bytes, now: float) -> AcceptConnection | None:
        self._wsproto.receive_data(data)
        return self._take_events(now)

    def _take_events(self, now: float) -> AcceptConnection | None:
        for event in self._wsproto.events():
            match event:
                case AcceptConnection():
                    return event
                # An early hint or another interim answer (1xx) is reported as a rejection; the real one follows.
                case RejectConnection(status_code=status) if status >= 200:
                    self._refusal = _refusal(event, now)
                case RejectData(data=piece):
                    self._body += piece[: _BODY_BYTES - len(self._body)]
                case _:
                    pass
        return None

    def _finished(self) -> Refused | None:
        complete = self._wsproto.state is ConnectionState.CLOSED or len(self._body) == _BODY_BYTES
        return self._with_body(self._refusal) if self._refusal is not None and complete else None

    def _broken(self, error: Exception) -> Refused:
        if self._refusal is not None:  # Only the body is damaged; the answer itself was clear.
            return self._with_body(self._refusal)
        # wsproto reports bad HTTP and a bad upgrade alike; the first has h11's complaint behind it.
        if isinstance(error.__context__, h11.RemoteProtocolError):
            return self._no_http()
        return Refused(status=101, reason=f"the server agreed to the upgrade but did it wrongly: {error}")

    def _no_http(self) -> Refused:
        # A TLS alert (record type 21, version 3.x) is what a TLS server answers to a plain request.
        if self._beginning.startswith(b"\x15\x03"):
            return Refused(status=0, reason="the server expects TLS: the URL should begin with wss://")
        return Refused(status=0, reason="the server did not answer in HTTP", body=self._said())

    def _with_body(self, refusal: Refused) -> Refused:
        return msgspec.structs.replace(refusal, body=printable(self._body))

    def _said(self) -> str:
        return printable(self._beginning)


class _Meaning(msgspec.Struct, frozen=True):
    verdict: Verdict
    reason: str
    advice: str


_MEANINGS: Final[Mapping[int, _Meaning]] = {
    0: _Meaning(
        Verdict.RETRY,
        "there was no answer in HTTP",
        "check that host and port are those of the feed, if it persists",
    ),
    101: _Meaning(
        Verdict.RETRY_LATER,
        "the server agreed to the upgrade but did it wrongly",
        "check the subprotocols, and that no proxy stands in between",
    ),
    400: _Meaning(
        Verdict.NEVER, "the server could not make sense of the request", "check the URL and the extra headers"
    ),
    401: _Meaning(Verdict.NEVER, "the credentials were refused", "check the credentials of this feed"),
    403: _Meaning(
        Verdict.RETRY_LATER,
        "access was denied, by Cloudflare's protection or because the venue does not serve this country",
        "try from another network or region",
    ),
    404: _Meaning(
        Verdict.NEVER,
        "there is no such channel",
        "the URL's path must end with the channel's name, as in /ws/market",
    ),
    405: _Meaning(Verdict.NEVER, "no WebSocket is served at this URL", "check the URL's path"),
    408: _Meaning(
        Verdict.RETRY, "our request took too long to arrive", "check this machine's network, if it persists"
    ),
    425: _Meaning(
        Verdict.RETRY_LATER,
        "the venue's matching engine is restarting, as it does about once a week",
        "nothing is to be done: it took about 90 seconds so far",
    ),
    426: _Meaning(
        Verdict.NEVER,
        "the server wants another version of the protocol",
        "check the URL and any proxy in between",
    ),
    429: _Meaning(
        Verdict.RETRY,
        "too many connections were opened from this address",
        "use fewer connections, or dial more slowly",
    ),
}
"""What the venue's servers, and the Cloudflare in front of them, mean by a status.  404: clob-client issue 127.  403:
py-clob-client issue 91, poly-market-maker issue 72.  425: the venue's page on its matching engine.  429:
nautilus_trader issue 2238, poly-sdk issue 26."""


def _meaning(status: int) -> _Meaning:
    if status in _MEANINGS:
        return _MEANINGS[status]
    if status >= 500:
        return _Meaning(Verdict.RETRY, "the server is in trouble", "nothing is to be done but wait")
    if 300 <= status < 400:
        return _Meaning(
            Verdict.RETRY_LATER, "the feed has moved", "look up its address and set it as the URL"
        )
    if status < 300:
        return _Meaning(
            Verdict.RETRY_LATER, "an ordinary web server answered, not a WebSocket", "check the URL"
        )
    return _Meaning(Verdict.RETRY_LATER, "the server refused", "check the URL and what the server says")


def verdict(refused: Refused) -> Verdict:
    """Whether to dial again; `Refused.retry_after_s` is a minimum on top."""
    return _meaning(refused.status).verdict


def explain(refused: Refused) -> str:
    """One sentence for a person: what happened, what to do, and the evidence."""
    answer = f"The server answered {refused.status}: " if refused.status >= 200 else "The upgrade failed: "
    sentence = f"{answer}{refused.reason}; {_meaning(refused.status).advice}"
    if refused.retry_after_s is not None:
        sentence += f"; it asks us to wait {refused.retry_after_s:.0f} s"
    evidence = {
        "server": refused.server,
        "cf-ray": refused.cf_ray,
        "location": refused.location,
        "it said": refused.body,
    }
    known = ", ".join(f"{name}: {value}" for name, value in evidence.items() if value)
    return f"{sentence} ({known})." if known else f"{sentence}."


def _refusal(response: RejectConnection, now: float) -> Refused:
    headers = {name.lower(): printable(value) for name, value in response.headers}
    return Refused(
        status=response.status_code,
        reason=_meaning(response.status_code).reason,
        retry_after_s=retry_after(headers.get(b"retry-after", ""), now),
        server=headers.get(b"server"),
        cf_ray=headers.get(b"cf-ray"),
        location=headers.get(b"location"),
    )


_HTTP_DATE: Final = re.compile(r"\w{3}, (\d\d) (\w{3}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT", re.ASCII)
"""The one form of date that a server may still write.  RFC 9110, section 5.6.7."""
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def retry_after(value: str, now: float) -> float | None:
    """Seconds to wait by a `Retry-After` header: a number of seconds or a date; None for anything else."""
    if value.isascii() and value.isdigit():
        return min(float(value), LONGEST_RETRY_AFTER_S)
    match = _HTTP_DATE.fullmatch(value)
    if match is None or match[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    try:
        date = datetime(year, _MONTHS.index(match[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:  # A 30th of February.
        return None
    return min(max(date.timestamp() - now, 0.0), LONGEST_RETRY_AFTER_S)


_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""What a header may be called.  RFC 9110, section 5.6.2."""
_VALUE: Final = re.compile(r"([!-~]([ -~\t]*[!-~])?)?")
"""What a header may say, in ASCII and without blanks around it."""
_OURS: Final = re.compile(
    r"host|upgrade|connection|content-length|transfer-encoding|sec-websocket-.*", re.IGNORECASE
)


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    if not _TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a header")
    if _OURS.fullmatch(name):
        raise ValueError(f"the header {name!r} is set by the handshake itself")
    if not _VALUE.fullmatch(value):
        raise ValueError(f"the value of the header {name!r} has a character that HTTP does not allow")
    return name.encode(), value.encode()


def printable(text: bytes) -> str:
    """Foreign text on one line, cut, with nothing in it that could command a terminal."""
    visible = "".join(c if c.isprintable() else " " for c in text.decode(errors="replace"))
    return " ".join(visible.split())[:BODY_CHARACTERS]
