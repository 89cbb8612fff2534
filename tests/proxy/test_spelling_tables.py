"""The proxy's rules, crossed with every way to spell a request: paths, queries, header names, and databases.

A second, simpler reader of the outgoing request says what CouchDB will understand. It shares no code with the proxy.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product

import pytest
from raw_http import Upstream, Wire
from spelling import path_forms, read_path, read_query, segment_forms, sent_through

from couchdal.api.routes import ROUTES, find_route
from couchdal.http.messages import Request, is_feed
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.retries import is_repeatable

ServeProxy = Callable[..., Wire]

SYSTEM = ("_users", "_replicator", "_global_changes", "_metadata", "_dbs", "_nodes", "app/_users", "app/_replicator")
# What the proxy forwards without further rules, by the first segments that CouchDB reads.
SERVER = frozenset(("_up", "_session", "_uuids", "favicon.ico"))
REFUSED_IN_DATABASES = frozenset(
    ("_security", "_purge", "_purged_infos", "_compact", "_view_cleanup", "_unknown", "_shards", "_sync_shards")
)
PATHS = (
    "/db/doc",
    "/db/_security",
    "/db/_purge",
    "/db/_all_docs",
    "/db/_bulk_docs",
    "/db/_design/d/_update/u",
    "/db/_design/d/_view/v",
    "/db/_design/d/_rewrite/x",
    "/db/_local/a",
    "/_users/a",
    "/_node/_local/_config",
    "/_all_dbs",
    "/other/doc",
)


def runs_a_function(segments: list[str]) -> bool:
    """Return whether CouchDB runs a function that may write, whatever the method is."""
    return segments[1:2] == ["_design"] and segments[3:4] in (["_update"], ["_rewrite"])


def is_allowed(method: str, segments: list[str]) -> bool:
    """Return whether a proxy for the database ``db`` may forward what CouchDB reads as these segments."""
    if method == "OPTIONS" and segments[:1] != ["other"]:
        # A preflight of a browser. Functions that run for any method are not asked.
        return segments[0] not in SYSTEM and not runs_a_function(segments)
    if not segments:
        return method in ("GET", "HEAD", "OPTIONS")
    first, *rest = segments
    if first.startswith("_") or first == "favicon.ico":
        return first in SERVER or first == ""
    if first != "db":
        return False
    if not rest:
        return method in ("GET", "HEAD", "POST", "OPTIONS")
    if rest[0] in REFUSED_IN_DATABASES:
        return False
    if rest[0].startswith("_design/"):
        # One escaped segment, which CouchDB reads as two.
        rest = [*rest[0].split("/", 1), *rest[1:]]
    # Functions of design documents run code. What else begins with an underscore is an endpoint.
    return not (rest[0] == "_design" and len(rest) > 2 and rest[2].startswith("_"))


def changes_nothing(method: str, segments: list[str]) -> bool:
    """Return whether CouchDB changes no data for this request."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return not runs_a_function(segments)
    reading = {"_all_docs", "_find", "_explain", "_bulk_get", "_revs_diff", "_missing_revs", "_changes", "_design_docs",
               "_local_docs", "_ensure_full_commit", "_session", "_view", "_show", "_list", "_search"}  # fmt: skip
    return not reading.isdisjoint(segments)


def check(sent: Request, wanted: Request) -> None:
    """Check that CouchDB cannot read anything else than what was written here."""
    raw = sent.path
    assert re.fullmatch(r"(?:/[A-Za-z0-9._~%-]*)+", raw), (wanted.path, raw)
    assert not {".", ".."} & set(raw.split("/")), (wanted.path, raw)
    assert not re.search(r"%(?![0-9A-Fa-f]{2})", raw)
    assert "//" not in raw


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "OPTIONS"])
@pytest.mark.parametrize("path", PATHS)
def test_what_couchdb_reads_is_allowed(method: str, path: str, figure: Callable[[str, int], None]) -> None:
    requests = [Request(method, form) for form in dict.fromkeys(path_forms(path))]
    assert len(requests) > 80
    figure("spellings of requests to the proxy", len(requests))
    arrived = 0
    for request, sent in zip(requests, sent_through(AllowList(databases=["db"]), *requests), strict=True):
        if sent is not None:
            arrived += 1
            check(sent, request)
            assert is_allowed(method, read_path(sent.path)), (request.path, sent.path)
    if is_allowed(method, read_path(path)) and path == "/db/doc" and method != "OPTIONS":
        assert arrived > 20


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "DELETE", "COPY", "PATCH"])
@pytest.mark.parametrize("path", PATHS)
def test_read_only_proxy_forwards_no_write(method: str, path: str, figure: Callable[[str, int], None]) -> None:
    everything = AllowList(["/{db}/{rest...}", "/{db}"], read_only=True)
    requests = [Request(method, form) for form in dict.fromkeys(path_forms(path))]
    for spelled in ("X-HTTP-Method-Override", "x-http-method-override"):
        requests += [
            Request("POST", form, "", {spelled.lower(): method})
            for form in dict.fromkeys(path_forms(path))
            if method != "PATCH"
        ]
    figure("spellings of requests to the proxy", len(requests))
    for request, sent in zip(requests, sent_through(everything, *requests), strict=True):
        if sent is not None:
            check(sent, request)
            assert changes_nothing(sent.method, read_path(sent.path)), (request.method, request.path, sent.path)


