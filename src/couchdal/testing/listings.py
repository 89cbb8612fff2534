"""Lists of a live server, reduced to the databases and replications that tests may see."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from couchdal.backends.base import BaseBackend
from couchdal.errors import Forbidden, NotFound
from couchdal.http.answers import error_response, json_response, without_body
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote, split_path
from couchdal.middleware.chain import Steps
from couchdal.testing.copying import member, objects
from couchdal.testing.live import LiveDatabases
from couchdal.testing.names import is_legal
from couchdal.testing.system import SYSTEM_DATABASES
from couchdal.testing.updates import read_updates

_MOST_KEYS = 100
_CREDENTIALS = ("authorization", "cookie")
# The members of answers that list tasks and replications.
_LISTS = ("jobs", "docs")
_SHARD = re.compile(r"shards/[0-9a-f]{8}-[0-9a-f]{8}/(.+)\.\d+")
# Below the name of a node, only these are not databases.
_ABOUT_NODE = ("_config", "_stats", "_prometheus", "_system", "_versions", "_smoosh", "_restart", "_nodes")
_REPLICATOR = "_replicator"


class Listings:
    """Answers requests that read lists of the server, which concern more than one database."""

    def __init__(self, databases: LiveDatabases, public: Callable[[Response], Response]) -> None:
        self._databases = databases
        # Puts the tests' names into an answer.
        self._public = public
        self._names = databases.names

    def read(self, request: Request, name: str, method: str) -> Steps:
        """Send a request, whose path begins with ``name``, and return its answer without the data of others."""
        segments = split_path(request.path)
        if name == "_all_dbs":
            return (yield from self._list_names(request))
        if name == "_dbs_info":
            return (yield from self._list_infos(request, method))
        if name == "_db_updates":
            self._databases.provide_all()
            return (yield from read_updates(request, self._databases.is_visible))
        if name in ("_node", "_dbs"):
            return (yield from self._read_node(request, segments, method))
        if name == "_scheduler" and segments[1:2] == ["docs"]:
            request = self._with_private_replicator(request, segments)
        if name in ("_active_tasks", "_scheduler", "_reshard") and method in ("GET", "HEAD"):
            response = yield _as_get(request)
            return self._answer_to(request, self._own_tasks(request, response))
        return (yield request)

    def _list_names(self, request: Request) -> Steps:
        """Answer as a CouchDB that has only the databases of the tests and its own."""
        self._databases.provide_all()
        plain = {name: value for name, value in request.headers.items() if name != "if-none-match"}
        response = yield request.with_head("GET", "/_all_dbs", "", plain)
        listed = response.value()
        if response.status != 200 or not isinstance(listed, list):
            return self._answer_to(request, response)
        # CouchDB has checked the credentials. The emulator does not know them.
        known = {name: value for name, value in request.headers.items() if name not in _CREDENTIALS}
        return _server_with(self._own(listed)).send(request.with_headers(known))

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
        listing = request.with_head("GET", "/_all_dbs", request.query, request.headers)
        names = yield from self._list_names(listing)
        chosen = names.value()
        if names.status != 200 or not isinstance(chosen, list):
            return self._answer_to(request, names)
        rows: list[JSON] = []
        for start in range(0, len(chosen), _MOST_KEYS):
            keys = [self._key(key) for key in chosen[start : start + _MOST_KEYS]]
            response = yield _with_json(request, "/_dbs_info", {"keys": keys})
            if response.status != 200:
                return response
            rows += objects(response.value())
        # CouchDB's ETag also depends on the list, and not on the databases.
        return self._answer_to(request, json_response(rows, headers={"etag": names.headers["etag"]}))

    def _key(self, key: JSON) -> JSON:
        if not isinstance(key, str) or key in self._databases.untouched or not is_legal(key):
            return key
        return self._databases.private(key)

    def _read_node(self, request: Request, segments: list[str], method: str) -> Steps:
        """Answer a request about one node. A node's databases are the shards of all databases, and lists of them."""
        inner = segments[2:] if segments[0] == "_node" else segments
        if not inner or inner[0] in _ABOUT_NODE:
            # CouchDB ends some answers to HEAD twice. The client would take the second end for the next answer.
            response = yield _as_get(request)
            return self._answer_to(request, response)
        if method in ("GET", "HEAD") and len(inner) == 1 and inner[0] in ("_all_dbs", "_dbs"):
            response = yield _as_get(request)
            return self._answer_to(request, self._own_shards(response))
        if method in ("GET", "HEAD") and len(inner) == 2 and inner[0] == "_dbs":
            parent = "/".join(map(quote, segments[:-1]))
            if is_legal(inner[1]) or inner[1] in SYSTEM_DATABASES:
                path = f"/{parent}/{quote(str(self._key(inner[1])))}"
                response = yield _as_get(request.with_head(method, path, request.query, request.headers))
                return self._answer_to(request, response)
        reason = f"{request.path} has the databases of others: tests may not read it on a live server"
        return error_response(Forbidden(reason), request)

    def _own_shards(self, response: Response) -> Response:
        """Return a list of a node's databases without the shards of others."""
        found = response.value()
        if response.status != 200 or not isinstance(found, list):
            return response
        shards = [(name, _SHARD.fullmatch(name)) for name in found if isinstance(name, str)]
        own = [name for name, shard in shards if shard is None or self._databases.is_visible(shard[1])]
        return json_response(own, headers=_without_length(response))

    def _with_private_replicator(self, request: Request, segments: list[str]) -> Request:
        """Return a request for the replications of a database, with its private name."""
        below = segments[2:]
        ends = [place for place, segment in enumerate(below) if segment.endswith(_REPLICATOR)]
        if not ends:
            return request
        name, rest = "/".join(below[: ends[0] + 1]), below[ends[0] + 1 :]
        path = "/".join(map(quote, [*segments[:2], str(self._key(name)), *rest]))
        return request.with_head(request.method, f"/{path}", request.query, request.headers)

    def _own_tasks(self, request: Request, response: Response) -> Response:
        """Return an answer without the tasks and replications of others."""
        found = response.value()
        if response.status != 200:
            return response
        if isinstance(found, list):
            own = [row for row in found if self._is_own(row)]
            return response if own == found else json_response(own, headers=_without_length(response))
        lists = [name for name in _LISTS if isinstance(member(found, name), list)]
        if isinstance(found, dict) and lists:
            rows = objects(found[lists[0]])
            kept = [row for row in rows if self._is_own(row)]
            if kept == rows:
                return response
            return json_response({**found, lists[0]: kept, "total_rows": len(kept)}, headers=_without_length(response))
        # One replication, or one job.
        is_one = bool({"database", "source", "type"} & set(found)) if isinstance(found, dict) else False
        return response if not is_one or self._is_own(found) else error_response(NotFound(), request)

    def _is_own(self, row: JSON) -> bool:
        written = f"/{member(row, 'database')}/{quote(str(member(row, 'doc_id')))}"
        return self._names.prefix in json.dumps(row) or self._databases.keeps(written)

    def _answer_to(self, request: Request, response: Response) -> Response:
        """Return the answer to a request, whose body was read with GET."""
        return without_body(self._public(response)) if request.method == "HEAD" else response


def _as_get(request: Request) -> Request:
    """Return the GET request for a HEAD. The length of its answer's body is the length to send."""
    method = "GET" if request.method == "HEAD" else request.method
    return request.with_head(method, request.path, request.query, request.headers)


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
