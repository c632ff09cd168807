"""The upgrade as a conversation with a server, and what refusals mean."""

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Request
from wsproto.handshake import H11Handshake

from polybus_protocol.websocket.backoff import Verdict
from polybus_protocol.websocket.handshake import (
    Accepted,
    Endpoint,
    Handshake,
    Refused,
    explain,
    parse_url,
    verdict,
)

URL = "wss://feed.test/ws/market"
NOW = 1_790_000_000.0  # Mon, 21 Sep 2026 14:13:20 GMT


def accepting(handshake: Handshake, subprotocol: str | None = None) -> bytes:
    """What a server with nothing to object to answers."""
    server = H11Handshake(ConnectionType.SERVER)
    server.receive_data(handshake.request())
    return server.send(AcceptConnection(subprotocol=subprotocol))


def refusing(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def refused_by(*pieces: bytes) -> Refused:
    """The refusal that these pieces, and the end of the stream if it takes that, amount to."""
    handshake = Handshake(URL)
    for piece in pieces:
        answer = handshake.receive(piece, NOW)
        if answer is not None:
            assert isinstance(answer, Refused)
            return answer
    return handshake.receive_eof()


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(at % (len(data) + 1) for at in cuts), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(0, 2000), max_size=6)


# -- the request


@pytest.mark.parametrize(
    ("url", "endpoint", "authority"),
    [
        ("wss://feed.test/ws/market", Endpoint(True, "feed.test", 443, "/ws/market"), "feed.test"),
        ("ws://127.0.0.1:8080/ws", Endpoint(False, "127.0.0.1", 8080, "/ws"), "127.0.0.1:8080"),
        ("ws://feed.test", Endpoint(False, "feed.test", 80, "/"), "feed.test"),
        ("ws://feed.test:443/", Endpoint(False, "feed.test", 443, "/"), "feed.test:443"),
        ("WSS://Feed.Test:443/a?b=c&d", Endpoint(True, "feed.test", 443, "/a?b=c&d"), "feed.test"),
        ("ws://[::1]:9000/x", Endpoint(False, "::1", 9000, "/x"), "[::1]:9000"),
        ("ws://bücher.test/", Endpoint(False, "xn--bcher-kva.test", 80, "/"), "xn--bcher-kva.test"),
    ],
)
def test_urls(url: str, endpoint: Endpoint, authority: str) -> None:
    """Where to connect, and what a server then reads as host and target."""
    server = H11Handshake(ConnectionType.SERVER)
    handshake = Handshake(url)
    server.receive_data(handshake.request())
    (request,) = server.events()

    assert parse_url(url) == handshake.endpoint == endpoint
    assert endpoint.authority == authority
    assert f"\r\nHost: {authority}\r\n".encode() in handshake.request()
    assert isinstance(request, Request)
    assert request.target == endpoint.target


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("", "begin with ws"),
        ("feed.test/ws", "begin with ws"),
        ("https://feed.test/ws", "begin with ws"),
        ("ws:///ws", "no host"),
        ("ws://:80/ws", "no host"),
        ("ws://feed.test:0/", "port"),
        ("ws://feed.test:65536/", "port"),
        ("ws://feed.test:http/", "port"),
        ("ws://a..b/", "valid name"),
        ("ws://[::1/", "IPv6"),
        ("ws://me:secret@feed.test/", "user name or password"),
        ("ws://feed.test/#part", "fragment"),
        ("ws://feed.test/a b", "space"),
        ("ws://feed.test/\r\nX: y", "control character"),
        ("ws://feed.test/é", "percent-encoded"),
    ],
)
def test_unusable_urls(url: str, complaint: str) -> None:
    """Each is refused in words that name the fault and repeat no secret."""
    with pytest.raises(ValueError, match=complaint) as caught:
        Handshake(url)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "complaint"),
    [
        ({"User Agent": "x"}, "cannot be the name"),
        ({"": "x"}, "cannot be the name"),
        ({"Host": "other"}, "set by the handshake"),
        ({"sec-websocket-key": "x"}, "set by the handshake"),
        ({"Authorization": "secret\r\nX: y"}, "'Authorization' has a character"),
        ({"Authorization": "secret "}, "'Authorization' has a character"),
        ({"Authorization": "sécret"}, "'Authorization' has a character"),
    ],
)
def test_unusable_headers(headers: Mapping[str, str], complaint: str) -> None:
    """A header that would spoil the request is refused by name, never by value."""
    with pytest.raises(ValueError, match=complaint) as caught:
        Handshake(URL, headers=headers)

    assert "cret" not in str(caught.value)


