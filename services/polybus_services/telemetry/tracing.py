"""Spans: of every command, of each connection's life, and of one batch in a thousand.

A command continues the trace that its NATS headers name (`traceparent`, W3C), and its answer bears the span's own.
No attribute holds a payload, an asset or a credential.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import override

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    TracerProvider,
    get_current_span,
    set_span_in_context,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from polybus_actors.venue.connection import Connection, Phase
from polybus_actors.watcher import OK, Command, Watcher
from polybus_protocol import __version__
from polybus_protocol.stream import Publication

TRACED_BATCHES = 1000
"""One batch in so many has a span: one a second at the thousand batches that a busy second has."""

_propagator = TraceContextTextMapPropagator()


class Tracing(Watcher):
    """A watcher that makes spans of what it is told.

    Args:
        provider: where spans begin.
        batches: whether batches are worth spans, as they are where somebody receives them.
    """

    def __init__(self, provider: TracerProvider, *, batches: bool) -> None:
        super().__init__()
        self._tracer = provider.get_tracer("polybus", __version__)
        self._every = TRACED_BATCHES if batches else 0
        self._until_traced = self._every
        self._lives: dict[str, Span] = {}

    @override
    def published(self, batch: list[Publication], begun: int) -> None:
        super().published(batch, begun)
        if not self._every or not batch:
            return
        self._until_traced -= 1
        if self._until_traced <= 0:
            self._until_traced = self._every
            self._tracer.start_span(
                "send batch",
                context=Context(),
                kind=SpanKind.PRODUCER,
                start_time=begun,
                attributes={
                    "messaging.system": "nats",
                    "messaging.operation.name": "send",
                    "messaging.batch.message_count": len(batch),
                    "polybus.feed": batch[0].stream.feed,
                },
            ).end(time.time_ns())

    @override
    def entered(self, connection: Connection) -> None:
        """A dial is one span, the session that comes of it another in the same trace.

        What a connection's tasks log from here on bears the trace: they begin after this, in its context.
        """
        super().entered(connection)
        match connection.phase:
            case Phase.DIALING:
                self._begin("dial", connection, Context())
            case Phase.OPEN:
                dial = self._end(connection, None)
                self._begin("session", connection, Context() if dial is None else set_span_in_context(dial))
            case Phase.LIVE:
                if span := self._lives.get(connection.id):
                    span.add_event("live")
            case Phase.WAITING | Phase.REFUSED:
                self._end(connection, connection.reason)
            case Phase.STOPPED:
                self._end(connection, None)

    @contextmanager
    @override
    def command(self, verb: str, headers: Mapping[str, str] | None) -> Iterator[Command]:
        carrier = {name.lower(): value for name, value in (headers or {}).items()}
        span = self._tracer.start_span(
            f"command {verb}",
            context=_propagator.extract(carrier, Context()),
            kind=SpanKind.SERVER,
            attributes={
                "messaging.system": "nats",
                "messaging.operation.name": "process",
                "polybus.verb": verb,
            },
        )
        with use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            with super().command(verb, headers) as command:
                command.reply_headers = {}
                _propagator.inject(command.reply_headers, set_span_in_context(span))
                yield command
            span.set_attribute("polybus.outcome", command.outcome)
            if command.outcome.startswith("5"):
                span.set_status(Status(StatusCode.ERROR))
            else:
                span.set_status(Status(StatusCode.OK if command.outcome == OK else StatusCode.UNSET))

    def _begin(self, name: str, connection: Connection, parent: Context) -> None:
        self._end(connection, None)
        span = self._lives[connection.id] = self._tracer.start_span(
            name,
            context=parent,
            kind=SpanKind.CLIENT,
            attributes={
                "polybus.feed": connection.feed,
                "polybus.connection": connection.id,
                "polybus.incarnation": connection.incarnation,
            },
        )
        # Never detached: the next one takes its place, in a context that is this connection's alone.
        attach(set_span_in_context(span))

    def _end(self, connection: Connection, reason: str | None) -> Span | None:
        span = self._lives.pop(connection.id, None)
        if span is not None:
            if reason is not None:
                span.set_status(Status(StatusCode.ERROR, reason))
            span.end()
        return span


class TraceIds(logging.Filter):
    """Lets every record pass, with `trace_id` and `span_id` where it was made within a span."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        context = get_current_span().get_span_context()
        if context.is_valid:
            record.trace_id = f"{context.trace_id:032x}"
            record.span_id = f"{context.span_id:016x}"
        return True
