"""Logging of a process: one line per record on standard error, as text for people or JSON for programs."""

import logging
import sys
import time
from typing import override

import msgspec

from polybus_services.config import LogConfig

_BUILT_IN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
"""What every record has; anything else was given as `extra` and is worth a field."""


class JsonFormatter(logging.Formatter):
    """One JSON object: `time` (RFC 3339, UTC), `level`, `logger`, `message`, what was given as `extra`, `exception`.

    With telemetry, records made within a span have its `trace_id` and `span_id`.
    """

    @override
    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, object] = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        entry |= {key: value for key, value in record.__dict__.items() if key not in _BUILT_IN}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=str).decode()


def configure(config: LogConfig, *, as_json: bool = False) -> None:
    """Send the records of this process to standard error.

    Args:
        config: how.
        as_json: JSON where the configuration leaves it open, on a terminal too.
    """
    handler = logging.StreamHandler(sys.stderr)
    is_open = config.format == "auto"
    as_json = config.format == "json" or (is_open and (as_json or not sys.stderr.isatty()))
    handler.setFormatter(
        JsonFormatter()
        if as_json
        else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S")
    )
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # It logs each failed attempt to connect with a traceback; whoever owns the client says what matters.
    logging.getLogger("nats").setLevel(logging.CRITICAL)
    # A line for each request; what comes of them is told by who asks.
    logging.getLogger("httpx").setLevel(logging.WARNING)
