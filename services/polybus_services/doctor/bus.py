"""NATS: whether it lets us in, what it permits, and whether it records."""

import re
import time
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import nats.errors
import nats.js.errors

from polybus_actors.publishing.streams import Streams
from polybus_services.client import ClientError, ControlClient, NatsUnreachable, NotPermitted
from polybus_services.config import Config

from .finding import UNREACHABLE, Check, Finding, Verdict, fail, finding, ok, side_by_side, skipped, warn
from .permissions import Permissions, lacking, may_answer, needs
from .venue import apart

USER_INFO = "$SYS.REQ.USER.INFO"
"""Here a server tells a user what it may do; since 2.10, and only whom its own permissions let ask."""

JETSTREAM_INFO = "$JS.API.INFO"

ANSWER_S = 3.0
"""Seconds a server on its feet never takes."""

OLDEST = (2, 9)
"""The server's version that our features need."""

NEAR_FULL = 0.9
"""Of the account's storage: what goes beyond is refused, and not recorded."""


class _User(msgspec.Struct):
    user: str = ""
    permissions: Permissions = msgspec.field(default_factory=Permissions)


class _Server(msgspec.Struct):
    time: str


class _UserInfo(msgspec.Struct):
    server: _Server
    data: _User


async def examine(config: Config) -> list[Finding]:
    """All checks of NATS, over one connection; without one there is one finding."""
    begun = time.perf_counter()
    where = config.nats.shown_url
    try:
        async with ControlClient.connect(
            config.nats, prefix=config.gateway.prefix, name="polybus-doctor"
        ) as client:
            return await side_by_side(
                [
                    Check("NATS", where, partial(server, client)),
                    Check("clock", "NATS'", partial(clock, client)),
                    Check("permissions", "gateway", partial(permissions, client, config)),
                    Check("JetStream", "account", partial(jetstream, client)),
                    Check("streams", config.streams.name, partial(streams, client, config)),
                    Check("bucket", config.gateway.bucket, partial(bucket, client, config)),
                ]
            )
    except NatsUnreachable as error:
        remedy = (
            "is the server there, is nats.url right, does a firewall or a NetworkPolicy let us out to it, and is "
            "the login one of the server's? `polybus config` shows what is in force"
        )
        verdict = fail(str(error), remedy, UNREACHABLE)
        return [finding("NATS", where, verdict, time.perf_counter() - begun)]


async def server(client: ControlClient) -> Verdict:
    """Whether the server answers, and is new enough."""
    begun = time.perf_counter()
    await client.nats.flush()
    took_ms = (time.perf_counter() - begun) * 1e3
    version = client.nats.connected_server_version
    said = f"nats-server {version.major}.{version.minor}.{version.patch} answers after {took_ms:.0f} ms"
    if (version.major, version.minor) < OLDEST:
        return warn(said, f"take one of version {'.'.join(map(str, OLDEST))} or newer")
    return ok(said)


async def clock(client: ControlClient) -> Verdict:
    """Whether our clock is the server's."""
    asked_at = time.time()
    told = await _user_info(client)
    if isinstance(told, str):
        return skipped(told)
    # Python reads no more than six digits after the point.
    at = datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*Z$", r".\1+00:00", told.server.time)).timestamp()
    return apart(asked_at, time.time(), at, at)


async def permissions(client: ControlClient, config: Config) -> Verdict:
    """Whether this login may do what a gateway does; asked, since to try would be to publish."""
    told = await _user_info(client)
    if isinstance(told, str):
        return warn(
            f"{told}, so nobody knows what this login may do",
            f"let it publish {USER_INFO} (nats-server 2.10), or watch what the gateway says is denied",
        )
    may = told.data.permissions
    missing = lacking(may, needs(config))
    vital = [f"{need.act} {need.subject}" for need in missing if need.vital]
    if not may_answer(may):
        vital.append("answer commands (allow_responses)")
    remedy = "give it the role of deploy/nats/roles/gateway.conf, with your own prefix, bucket and streams"
    if vital:
        return fail(f"this login may not {', '.join(vital)}", remedy)
    if missing:
        lacks = ", ".join(f"{need.act} {need.subject}" for need in missing)
        return warn(f"nothing is kept, for this login may not {lacks}", remedy)
    return ok("this login may do all that a gateway does")


