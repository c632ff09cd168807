"""The way to the venue: names, certificates, sockets, the clock, and whether it takes orders from here."""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus

import anyio
import anyio.abc
import httpx
import msgspec
from anyio.streams.tls import TLSAttribute

from polybus_actors.venue.pools import ACCOUNT_FEEDS
from polybus_actors.venue.transport import DialFailed, dial
from polybus_protocol import __version__
from polybus_protocol.profile import FeedProfile
from polybus_protocol.websocket.handshake import Endpoint, parse_url
from polybus_services.config import Config

from .finding import UNREACHABLE, Check, Verdict, fail, ok, skipped, warn

GEO_BLOCK_URL = "https://polymarket.com/api/geoblock"
"""Says whether orders are taken from the asker's address (docs.polymarket.com, api-reference/geoblock)."""

VENUE_DOMAIN = "polymarket.com"

CLOCK_S = 1.0
"""How wrong a clock may be: `Date` tells no fractions, and from a second on the measured delays make no sense."""

CERTIFICATE_DAYS = 7.0
"""A certificate that ends sooner is worth a word; those of the venue's edge are renewed a month before."""

REST_TIMEOUT_S = 5.0

BLOCKED = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS})

_EGRESS = "see whether a firewall or a NetworkPolicy lets it out, and whether the URL is right"
_ELSEWHERE = "the address from which we come seems to be blocked: run the gateway elsewhere"


def checks(config: Config) -> list[Check]:
    """All checks of the feeds that this configuration can serve, and of the REST API."""
    served = {
        feed: profile
        for feed, profile in config.feeds.items()
        if config.accounts or feed not in ACCOUNT_FEEDS
    }
    rest = config.feeds["market"].rest_url or ""
    urls = [profile.url for profile in served.values()]
    # One door for both schemes: only host and port matter here.
    urls += [f"ws{rest.removeprefix('http')}"] if rest else []
    ends = {(end.host, end.port, end.secure): end for end in map(parse_url, urls)}.values()
    made = [Check("DNS", host, partial(name, host)) for host in dict.fromkeys(end.host for end in ends)]
    made += [Check("TLS", f"{end.host}:{end.port}", partial(tls, end)) for end in ends]
    made += [Check("feed", feed, partial(feed_opens, profile)) for feed, profile in served.items()]
    made.append(Check("REST", rest or "-", partial(rest_answers, rest)))
    made.append(Check("clock", "the venue's", partial(clock, rest)))
    of_venue = any(end.host == VENUE_DOMAIN or end.host.endswith(f".{VENUE_DOMAIN}") for end in ends)
    made.append(Check("geo-block", "orders", partial(geo_block, GEO_BLOCK_URL if of_venue else None)))
    return made


