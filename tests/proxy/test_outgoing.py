"""CouchDB sees the database, endpoint and headers that the proxy checked, whatever a client sends."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from raw_http import Upstream, Wire, answering

from couchdal.errors import BadRequest, Forbidden
from couchdal.http.messages import Request
from couchdal.http.urls import parse_query, split_path
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.outgoing import outgoing

ServeProxy = Callable[..., Wire]


@pytest.mark.parametrize(
    ("target", "arrives"),
    [
        ("/db/doc", "/db/doc"),
        ("//db//doc/", "/db/doc"),
        ("/db/a%2Fb", "/db/a%2Fb"),
        ("/db/a+b", "/db/a%20b"),
        ("/db/..", "/db/%2E%2E"),
        ("/db/%2e%2E/x", "/db/%2E%2E/x"),
        ("/db/%00", "/db/%00"),
        ("/db/a%0D%0AX-Evil:%201", "/db/a%0D%0AX-Evil%3A%201"),
        ("/db/%FF", "/db/%FF"),
        ("/db/é%C3%A9".encode().decode("latin-1"), "/db/%C3%A9%C3%A9"),
        ("/db/a%3Fb%23c", "/db/a%3Fb%23c"),
        ("/d%62/%5Fall_docs", "/db/_all_docs"),
        ("http://elsewhere/db/doc", "/db/doc"),
        ("/db/doc?rev=1-a;attachments=true", "/db/doc?rev=1-a&attachments=true"),
        ("/db/doc?x", "/db/doc?x="),
        ("/db/_all_docs?key=%22a%22&limit=1", "/db/_all_docs?key=%22a%22&limit=1"),
        ('/db/_all_docs?key="a"', "/db/_all_docs?key=%22a%22"),
        ("/db/_all_docs?a=%0D%0A", "/db/_all_docs?a=%0D%0A"),
    ],
)
def test_target_is_rebuilt(target: str, arrives: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy()
    wire.send(b"GET " + target.encode("latin-1") + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    answer = wire.answer()
    if not target.isascii():
        # The web server accepts only ASCII.
        assert answer.status == 400
        return
    assert answer.status == 200
    assert [received.target for received in upstream.received] == [arrives]


@pytest.mark.parametrize(
    "target", ["/db/doc%", "/db/%zz", "/db/doc?a=%", "/db/../_node/_local", "/../_all_dbs", "/db/doc/../../_users/x"]
)
def test_invalid_or_misleading_target_is_not_forwarded(
    target: str, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    answer = serve_proxy().ask(f"GET {target} HTTP/1.1")
    if answer.status != 200:
        assert answer.status in (400, 403)
        assert upstream.received == []
    else:
        # Dots are ordinary names here.
        assert upstream.received[0].target == target.replace("..", "%2E%2E")


def test_headers_of_connections_and_gateways_are_not_forwarded(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    serve_proxy().ask(
        'GET /db/doc HTTP/1.1\nAccept: application/json\nIf-None-Match: "1-a"\nConnection: X-Hop, keep-alive'
        "\nX-Hop: 1\nTE: trailers\nX-Auth-CouchDB-UserName: admin"
        "\nX-Auth-CouchDB-Roles: _admin\nX-Auth-CouchDB-Token: t"
        "\nX-HTTP-Method-Override: DELETE\nX-Forwarded-For: 1.1.1.1\nX-Forwarded-Host: evil\nX-Rewrite-URL: /_users"
        "\nForwarded: for=1.1.1.1\nProxy-Authorization: Basic eDp5"
    )
    headers = dict(upstream.received[0].headers)
    assert {"accept", "if-none-match"} <= headers.keys()
    passed = {"accept", "if-none-match", "host", "user-agent", "accept-encoding", "x-forwarded-for"}
    assert headers.keys() <= passed
    assert headers["host"] == f"127.0.0.1:{upstream.port}"
    assert headers["x-forwarded-for"] == "127.0.0.1"


def test_location_names_the_host_that_the_client_asked(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    # CouchDB chooses virtual hosts by X-Forwarded-Host, so it does not get the client's host.
    upstream.script = [answering(201, Location=f"{upstream.url}/db/doc"), answering(302, Location="http://else/db")]
    wire = serve_proxy()
    assert wire.ask("PUT /db/doc HTTP/1.1").headers["location"] == "http://x/db/doc"
    assert wire.ask("GET /db/doc HTTP/1.1").headers["location"] == "http://else/db"
    assert upstream.received[0].header("host") == f"127.0.0.1:{upstream.port}"


@pytest.mark.parametrize(("announced", "arrives"), [("", None), ("\nContent-Length: 0", "0")])
def test_request_without_a_body_has_none_at_couchdb(
    announced: str, arrives: str | None, serve_proxy: ServeProxy, upstream: Upstream
) -> None:
    serve_proxy().ask(f"PUT /db/doc HTTP/1.1{announced}")
    assert upstream.received[0].header("content-length") == arrives


def test_overridden_method_is_the_one_that_is_checked(serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy()
    assert wire.ask("POST /db HTTP/1.1\nX-HTTP-Method-Override: DELETE").status == 403
    assert upstream.received == []
    assert wire.ask("POST /db/doc HTTP/1.1\nX-HTTP-Method-Override: GET").status == 200
    assert upstream.received[0].method == "GET"


@pytest.fixture
def guarded(serve_proxy: ServeProxy) -> int:
    """The port of a proxy that allows one database."""
    return serve_proxy(databases=["db"]).port


RESERVED = ["..", ".", "_users", "_node", "_all_dbs", "_design", "_local", "_view", "_security", "db", "other", ""]
PIECES = st.one_of(
    st.sampled_from(RESERVED),
    st.sampled_from(
        ["%2F", "%2f", "%2E%2E", "%00", "%0D%0A", "%0d%0aX:%20y", "%5F", "+", ";", "%3F", "%23", "%25", "%FF"]
    ),
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?#/%"), max_size=6),
)
PATHS = st.lists(st.lists(PIECES, max_size=3).map("".join), max_size=5).map(lambda parts: "/db/" + "/".join(parts))
QUERIES = st.lists(PIECES, max_size=4).map("&".join)


@given(path=PATHS, query=QUERIES)
@example(path="/db/../other/doc", query="")
@example(path="/db/%2E%2E/other", query="x=%26y")
def test_path_and_query_mean_to_couchdb_what_was_checked(path: str, query: str) -> None:
    request = Request("GET", path, query)
    try:
        segments = split_path(path)
        AllowList(databases=["db"]).check("GET", segments)
        sent = outgoing(request, "GET", segments)
    except (BadRequest, Forbidden):
        return
    # Only characters that a request line may contain, and no parent directory.
    assert all(33 <= ord(letter) <= 126 for letter in sent.path + sent.query)
    assert not {"..", "."} & set(sent.path.split("/"))
    assert "?" not in sent.path
    assert "#" not in sent.path + sent.query
    # Decoded once, it has the same segments; the first is the database.
    assert [unquote(part, errors="surrogateescape") for part in sent.path.split("/")[1:]] == segments
    assert segments[0] == "db"
    assert parse_query(sent.query) == parse_query(query)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=PATHS,
    query=QUERIES,
    header=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "COPY", "OPTIONS"]),
)
def test_every_forwarded_request_is_for_the_allowed_database(
    path: str, query: str, header: str, method: str, guarded: int, upstream: Upstream
) -> None:
    upstream.received.clear()
    wire = Wire(guarded)
    wire.send(f"{method} {path}?{query} HTTP/1.1\r\nHost: x\r\nX-Test: {header}\r\nContent-Length: 0\r\n\r\n".encode())
    status = wire.answer().status
    wire.close()
    assert status in (200, 400, 403)
    assert len(upstream.received) == (status == 200)
    for received in upstream.received:
        assert received.method == method
        assert received.target.partition("?")[0].split("/")[1] == "db"
        assert [name for name, _ in received.headers if name not in ("x-test", "content-length")] == [
            "host",
            "accept-encoding",
            "user-agent",
            "x-forwarded-for",
        ]
