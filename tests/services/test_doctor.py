"""`polybus doctor`: each thing that can be wrong is a line of its own, with what to do; and nothing is changed."""

import contextlib
import re
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest
from anyio.streams.tls import TLSStream
from nats.aio.client import Client

from polybus_protocol.websocket.handshake import Endpoint
from polybus_services.cli import main
from polybus_services.client import ControlClient
from polybus_services.config import Config, load
from polybus_services.doctor import Finding, examine, exit_status
from polybus_services.doctor import bus as of_bus
from polybus_services.doctor import venue as of_venue
from polybus_services.doctor.finding import Check, Verdict, ok, side_by_side
from polybus_services.doctor.permissions import Permissions, Rules, lacking, may_answer, needs
from polybus_services.http import Request, Response, serve_http
from polybus_services.nats_server import NatsServer, nats_server
from polybus_services.simulator import Simulator, SimulatorOptions, running_simulator

from ..support.rig import rigged

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

CERTIFICATE = Path(__file__).parents[1] / "support/untrusted.pem"

NOWHERE = "127.0.0.1:1"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """The venue, which says nothing."""
    with anyio.fail_after(40):
        async with running_simulator(SimulatorOptions(markets=2, seed=5, paused=True)) as running:
            yield running


def config_of(nats: str, simulator: Simulator | None = None, **more: str) -> Config:
    """A gateway's configuration, for one account; without a simulator no feed can be reached."""
    feeds = simulator.feeds if simulator else dict.fromkeys(("market", "rtds", "sports"), f"ws://{NOWHERE}")
    variables = {f"POLYBUS_FEEDS__{feed.upper()}__URL": url for feed, url in feeds.items()}
    variables["POLYBUS_FEEDS__MARKET__REST_URL"] = simulator.rest if simulator else f"http://{NOWHERE}"
    if simulator:
        account, *_ = simulator.accounts
        for field in ("api_key", "secret", "passphrase"):
            variables[f"POLYBUS_ACCOUNTS__ALICE__{field.upper()}"] = account[field]
    return load(None, variables | {"NATS_URL": nats} | more)


def verdicts(findings: list[Finding]) -> dict[tuple[str, str], str]:
    """Of each line."""
    return {(one.check, one.about): one.verdict for one in findings}


async def test_all_is_well(nats: NatsServer, simulator: Simulator) -> None:
    """Each line says so, or that there is nothing to look at; NATS holds nothing afterwards that it did not before."""
    config = config_of(nats.url, simulator)
    findings = await examine(config)
    skipped = {"skipped": [one.check for one in findings if one.verdict == "skipped"]}
    assert skipped == {"skipped": ["DNS", "TLS", "geo-block"]}
    assert {one.verdict for one in findings} == {"ok", "skipped"}, findings
    assert [one.about for one in findings if one.check == "feed"] == list(simulator.feeds)
    assert exit_status(findings) == 0
    assert not any(one.remedy for one in findings)
    assert all(0 <= one.took_s < 40 for one in findings)
    client = Client()
    await client.connect(nats.url)
    assert await client.jetstream().streams_info() == []
    await client.close()


