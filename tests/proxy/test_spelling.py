"""Each rule of the proxy holds for every spelling: escaped paths and queries, capitals, trailers, and patterns."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from raw_http import Upstream, Wire
from spelling import sent_through

from couchdal.api.routes import ROUTES, find_route
from couchdal.errors import NotFound
from couchdal.http.messages import Request, is_feed
from couchdal.http.urls import parse_query, split_path
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.outgoing import outgoing

ServeProxy = Callable[..., Wire]


def escaped(text: str, places: range | list[int], form: str = "%{:02X}") -> str:
    return "".join(form.format(ord(letter)) if place in places else letter for place, letter in enumerate(text))


def spellings(path: str) -> Iterator[str]:
    """Yield spellings of a path that CouchDB decodes to the same segments."""
    letters = [place for place, letter in enumerate(path) if letter != "/"]
    yield path
    for place in letters:
        yield escaped(path, [place])
    yield escaped(path, letters)
    yield escaped(path, letters, "%{:02x}")
    yield path.replace("/", "//")
    yield path + "/"
    yield "/" + path


REFUSED = [
    ("GET", "/_all_dbs"),
    ("GET", "/_node/_local/_config"),
    ("POST", "/_replicate"),
    ("GET", "/_users/org.couchdb.user:a"),
    ("PUT", "/_replicator/a"),
    ("GET", "/other/doc"),
    ("PUT", "/db"),
    ("DELETE", "/db"),
    ("GET", "/db/_security"),
    ("POST", "/db/_purge"),
    ("POST", "/db/_compact/d"),
    ("GET", "/db/_design/d/_view/v"),
    ("POST", "/db/_design/d/_update/u"),
    ("OPTIONS", "/db/_design/d/_update/u"),
    ("GET", "/db/_design/d/_rewrite/x"),
    ("GET", "/db/_unknown"),
    ("GET", "/db/_partition/p/_design/d/_view/v"),
]
PASSED = [("GET", "/db/doc"), ("PUT", "/db/_design/d"), ("POST", "/db/_find"), ("GET", "/db/_changes"), ("GET", "/_up")]


@pytest.mark.parametrize(("method", "path"), REFUSED)
def test_refused_request_is_refused_in_every_spelling(method: str, path: str) -> None:
    requests = [Request(method, spelled) for spelled in spellings(path)]
    assert sent_through(AllowList(databases=["db"]), *requests) == [None] * len(requests)
    overridden = [request.with_headers({"x-http-method-override": method}) for request in requests]
    posts = [request.with_head("POST", request.path, "", request.headers) for request in overridden]
    if method != "OPTIONS":
        assert sent_through(AllowList(databases=["db"]), *posts) == [None] * len(requests)


@pytest.mark.parametrize(("method", "path"), PASSED)
def test_allowed_request_arrives_the_same_in_every_spelling(method: str, path: str) -> None:
    requests = [Request(method, spelled) for spelled in spellings(path)]
    arrived = {sent.path for sent in sent_through(AllowList(databases=["db"]), *requests) if sent is not None}
    assert {tuple(split_path(found)) for found in arrived} == {tuple(split_path(path))}


@pytest.mark.parametrize(
    "path", ["/db/%255Fsecurity", "/%2564b", "/db%2F_security", "/db/..%2F_users", "/%2e%2e/_users"]
)
def test_escapes_are_decoded_once(path: str) -> None:
    (sent,) = sent_through(AllowList(), Request("GET", path))
    assert sent is None or split_path(sent.path) == split_path(path)


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "COPY"])
@pytest.mark.parametrize("path", ["/db/doc", "/db/_bulk_docs", "/db/_local/a", "/db/_index"])
def test_read_only_refuses_writes_in_every_spelling(method: str, path: str) -> None:
    allowed = AllowList(["/{db}/{rest...}", "/{db}"], read_only=True)
    requests = [Request(method, spelled) for spelled in spellings(path)]
    assert sent_through(allowed, *requests) == [None] * len(requests)


SYSTEM = ["_users", "_replicator", "_global_changes", "_metadata", "_dbs", "_nodes", "app/_users", "app/_replicator"]
PATTERNS = ["*", "**", "?*", "_*", "*_*", "?users", "_user?", "_users*", "*/*", "app*", "app/*", "_replicato?", "[_]*"]


@pytest.mark.parametrize("name", SYSTEM)
def test_no_pattern_opens_a_system_database(name: str) -> None:
    segment = name.replace("/", "%2F")
    requests = [Request("GET", f"{spelled}/doc") for spelled in spellings(f"/{segment}") if "%25" not in spelled]
    for patterns in ([], PATTERNS, *([pattern] for pattern in PATTERNS)):
        assert sent_through(AllowList(databases=patterns), *requests) == [None] * len(requests)
    named = sent_through(AllowList(databases=[name]), Request("GET", f"/{segment}/doc"))
    assert named[0] is not None


FEED_PATHS = ["/db/_changes", "/db/_changes/", "//db//_changes", "/db/_changes/x", "/db/_%63hanges", "/%64b/%5fchanges",
              "/_db_updates", "/_db%5Fupdates", "/_db_updates/x"]  # fmt: skip
FEED_QUERIES = ["feed=continuous", "FEED=longpoll", "f%65ed=eventsource", "feed=liv%65", "a=1;feed=longpoll",
                "feed=normal&feed=continuous", "a&feed=x", "%46EED=longpoll"]  # fmt: skip


@pytest.mark.parametrize("path", FEED_PATHS)
@pytest.mark.parametrize("query", FEED_QUERIES)
def test_feed_is_a_feed_in_every_spelling(path: str, query: str) -> None:
    request = Request("GET", path, query)
    assert is_feed(request)
    # What CouchDB gets is judged alike.
    assert is_feed(outgoing(request, "GET", split_path(path)))


@pytest.mark.parametrize(
    ("path", "query"),
    [("/db/_changes", ""), ("/db/_changes", "feed=normal"), ("/db/_changes", "feed="), ("/db/_changes", "feed"),
     ("/db/_changes", "feed%20=longpoll"), ("/db/_changes", "x=feed=longpoll"), ("/db/_changes", "x=%26feed=longpoll"),
     ("/db/doc/_changes", "feed=longpoll"), ("/db/_Changes", "feed=longpoll"), ("/db/_all_docs", "feed=longpoll"),
     ("/db/_%2563hanges", "feed=longpoll"), ("/_changes", "feed=longpoll"), ("/db/_changes", "feed=%")],
)  # fmt: skip
def test_other_requests_are_not_feeds(path: str, query: str) -> None:
    assert not is_feed(Request("GET", path, query))


def test_feeds_are_the_routes_of_feeds() -> None:
    for route in ROUTES:
        path = route.pattern.replace("...}", "}")
        try:
            found, _ = find_route(split_path(path))
        except NotFound:
            continue
        expected = found.pattern in ("/{db}/_changes", "/{db}/_changes/{rest...}", "/_db_updates")
        assert is_feed(Request("GET", path, "feed=longpoll")) == expected


UNTRUSTED = [
    *("x-auth-couchdb-username", "x-auth-couchdb-roles", "x-auth-couchdb-token", "x-auth-couchdb-anything"),
    *("x-couchdb-vhost-path", "x-couchdb-requested-path", "x-http-method-override", "x-rewrite-url", "x-original-url"),
    *("forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-ssl", "x-forwarded-user"),
    *("proxy-authorization", "te", "trailer", "upgrade", "keep-alive"),
]
VALUE = "untrusted"


def capitals(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


@pytest.mark.parametrize("name", UNTRUSTED)
def test_untrusted_header_arrives_in_no_spelling(name: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    wire = serve_proxy()
    for spelled in (name, name.upper(), capitals(name)):
        header = f"{spelled}: {VALUE}\n"
        chunks = "Transfer-Encoding: chunked\n\n2\n{}\n0\n"
        body = "Content-Length: 2\n\n{}"
        for text in (
            f"{header}{body}",
            f"{spelled}:{VALUE}\n{header}{body}",
            f"Connection: {spelled}\n{header}{body}",
            f"{chunks}{header}\n",
            f"Trailer: {spelled}\n{chunks}{header}\n",
            f"{header}{chunks}{header}\n",
        ):
            wire.send(f"POST /db/_find HTTP/1.1\nHost: x\nContent-Type: application/json\n{text}")
            assert wire.answer().status == 200
    assert {(received.method, received.body) for received in upstream.received} == {("POST", b"{}")}
    assert len(upstream.received) == 18
    for received in upstream.received:
        assert VALUE not in "".join(value for _, value in received.headers)


@pytest.mark.parametrize(
    "query",
    [
        "new_edits=false",
        "new%5Fedits=false",
        "new_edits=f%61lse",
        "a;new_edits=false",
        "new_edits=true&new_edits=false",
    ],
)
def test_parameters_arrive_as_they_were_judged(query: str) -> None:
    (sent,) = sent_through(AllowList(), Request("PUT", "/db/doc", query))
    assert sent is not None
    assert parse_query(sent.query) == parse_query(query)
