"""The telemetry of one process: what it starts, what it reads, and how it ends without holding anybody up."""

import asyncio
import contextlib
import logging
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable

import anyio
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from polybus_actors.watcher import Watcher
from polybus_protocol import __version__

from .metrics import METRICS, Kind, Snapshot
from .prometheus import Exposition
from .reading import Buckets
from .tracing import TraceIds, Tracing

logger = logging.getLogger("polybus.telemetry")

REFRESH_S = 5.0
"""Seconds from one snapshot for OTLP to the next: metrics are sent once a minute, unless they are told otherwise."""

FLUSH_S = 1.0
"""Seconds that the last spans and metrics may take to leave, at the end: twenty times what they do take."""


class Telemetry:
    """See the module.

    Args:
        replica: the gateway's name.
        signals: what goes out over OTLP: some of `metrics`, `traces`.

    Raises:
        ValueError: the SDK cannot do what an `OTEL_*` variable says.
    """

    def __init__(self, replica: str, signals: frozenset[str] = frozenset()) -> None:
        self._take: Callable[[], Snapshot] = dict
        self._snapshot: Snapshot = {}
        self.failures: Counter[str] = Counter()
        """Exports that failed, by signal."""
        self._exposition = Exposition(lambda: self._snapshot)
        resource = _resource(replica)
        readers: list[MetricReader] = [self._exposition.reader]
        self._tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
        if "metrics" in signals:
            readers.append(self._metrics_reader())
        if "traces" in signals:
            self._tracers.add_span_processor(self._span_processor())
        self._pushes = len(readers) > 1
        self._meters = MeterProvider(readers, resource, shutdown_on_exit=False)
        self.watcher: Watcher = Tracing(self._tracers, batches="traces" in signals)
        """To be given to the gateway."""
        self._make_instruments()

    def scrape(self) -> bytes:
        """All metrics at this moment, as Prometheus reads them."""
        self._snapshot = self._take()
        return self._exposition.text()

    @contextlib.asynccontextmanager
    async def watching(self, take: Callable[[], Snapshot]) -> AsyncIterator[None]:
        """Observe a gateway for the length of a block.

        Args:
            take: takes a snapshot, where the gateway runs.
        """
        self._take = take
        trace_ids = TraceIds()
        handlers = list(logging.getLogger().handlers)
        for handler in handlers:
            handler.addFilter(trace_ids)
        try:
            async with anyio.create_task_group() as tasks:
                if self._pushes:
                    tasks.start_soon(self._refresh)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self._look()
            with anyio.CancelScope(shield=True):
                await self._end()
            for handler in handlers:
                handler.removeFilter(trace_ids)

    async def _refresh(self) -> None:
        """Take the snapshots that the exporting thread reads, since it must not look at the gateway itself."""
        while True:
            self._look()
            await anyio.sleep(REFRESH_S)

    def _look(self) -> None:
        """Take a snapshot; a fault in there costs numbers, and not the gateway."""
        try:
            self._snapshot = self._take()
        except Exception:
            logger.exception("the metrics could not be read")

    async def _end(self) -> None:
        """Send what is left, in a thread that nobody waits for longer than `FLUSH_S`, nor at the process's end."""
        done, loop = anyio.Event(), asyncio.get_running_loop()

        def shut_down() -> None:
            for provider in (self._tracers, self._meters):
                provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody has waited
                loop.call_soon_threadsafe(done.set)

        # A daemon, unlike the threads of anyio, which the interpreter would wait for.
        threading.Thread(target=shut_down, name="telemetry-end", daemon=True).start()
        with anyio.move_on_after(FLUSH_S):
            await done.wait()
            return
        logger.warning("the last telemetry was not taken within %g s", FLUSH_S)

    def _metrics_reader(self) -> MetricReader:
        from .otlp import MetricExporter

        return PeriodicExportingMetricReader(MetricExporter(lambda: self._snapshot, self.failures))

    def _span_processor(self) -> BatchSpanProcessor:
        from .otlp import SpanExporter

        return BatchSpanProcessor(SpanExporter(self.failures))

    def _make_instruments(self) -> None:
        meter = self._meters.get_meter("polybus", __version__)
        for metric in METRICS:
            details = (metric.name, [self._observing(metric.name)], metric.unit, metric.meaning)
            match metric.kind:
                case Kind.COUNTER:
                    meter.create_observable_counter(*details)
                case Kind.GAUGE:
                    meter.create_observable_gauge(*details)
                case Kind.HISTOGRAM:
                    pass  # see the two ways out

    def _observing(self, name: str) -> Callable[[CallbackOptions], list[Observation]]:
        def observe(_options: CallbackOptions) -> list[Observation]:
            return [
                Observation(value, attributes)
                for value, attributes in self._snapshot.get(name, ())
                if not isinstance(value, Buckets)
            ]

        return observe


def _resource(replica: str) -> Resource:
    """Who we are; what `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` say comes first."""
    ours = {"service.name": "polybus", "service.version": __version__, "service.instance.id": replica}
    return Resource.create(ours | dict(OTELResourceDetector().detect().attributes))
