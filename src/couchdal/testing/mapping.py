"""The middleware of live test runs: replaces the names of databases in requests, and back in answers.

Tests write and read the names that they chose, through every handle and through ``couch_server``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from weakref import WeakKeyDictionary

import pytest

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.couch import CouchBackend
from couchdal.backends.couch_server import CouchServer
from couchdal.errors import BadRequest, NotConfigured
from couchdal.http.answers import JSON_TYPE
from couchdal.http.headers import effective_method
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote, split_path, unquote
from couchdal.middleware.chain import Steps, install
from couchdal.testing.listings import Listings
from couchdal.testing.live import LiveDatabases
from couchdal.testing.names import is_legal
from couchdal.testing.protection import exchange_limit, is_write, keep_server, keep_system, refuse
from couchdal.testing.replications import Replications, is_same_host, port_of
from couchdal.testing.rewriting import rewritten
from couchdal.testing.system import SYSTEM_DATABASES

_PATH = re.compile("/*([^/]*)(.*)", re.DOTALL)
# The media types of answers that may be long and may have names in them.
_WITH_NAMES = (JSON_TYPE, "text/")
MAPPING = pytest.StashKey["Mapping"]()


def start(config: pytest.Config, existing: Collection[str]) -> LiveDatabases:
    """Give the databases of a live run private names until its end. Raise ``pytest.UsageError`` if none is named."""
    try:
        backend = CouchBackend()
    except NotConfigured as error:
        # One error at the start, not one for each test.
        raise pytest.UsageError(f"the tests need a CouchDB to run on, but {error}") from None
    databases = LiveDatabases(
        backend,
        default=str(backend.database),
        existing=existing,
        untouched=config.getoption("dal_live_database"),
    )
    server = backend.server_key
    assert isinstance(server, CouchServer)
    config.stash[MAPPING] = mapping = Mapping(databases, server)
    config.add_cleanup(install(mapping.map, innermost=True))
    config.add_cleanup(databases.stop)
    return databases


class Mapping:
    """The names of one test run on the server that ``COUCHDB_URL`` names."""

    def __init__(self, databases: LiveDatabases, server: CouchServer) -> None:
        self._databases = databases
        self._names = databases.names
        self._server = server
        self._replications = Replications(databases, server)
        self._listings = Listings(databases, self._public)
        self._is_ours: WeakKeyDictionary[CouchServer, bool] = WeakKeyDictionary()

    def serves_at(self, address: str) -> None:
        """Note the address of ``couch_server``, which replications may name."""
        self._replications.proxy = address.partition("://")[2]

    def map(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Send a request with private names, and return its answer with the names that the test wrote."""
        if not self.concerns(backend.server_key):
            return (yield request)
        path = _PATH.match(request.path)
        assert path is not None
        try:
            name = unquote(path[1])
        except BadRequest:
            return (yield request)
        if name in self._databases.untouched:
            return (yield request)
        if is_legal(name):
            response = yield from self._to_database(backend, request, name, path[2])
        else:
            response = yield from self._to_server(request, name)
        return self._public(response, request)

    def concerns(self, server: object) -> bool:
        """Return whether a server is the one of this run."""
        if not isinstance(server, CouchServer):
            return False
        known = self._is_ours.get(server)
        if known is None:
            known = self._is_ours[server] = _is_same(server, self._server)
        return known

    def _to_database(self, backend: BaseBackend | AsyncBackend, request: Request, name: str, rest: str) -> Steps:
        databases = self._databases
        method = effective_method(request.method, request.headers)
        root = not rest.strip("/")
        explicit = method if root and method in ("PUT", "DELETE") else None
        handled = backend.database == name
        if explicit and handled:
            databases.skip_default(name)
        private = databases.private(name, writes=is_write(request, method), provide=handled)
        if explicit == "PUT":
            private = databases.will_create(name)
        if name.endswith("/_replicator"):
            if self._replications.is_refused(request):
                return refuse(request, method)
            request = self._replications.in_documents(request)
        sent = request.with_head(request.method, f"/{quote(private)}{rest}", request.query, request.headers)
        response = yield sent
        if explicit == "PUT" and response.status in (201, 202):
            databases.created(name)
        if explicit == "DELETE" and response.status in (200, 202):
            databases.deleted(name)
        if request.method == "HEAD" and "content-length" in response.headers and (root or _may_show_name(rest)):
            # CouchDB's length is that of the answer with the private name.
            whole = yield sent.with_head("GET", sent.path, sent.query, sent.headers)
            if whole.status == response.status and whole.stream is None:
                response.headers["content-length"] = str(len(self._public(whole).content()))
        return response

    def _to_server(self, request: Request, name: str) -> Steps:
        databases = self._databases
        method = effective_method(request.method, request.headers)
        if name in SYSTEM_DATABASES:
            if split_path(request.path)[1:] == ["_revs_limit"]:
                return (yield from exchange_limit(databases, request, name, method))
            if is_write(request, method):
                if name == "_replicator" and self._replications.is_refused(request):
                    return refuse(request, method)
                kept = keep_system(databases, request, method)
                if isinstance(kept, Response):
                    return kept
                request = kept
            if name == "_replicator":
                request = self._replications.in_documents(request)
            return (yield request)
        if name == "_replicate" and method == "POST":
            return (yield from self._replications.run(request, method))
        if method not in ("GET", "HEAD", "OPTIONS"):
            refusal = keep_server(databases, request, method)
            if refusal is not None:
                return refusal
        return (yield from self._listings.read(request, name, method))

    def _public(self, response: Response, request: Request | None = None) -> Response:
        """Put the tests' names into an answer."""
        for name, value in response.headers.items():
            if self._names.prefix in value:
                text = self._names.public_bytes(value.encode("latin-1"), quoted=True).decode("latin-1")
                response.headers[name] = text if request is None else self._with_host(text, request)
        if response.stream is None:
            if response.json is not ABSENT:
                response.body, response.json = response.content(), ABSENT
            response.body = self._public_text(response.body)
        elif response.headers.get("content-type", JSON_TYPE).startswith(_WITH_NAMES):
            response.stream = rewritten(response.stream, self._public_text)
        return response

    def _public_text(self, data: bytes) -> bytes:
        if self._names.marker not in data:
            return data
        return self._names.public_bytes(self._replications.original(data))

    def _with_host(self, address: str, request: Request) -> str:
        """Return an address with the host that the client used, if it named one."""
        host = request.headers.get("host")
        if host is None or not address.startswith(self._server.name + "/"):
            return address
        return f"http://{host}{address.removeprefix(self._server.name)}"


def _may_show_name(rest: str) -> bool:
    """Return whether a function answers a path. Its answer may contain the name of the database, which it gets."""
    return "/_show/" in rest or "/_list/" in rest


def _is_same(one: CouchServer, other: CouchServer) -> bool:
    """Return whether two addresses are those of one server, such as ``localhost`` and ``127.0.0.1``."""
    if one.name == other.name:
        return True
    if one.prefix != other.prefix or port_of(str(one.url)) != port_of(str(other.url)):
        return False
    return is_same_host(one.url.host, other.url.host)