PATTERNS = ("*", "**", "?*", "_*", "*_*", "?users", "_user?", "*/*", "app*", "app/*", "*users", "*[_]*", "[!a]*",
            "*replicator",
            "\\_users", "_Users", "%5Fusers", "_users ", "/_users", "a*,_users")  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_pattern_opens_a_system_database(pattern: str, figure: Callable[[str, int], None]) -> None:
    allowed = AllowList(["/{db}/{rest...}", "/{db}"], databases=[pattern])
    requests = []
    for name in SYSTEM:
        forms = set(segment_forms(name.replace("/", "%2F"))) | set(segment_forms(name))
        requests += [Request("GET", f"/{form}/doc") for form in sorted(forms)]
    figure("spellings of requests to the proxy", len(requests))
    for request, sent in zip(requests, sent_through(allowed, *requests), strict=True):
        if sent is not None:
            database = read_path(sent.path)[0]
            # A pattern without wildcards names one database exactly.
            named = database == pattern
            assert named or not database.rpartition("/")[2].startswith("_"), (pattern, request.path, sent.path)
            assert database not in SYSTEM


@pytest.mark.parametrize("name", SYSTEM)
def test_named_system_database_opens_only_itself(name: str) -> None:
    others = [other for other in SYSTEM if other != name]
    requests = [Request("GET", f"/{form}/doc") for other in others for form in segment_forms(other.replace("/", "%2F"))]
    for sent in sent_through(AllowList(databases=[name]), *requests):
        assert sent is None or read_path(sent.path)[0] == name


NAMES = (
    "feed",
    "FEED",
    "fee%64",
    "f%65e%64",
    "%66%65%65%64",
    "fEed",
    "feed%20",
    "+feed",
    "f%2565ed",
    "%EF%BD%86eed",
    "x",
)
VALUES = (
    "continuous",
    "%63ontinuous",
    "longpoll",
    "normal",
    "",
    "norm%61l",
    "n%256Frmal",
    "eventsource",
    "NORMAL",
    "%00",
)
OTHER = ("", "feed=normal", "since=0", "feed")


@pytest.mark.parametrize("separator", ["&", ";", "&&", "&;"])
@pytest.mark.parametrize(
    "path", ["/db/_changes", "/db/%5Fchanges", "/_db_updates", "/db/_changes/x", "//db//_changes//"]
)
def test_feeds_are_counted_however_they_are_asked_for(
    path: str, separator: str, figure: Callable[[str, int], None]
) -> None:
    requests = []
    for name, value, other, first in product(NAMES, VALUES, OTHER, (True, False)):
        parts = [f"{name}={value}", other] if first else [other, f"{name}={value}"]
        requests.append(Request("GET", path, separator.join(part for part in parts if part)))
    figure("spellings of requests to the proxy", len(requests))
    allowed = AllowList(["GET /_db_updates", "GET /{db}/_changes/{rest...}"])
    for request, sent in zip(requests, sent_through(allowed, *requests), strict=True):
        counted = is_feed(request)
        if sent is None:
            continue
        # CouchDB waits for the last value of any parameter of this name, in capitals or not.
        read = [value for name, value in read_query(sent.query) if name.lower() == "feed"]
        waits = bool(read) and any(value not in ("", "normal") for value in read)
        assert counted == is_feed(sent) == waits, (request.query, sent.query)


