"""Export requests to OpenTelemetry, as metrics and spans: ``pip install 'couchdal[opentelemetry]'``.

Names and attributes follow OpenTelemetry's semantic conventions for database clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from opentelemetry.metrics import MeterProvider, get_meter
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

from couchdal.metrics.forks import exporting
from couchdal.middleware.events import RequestEvent, observe


def export(
    meter_provider: MeterProvider | None = None, server: object = None, *, tracer_provider: TracerProvider | None = None
) -> Callable[[], None]:
    """Record the requests to all servers, or to one (``backend.server_key``). Return the function that stops it.

    The instruments are ``db.client.operation.duration`` (seconds), ``db.client.response.returned_rows`` and
    ``couchdal.docs_examined``. Each request is also a span within the caller's current span. The providers default to
    the program's global ones.

    >>> from couchdal.metrics import opentelemetry
    >>> stop = opentelemetry.export()
    """
    tracer = get_tracer("couchdal", tracer_provider=tracer_provider)
    meter = get_meter("couchdal", meter_provider=meter_provider)
    duration = meter.create_histogram("db.client.operation.duration", "s", "How long requests took")
    rows = meter.create_histogram("db.client.response.returned_rows", "{row}", "Rows and documents in answers")
    examined = meter.create_counter("couchdal.docs_examined", "{document}", "Documents read to answer queries")

    def record(event: RequestEvent) -> None:
        attributes: dict[str, str] = {
            "db.system.name": "couchdb",
            "db.operation.name": f"{event.method} {event.endpoint or 'unknown'}",
            "server.address": event.backend,
        }
        if event.database is not None:
            attributes["db.namespace"] = event.database
        if event.status is not None:
            attributes["db.response.status_code"] = str(event.status)
        if event.error is not None:
            attributes["error.type"] = event.error
        end = time.time_ns()
        start = end - round(event.duration_s * 1e9)
        with exporting:
            span = tracer.start_span(
                attributes["db.operation.name"], kind=SpanKind.CLIENT, attributes=attributes, start_time=start
            )
            if event.error is not None:
                span.set_status(Status(StatusCode.ERROR))
            span.end(end)
            duration.record(event.duration_s, attributes)
            if event.rows is not None:
                rows.record(event.rows, attributes)
            if event.docs_examined is not None:
                examined.add(event.docs_examined, attributes)

    return observe(record, server)