async def _user_info(client: ControlClient) -> _UserInfo | str:
    """What the server tells of us; or why it does not."""
    answer = await _ask(client, USER_INFO)
    if isinstance(answer, str):
        return answer
    try:
        return msgspec.json.decode(answer, type=_UserInfo)
    except msgspec.DecodeError:
        return f"the server does not answer {USER_INFO} as it should"


async def jetstream(client: ControlClient) -> Verdict:
    """Whether events can be recorded and subscriptions kept, and how much room there is."""
    remedy = (
        "start the server with JetStream (-js) and let the account use it; without it a restart of the gateway "
        "forgets the subscriptions, and nothing can be replayed"
    )
    answer = await _ask(client, JETSTREAM_INFO)
    if isinstance(answer, str):
        return warn(answer, remedy)
    told: dict[str, Any] = msgspec.json.decode(answer, type=dict[str, Any])
    if error := told.get("error"):
        return warn(f"JetStream says: {error.get('description', error)}", remedy)
    used, most = told.get("storage", 0), told.get("limits", {}).get("max_storage", -1)
    limit = "no limit" if most < 0 else f"at most {most / 1e6:,.0f} MB"
    said = f"{told.get('streams', 0)} streams with {used / 1e6:,.1f} MB, {limit}"
    if 0 <= most * NEAR_FULL < used:
        return warn(
            said, "raise the account's limit, or lower those of [streams]: what is full takes nothing in"
        )
    return ok(said)


async def streams(client: ControlClient, config: Config) -> Verdict:
    """Whether the streams are there, and as configured; nothing is created."""
    looked_at = Streams(msgspec.structs.replace(config.streams, manage=False), config.gateway.prefix, {})
    await looked_at.check(client.nats)
    states = looked_at.states.values()
    wrong = [f"{one.name}: {one.problems[0]}" for one in states if one.state == "differs"]
    absent = [one.name for one in states if one.state == "absent"]
    if any(one.state == "unavailable" for one in states):
        return skipped("JetStream does not answer for them")
    if wrong:
        return warn("; ".join(wrong), "change [streams], or the stream with `nats stream edit`")
    if absent and not config.streams.manage:
        return fail(
            f"not there: {', '.join(absent)}",
            "create them (deploy/kustomize/components/streams), or let polybus do it (streams.manage = true)",
        )
    if absent:
        return ok(f"not there yet, and made by the gateway when it starts: {', '.join(absent)}")
    return ok(f"{', '.join(one.name for one in states)}: as configured")


async def bucket(client: ControlClient, config: Config) -> Verdict:
    """Whether what keeps the subscriptions is there."""
    try:
        info = await client.nats.jetstream(timeout=ANSWER_S).stream_info(f"KV_{config.gateway.bucket}")
    except nats.js.errors.NotFoundError:
        return await _without_bucket(client)
    except (nats.errors.Error, TimeoutError):
        return skipped("JetStream does not answer for it")
    return ok(f"{info.state.messages} subscriptions")


async def _without_bucket(client: ControlClient) -> Verdict:
    try:
        kept = (await client.status(ANSWER_S)).subscriptions.total
    except ClientError:
        kept = 0
    if kept:
        return warn(
            f"it is gone, and a gateway runs with {kept} subscriptions that nothing keeps",
            "restart the gateway, which makes it anew, and subscribe again",
        )
    return ok("not there yet: the gateway makes it when it starts")


async def _ask(client: ControlClient, subject: str) -> bytes | str:
    """An answer; or why there is none."""
    try:
        return (await client.ask(subject, b"", ANSWER_S)).data
    except NotPermitted:
        return f"the server does not permit this login to ask {subject}"
    except nats.errors.NoRespondersError:
        return f"nobody answers {subject}"
    except (nats.errors.Error, TimeoutError):
        return f"no answer to {subject} within {ANSWER_S:g} s"
