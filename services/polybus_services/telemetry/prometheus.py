"""Metrics for those who come and fetch them: the text that `/metrics` answers with."""

from collections.abc import Callable, Iterable
from itertools import accumulate

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from .metrics import METRICS, Kind, Metric, Snapshot
from .reading import Buckets


class Exposition:
    """A registry of our own, with a reader for the meters and a collector for the histograms.

    Args:
        read: takes a snapshot.
    """

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry()
        self.reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
        self._registry.register(_Histograms(read))

    def text(self) -> bytes:
        """All metrics, as Prometheus reads them."""
        return generate_latest(self._registry)


class _Histograms(Collector):
    """OpenTelemetry has no histogram that is observed instead of recorded into: these go in beside its meters."""

    def __init__(self, read: Callable[[], Snapshot]) -> None:
        self._read = read

    def collect(self) -> Iterable[Family]:
        values = self._read()
        for metric in METRICS:
            if metric.kind is Kind.HISTOGRAM:
                family = HistogramMetricFamily(
                    prometheus_name(metric), metric.meaning, labels=metric.attributes
                )
                for value, attributes in values.get(metric.name, ()):
                    assert isinstance(value, Buckets)
                    bounds = [*map(str, value.bounds), "+Inf"]
                    family.add_metric(
                        [attributes[name] for name in metric.attributes],
                        buckets=list(zip(bounds, accumulate(value.counts), strict=True)),
                        sum_value=value.sum,
                    )
                yield family


def prometheus_name(metric: Metric) -> str:
    """The name that Prometheus knows a metric by; of a histogram, without `_bucket`, `_sum` and `_count`.

    >>> [prometheus_name(metric) for metric in METRICS[:1]]
    ['polybus_events_total']
    """
    unit = {"s": "_seconds", "By": "_bytes"}.get(metric.unit, "")
    total = "_total" if metric.kind is Kind.COUNTER else ""
    return metric.name.replace(".", "_") + unit + total