def test_nothing_can_be_reached(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """80 columns say what to do; the status is that of the first failure; no log line gets in between."""
    monkeypatch.setenv("COLUMNS", "80")
    for feed in ("market", "rtds", "sports"):
        monkeypatch.setenv(f"POLYBUS_FEEDS__{feed.upper()}__URL", f"ws://{NOWHERE}")
    monkeypatch.setenv("POLYBUS_FEEDS__MARKET__REST_URL", f"http://{NOWHERE}")
    with pytest.raises(SystemExit) as left:
        main(["doctor", "--nats", f"nats://{NOWHERE}"])
    out, err = capsys.readouterr()
    assert (left.value.code, err) == (3, "")
    told = " ".join(out.split())
    assert "NATS at nats://127.0.0.1:1 cannot be reached: nothing listens there" in told
    assert "-> is the server there, is nats.url right" in told
    assert "5 fail, 5 skipped" in out


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("api_key", "0x12", "UUID"), ("secret", "!!", "base64"), ("passphrase", "", "not set")],
)
async def test_credentials_of_the_wrong_form(field: str, value: str, said: str) -> None:
    """Name the field, show no secret, and are a wrong setting."""
    right = {
        "api_key": "d3fe1229-4ae3-4c65-92df-d92f16865efc",
        "secret": "c2VjcmV0",
        "passphrase": "open sesame",
    }
    variables = {
        f"POLYBUS_ACCOUNTS__BOB__{name.upper()}": text for name, text in (right | {field: value}).items()
    }
    first, *_ = findings = await examine(config_of(f"nats://{NOWHERE}", None, **variables))
    assert (first.check, first.about, first.verdict) == ("credentials", "bob", "fail")
    assert first.words.startswith(f"{field}: ")
    assert said in first.words
    assert exit_status(findings) == 2
    assert not any(secret in str(findings) for secret in right.values())


async def test_a_check_that_hangs() -> None:
    """Fails at its own deadline, and holds up no other."""
    hung, well = await side_by_side([Check("hung", "", _hang), Check("well", "", _well)], deadline_s=0.01)
    assert (hung.verdict, hung.status, well.verdict) == ("fail", 3, "ok")
    assert "0.01 s" in hung.words


async def _hang() -> Verdict:
    await anyio.sleep_forever()
    raise AssertionError


async def _well() -> Verdict:
    return ok("well")


# --- the venue -------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(response: Response) -> AsyncIterator[str]:
    """An HTTP server that always says the same."""

    async def answer(_request: Request) -> Response:
        return response

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, lambda stream: serve_http(stream, answer))
        yield f"http://127.0.0.1:{listener.extra(anyio.abc.SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("off_s", "verdict", "said"),
    [(0.0, "ok", "the same"), (-3600.0, "warn", "behind"), (90.0, "warn", "ahead"), (1.0, "ok", "the same")],
)
async def test_a_clock_that_is_wrong(off_s: float, verdict: str, said: str, simulator: Simulator) -> None:
    """By how much at least, and in which direction; what a date without fractions cannot tell is no fault."""
    found = await of_venue.clock(simulator.rest, lambda: time.time() + off_s)
    assert found.verdict == verdict
    assert said in found.words


async def test_what_the_rest_api_answers() -> None:
    """No time, no clock; a refusal is one; who is not there, is not there."""
    async with answering(Response(403, {})) as url:
        refused = await of_venue.rest_answers(url)
        assert (refused.verdict, refused.status) == ("fail", 1)
        assert "run the gateway elsewhere" in str(refused.remedy)
        assert (await of_venue.clock(url)).verdict == "skipped"
    async with answering(Response(404, {})) as url:
        assert (await of_venue.rest_answers(url)).verdict == "warn"
    away = await of_venue.rest_answers(f"http://{NOWHERE}")
    assert (away.verdict, away.status) == ("fail", 3)
    assert (await of_venue.rest_answers("")).verdict == "skipped"


@pytest.mark.parametrize(
    ("answer", "verdict", "said"),
    [
        ({"blocked": True, "country": "US", "region": "NY", "ip": "1.2.3.4"}, "warn", "US-NY are refused"),
        ({"blocked": False, "country": "IE"}, "ok", "IE are taken"),
        ({"error": "?"}, "skipped", "not what it should"),
    ],
)
async def test_the_geo_block(answer: dict[str, Any], verdict: str, said: str) -> None:
    """Concerns orders, not feeds: a warning, in which our address does not stand."""
    async with answering(Response(200, answer)) as url:
        found = await of_venue.geo_block(url)
    assert found.verdict == verdict
    assert said in found.words
    assert "1.2.3.4" not in found.words