@pytest.mark.parametrize("separator", ["&", ";"])
@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "COPY"])
@pytest.mark.parametrize("path", ["/db/doc", "/db/_bulk_docs", "/db", "/db/doc/file", "/db/_local/a", "/db/_purge"])
def test_only_revisions_that_a_put_names_are_repeated(path: str, method: str, separator: str) -> None:
    """The body names a revision, so the query alone decides. CouchDB uses the last value of a name in lower case."""
    body = b'{"_id":"doc","_rev":"1-a"}'
    names = ("new_edits", "new%5Fedits", "NEW_EDITS", "new_edits%20", "new%255Fedits", "%6eew_edits", "x")
    values = ("false", "fals%65", "FALSE", "true", "", "false%00", "0", "f%2561lse")
    route, _ = find_route(read_path(path))
    for name, value, other, first in product(
        names, values, ("", "new_edits=true", "batch=ok", "rev=1-a"), (True, False)
    ):
        parts = [f"{name}={value}", other] if first else [other, f"{name}={value}"]
        query = separator.join(part for part in parts if part)
        sent = Request(method, path, query, {"content-type": "application/json"}, body)
        read = dict(read_query(query))
        safe = read.get("new_edits") == "false" and read.get("batch") != "ok"
        assert is_repeatable(sent, route) == (safe and method == "PUT" and path == "/db/doc"), query


def test_every_route_is_refused_or_forwarded_as_its_table_says() -> None:
    """Each route of the API, with each method, through a proxy without further rules."""
    forwarded = 0
    for route in ROUTES:
        path = re.sub(r"\{(\w+)(?:\.\.\.)?\}", lambda found: "db" if found[1] == "db" else "x", route.pattern)
        for method in ("GET", "PUT", "POST", "DELETE", "COPY"):
            (sent,) = sent_through(AllowList(databases=["db"]), Request(method, path))
            if sent is not None:
                forwarded += 1
                assert read_path(sent.path) == read_path(path)
                assert not route.unsupported
                assert method not in route.withheld
    assert forwarded > 30


CREDENTIALS = (
    "Authorization",
    "Cookie",
    "X-Auth-CouchDB-UserName",
    "X-Auth-CouchDB-Roles",
    "X-Auth-CouchDB-Token",
    "X-User",
)
IDENTITIES: dict[str, dict[str, str]] = {
    "basic": {"auth": "basic", "user": "proxy", "password": "p"},
    "proxy": {"auth": "proxy", "proxy_secret": "s3", "proxy_user": "fixed"},
    "gateway": {"auth": "proxy", "proxy_secret": "s3", "proxy_user_header": "X-User"},
}


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("name", CREDENTIALS)
def test_client_cannot_be_somebody_else(identity: str, name: str, serve_proxy: ServeProxy, upstream: Upstream) -> None:
    """Each header that says who a user is, in each place and form, with each identity of the proxy."""
    if identity == "gateway" and name == "X-User":
        # The gateway sets it. A second one, or one in another place, must not count.
        forms = ["chunked-trailer", "declared-trailer"]
    else:
        forms = ["header", "capitals", "small", "twice", "tab", "chunked-trailer", "declared-trailer"]
    wire = serve_proxy(**IDENTITIES[identity])
    for form in forms:
        line = f"{name}: intruder\n"
        headers = {
            "header": line,
            "capitals": line.replace(name, name.upper()),
            "small": line.replace(name, name.lower()),
            "twice": line + line.replace(name, name.lower()),
            "tab": line.replace(": ", ":\t"),
            "chunked-trailer": "",
            "declared-trailer": f"Trailer: {name}\n",
        }[form]
        gateway = "X-User: writer\n" if identity == "gateway" else ""
        trailer = line if form.endswith("trailer") else ""
        body = f"Transfer-Encoding: chunked\n\n2\n{{}}\n0\n{trailer}\n"
        wire.send(f"POST /db/_find HTTP/1.1\nHost: x\nContent-Type: application/json\n{gateway}{headers}{body}")
        assert wire.answer().status == 200, form
    assert len(upstream.received) == len(forms)
    for received in upstream.received:
        allowed = {"x-user"} if identity in ("basic", "proxy") else set()
        # With another identity, the gateway's header is an ordinary one.
        values = [value for known, value in received.headers if known not in allowed]
        assert "intruder" not in " ".join(values)
        if identity == "gateway":
            assert received.header("x-auth-couchdb-username") == "writer"
