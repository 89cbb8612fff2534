"""Export requests to Prometheus, as counters and histograms: ``pip install 'couchdal[prometheus]'``."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, exposition

from couchdal.metrics.forks import exporting
from couchdal.middleware.events import RequestEvent, observe

_LABELS = ("endpoint", "method", "status", "backend")
# Clients may send any word as the method, and the registry keeps every value of a label forever.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "COPY", "OPTIONS"))


def export(registry: CollectorRegistry | None = None, server: object = None) -> Callable[[], None]:
    """Count the requests to all servers, or to one (``backend.server_key``). Return the function that stops it.

    The metrics are ``couchdal_requests_total``, ``couchdal_request_duration_seconds``, ``couchdal_rows_total`` and
    ``couchdal_docs_examined_total``. ``registry`` defaults to the library's global one. Raise ``ValueError`` if it
    already has these metrics.

    >>> from couchdal.metrics import prometheus
    >>> stop = prometheus.export()
    """
    registry = REGISTRY if registry is None else registry
    requests = Counter("couchdal_requests", "Requests to CouchDB", _LABELS, registry=registry)
    seconds = Histogram(
        "couchdal_request_duration_seconds", "Duration of requests to CouchDB", _LABELS, registry=registry
    )
    rows = Counter("couchdal_rows", "Rows and documents in answers", _LABELS[:1], registry=registry)
    examined = Counter("couchdal_docs_examined", "Documents read to answer queries", _LABELS[:1], registry=registry)

    def count(event: RequestEvent) -> None:
        endpoint = event.endpoint or "unknown"
        status = str(event.status) if event.status is not None else event.error or "none"
        labels = (endpoint, event.method if event.method in _METHODS else "other", status, event.backend)
        with exporting:
            requests.labels(*labels).inc()
            seconds.labels(*labels).observe(event.duration_s)
            if event.rows is not None:
                rows.labels(endpoint).inc(event.rows)
            if event.docs_examined is not None:
                examined.labels(endpoint).inc(event.docs_examined)

    end = observe(count, server)

    def stop() -> None:
        end()
        for collector in (requests, seconds, rows, examined):
            registry.unregister(collector)

    return stop


class Exposition:
    """One server's metrics as text, from a private registry. Call it to get the text and its content type.

    ``gauges`` adds values: each name maps to its description and the function that reads it.
    """

    def __init__(self, server: object, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        export(self._registry, server)
        for name, (meaning, read) in gauges.items():
            Gauge(name, meaning, registry=self._registry).set_function(read)

    def __call__(self) -> tuple[bytes, str]:
        with exporting:
            return exposition.generate_latest(self._registry), exposition.CONTENT_TYPE_LATEST
