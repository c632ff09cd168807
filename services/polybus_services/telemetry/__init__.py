"""What the gateway tells about itself to those who watch many of them: OpenTelemetry metrics and traces.

| module | holds |
| --- | --- |
| `environment` | what the standard `OTEL_*` variables ask for; imports nothing of OpenTelemetry |
| `metrics` | the one table of all metrics |
| `reading` | how each is read from a gateway |
| `prometheus`, `otlp` | the two ways out |
| `tracing` | spans of commands, connections and some batches |
| `process` | all of it, put together for one process |

Nothing is recorded through OpenTelemetry while an event passes: the hot path counts in plain integers, which are read
from time to time.  Nothing here is global: providers are made for one gateway and passed on.
"""
