"""`polybus top`: what is seen of a gateway at work, and what of it wants attention."""

import io
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import msgspec
import pytest
from rich.console import Console

from polybus_protocol.control.replies import (
    ConnectionInfo,
    NatsInfo,
    StatusReply,
    StreamInfo,
    SubscriptionTotals,
)
from polybus_services.cli import top_command
from polybus_services.client import ControlClient
from polybus_services.nats_server import NatsServer
from polybus_services.present.vitals import top
from polybus_services.simulator import SimulatorOptions
from polybus_services.vitals import ALERTS, Chart, Unanswered, Vitals

from ..support.monitoring import MONITORING, rules
from ..support.rig import rigged, running_gateway
from .terminal import running

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

S = 1_000_000_000


def well() -> StatusReply:
    """A gateway with one connection, which has run for 100 seconds without a fault."""
    connection = ConnectionInfo(
        id="gw0-market-1",
        feed="market",
        url="ws://x",
        state="live",
        connected=True,
        authenticated=None,
        incarnation=1,
        assets=10,
        live_assets=10,
        frames=1000,
        errors=0,
        last_frame_time=100 * S,
        last_data_time=100 * S,
        reason=None,
    )
    nats = NatsInfo(
        connected=True,
        url="",
        server="2.15.0",
        published=5000,
        backlog=0,
        dropped=0,
        uncertain=0,
        unrecorded=0,
        reconnects=0,
    )
    stream = StreamInfo("POLYBUS_MARKET", "ready", [], 1, 1, 1, 1, [])
    return StatusReply(
        replica="gw0",
        version="0",
        started=0,
        state="running",
        running=True,
        durable=True,
        connections=[connection],
        subscriptions=SubscriptionTotals(1, {}),
        total_events=2000,
        events_by_type={"book": 10, "price_change": 1990},
        gaps=0,
        frames=1000,
        duplicates=0,
        unwanted=0,
        unknown={},
        unknown_fields={},
        connection_errors=0,
        reconnects=0,
        last_reconnect_time=None,
        restarts=0,
        trust={"live": 9, "quiet": 1},
        checks={},
        nats=nats,
        streams=[stream],
    )


def after(*changes: Callable[[StatusReply], object], seconds: float = 2.0) -> Vitals:
    """What is seen of a gateway to which this happened between two looks."""
    chart, reply = Chart(), well()
    first = chart.look(reply, 10.0, 100 * S, 0.001)
    assert (first.hints, first.events_per_s, first.feeds[0].frames_per_s) == ([], None, None)
    reply = well()
    for change in changes:
        change(reply)
    return chart.look(reply, 10.0 + seconds, int((100 + seconds) * S), 0.001)


def put(path: str, value: object) -> Callable[[StatusReply], None]:
    """A change: something has another value."""

    def change(reply: StatusReply) -> None:
        *way, last = path.split(".")
        node: Any = reply
        for part in way:
            node = node[0] if part == "0" else getattr(node, part)
        setattr(node, last, value)

    return change


MARKET = "connections.0"


@pytest.mark.parametrize(
    ("changes", "alert", "said"),
    [
        ([put("nats.connected", False)], "NatsDisconnected", "cannot be written"),
        (
            [put(f"{MARKET}.state", "refused"), put(f"{MARKET}.reason", "403")],
            "ConnectionRefused",
            "gw0-market-1: 403",
        ),
        (
            [put(f"{MARKET}.live_assets", 9), put(f"{MARKET}.last_data_time", 60 * S)],
            "FeedSilent",
            "silent for 42 s",
        ),
        (
            [put(f"{MARKET}.live_assets", 0), put(f"{MARKET}.last_data_time", None)],
            "FeedSilent",
            "nothing yet",
        ),
        ([put(f"{MARKET}.live_assets", 7)], "KeysNotLive", "7 of 10"),
        ([put("trust", {"live": 99, "frozen": 1})], "AssetsFrozen", "1 assets"),
        ([put("trust", {"live": 9, "suspect": 1})], "AssetsSuspect", "1 assets"),
        ([put("nats.backlog", 5000)], "BacklogFilling", "5,000 events"),
        ([put("nats.held_since", 60 * S)], "FeedsHeldBack", "for 42 s"),
        ([put("nats.dropped", 7)], "EventsDropped", "in the last minute 7 events were given up"),
        ([put("nats.denied", 1)], "PublishDenied", "1 publishes"),
        ([put("nats.too_large", 1)], "EventsTooLarge", "1 events"),
        ([put("nats.uncertain", 1)], "EventsUncertain", "1 events"),
        ([put("nats.unrecorded", 1)], "EventsUnrecorded", "1 events"),
        ([put("unknown", {"event": 2, "binary": 1})], "UnreadableEvents", "3 frames"),
        ([put("connection_errors", 1)], "ConnectionsUnstable", "1 dials"),
        ([put("restarts", 1)], "ActorRestarted", "1 parts"),
        ([put("checks", {"hash_mismatch": 2, "crossed": 1})], "BooksDisagree", "3 looks"),
        ([put("gaps", 3)], "GapsKeepOpening", "3 gaps"),
        (
            [put("connection_errors", 1), put(f"{MARKET}.errors", 1), put(f"{MARKET}.reason", "it said 429")],
            "ConnectionsUnstable",
            "lost: market (it said 429)",
        ),
        ([put("streams.0.state", "absent")], "RecordAway", "POLYBUS_MARKET"),
    ],
)
def test_what_wants_attention(changes: list[Callable[[StatusReply], None]], alert: str, said: str) -> None:
    """Each thing gives one hint, under the alert's name and with what a person needs first; it is seen at once."""
    vitals = after(*changes)
    assert [hint.alert for hint in vitals.hints] == [alert]
    assert said in vitals.hints[0].words
    assert alert in shown(vitals)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trust", {"live": 99, "suspect": 1}),
        ("nats.backlog", 900),
        ("gaps", 2),
        ("checks", {"hash_proved": 99, "crossed": 1}),
        (f"{MARKET}.live_assets", 9),
        (f"{MARKET}.last_data_time", 1 * S),  # a quiet feed that is live
        ("started", 50 * S),
    ],
)
def test_what_does_not(path: str, value: object) -> None:
    """What happens on a good day."""
    assert after(put(path, value)).hints == []


