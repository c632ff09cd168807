"""Metrics and traces: what is told is true, complete and harmless, and telling it holds nobody up."""

import gzip
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.abc
import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from polybus_protocol.stream import Stream
from polybus_services.config import LogConfig
from polybus_services.http import Request, Response, serve_http
from polybus_services.logs import JsonFormatter, configure
from polybus_services.nats_server import NatsServer
from polybus_services.pulse import Pulse
from polybus_services.simulator import SimulatorOptions, running_simulator
from polybus_services.telemetry import process, tracing
from polybus_services.telemetry.environment import wanted
from polybus_services.telemetry.metrics import METRICS, Kind, snapshot
from polybus_services.telemetry.process import Telemetry
from polybus_services.telemetry.prometheus import prometheus_name
from polybus_services.telemetry.tracing import TraceIds, Tracing

from ..support.consumer import consuming
from ..support.http_get import get
from ..support.monitoring import missing
from ..support.rig import Rig, rigged
from .terminal import polybus, running

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning"),
]

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
"""The example of the W3C's page on trace context."""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No settings of OpenTelemetry but those of the test."""
    import os

    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    return monkeypatch


@asynccontextmanager
async def told(rig: Rig, telemetry: Telemetry) -> AsyncIterator[Telemetry]:
    """Telemetry that watches the gateway of a rig, which was given its watcher."""
    pulse = Pulse()
    async with telemetry.watching(lambda: snapshot(rig.gateway, pulse, 0.8, telemetry.failures)):
        yield telemetry


# --- metrics ---------------------------------------------------------------------------------------


def documented() -> Iterator[list[str]]:
    """The rows of the table in `docs/metrics.md`, without the quotes."""
    for line in (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(("| `polybus.", "| `process.")):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_the_documented_metrics_are_those_there_are() -> None:
    """The page and the table in the code say the same, in the same order."""
    assert list(documented()) == [
        [
            f"`{metric.name}`",
            f"`{prometheus_name(metric)}`",
            metric.kind.value,
            f"`{metric.unit}`",
            ", ".join(f"`{name}`" for name in metric.attributes) or "-",
            metric.meaning,
        ]
        for metric in METRICS
    ]


async def test_a_scrape() -> None:
    """All metrics of the table and no other, each of its kind and with its attributes, and the numbers are right."""
    telemetry = Telemetry("gw7")
    with anyio.fail_after(40):
        options = SimulatorOptions(markets=4, seed=5, rate=200)
        async with rigged(options, watcher=telemetry.watcher) as rig, told(rig, telemetry):
            await rig.subscribe(*rig.assets)
            await rig.consumer.ask("subscribe", feed="rtds", topics=["activity"], wait="sent")
            with pytest.raises(Exception, match="404"):
                await rig.consumer.ask("unsubscribe", id="nobody")
            await rig.consumer.until(lambda: rig.consumer.received > 200)
            await rig.settle()
            text = telemetry.scrape().decode()
            families = {family.name: family for family in text_string_to_metric_families(text)}

            target = families.pop("target_info").samples[0].labels
            assert (target["service_name"], target["service_instance_id"]) == ("polybus", "gw7")
            assert set(families) == {prometheus_name(metric).removesuffix("_total") for metric in METRICS}
            for metric in METRICS:
                family = families[prometheus_name(metric).removesuffix("_total")]
                assert (family.type, family.documentation) == (metric.kind.value, metric.meaning)
                assert family.samples, metric.name
                for sample in family.samples:
                    assert set(sample.labels) - {"le"} == set(metric.attributes), metric.name

            # What dashboard and alerts ask for is there.
            assert not missing(
                (sample.name, sample.labels) for each in families.values() for sample in each.samples
            )

            def value(name: str, **labels: str) -> float:
                family = families[name.removesuffix("_total").removesuffix("_count")]
                return sum(
                    sample.value
                    for sample in family.samples
                    if sample.name == name and labels.items() <= sample.labels.items()
                )

            status = await rig.consumer.ask("status")
            # Last books go out meanwhile.
            assert 0 < value("polybus_nats_published_total") <= status["nats"]["published"]
            assert value("polybus_events_total") == sum(status["events_by_type"].values())
            assert value("polybus_events_total", feed="market", type="book") >= len(rig.assets)
            assert value("polybus_connections", feed="market", state="live") == 1
            assert value("polybus_keys_wanted", feed="market") == len(rig.assets)
            assert value("polybus_keys_live", feed="market") == len(rig.assets)
            assert value("polybus_assets", trust="live") == len(rig.assets)
            assert value("polybus_assets") == len(rig.assets)
            assert value("polybus_gaps_opened_total") == status["events_by_type"].get("gap", 0)
            assert value("polybus_gaps_open") == 0
            # The books are looked at meanwhile.
            assert value("polybus_checks_total", check="hash_proved") <= status["checks"].get(
                "hash_proved", 0
            )
            assert value("polybus_record_streams") == len(status["streams"])
            assert 0 < value("process_memory_usage_bytes") < value("process_memory_limit_bytes")
            assert value("polybus_commands_total", verb="unsubscribe", outcome="404") == 1
            assert value("polybus_command_duration_seconds_count", verb="unsubscribe") == 1
            assert value("polybus_nats_connected") == value("polybus_ready") == 1
            assert value("polybus_event_arrival_duration_seconds_count", feed="market") > 0
            assert value("polybus_event_publishing_duration_seconds_count", feed="market") > 0
            assert value("process_cpu_time_seconds_total") > 0

            # Nothing that there are thousands of is in it, nor anything that nobody may see.
            told_ids = [*rig.assets, *(str(listed["market"]) for listed in rig.simulator.markets)]
            secrets = [account["secret"] for account in rig.simulator.accounts]
            assert not [each for each in (*told_ids, *secrets) if each in text]


async def test_a_fault_in_reading_costs_numbers_only(caplog: pytest.LogCaptureFixture) -> None:
    """The gateway that is watched does not end of it."""

    def fail() -> Any:
        raise RuntimeError("a fault of ours")

    async with Telemetry("gw0").watching(fail):
        pass
    assert "the metrics could not be read" in caplog.text


# --- traces ----------------------------------------------------------------------------------------


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    """One whose spans can be looked at as soon as they have ended."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


