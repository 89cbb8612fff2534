"""CORS: the answers to preflights, and the headers of other answers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from raw_http import Served, Upstream, Wire, answering, stopping_servers

from couchdal import MemoryBackend
from couchdal.backends.couch import CouchBackend
from couchdal.http.cors import METHODS, Cors, cors_headers, preflight
from couchdal.http.messages import Request
from couchdal.server.application import Application

APP = "https://app.example"
ONE = Cors((APP,))
EXPOSED = "accept-ranges, etag, server, x-couch-request-id, x-couch-update-newrev, x-couchdb-body-time"


def asking(method: str | None = "PUT", headers: str | None = None, origin: str | None = APP) -> Request:
    sent = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": headers,
    }
    return Request("OPTIONS", "/db/a", headers={name: value for name, value in sent.items() if value is not None})


@pytest.mark.parametrize(
    ("settings", "request_", "allowed"),
    [
        (ONE, asking(), {}),
        (ONE, asking(headers=""), {}),
        (
            ONE,
            asking(headers="Content-Type,authorization"),
            {"access-control-allow-headers": "Content-Type,authorization"},
        ),
        (ONE, asking(headers="accept,,"), {"access-control-allow-headers": "accept,,"}),
        (Cors(("https://other.example", APP)), asking(), {}),
        (Cors(("*",)), asking(), {}),
        (Cors(("*",)), asking(origin="null"), {"access-control-allow-origin": "null"}),
        (Cors(("*",), credentials=True), asking(), {"access-control-allow-credentials": "true"}),
        (Cors(("*",), credentials=True), asking(origin="*"), {"access-control-allow-origin": "*"}),
        (Cors((APP,), credentials=True), asking(), {"access-control-allow-credentials": "true"}),
        (Cors((APP,), max_age=5), asking(), {"access-control-max-age": "5"}),
        (Cors((APP,), methods=("GET", "PUT")), asking(), {"access-control-allow-methods": "GET, PUT"}),
        (Cors((APP,), headers=("X-One",)), asking(headers="x-one"), {"access-control-allow-headers": "x-one"}),
    ],
)
def test_preflight_is_allowed(settings: Cors, request_: Request, allowed: dict[str, str]) -> None:
    answer = preflight(request_, settings)
    assert answer is not None
    assert (answer.status, answer.content()) == (204, b"")
    assert answer.headers == {
        "access-control-allow-origin": APP,
        "access-control-allow-headers": "",
        "access-control-allow-methods": ", ".join(METHODS),
        "access-control-max-age": "600",
        **allowed,
    }


@pytest.mark.parametrize(
    ("settings", "request_"),
    [
        pytest.param(ONE, Request("PUT", "/db", headers=asking().headers), id="another method than OPTIONS"),
        pytest.param(ONE, asking(origin=None), id="no origin"),
        pytest.param(ONE, asking(origin="https://APP.example"), id="an origin in other letters"),
        pytest.param(ONE, asking(origin=f"{APP}:8443"), id="an origin with another port"),
        pytest.param(ONE, asking(origin=f"{APP}, {APP}"), id="two origins"),
        pytest.param(Cors(), asking(), id="no origins in the settings"),
        pytest.param(ONE, asking(method=None), id="no method asked for"),
        pytest.param(ONE, asking(method="put"), id="a method in small letters"),
        pytest.param(ONE, asking(method="PATCH"), id="a method that CouchDB lacks"),
        pytest.param(Cors((APP,), methods=("GET",)), asking(), id="a method that the settings lack"),
        pytest.param(ONE, asking(headers="x-one"), id="a header that the settings lack"),
        pytest.param(Cors((APP,), headers=("x-one",)), asking(headers="accept"), id="a header that was replaced"),
        pytest.param(ONE, asking(headers="accept,Accept"), id="a header named twice"),
        pytest.param(ONE, asking(headers="accept ,origin"), id="a space before a comma"),
        pytest.param(ONE, asking(headers=",accept"), id="a header without a name"),
        pytest.param(ONE, Request("OPTIONS", "/a%2", headers=asking().headers), id="a path that cannot be decoded"),
        pytest.param(ONE, Request("OPTIONS", "/", "x=%zz", asking().headers), id="a query that cannot be decoded"),
    ],
)
def test_other_requests_and_forbidden_preflights_reach_the_backend(settings: Cors, request_: Request) -> None:
    assert preflight(request_, settings) is None


@pytest.mark.parametrize(
    ("settings", "origin", "headers"),
    [
        (ONE, APP, {"access-control-allow-origin": APP}),
        (ONE, "https://other.example", None),
        (ONE, None, None),
        (Cors(), APP, None),
        (Cors(), "", {"access-control-allow-origin": ""}),
        (Cors(("*",)), "null", {"access-control-allow-origin": "null"}),
        (
            Cors((APP,), credentials=True),
            APP,
            {"access-control-allow-origin": APP, "access-control-allow-credentials": "true"},
        ),
        (Cors(("*",), credentials=True), "*", {"access-control-allow-origin": "*"}),
    ],
)
def test_answer_allows_what_the_settings_say(
    settings: Cors, origin: str | None, headers: dict[str, str] | None
) -> None:
    request = Request("GET", "/", headers={} if origin is None else {"origin": origin})
    exposed = {"access-control-expose-headers": f"content-type, cache-control, {EXPOSED}"}
    answered = cors_headers(request, ["Content-Type", "Cache-Control", "ETag", "X-Other"], settings)
    assert answered == ({} if headers is None else headers | exposed)


def test_exposed_headers_replace_couchdbs() -> None:
    settings = Cors((APP,), exposed_headers=("ETag", "X-Mine"))
    answered = cors_headers(Request("GET", "/", headers={"origin": APP}), [], settings)
    assert answered["access-control-expose-headers"] == "content-type, etag, x-mine"


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with stopping_servers():
        server = Served(MemoryBackend(admin=("admin", "secret")))
        server.start(Application(server.backend, cors=ONE))
        yield server


@pytest.fixture
def wire(served: Served) -> Iterator[Wire]:
    with closing(Wire(served.port)) as wire:
        yield wire


def test_served_preflight_needs_no_credentials_and_no_database(wire: Wire) -> None:
    answer = wire.ask(f"OPTIONS /nowhere HTTP/1.1\nOrigin: {APP}\nAccess-Control-Request-Method: DELETE")
    assert (answer.status, answer.body) == (204, b"")
    of_every_answer = {"content-length", "date", "server", "x-couch-request-id", "x-couchdb-body-time"}
    assert answer.headers.keys() - of_every_answer == {
        "access-control-allow-headers",
        "access-control-allow-methods",
        "access-control-allow-origin",
        "access-control-max-age",
    }


@pytest.mark.parametrize(
    ("head", "status"),
    [
        ("GET /", 200),
        ("HEAD /", 200),
        ("GET /nowhere", 404),
        ("PUT /db", 401),
        ("OPTIONS /_up", 405),
        ("GET /x?y=%zz", 400),
    ],
)
def test_only_accepted_origins_may_read_answers(wire: Wire, head: str, status: int) -> None:
    plain = wire.ask(f"{head} HTTP/1.1")
    other = wire.ask(f"{head} HTTP/1.1\nOrigin: https://other.example")
    accepted = wire.ask(f"{head} HTTP/1.1\nOrigin: {APP}")
    assert plain.status == other.status == accepted.status == status
    assert plain.headers.keys() == other.headers.keys()
    assert {name: accepted.headers[name] for name in accepted.headers.keys() - plain.headers.keys()} == {
        "access-control-allow-origin": APP,
        "access-control-expose-headers": f"content-type, cache-control, {EXPOSED}",
    }


def test_accepted_origin_may_read_a_stream(wire: Wire) -> None:
    admin = "Authorization: Basic YWRtaW46c2VjcmV0"
    assert wire.ask(f"PUT /streamed HTTP/1.1\n{admin}").status == 201
    answer = wire.ask(f"GET /streamed/_changes?feed=continuous&timeout=1 HTTP/1.1\n{admin}\nOrigin: {APP}")
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["access-control-allow-origin"] == APP


def test_cors_headers_of_another_server_are_replaced() -> None:
    upstream = Upstream(answering(200, access_control_allow_origin="*", Access_Control_Max_Age="1"))
    with closing(CouchBackend(upstream.url)) as backend:
        proxy = Served(backend)
        proxy.start(Application(backend, cors=ONE))
        for origin, allowed in ((APP, APP), ("https://other.example", None)):
            with closing(Wire(proxy.port)) as wire:
                headers = wire.ask(f"GET / HTTP/1.1\nOrigin: {origin}").headers
            assert headers.get("access-control-allow-origin") == allowed
            assert "access-control-max-age" not in headers
    upstream.stop()
