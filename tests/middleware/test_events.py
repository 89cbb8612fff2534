"""Request events: one for each request, from every kind of handle, also for failed requests."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import CollectorRegistry, generate_latest

from couchdal import (
    AsyncBackend,
    AsyncCouchDAL,
    BaseBackend,
    Conflict,
    CouchDAL,
    MemoryBackend,
    Request,
    RequestEvent,
    Unreachable,
    observe,
)
from couchdal.api.routes import ROUTES
from couchdal.http.messages import ABSENT
from couchdal.metrics import opentelemetry, prometheus
from couchdal.middleware.chain import Steps, installed


@pytest.fixture
def dal() -> CouchDAL:
    handle = CouchDAL(MemoryBackend(database="db"))
    handle.bulk_docs([{"_id": str(number), "n": number} for number in range(4)])
    return handle


@pytest.fixture
def events(dal: CouchDAL) -> Iterator[list[RequestEvent]]:
    seen: list[RequestEvent] = []
    end = observe(seen.append, dal.backend.server_key)
    yield seen
    end()
    count = len(seen)
    dal.info()
    assert len(seen) == count


def test_event_describes_the_request_and_its_answer(dal: CouchDAL, events: list[RequestEvent]) -> None:
    query = {"selector": {"n": {"$gt": 1}, "$or": [{"n": 2}, {"n": {"$in": [3]}}]}, "execution_stats": True}
    dal.get("/_find?partition=", "POST", query)
    (event,) = events
    assert (event.endpoint, event.method, event.database, event.status) == ("/{db}/_find", "POST", "db", 200)
    assert event.parameters == {"selector", "execution_stats", "partition"}
    assert event.operators == {"$gt", "$or", "$in"}
    assert (event.rows, event.docs_examined, event.error) == (2, 4, None)
    assert event.duration_s > 0
    assert event.backend == "the memory backend"


def test_event_of_a_refused_request_has_couchdbs_error_word(dal: CouchDAL, events: list[RequestEvent]) -> None:
    dal.request("PUT", "/0", json={})
    dal.request("GET", "/0/none/x?rev=1-a")
    assert [(event.endpoint, event.status, event.error) for event in events] == [
        ("/{db}/{doc_id}", 409, "conflict"),
        ("/{db}/{doc_id}/{name...}", 404, "not_found"),
    ]
    assert events[1].parameters == {"rev"}


def test_event_of_a_request_without_an_answer_names_the_exception(dal: CouchDAL, events: list[RequestEvent]) -> None:
    with dal.faults.drop(), pytest.raises(Unreachable):
        dal.info()
    assert [(event.status, event.error) for event in events] == [(None, "BrokenOff")]


def test_event_has_couchdbs_error_word_when_middleware_raises(dal: CouchDAL, events: list[RequestEvent]) -> None:
    def refuse(backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        yield request
        raise Conflict()

    with installed(refuse, dal.backend.server_key), pytest.raises(Conflict):
        dal.info()
    assert [(event.endpoint, event.status, event.error) for event in events] == [("/{db}", 409, "conflict")]


def test_parameters_include_the_options_of_a_body_and_not_the_ids_in_one(
    dal: CouchDAL, events: list[RequestEvent]
) -> None:
    dal.request("POST", "/_all_docs", json={"keys": ["0"], "limit": 1})
    dal.request("POST", "/_all_docs/queries", json={"queries": [{"skip": 1}, {"descending": True}]})
    dal.request("POST", "/_revs_diff", json={"0": ["1-a"]})
    assert [sorted(event.parameters) for event in events] == [
        ["keys", "limit"],
        ["descending", "queries", "skip"],
        [],
    ]


def test_operators_are_those_of_selectors_and_not_of_the_data_that_they_compare_with(
    dal: CouchDAL, events: list[RequestEvent]
) -> None:
    dal.request("POST", "/_find", json={"selector": {"$not": {"n": {"$eq": {"$lt": 1}}}, "m": [{"$gt": 1}]}})
    partial = {"fields": ["n"], "partial_filter_selector": {"$nor": [{"n": {"$elemMatch": {"$gte": 1}}}]}}
    dal.request("POST", "/_index", json={"index": partial})
    dal.request("POST", "/_changes?filter=_selector", json={"selector": {"n": {"$in": [1]}}})
    dal.request("POST", "", json={"_id": "x", "selector": {"n": {"$mod": [2, 1]}}})
    assert [event.operators for event in events] == [{"$not", "$eq"}, {"$nor", "$elemMatch", "$gte"}, {"$in"}, set()]


def test_endpoint_within_a_partition_is_named(dal: CouchDAL, events: list[RequestEvent]) -> None:
    dal.backend.exchange(Request("PUT", "/parts", "partitioned=true"))
    listed = {
        route.pattern: route.methods
        for route in ROUTES
        if route.is_listed and "/_partition/{partition}/" in route.pattern
    }
    assert len(listed) > 10
    for endpoint, methods in listed.items():
        path = endpoint.replace("{db}", "parts").replace("{partition}", "x")
        for method in methods:
            dal.backend.exchange(Request(method, path, json={} if method == "POST" else ABSENT))
            assert (events[-1].endpoint, events[-1].method) == (endpoint, method)
            assert events[-1].status != 405


def test_attachment_that_is_read_is_not_decoded(dal: CouchDAL, events: list[RequestEvent]) -> None:
    dal.backend.exchange(
        Request("PUT", "/db/a/rows.txt", headers={"content-type": "text/plain"}, body=b'{"rows": [1]}')
    )
    dal.backend.exchange(Request("GET", "/db/a/rows.txt"))
    assert [(event.status, event.rows) for event in events] == [(201, None), (200, None)]


def test_event_holds_no_secret(dal: CouchDAL, events: list[RequestEvent]) -> None:
    dal.request("POST", "/_session", json={"name": "reader", "password": "hidden"})
    dal.request("GET", "/?token=hidden", headers={"authorization": "Basic hidden"})
    assert "hidden" not in str(events)


def test_events_come_from_asynchronous_handles_and_feeds_too(dal: CouchDAL, events: list[RequestEvent]) -> None:
    async def ask() -> None:
        handle = AsyncCouchDAL(dal.backend)
        await handle.info()
        async for _ in handle.changes("continuous", timeout=1):
            pass

    asyncio.run(ask())
    assert [(event.endpoint, event.rows) for event in events] == [("/{db}", None), ("/{db}/_changes", None)]


def test_prometheus_counts_requests_rows_and_documents(dal: CouchDAL) -> None:
    registry = CollectorRegistry()
    end = prometheus.export(registry, dal.backend.server_key)
    dal.find({"n": 1})
    dal.get("/_find", "POST", {"selector": {"n": 1}, "execution_stats": True})
    dal.request("GET", "/none")
    text = generate_latest(registry).decode()
    find = 'endpoint="/{db}/_find"'
    assert f'couchdal_requests_total{{backend="the memory backend",{find},method="POST",status="200"}} 2.0' in text
    assert 'endpoint="/{db}/{doc_id}",method="GET",status="404"} 1.0' in text
    labels = f'backend="the memory backend",{find},method="POST",status="200"'
    assert f"couchdal_request_duration_seconds_count{{{labels}}} 2.0" in text
    assert f"couchdal_rows_total{{{find}}} 2.0" in text
    assert f"couchdal_docs_examined_total{{{find}}} 4.0" in text
    end()
    assert generate_latest(registry) == b""


def test_opentelemetry_records_durations_and_rows(dal: CouchDAL) -> None:
    reader = InMemoryMetricReader()
    end = opentelemetry.export(MeterProvider([reader]), dal.backend.server_key)
    dal.get("/_find", "POST", {"selector": {"n": 1}, "execution_stats": True})
    dal.request("GET", "/none")
    end()
    data = reader.get_metrics_data()
    assert data is not None
    metrics = {metric.name: metric for metric in data.resource_metrics[0].scope_metrics[0].metrics}
    durations = metrics["db.client.operation.duration"].data.data_points
    points = {point.attributes["db.operation.name"]: point for point in durations}
    assert points["POST /{db}/_find"].count == 1
    assert dict(points["GET /{db}/{doc_id}"].attributes or {}) == {
        "db.system.name": "couchdb",
        "db.operation.name": "GET /{db}/{doc_id}",
        "db.namespace": "db",
        "db.response.status_code": "404",
        "error.type": "not_found",
        "server.address": "the memory backend",
    }
    (examined,) = metrics["couchdal.docs_examined"].data.data_points
    assert examined.value == 4


def test_opentelemetry_traces_requests_within_the_callers_span(dal: CouchDAL) -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    end = opentelemetry.export(server=dal.backend.server_key, tracer_provider=provider)
    with provider.get_tracer("program").start_as_current_span("work") as work:
        dal.find({"n": 1})
        dal.request("GET", "/none")
    end()
    dal.info()
    find, missing, _ = spans.get_finished_spans()
    assert (find.name, find.kind) == ("POST /{db}/_find", SpanKind.CLIENT)
    assert find.parent is not None
    assert find.parent.span_id == work.get_span_context().span_id
    assert find.start_time is not None
    assert find.end_time is not None
    assert find.start_time < find.end_time
    assert find.status.status_code is StatusCode.UNSET
    assert (missing.attributes or {})["error.type"] == "not_found"
    assert missing.status.status_code is StatusCode.ERROR


def test_prometheus_uses_the_librarys_registry_when_none_is_given(dal: CouchDAL) -> None:
    end = prometheus.export(server=dal.backend.server_key)
    dal.info()
    assert b'couchdal_requests_total{backend="the memory backend",endpoint="/{db}"' in generate_latest()
    end()
    assert b"couchdal" not in generate_latest()