# -- yes


@given(CUTS, st.binary(max_size=20))
def test_an_accepted_upgrade(cuts: list[int], frames: bytes) -> None:
    """However the answer is cut, what follows its head comes back untouched; a hint before it is skipped."""
    handshake = Handshake(URL, headers={"User-Agent": "polybus"}, subprotocols=["v2", "v1"])
    server = H11Handshake(ConnectionType.SERVER)
    server.receive_data(handshake.request())
    (request,) = server.events()
    assert isinstance(request, Request)
    assert request.subprotocols == ["v2", "v1"]
    assert (b"user-agent", b"polybus") in request.extra_headers
    hint = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"
    wire = hint + accepting(handshake, "v1") + frames

    pieces = cut(wire, cuts)
    answers: list[Accepted | Refused | None] = []
    while pieces and not (answers and answers[-1]):
        answers.append(handshake.receive(pieces.pop(0), NOW))

    assert answers[:-1] == [None] * (len(answers) - 1)
    accepted = answers[-1]
    assert isinstance(accepted, Accepted)
    assert accepted.subprotocol == "v1"
    assert accepted.trailing + b"".join(pieces) == frames


# -- no


@pytest.mark.parametrize(
    ("fault", "spoil"),
    [
        ("Bad accept token", (b"Accept: ", b"Accept: x")),
        ("Missing header, 'Upgrade: websocket'", (b"Upgrade: websocket\r\n", b"")),
        ("Missing header, 'Connection: Upgrade'", (b"Connection: Upgrade\r\n", b"")),
        ("unrecognized subprotocol v3", (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: v3\r\n\r\n")),
        ("can't decode", (b"\r\n\r\n", b"\r\nSec-WebSocket-Protocol: \xff\r\n\r\n")),
        ("unrecognized extension x", (b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: x\r\n\r\n")),
    ],
)
def test_a_wrong_upgrade_is_refused(fault: str, spoil: tuple[bytes, bytes]) -> None:
    """A 101 that does not keep to the protocol is no WebSocket, and may come from a proxy that goes away."""
    handshake = Handshake(URL, subprotocols=["v1"])

    refused = handshake.receive(accepting(handshake).replace(*spoil), NOW)

    assert isinstance(refused, Refused)
    assert refused.status == 101
    assert verdict(refused) is Verdict.RETRY_LATER
    assert fault in explain(refused)


BODY = b'{"error": "Too Many Requests"}'
WAYS = {
    "content-length": refusing(429, "Retry-After: 7", body=BODY),
    "chunked": b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\n" + BODY[:5] + b"\r\n19\r\n" + BODY[5:] + b"\r\n0\r\n\r\n",
    "until the end": b"HTTP/1.1 429 No\r\nRetry-After: 7\r\n\r\n" + BODY,
    "shorter than announced": b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nContent-Length: 99\r\n\r\n" + BODY,
    "damaged after the body": b"HTTP/1.1 429 No\r\nRetry-After: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"1e\r\n" + BODY + b"\r\nnonsense\r\n",
    "HTTP/1.0": b"HTTP/1.0 429 No\r\nRetry-After: 7\r\n\r\n" + BODY,
}


@given(st.sampled_from(sorted(WAYS)), CUTS)
def test_a_refusal_with_a_body(way: str, cuts: list[int]) -> None:
    """Status, Retry-After and body come through in whichever way, and in whichever pieces, they are sent."""
    refused = refused_by(*cut(WAYS[way], cuts))

    assert (refused.status, refused.retry_after_s, refused.body) == (429, 7.0, BODY.decode())


def test_an_endless_body_is_cut() -> None:
    """The answer is given as soon as there is enough of the body for a line; terminal commands are taken out."""
    handshake = Handshake(URL)
    answer = handshake.receive(b"HTTP/1.1 503 No\r\n\r\n\x1b[31m<p>\r\n", NOW)
    assert answer is None

    answer = handshake.receive("é".encode() * 5000, NOW)

    assert isinstance(answer, Refused)
    assert answer.body == "[31m<p> " + "é" * 192


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("120", 120.0),
        ("86400", 3600.0),
        ("9" * 5000, 3600.0),
        ("Mon, 21 Sep 2026 14:14:00 GMT", 40.0),
        ("Mon, 21 Sep 2026 14:13:00 GMT", 0.0),
        ("Mon, 21 Sep 2126 14:13:00 GMT", 3600.0),
        ("Tue, 30 Feb 2027 14:13:00 GMT", None),
        ("Mon, 21 Sol 2026 14:13:00 GMT", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("", None),
    ],
)
def test_retry_after(value: str, seconds: float | None) -> None:
    """Seconds or a date, capped at an hour; nonsense counts as not said."""
    assert refused_by(refusing(503, f"Retry-After: {value}")).retry_after_s == seconds


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200", "in the middle of its answer"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not answer in HTTP"),
        (b"HTTP/nonsense\r\n\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nno header\r\n\r\n", "not answer in HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "not answer in HTTP"),
        (b"\x15\x03\x01\x00\x02\x02\x46", "wss://"),
    ],
)
def test_no_http(wire: bytes, reason: str) -> None:
    """A peer that speaks something else, or hangs up, is a refusal with status 0 that shows what it said."""
    refused = refused_by(wire)

    assert refused.status == 0
    assert reason in refused.reason
    assert verdict(refused) is Verdict.RETRY
    assert refused.body == "" or wire.decode(errors="replace").startswith(refused.body[:5])


@pytest.mark.parametrize(
    ("status", "expected", "words"),
    [
        (200, Verdict.RETRY_LATER, "not a WebSocket"),
        (302, Verdict.RETRY_LATER, "moved"),
        (400, Verdict.NEVER, "URL and the extra headers"),
        (401, Verdict.NEVER, "credentials"),
        (403, Verdict.RETRY_LATER, "Cloudflare"),
        (403, Verdict.RETRY_LATER, "country"),
        (404, Verdict.NEVER, "must end with the channel's name, as in /ws/market"),
        (405, Verdict.NEVER, "URL's path"),
        (408, Verdict.RETRY, "network"),
        (418, Verdict.RETRY_LATER, "refused"),
        (425, Verdict.RETRY_LATER, "restarting"),
        (426, Verdict.NEVER, "version"),
        (429, Verdict.RETRY, "fewer connections"),
        (500, Verdict.RETRY, "trouble"),
        (503, Verdict.RETRY, "trouble"),
        (530, Verdict.RETRY, "trouble"),
    ],
)
def test_what_a_status_means(status: int, expected: Verdict, words: str) -> None:
    """Whether to dial again, and one sentence that names the status and what to do."""
    refused = refused_by(refusing(status))

    assert verdict(refused) is expected
    assert words in explain(refused)
    assert f"answered {status}" in explain(refused)


def test_the_evidence_is_told() -> None:
    """Who answered, Cloudflare's name for the request, the wait and the body stand in the explanation."""
    headers = ("Server: cloudflare", "CF-RAY: 8f-AMS", "Retry-After: 30", "Location: wss://new.test/")

    refused = refused_by(refusing(429, *headers, body=b"slow\r\ndown"))

    assert (refused.server, refused.cf_ray, refused.location) == ("cloudflare", "8f-AMS", "wss://new.test/")
    assert explain(refused) == (
        "The server answered 429: too many connections were opened from this address; use fewer connections, or "
        "dial more slowly; it asks us to wait 30 s "
        "(server: cloudflare, cf-ray: 8f-AMS, location: wss://new.test/, it said: slow down)."
    )