async def test_a_feed_that_refuses(simulator: Simulator) -> None:
    """Which refusals are worth waiting for, and which are not."""
    config = config_of(f"nats://{NOWHERE}", simulator)
    for status, verdict in ((403, "fail"), (429, "warn"), (500, "fail")):
        async with answering(Response(status, {})) as url:
            variables = {"POLYBUS_FEEDS__MARKET__URL": url.replace("http", "ws")}
            feed = config_of(f"nats://{NOWHERE}", simulator, **variables).feeds["market"]
            found = await of_venue.feed_opens(feed)
            assert found.verdict == verdict, found
            assert str(status) in found.words
    assert (await of_venue.feed_opens(config.feeds["market"])).verdict == "ok"


async def test_names_and_certificates(simulator: Simulator) -> None:
    """A name that nobody knows, an endpoint that speaks no TLS, and one that is not there."""
    unknown = await of_venue.name("polybus.invalid")
    assert (unknown.verdict, unknown.status) == ("fail", 3)
    assert (await of_venue.name("localhost")).verdict == "ok"
    plain = simulator.rest.rpartition(":")[2]
    deaf = await of_venue.tls(Endpoint(True, "127.0.0.1", int(plain), "/"))
    assert (deaf.verdict, deaf.status) == ("fail", 1)
    assert (await of_venue.tls(Endpoint(True, "127.0.0.1", 1, "/"))).status == 3


async def test_a_certificate() -> None:
    """One that nobody vouches for fails; one that is trusted is told with the days that it still holds."""
    trusting = ssl.create_default_context(cafile=str(CERTIFICATE))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)

    async def speak_tls(stream: anyio.abc.ByteStream) -> None:
        with contextlib.suppress(ssl.SSLError, anyio.BrokenResourceError, anyio.EndOfStream):
            async with stream:
                await TLSStream.wrap(stream, server_side=True, ssl_context=context)

    with anyio.fail_after(20):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, speak_tls)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            stranger = await of_venue.tls(Endpoint(True, "localhost", port, "/"))
            assert (stranger.verdict, stranger.status) == ("fail", 1)
            assert "not trusted: self" in stranger.words
            friend = await of_venue.tls(Endpoint(True, "localhost", port, "/"), trusting)
            assert friend.verdict == "ok"
            assert re.fullmatch(r"TLSv1\.\d, its certificate holds for \d+ days", friend.words)
            tasks.cancel_scope.cancel()


# --- NATS ------------------------------------------------------------------------------------------


GATEWAY = Permissions(
    publish=Rules(allow=["polymarket.v1.>", "_INBOX.>", "$JS.>", "$KV.>"], deny=["polymarket.v1.control.>"]),
    subscribe=Rules(allow=["_INBOX.>", "polymarket.v1.control.>", "$SRV.> some_queue"]),
    responses={"max": 1},
)


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        (lambda _may: None, []),
        (lambda may: may.publish.deny.append("polymarket.v1.user.bob.*.*"), ["polymarket.v1.user.>"]),
        (lambda may: may.publish.allow.remove("_INBOX.>"), ["_INBOX.>"]),
        (lambda may: may.subscribe.allow.remove("_INBOX.>"), ["_INBOX.>"]),
        (lambda may: may.subscribe.allow.clear(), []),
        (lambda may: may.publish.deny.append("$KV.>"), ["$KV.polybus_subscriptions.>"]),
        (lambda may: may.publish.deny.append("$JS.API.INFO"), ["$JS.API.INFO"]),
        (lambda may: may.publish.deny.append("$JS.API.STREAM.DELETE.*"), []),
    ],
)
def test_what_permissions_lack(change: Callable[[Permissions], object], missing: list[str]) -> None:
    """Nothing for a gateway with its role; what is taken away, or not given, is named."""
    may = Permissions(
        Rules(list(GATEWAY.publish.allow), list(GATEWAY.publish.deny)),
        Rules(list(GATEWAY.subscribe.allow)),
        GATEWAY.responses,
    )
    change(may)
    assert [need.subject for need in lacking(may, needs(Config()))] == missing
    assert may_answer(may)
    assert not may_answer(Permissions(Rules(allow=["polymarket.v1.>"])))


