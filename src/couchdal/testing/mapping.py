"""The middleware of live test runs: replaces the names of databases in requests, and back in answers.

Tests write and read the names that they chose, through every handle and through ``couch_server``.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from weakref import WeakKeyDictionary

import pytest

from couchdal.api.routes import find_route
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.backends.couch import CouchBackend
from couchdal.backends.couch_server import CouchServer
from couchdal.errors import BadRequest, NotConfigured, NotFound
from couchdal.http.answers import json_response
from couchdal.http.headers import effective_method
from couchdal.http.json_text import JSON
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote, split_path, unquote
from couchdal.middleware.chain import Steps, install
from couchdal.testing.copying import member, objects
from couchdal.testing.live import LiveDatabases
from couchdal.testing.names import is_legal
from couchdal.testing.protection import keep_server, keep_system, refuse
from couchdal.testing.replications import Replications, addresses_of, port_of
from couchdal.testing.system import SYSTEM_DATABASES

_PATH = re.compile("/*([^/]*)(.*)", re.DOTALL)
_MOST_KEYS = 100
MAPPING = pytest.StashKey["Mapping"]()


def start(config: pytest.Config, existing: Collection[str]) -> LiveDatabases:
    """Give the databases of a live run private names until its end. Raise ``pytest.UsageError`` if none is named."""
    try:
        backend = CouchBackend()
    except NotConfigured as error:
        # One error at the start, not one for each test.
        raise pytest.UsageError(f"the tests are to run on a CouchDB, but {error}") from None
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
        return self._public(request, response)

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
        private = databases.private(name, writes=_writes(request, method), provide=handled)
        if explicit == "PUT":
            private = databases.will_create(name)
        if name.endswith("/_replicator"):
            if self._replications.is_refused(request):
                return refuse(request, method)
            request = self._replications.in_documents(request)
        response = yield request.with_head(request.method, f"/{quote(private)}{rest}", request.query, request.headers)
        if explicit == "PUT" and response.status in (201, 202):
            databases.created(name)
        if explicit == "DELETE" and response.status in (200, 202):
            databases.deleted(name)
        return response

    def _to_server(self, request: Request, name: str) -> Steps:
        databases = self._databases
        method = effective_method(request.method, request.headers)
        if name in SYSTEM_DATABASES:
            if _writes(request, method):
                if name == "_replicator" and self._replications.is_refused(request):
                    return refuse(request, method)
                kept = keep_system(databases, request, method)
                if isinstance(kept, Response):
                    return kept
                request = kept
            if name == "_replicator":
                request = self._replications.in_documents(request)
            return (yield request)
        if name == "_all_dbs":
            return (yield from self._list_names(request))
        if name == "_dbs_info":
            return (yield from self._list_infos(request, method))
        if name == "_replicate" and method == "POST":
            if self._replications.is_refused(request):
                return refuse(request, method)
            return (yield self._replications.of_request(request))
        if method not in ("GET", "HEAD", "OPTIONS"):
            refusal = keep_server(databases, request, method)
            if refusal is not None:
                return refusal
        if name == "_db_updates":
            databases.provide_all()
        response = yield request
        if name in ("_active_tasks", "_scheduler"):
            return self._own_tasks(response)
        return self._own_updates(request, response) if name == "_db_updates" else response

    def _list_names(self, request: Request) -> Steps:
        """Answer as a CouchDB that has only the databases of the tests and its own."""
        self._databases.provide_all()
        plain = {name: value for name, value in request.headers.items() if name != "if-none-match"}
        response = yield request.with_head("GET", "/_all_dbs", "", plain)
        listed = response.value()
        if response.status != 200 or not isinstance(listed, list):
            return response
        return _server_with(self._own(listed)).send(request)

    def _own(self, listed: list[JSON]) -> list[str]:
        """Return the tests' names of the listed databases that tests may see."""
        private = set(self._databases.present().values())
        return [
            self._names.public(name)
            for name in listed
            if isinstance(name, str)
            and (name in private or name in SYSTEM_DATABASES or name in self._databases.untouched)
        ]

    def _list_infos(self, request: Request, method: str) -> Steps:
        if method == "POST":
            body = request.value()
            keys = member(body, "keys")
            if not isinstance(body, dict) or not isinstance(keys, list):
                return (yield request)
            body = {**body, "keys": [self._key(key) for key in keys]}
            return (yield _with_json(request, request.path, body))
        names = yield from self._list_names(request.with_head("GET", "/_all_dbs", request.query, request.headers))
        chosen = names.value()
        if names.status != 200 or not isinstance(chosen, list):
            return names
        rows: list[JSON] = []
        for start in range(0, len(chosen), _MOST_KEYS):
            keys = [self._key(key) for key in chosen[start : start + _MOST_KEYS]]
            response = yield _with_json(request, "/_dbs_info", {"keys": keys})
            if response.status != 200:
                return response
            rows += objects(response.value())
        return json_response(rows)

    def _key(self, key: JSON) -> JSON:
        if not isinstance(key, str) or key in self._databases.untouched or not is_legal(key):
            return key
        return self._databases.private(key)

    def _own_tasks(self, response: Response) -> Response:
        """Remove the tasks and replications of others from an answer."""
        found = response.value()
        if response.status != 200:
            return response
        for name in ("jobs", "docs"):
            rows = member(found, name)
            if isinstance(found, dict) and isinstance(rows, list):
                kept = [row for row in rows if self._is_own(row)]
                found = {**found, name: kept, "total_rows": len(kept)}
        if isinstance(found, list):
            found = [row for row in found if self._is_own(row)]
        return json_response(found, headers=_without_length(response))

    def _is_own(self, row: JSON) -> bool:
        return self._names.prefix in json.dumps(row)

    def _own_updates(self, request: Request, response: Response) -> Response:
        """Remove the databases of others from the feed of databases."""
        if response.stream is not None:
            blocking = isinstance(response.stream, Iterable)
            stream = self._own_lines(response.chunks()) if blocking else self._own_lines_async(response)
            return Response(response.status, response.headers, stream=stream)
        found = response.value()
        if response.status != 200 or not isinstance(found, dict):
            return response
        rows = [row for row in objects(found.get("results")) if self._is_visible(row.get("db_name"))]
        return json_response({**found, "results": rows}, headers=_without_length(response))

    def _is_visible(self, name: JSON) -> bool:
        databases = self._databases
        return isinstance(name, str) and (
            name in SYSTEM_DATABASES or name in databases.untouched or databases.is_own(name)
        )

    def _own_line(self, line: bytes) -> bytes:
        try:
            row = json.loads(line)
        except ValueError:
            return line
        if isinstance(row, dict) and "db_name" in row and not self._is_visible(row["db_name"]):
            return b""
        return self._names.public_bytes(line)

    def _own_lines(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            yield b"".join(map(self._own_line, chunk.splitlines(keepends=True)))

    async def _own_lines_async(self, response: Response) -> AsyncIterator[bytes]:
        async for chunk in response.achunks():
            yield b"".join(map(self._own_line, chunk.splitlines(keepends=True)))

    def _public(self, request: Request, response: Response) -> Response:
        """Put the tests' names into an answer."""
        for name, value in response.headers.items():
            if self._names.prefix in value:
                text = self._names.public_bytes(value.encode("latin-1"), quoted=True).decode("latin-1")
                response.headers[name] = self._with_host(text, request)
        if response.stream is None:
            if response.json is not ABSENT:
                response.body, response.json = response.content(), ABSENT
            if self._names.marker in response.body:
                response.body = self._names.public_bytes(self._replications.original(response.body))
        return response

    def _with_host(self, address: str, request: Request) -> str:
        """Return an address with the host that the client asked, if it named one."""
        host = request.headers.get("host")
        if host is None or not address.startswith(self._server.name + "/"):
            return address
        return f"http://{host}{address.removeprefix(self._server.name)}"


def _writes(request: Request, method: str) -> bool:
    """Return whether a request may change its database."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return False
    try:
        return method not in find_route(split_path(request.path))[0].reading
    except NotFound:
        return True


def _with_json(request: Request, path: str, body: JSON) -> Request:
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    headers["content-type"] = "application/json"
    return Request("POST", path, "", headers, json=body, peer=request.peer)


def _without_length(response: Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in ("content-length", "etag")}


def _server_with(names: list[str]) -> BaseBackend:
    """Return an emulator that has just these databases: it knows every parameter of the lists of databases."""
    from couchdal.backends.memory import MemoryBackend  # only lists of databases need it

    backend = MemoryBackend()
    for name in list(backend.server.databases):
        backend.server.delete(name)
    for name in names:
        backend.server.create(name)
    return backend


def _is_same(one: CouchServer, other: CouchServer) -> bool:
    """Return whether two addresses are those of one server, such as ``localhost`` and ``127.0.0.1``."""
    if one.name == other.name:
        return True
    if one.prefix != other.prefix or port_of(str(one.url)) != port_of(str(other.url)):
        return False
    return bool(addresses_of(one.url.host) & addresses_of(other.url.host))
