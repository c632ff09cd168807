"""Metrics and spans for those who want them sent: OTLP over HTTP, from threads of their own.

Where they go, with which headers, how often and how patiently is for the standard `OTEL_*` variables to say, which
the SDK reads.  A receiver that hangs holds up one thread; the queue of spans is bounded, and its oldest are dropped.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, override

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from .metrics import METRICS, Kind, Snapshot
from .reading import Buckets


class MetricExporter(OTLPMetricExporter):
    """Adds the histograms, since OpenTelemetry has none that is observed instead of recorded into.

    Args:
        read: the latest snapshot.
        failures: where failed exports are counted.
    """

    def __init__(self, read: Callable[[], Snapshot], failures: Counter[str]) -> None:
        super().__init__()
        self._read = read
        self._failures = failures
        self._started = time.time_ns()

    @override
    def export(
        self, metrics_data: MetricsData, timeout_millis: float | None = 10_000, **kwargs: Any
    ) -> MetricExportResult:
        result = super().export(self._with_histograms(metrics_data), timeout_millis, **kwargs)
        self._failures["metrics"] += result is not MetricExportResult.SUCCESS
        return result

    def _with_histograms(self, data: MetricsData) -> MetricsData:
        """The same data, with our histograms in the last scope of each resource: there is one of each."""
        values, now = self._read(), time.time_ns()
        histograms = [
            Metric(
                metric.name,
                metric.meaning,
                metric.unit,
                Histogram(
                    [self._point(value, attributes, now) for value, attributes in values[metric.name]],
                    AggregationTemporality.CUMULATIVE,
                ),
            )
            for metric in METRICS
            if metric.kind is Kind.HISTOGRAM and metric.name in values
        ]
        return MetricsData(
            [
                ResourceMetrics(
                    each.resource,
                    [
                        ScopeMetrics(scope.scope, [*scope.metrics, *histograms], scope.schema_url)
                        for scope in each.scope_metrics
                    ],
                    each.schema_url,
                )
                for each in data.resource_metrics
            ]
        )

    def _point(self, value: float | Buckets, attributes: dict[str, str], now: int) -> HistogramDataPoint:
        assert isinstance(value, Buckets)
        return HistogramDataPoint(
            attributes=attributes,
            start_time_unix_nano=self._started,
            time_unix_nano=now,
            count=sum(value.counts),
            sum=value.sum,
            bucket_counts=value.counts,
            explicit_bounds=value.bounds,
            # Not known, which OTLP allows and the SDK's types do not.
            min=None,  # type: ignore[arg-type]
            max=None,  # type: ignore[arg-type]
        )


class SpanExporter(OTLPSpanExporter):
    """Counts what fails.

    Args:
        failures: where.
    """

    def __init__(self, failures: Counter[str]) -> None:
        super().__init__()
        self._failures = failures

    @override
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self._failures["traces"] += result is not SpanExportResult.SUCCESS
        return result