USERS = """authorization { users = [
  { user: all, password: x }
  { user: mute, password: x, permissions: { publish: { deny: ["polymarket.v1.user.>"] } } }
  { user: forgetful, password: x, permissions: { publish: { deny: ["$KV.>"] } } }
  { user: secretive, password: x, permissions: { publish: { deny: ["$SYS.>", "$JS.API.INFO"] } } }
] }
"""


async def test_permissions_on_a_server(tmp_path: Path) -> None:
    """What the server tells of each login is what is reported; a wrong password is NATS' own line."""
    (tmp_path / "users.conf").write_text(USERS, encoding="utf-8")
    found = {}
    with anyio.fail_after(40):
        async with nats_server(config=tmp_path / "users.conf") as server:
            for user in ("all", "mute", "forgetful", "secretive", "nobody"):
                login = {"NATS_USER": user, "NATS_PASSWORD": "x"}
                for one in await of_bus.examine(config_of(server.url, None, **login)):
                    found[user, one.check] = one
    assert found["all", "permissions"].verdict == "ok"
    assert (found["mute", "permissions"].verdict, found["mute", "permissions"].status) == ("fail", 1)
    assert "publish polymarket.v1.user.>" in found["mute", "permissions"].words
    assert found["forgetful", "permissions"].verdict == "warn"
    assert "$KV.polybus_subscriptions.>" in found["forgetful", "permissions"].words
    assert found["secretive", "permissions"].verdict == "warn"
    assert "$SYS.REQ.USER.INFO" in str(found["secretive", "permissions"].remedy)
    assert found["secretive", "JetStream"].verdict == "warn"
    assert found["secretive", "clock"].verdict == "skipped"
    assert found["all", "clock"].verdict == "ok"
    assert [check for user, check in found if user == "nobody"] == ["NATS"]
    assert found["nobody", "NATS"].status == 3
    assert "refuses the login" in found["nobody", "NATS"].words


async def test_streams_that_are_not_as_configured(nats: NatsServer) -> None:
    """Who must create them decides whether their absence is a failure; a difference is told with the value."""
    client = Client()
    await client.connect(nats.url)

    async def told(**more: str) -> Finding:
        (one,) = [
            each
            for each in await of_bus.examine(config_of(nats.url, None, **more))
            if each.check == "streams"
        ]
        return one

    assert (await told()).verdict == "ok"
    theirs = await told(POLYBUS_STREAMS__MANAGE="false")
    assert (theirs.verdict, theirs.status) == ("fail", 1)
    await client.jetstream().add_stream(
        name="POLYBUS_MARKET", subjects=["polymarket.v1.market.>"], max_age=60
    )
    differing = await told()
    assert differing.verdict == "warn"
    assert "POLYBUS_MARKET: its max_age is 60, and should be 86400" in differing.words
    await client.close()


async def test_a_bucket_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first start that is as it should be; under a gateway with subscriptions it is not."""
    with anyio.fail_after(40):
        async with rigged() as rig:
            config = config_of(rig.nats.url)
            monkeypatch.setattr(of_bus, "ANSWER_S", 20.0)
            async with ControlClient.connect(rig.nats.url) as client:
                await rig.subscribe(*rig.assets, wait="accepted")
                assert (await of_bus.bucket(client, config)).verdict == "ok"
                await client.nats.jetstream().delete_stream(f"KV_{config.gateway.bucket}")
                found = await of_bus.bucket(client, config)
                assert (found.verdict, found.words[:10]) == ("warn", "it is gone")
                rig.gateway.stop()
                await rig.ended.wait()
                monkeypatch.setattr(of_bus, "ANSWER_S", 0.2)
                assert "not there yet" in (await of_bus.bucket(client, config)).words
