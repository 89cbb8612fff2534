"""Requests that change data which a live server has only once: keep the old values first, or refuse the request."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from couchdal.api.routes import find_route
from couchdal.errors import Forbidden, NotFound
from couchdal.http.answers import error_response, json_response, without_body
from couchdal.http.json_text import JSON
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import quote, split_path
from couchdal.middleware.chain import Steps
from couchdal.testing.copying import objects
from couchdal.testing.live import LiveDatabases

_SETTINGS = ("_security", "_purged_infos_limit")
_HARMLESS = ("_compact", "_view_cleanup", "_ensure_full_commit")
_DOCUMENTS = ("/{db}/_local/{local}", "/{db}/_design/{design}", "/{db}/{doc_id}")
_ATTACHMENTS = ("/{db}/_design/{design}/{name...}", "/{db}/{doc_id}/{name...}")
# Server paths whose requests change nothing that lasts.
_LASTING = ("_node", "_cluster_setup", "_reshard", "_restart", "_dbs", "_nodes", "_metadata", "_scheduler")
# Without these keys the test run could no longer reach the server.
_VITAL = {
    "chttpd": ("port", "bind_address", "authentication_handlers", "enable_cors_handler"),
    "httpd": ("port", "bind_address", "authentication_handlers"),
    "couchdb": ("database_dir", "view_index_dir"),
    "mem3": ("shards_db", "nodes_db"),
    "global_changes": ("dbname",),
}
# With these sections, tests could reach other databases: by another host name, or one for each user.
_UNSAFE_SECTIONS = ("vhosts", "couch_peruser")


def is_write(request: Request, method: str) -> bool:
    """Return whether a request may change something."""
    if method in ("GET", "HEAD", "OPTIONS"):
        return False
    try:
        return method not in find_route(split_path(request.path))[0].reading
    except NotFound:
        return True


def keep_system(databases: LiveDatabases, request: Request, method: str) -> Request | Response:
    """Keep the old values that a request to one of CouchDB's own databases is about to change.

    Return the request to send: new documents get their ids here. Return a 403 if the change cannot be undone.
    """
    segments = split_path(request.path)
    name, rest = segments[0], segments[1:]
    path = f"/{name}"
    if not rest and method == "PUT":
        return _keep(databases, request, "database", [path])
    if not rest and method == "POST":
        return _keep_documents(databases, request, path, [request.value()], lambda docs: docs[0])
    if rest[:1] == ["_bulk_docs"] and len(rest) == 1:
        body = request.value()
        docs = body.get("docs") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(docs, list):
            # CouchDB refuses it.
            return request
        return _keep_documents(databases, request, path, docs, lambda changed: {**body, "docs": changed})
    if rest and rest[0] in _HARMLESS:
        return request
    if len(rest) == 1 and rest[0] in _SETTINGS:
        return _keep(databases, request, "setting", [f"{path}/{rest[0]}"])
    try:
        pattern = find_route(segments)[0].pattern
    except NotFound:
        return request
    if pattern in _DOCUMENTS or pattern in _ATTACHMENTS:
        wanted = ["/".join(rest[:2]) if rest[0] in ("_design", "_local") else rest[0]]
        if method == "COPY":
            wanted = [request.headers.get("destination", "").partition("?")[0]]
        return _keep_ids(databases, request, path, wanted)
    return refuse(request, method, name)


def exchange_limit(databases: LiveDatabases, request: Request, name: str, method: str) -> Steps:
    """Read or write the ``_revs_limit`` that tests see of one of CouchDB's own databases.

    The limit on the server stays as it is. A lower one would cut the history of each document that is written
    meanwhile, and nothing could bring it back.
    """
    if method not in ("GET", "HEAD", "PUT"):
        return (yield request)
    headers = {each: value for each, value in request.headers.items() if not each.startswith("content-")}
    answer = yield request.with_head("GET", request.path, request.query, headers).with_body()
    if method == "PUT":
        wanted = request.value() if request.json is not ABSENT else _number(request.body)
        if type(wanted) is not int or wanted <= 0 or answer.status != 200:
            return (yield request)
        # CouchDB checks the rights, and changes nothing.
        response = yield request.with_body(json=answer.value())
        if response.status == 200:
            databases.current.limits[name] = wanted
        return response
    limit = databases.limit(name)
    if answer.status == 200 and limit is not None:
        kept = {each: value for each, value in answer.headers.items() if each != "content-length"}
        answer = json_response(limit, headers=kept)
    return without_body(answer) if method == "HEAD" else answer


def _number(body: bytes) -> int | None:
    """Return the number that a body is, whatever its content type."""
    return int(body) if body.strip().isdigit() else None


def _keep_documents(
    databases: LiveDatabases, request: Request, path: str, docs: Sequence[JSON], body: object
) -> Request | Response:
    named = [{"_id": uuid4().hex, **doc} if isinstance(doc, dict) and "_id" not in doc else doc for doc in docs]
    ids = [str(doc["_id"]) for doc in objects(named) if isinstance(doc.get("_id"), str)]
    if named != list(docs):
        assert callable(body)
        request = request.with_body(json=body(named))
    return _keep_ids(databases, request, path, ids)


def _keep_ids(databases: LiveDatabases, request: Request, path: str, ids: Sequence[str]) -> Request | Response:
    local = [doc_id for doc_id in ids if doc_id.startswith("_local/")]
    _keep(databases, request, "local", [f"{path}/{_quoted(doc_id)}" for doc_id in local])
    others = [f"{path}/{_quoted(doc_id)}" for doc_id in ids if doc_id and doc_id not in local]
    return _keep(databases, request, "document", others)


def _quoted(doc_id: str) -> str:
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix):
            return prefix + quote(doc_id.removeprefix(prefix))
    return quote(doc_id)


def _keep(databases: LiveDatabases, request: Request, kind: str, paths: Sequence[str]) -> Request:
    with databases.lock:
        databases.system.keep(databases.current, kind, paths)
    return request


def keep_server(databases: LiveDatabases, request: Request, method: str) -> Response | None:
    """Keep the old values that a request to a path of the server will change. Return a 403 if that is impossible."""
    segments = split_path(request.path)
    if not segments or segments[0] not in _LASTING:
        return None
    if segments[0] == "_node" and len(segments) == 5 and segments[2] == "_config" and method in ("PUT", "DELETE"):
        section, key = segments[3:]
        is_vital = key in _VITAL.get(section, ()) or section in _UNSAFE_SECTIONS
        if not is_vital and not (section == "admins" and key == databases.system.user()):
            _keep(databases, request, "config", ["/" + "/".join(map(quote, segments))])
            return None
    return refuse(request, method)


def refuse(request: Request, method: str, database: str | None = None) -> Response:
    """Return the 403 for a request that cannot be undone."""
    way = "tests may not send it to a live server"
    if database is not None:
        way = f"only --dal-live-database={database} lets tests use {database} as it is"
    reason = f"the test run could not undo {method} {request.path}: {way}"
    return error_response(Forbidden(reason), request)
