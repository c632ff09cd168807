"""What the standard `OTEL_*` variables ask for, as far as it decides what is started at all.

The rest of them (endpoints, headers, timeouts, intervals, sampler, resource) the OpenTelemetry SDK reads by itself.
"""

from collections.abc import Mapping

import msgspec

SIGNALS = ("metrics", "traces")

SPOKEN = "http/protobuf"
"""The one OTLP protocol we bring: gRPC would cost twice the memory and start-up time, and every collector takes both."""

KNOWN_EXPORTERS = frozenset({"otlp", "none", "prometheus"})
"""What `OTEL_METRICS_EXPORTER` and `OTEL_TRACES_EXPORTER` may list; `prometheus` is `[http]`, and is set there."""


class Wanted(msgspec.Struct, frozen=True):
    """What is to be exported over OTLP."""

    signals: frozenset[str]
    """Some of `SIGNALS`."""
    remarks: list[str]
    """What was asked for and will not happen, a sentence each."""


def wanted(environ: Mapping[str, str]) -> Wanted:
    """Read the environment: a signal goes out over OTLP when its exporter is `otlp`, or an endpoint is given."""
    signals, remarks = set[str](), list[str]()
    for signal in SIGNALS:
        upper = signal.upper()
        exporters = {name.strip() for name in environ.get(f"OTEL_{upper}_EXPORTER", "").split(",")} - {""}
        if not exporters and _first(environ, upper, "ENDPOINT")[1]:
            exporters = {"otlp"}
        remarks += [
            f"OTEL_{upper}_EXPORTER: {name[:40]!r} is not there; otlp and none are"
            for name in sorted(exporters - KNOWN_EXPORTERS)
        ]
        if "otlp" not in exporters or environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
            continue
        name, protocol = _first(environ, upper, "PROTOCOL")
        if protocol in ("", SPOKEN):
            signals.add(signal)
        else:
            remarks.append(
                f"{name} is {protocol[:40]!r}, so no {signal} are exported: polybus speaks {SPOKEN}, which collectors "
                "take on port 4318"
            )
    return Wanted(frozenset(signals), remarks)


def _first(environ: Mapping[str, str], signal: str, what: str) -> tuple[str, str]:
    """The variable of the signal, or else that of all signals, and its value."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal}_{what}", f"OTEL_EXPORTER_OTLP_{what}"
    name = own if environ.get(own, "").strip() else common
    return name, environ.get(name, "").strip()