def ids(span: ReadableSpan) -> tuple[str, str]:
    """Trace and span, as headers and log lines have them."""
    assert span.context is not None
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def named(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


async def test_spans(
    spans: InMemorySpanExporter, provider: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands go on with their caller's trace; a dial and its session share one; a batch now and then has its own."""
    monkeypatch.setattr(tracing, "TRACED_BATCHES", 2)
    with anyio.fail_after(40):
        async with rigged(watcher=Tracing(provider, batches=True)) as rig:
            request = json.dumps({"feed": "market", "assets": rig.assets, "wait": "data"}).encode()
            subject = "polymarket.v1.control."
            reply = await rig.consumer.client.request(
                f"{subject}subscribe", request, timeout=10, headers={"traceparent": PARENT}
            )
            (command,) = named(spans, "command subscribe")
            trace_id, span_id = ids(command)
            assert command.parent is not None
            assert f"00-{trace_id}-{command.parent.span_id:016x}-01" == PARENT
            assert reply.headers == {"traceparent": f"00-{trace_id}-{span_id}-01"}
            assert dict(command.attributes or {})["polybus.outcome"] == "ok"

            # Without a parent it begins a trace of its own; a refusal has one too.
            refused = await rig.consumer.client.request(f"{subject}unsubscribe", b'{"id":"x"}', timeout=10)
            (command,) = named(spans, "command unsubscribe")
            assert command.parent is None
            assert dict(command.attributes or {})["polybus.outcome"] == "404"
            assert refused.headers is not None
            assert refused.headers["Nats-Service-Error-Code"] == "404"
            assert refused.headers["traceparent"].startswith("00-{}-{}-".format(*ids(command)))

            await rig.admin.ask("PUT", "/faults/drop")
            await rig.consumer.until(
                lambda: all("connection_lost" in rig.consumer.of(asset).reasons for asset in rig.assets)
            )
            await rig.consumer.until(lambda: all(rig.consumer.of(asset).is_trusted for asset in rig.assets))
            (session,) = named(spans, "session")
            dial = named(spans, "dial")[0]
            assert ids(session)[0] == ids(dial)[0]
            assert session.parent == dial.context
            assert [event.name for event in session.events] == ["live"]
            assert session.status.description == "the venue hung up without a close frame (1006)"
            assert len(named(spans, "send batch")) > 1
        # A drain ends what is still open, without blame.
        assert named(spans, "session")[-1].status.description is None
        assert len(named(spans, "session")) == 2

        shown = " ".join(span.to_json() for span in spans.get_finished_spans())
        secrets = [account["secret"] for account in rig.simulator.accounts]
        assert not [each for each in (*rig.assets, *secrets) if each in shown]


async def test_most_batches_meet_no_tracer(spans: InMemorySpanExporter, provider: TracerProvider) -> None:
    """One batch in `TRACED_BATCHES` becomes a span; where nobody receives them, none does."""
    traced = Tracing(provider, batches=True)
    batch = [Stream("market", "market").publish(_an_event(), 1, None)]
    for _ in range(2 * tracing.TRACED_BATCHES + 1):
        traced.published(batch, 1)
    assert len(named(spans, "send batch")) == 2
    silent = Tracing(provider, batches=False)
    for _ in range(2):
        silent.published(batch, 1)
    assert len(named(spans, "send batch")) == 2
    assert silent.publishing["market"].count == 1


def _an_event() -> Any:
    from polybus_protocol.events import BestBidAsk

    return BestBidAsk(market="0x1", asset="1", best_bid="0.1", best_ask="0.2", source_time=1)


def test_log_lines_bear_the_trace(provider: TracerProvider) -> None:
    """Those made within a span, and no others."""

    def line() -> dict[str, Any]:
        record = logging.makeLogRecord({"name": "polybus", "msg": "hello"})
        assert TraceIds().filter(record)
        return msgspec.json.decode(JsonFormatter().format(record), type=dict[str, Any])

    with Tracing(provider, batches=False).command("status", {"Traceparent": PARENT}) as command:
        within = line()
        assert command.reply_headers is not None
        assert command.reply_headers["traceparent"] == f"00-{within['trace_id']}-{within['span_id']}-01"
        assert within["trace_id"] == PARENT.split("-")[1]
    assert "trace_id" not in line()


@pytest.mark.parametrize(
    ("format_", "as_json", "terminal", "expected"),
    [
        ("auto", False, True, False),
        ("auto", False, False, True),
        ("auto", True, True, True),
        ("text", True, False, False),
        ("json", False, True, True),
    ],
)
def test_when_the_log_is_json(
    format_: Literal["auto", "text", "json"],
    as_json: bool,
    terminal: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where the configuration says so; where it leaves it open, with `--json` and where nobody is there to read."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    configure(LogConfig(format=format_), as_json=as_json)
    (handler,) = root.handlers
    assert isinstance(handler.formatter, JsonFormatter) is expected


# --- OTLP ------------------------------------------------------------------------------------------


class Receiver:
    """An OTLP receiver; what it was sent, decoded with the official definitions."""

    def __init__(self) -> None:
        self.metrics: dict[str, Any] = {}
        self.spans: set[str] = set()
        self.resource: dict[str, str] = {}
        self.heard = anyio.Event()

    async def answer(self, request: Request) -> Response:
        body = request.body
        if request.header(b"content-encoding") == b"gzip":
            body = gzip.decompress(body)
        if request.path == "/v1/metrics":
            for each in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resource = {kv.key: kv.value.string_value for kv in each.resource.attributes}
                self.metrics |= {m.name: m for scope in each.scope_metrics for m in scope.metrics}
        else:
            spans = ExportTraceServiceRequest.FromString(body).resource_spans
            self.spans |= {s.name for each in spans for scope in each.scope_spans for s in scope.spans}
        self.heard.set()
        return Response(200, b"", content_type="application/x-protobuf")


async def test_otlp(bare: pytest.MonkeyPatch) -> None:
    """A receiver is sent every metric, histograms too, and the spans; the environment says where and as whom."""
    receiver = Receiver()
    with anyio.fail_after(40):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, lambda stream: serve_http(stream, receiver.answer))
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            bare.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
            bare.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
            bare.setenv("OTEL_METRIC_EXPORT_INTERVAL", "100")
            bare.setenv("OTEL_SERVICE_NAME", "gateway")
            telemetry = Telemetry("gw7", frozenset({"metrics", "traces"}))
            async with rigged(watcher=telemetry.watcher) as rig, told(rig, telemetry):
                await rig.subscribe(*rig.assets)
                await receiver.heard.wait()
                # All has been sent by now.
            assert set(receiver.metrics) == {metric.name for metric in METRICS}
            assert (receiver.resource["service.name"], receiver.resource["service.instance.id"]) == (
                "gateway",
                "gw7",
            )
            for metric in METRICS:
                form = receiver.metrics[metric.name].WhichOneof("data")
                assert form == {Kind.COUNTER: "sum"}.get(metric.kind, metric.kind.value)
            (answering,) = [
                point
                for point in receiver.metrics["polybus.command.duration"].histogram.data_points
                if point.attributes[0].value.string_value == "subscribe"
            ]
            assert answering.count == sum(answering.bucket_counts) == 1
            assert not answering.HasField("max")
            assert {"dial", "command subscribe"} <= receiver.spans
            assert telemetry.failures.total() == 0
            tasks.cancel_scope.cancel()


async def test_a_receiver_that_hangs(nats: NatsServer) -> None:
    """It holds up neither events, nor commands, nor the event loop, nor the end."""
    asked = anyio.Event()

    async def hang(stream: anyio.abc.ByteStream) -> None:
        async with stream:
            await stream.receive()
            asked.set()
            await anyio.sleep_forever()

    with anyio.fail_after(60):
        async with (
            await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
            anyio.create_task_group() as tasks,
            running_simulator(SimulatorOptions(markets=4, seed=5, rate=150)) as simulator,
            consuming(nats.url) as consumer,
        ):
            tasks.start_soon(listener.serve, hang)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            variables = {f"POLYBUS_FEEDS__{feed.upper()}__URL": url for feed, url in simulator.feeds.items()}
            variables |= {
                "NATS_URL": nats.url,
                "POLYBUS_HTTP__PORT": "0",
                "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}",
                "OTEL_METRIC_EXPORT_INTERVAL": "100",
                "OTEL_BSP_SCHEDULE_DELAY": "10",
                "OTEL_BSP_MAX_QUEUE_SIZE": "4",
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1",
            }
            async with running(["run", "--json"], **variables) as gateway:
                url = (await gateway.json())["http"]
                await consumer.ask("subscribe", assets=simulator.assets, wait="data")
                await asked.wait()
                before = consumer.received
                for _ in range(20):
                    await consumer.ask("status")
                await consumer.until(lambda: consumer.received > before + 500)
                for path in ("/live", "/startup", "/ready"):
                    assert (await get(url, path)).status == 200
                lag = await _lag(url)
                # An exporter's patience is ten seconds: had the loop waited for one, it would show.
                assert lag["5.0"] == lag["+Inf"]
                gateway.process.terminate()
                with anyio.fail_after(10 + process.FLUSH_S):
                    status, said = await gateway.end()
                assert status == 0, said
                assert f"not taken within {process.FLUSH_S:g} s" in said
                assert "Traceback" not in said
            consumer.check()
            tasks.cancel_scope.cancel()


async def _lag(url: str) -> dict[str, float]:
    """How often the event loop was how late, once that has been looked at at all: bound -> count."""
    while True:
        text = (await get(url, "/metrics")).body.decode()
        (lag,) = [f for f in text_string_to_metric_families(text) if f.name == "polybus_loop_lag_seconds"]
        counts = {sample.labels["le"]: sample.value for sample in lag.samples if "le" in sample.labels}
        if counts["+Inf"]:
            return counts


ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "signals", "remark"),
    [
        ({}, set(), ""),
        (ENDPOINT, {"metrics", "traces"}, ""),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, {"traces"}, ""),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, {"metrics"}, ""),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "none"}, {"traces"}, ""),
        (ENDPOINT | {"OTEL_METRICS_EXPORTER": "prometheus"}, {"traces"}, ""),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "true"}, set(), ""),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"metrics", "traces"}, ""),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, set(), "OTEL_EXPORTER_OTLP_PROTOCOL is 'grpc'"),
        (
            ENDPOINT | {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
            {"metrics"},
            "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL is 'grpc', so no traces are exported",
        ),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, set(), "OTEL_TRACES_EXPORTER: 'zipkin' is not there"),
    ],
)
def test_what_the_environment_asks_for(environ: dict[str, str], signals: set[str], remark: str) -> None:
    """The standard variables decide what is sent; what cannot be had is said."""
    asked = wanted(environ)
    assert asked.signals == signals
    assert remark in " ".join(asked.remarks)
    assert bool(asked.remarks) == bool(remark)


async def test_a_variable_that_makes_no_sense() -> None:
    """Is wrong configuration as any other: one sentence, before anything is started."""
    wrong = {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "many", "OTEL_TRACES_EXPORTER": "otlp"}
    outcome = await polybus("run", "--nats", "nats://127.0.0.1:1", **wrong)
    assert outcome.status == 2
    assert outcome.err.startswith("polybus: an OTEL_ variable: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT must be")