async def name(host: str) -> Verdict:
    """Whether a host's name is found."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return skipped("an address, which needs no name")
    try:
        found = await anyio.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        remedy = (
            "see whether the resolver of /etc/resolv.conf can be reached, and whether the URL is spelt right"
        )
        return fail(f"the name cannot be resolved: {error.strerror}", remedy, UNREACHABLE)
    addresses = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return ok(", ".join(addresses))


async def tls(end: Endpoint, context: ssl.SSLContext | None = None) -> Verdict:
    """Whether an endpoint shows a certificate that we trust, for long enough."""
    if not end.secure:
        return skipped("its URL asks for none")
    try:
        stream = await anyio.connect_tcp(
            end.host,
            end.port,
            tls=True,
            ssl_context=context or ssl.create_default_context(),
            tls_standard_compatible=False,
        )
    except ssl.SSLCertVerificationError as error:
        return fail(
            f"its certificate is not trusted: {error.verify_message}",
            "see whether a proxy stands between, whether the system's authorities are up to date (SSL_CERT_FILE), "
            "and whether the clock is right",
        )
    except ssl.SSLError as error:
        return fail(f"TLS failed: {error.reason or error}", "see whether a proxy stands between")
    except socket.gaierror:
        return skipped("its name cannot be resolved")
    except OSError:
        return fail("it cannot be reached", _EGRESS, UNREACHABLE)
    connection = stream.extra(TLSAttribute.ssl_object)  # noqa: S610 - not Django's
    version, certificate = connection.version(), connection.getpeercert() or {}
    await anyio.aclose_forcefully(stream)
    left_days = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / 86_400
    words = f"{version}, its certificate holds for {left_days:.0f} days"
    if left_days < CERTIFICATE_DAYS:
        return warn(words, "whoever runs the endpoint has to renew it; there is nothing to do here")
    return ok(words)


async def feed_opens(profile: FeedProfile) -> Verdict:
    """Whether a WebSocket of the feed can be opened."""
    try:
        wire = await dial(
            profile.url, timeout_s=profile.dial_timeout_s, max_message_bytes=profile.max_message_bytes
        )
    except DialFailed as failure:
        if failure.status in BLOCKED:
            return fail(str(failure), _ELSEWHERE)
        if failure.status == HTTPStatus.TOO_MANY_REQUESTS:
            return warn(
                str(failure), "wait: the gateway does so by itself. What else dials from this address?"
            )
        return fail(str(failure), _EGRESS, UNREACHABLE)
    await anyio.aclose_forcefully(wire.stream)
    return ok(f"{profile.url} opens")


async def rest_answers(url: str) -> Verdict:
    """Whether the REST API, which is asked about assets in doubt, answers."""
    if not url:
        return skipped("feeds.market.rest_url is empty, so that nobody is asked about assets in doubt")
    answer = await _get(f"{url.rstrip('/')}/time")
    if isinstance(answer, Verdict):
        return answer
    if answer.status_code in BLOCKED:
        return fail(f"it answers {answer.status_code}", _ELSEWHERE)
    if not answer.is_success:
        remedy = "see whether feeds.market.rest_url is the venue's; without it only the feed itself heals its books"
        return warn(f"it answers {answer.status_code} to GET /time", remedy)
    return ok(f"it answers {answer.status_code} to GET /time")


async def clock(url: str, now: Callable[[], float] = time.time) -> Verdict:
    """Whether our clock is the venue's, by the `Date` of an answer.

    Args:
        url: of the REST API; empty for none.
        now: our clock, seconds since the epoch.
    """
    if not url:
        return skipped("feeds.market.rest_url is empty: nobody to compare with")
    asked_at = now()
    answer = await _get(f"{url.rstrip('/')}/time")
    if isinstance(answer, Verdict):
        return skipped("the REST API did not answer")
    try:
        date = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    except (KeyError, ValueError):
        return skipped("its answer has no `Date`")
    # It was written between our asking and our reading, in the course of the second that it names.
    return apart(asked_at, now(), date, date + 1.0)


def apart(asked_at: float, answered_at: float, earliest: float, latest: float) -> Verdict:
    """How far at least two clocks are apart: ours before and after, and theirs, between two moments."""
    behind, ahead = earliest - answered_at, asked_at - latest
    remedy = "mend NTP on this machine; the delays that are measured are wrong by as much"
    if behind > CLOCK_S:
        return warn(f"our clock is at least {behind:.1f} s behind", remedy)
    if ahead > CLOCK_S:
        return warn(f"our clock is at least {ahead:.1f} s ahead", remedy)
    return ok("the same as ours, as far as can be told")


class _GeoBlock(msgspec.Struct):
    blocked: bool
    country: str = ""
    region: str = ""


async def geo_block(url: str | None) -> Verdict:
    """Whether the venue takes orders from here; what it publishes, it publishes for everybody."""
    if url is None:
        return skipped("the feeds are not the venue's own")
    answer = await _get(url)
    if isinstance(answer, Verdict):
        return skipped(f"{url} did not answer")
    try:
        told = msgspec.json.decode(answer.content, type=_GeoBlock)
    except msgspec.DecodeError:
        return skipped(f"{url} answered {answer.status_code}, and not what it should")
    where = "-".join(part for part in (told.country, told.region) if part) or "an unknown place"
    if told.blocked:
        return warn(
            f"orders from {where} are refused",
            "nothing, as long as nobody trades from here: feeds are not concerned",
        )
    return ok(f"orders from {where} are taken")


async def _get(url: str) -> httpx.Response | Verdict:
    """An answer; or the verdict that there is none."""
    try:
        # As for the sockets: no proxy, and no password out of somebody's .netrc.
        async with httpx.AsyncClient(timeout=REST_TIMEOUT_S, trust_env=False) as client:
            return await client.get(url, headers={"User-Agent": f"polybus/{__version__}"})
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        return fail(f"it cannot be reached: {why}", _EGRESS, UNREACHABLE)
