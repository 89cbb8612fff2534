"""The table of routes: every route has an endpoint or a reason."""

from __future__ import annotations

import inspect

import pytest

from couchdal.api.routes import ROUTES, find_route
from couchdal.emulator.dispatch import load_endpoint
from couchdal.http.urls import split_path

ENDPOINTS = sorted({name for route in ROUTES for name in route.endpoints.values()})


@pytest.mark.parametrize("name", ENDPOINTS)
def test_named_endpoint_exists_and_takes_one_call(name: str) -> None:
    assert list(inspect.signature(load_endpoint(name)).parameters) == ["call"]


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.pattern)
def test_route_answers_or_gives_a_reason(route: object) -> None:
    assert bool(route.endpoints) != bool(route.unsupported)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "pattern", "args"),
    [
        ("/db/a%2Fb", "/{db}/{doc_id}", {"db": "db", "doc_id": "a/b"}),
        ("//db///_all_docs", "/{db}/_all_docs", {"db": "db"}),
        ("/db/_design/x/_view/v", "/{db}/_design/{name}/_view/{view}", {"db": "db", "name": "x", "view": "v"}),
        ("/db/_local/x", "/{db}/_local/{local}", {"db": "db", "local": "x"}),
        ("/db/d/a/b.txt", "/{db}/{doc_id}/{name...}", {"db": "db", "doc_id": "d", "name": "a/b.txt"}),
        ("/db/..%2F..%2Fother", "/{db}/{doc_id}", {"db": "db", "doc_id": "../../other"}),
    ],
)
def test_path_finds_its_route(path: str, pattern: str, args: dict[str, str]) -> None:
    route, found = find_route(split_path(path))
    assert (route.pattern, found) == (pattern, args)