def test_hints_are_alerts() -> None:
    """Each is named after one, so that there is a runbook for it; the test above has them all."""
    assert set(ALERTS) <= {rule.get("alert") for rule in rules()}
    runbooks = (MONITORING / "runbooks.md").read_text(encoding="utf-8")
    assert all(f"## {alert}\n" in runbooks for alert in ALERTS)


def test_rates_and_the_minute() -> None:
    """Rates are of the last seconds; what rose is forgotten after a minute; another process begins anew."""
    vitals = after(
        put("total_events", 2400),
        put("events_by_type", {"book": 10, "price_change": 2390}),
        put(f"{MARKET}.frames", 1100),
        put("gaps", 1),
    )
    assert (vitals.events_per_s, vitals.events_per_s_by_type) == (200.0, {"price_change": 200.0})
    assert (vitals.feeds[0].frames_per_s, vitals.gaps_per_min) == (50.0, 30.0)
    assert "200 a second" in shown(vitals)

    chart = Chart()
    chart.look(well(), 0.0, 100 * S, 0.0)
    reply = well()
    reply.nats.dropped = 3
    rose = [chart.look(reply, at, 100 * S, 0.0).rose for at in (1.0, 59.0, 61.5, 122.0)]
    assert rose == [{"dropped": 3}, {"dropped": 3}, {}, {}]
    reborn = well()
    reborn.started, reborn.total_events = 99 * S, 1
    assert chart.look(reborn, 123.0, 100 * S, 0.0).events_per_s is None


def shown(vitals: Vitals | Unanswered) -> str:
    """As text, on a terminal of 80 columns."""
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(top(vitals))
    return console.export_text()


def test_an_idle_gateway() -> None:
    """Nobody has asked for anything, nothing is recorded: that, too, can be shown."""
    text = shown(after(put("connections", []), put("streams", []), put("trust", {})))
    assert "nothing wants attention" in text
    assert "nobody has subscribed" in text


async def test_a_gateway_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates from the second look on, a lost socket within the next ones, and when nobody answers, that."""
    monkeypatch.setattr(top_command, "ANSWER_S", 0.2)
    with anyio.fail_after(60):
        async with (
            rigged(SimulatorOptions(markets=4, seed=5, speed=10)) as rig,
            ControlClient.connect(rig.nats.url) as client,
        ):
            await rig.subscribe(*rig.assets)
            seen = top_command.looks(client, 0.01)
            assert vitals(await anext(seen)).events_per_s is None
            told = await until(seen, lambda told: bool(told.events_per_s))
            assert told.feeds[0].frames_per_s
            assert sum(told.trust.values()) == len(rig.assets)
            assert told.answered_in_s < 60
            assert re.search(r"market +1 live +8/8", shown(told))
            await rig.admin.ask("PUT", "/faults/drop")
            await until(seen, lambda told: "ConnectionsUnstable" in [hint.alert for hint in told.hints])
            rig.gateway.stop()
            await rig.ended.wait()
            unanswered = await anext(seen)
            assert isinstance(unanswered, Unanswered)
            assert "GatewayDown: NATS answers, and the gateway does not" in shown(unanswered)
            rig.nats.kill()
            unanswered = await anext(seen)
            assert isinstance(unanswered, Unanswered)
            assert "NatsDisconnected: NATS does not answer us, either" in shown(unanswered)


def vitals(told: Vitals | Unanswered) -> Vitals:
    """The gateway answered."""
    assert isinstance(told, Vitals), told
    return told


async def until(seen: AsyncIterator[Vitals | Unanswered], is_so: Callable[[Vitals], bool]) -> Vitals:
    """The first look at which it is so."""
    while not is_so(told := vitals(await anext(seen))):
        pass
    return told


async def test_a_line_a_second_until_told_to_stop(nats: NatsServer) -> None:
    """JSON for programs, the rest of which is said in `--help`; its end is no failure."""
    async with (
        running_gateway(nats.url, {}),
        running(["top", "--json"], NATS_URL=nats.url) as looking,
    ):
        assert msgspec.convert(await looking.json(), Vitals).feeds == []
        looking.process.terminate()
        assert (await looking.end()) == (0, "")
