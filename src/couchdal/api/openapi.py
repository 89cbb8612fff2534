"""A description of the supported API as OpenAPI 3.1, made from the routing table.

What it cannot say: the method COPY, which OpenAPI 3.1 has no place for, and that HEAD is answered wherever GET is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from couchdal.api.openapi_schemas import ANY, COUNT, FLAG, OK, SCHEMAS, TEXT, Schema, array, obj, ref
from couchdal.api.routes import IN_PARTITION, ROUTES, load_endpoint
from couchdal.coverage.known import ERRORS, PARAMETERS, endpoints
from couchdal.emulator.engine.server.server import VERSION
from couchdal.http.headers import SESSION_COOKIE
from couchdal.http.json_text import JSON

_METHODS = ("GET", "PUT", "POST", "DELETE")
_FLAGS = frozenset(
    ("descending", "include_docs", "inclusive_end", "update_seq", "conflicts", "attachments", "att_encoding_info",
     "revs", "revs_info", "deleted_conflicts", "latest", "local_seq", "meta", "new_edits", "partitioned", "basic",
     "reduce", "group", "sorted")
)  # fmt: skip
_COUNTS = frozenset(
    ("group_level", "limit", "skip", "count", "q", "n", "r", "w", "heartbeat", "timeout", "seq_interval")
)
_VALUES = frozenset(("key", "keys", "start_key", "end_key", "doc_ids", "atts_since"))
_WORDS: Mapping[str, tuple[str, ...]] = {
    "feed": ("normal", "longpoll", "continuous", "eventsource"),
    "style": ("main_only", "all_docs"),
    "batch": ("ok",),
}
# Of an endpoint's parameters, those that are members of its body and nowhere else.
_QUERY_MEMBERS = frozenset(PARAMETERS["/{db}/_find"])
_MEMBERS: Mapping[str, frozenset[str]] = {
    "_find": _QUERY_MEMBERS,
    "_explain": _QUERY_MEMBERS,
    "_index": frozenset(("index", "ddoc", "name", "type", "partitioned")),
    "_bulk_delete": frozenset(("docids",)),
    "_bulk_docs": frozenset(("docs", "new_edits")),
    "_bulk_get": frozenset(("docs",)),
    "_changes": frozenset(("doc_ids", "selector", "fields")),
    "_dbs_info": frozenset(("keys",)),
    "queries": frozenset(PARAMETERS["/{db}/_all_docs/queries"]),
}
# Parameters of one method alone.
_OF_METHOD: Mapping[str, str] = {
    "new_edits": "PUT", "q": "PUT", "n": "PUT", "partitioned": "PUT", "placement": "PUT", "count": "GET",
}  # fmt: skip
_WRITES = ("batch", "w")

# By method and endpoint: the schema of the body, and those of the answers by status.
_NAMES = array(TEXT)
_OPERATIONS: Mapping[str, tuple[str | None, Mapping[int, Schema]]] = {
    "GET /": (None, {200: ref("Welcome")}),
    "GET /_up": (None, {200: obj({"status": {"const": "ok"}})}),
    "GET /_uuids": (None, {200: obj({"uuids": _NAMES})}),
    "GET /_session": (None, {200: ref("Session")}),
    "POST /_session": ("Login", {200: ref("LoggedIn"), 302: ANY}),
    "DELETE /_session": (None, {200: ref("Done"), 302: ANY}),
    "GET /_all_dbs": (None, {200: _NAMES}),
    "GET /_dbs_info": (None, {200: ref("Databases")}),
    "POST /_dbs_info": ("keys", {200: ref("Databases")}),
    "GET /_active_tasks": (None, {200: {"type": "array"}}),
    "GET /_membership": (None, {200: obj({"all_nodes": _NAMES, "cluster_nodes": _NAMES})}),
    "GET /{db}": (None, {200: ref("Database")}),
    "PUT /{db}": (None, {201: ref("Done"), 202: ref("Done")}),
    "DELETE /{db}": (None, {200: ref("Done"), 202: ref("Done")}),
    "POST /{db}": ("Document", {201: ref("Written"), 202: ref("Accepted"), 200: ref("Written")}),
    "GET /{db}/_security": (None, {200: ref("Security")}),
    "PUT /{db}/_security": ("Security", {200: ref("Done")}),
    "GET /{db}/_revs_limit": (None, {200: {"type": "integer"}}),
    "PUT /{db}/_revs_limit": ("integer", {200: ref("Done")}),
    "POST /{db}/_purge": ("Revisions", {201: ref("Purged"), 202: ref("Purged")}),
    "GET /{db}/_purged_infos": (None, {200: ref("PurgedInfos")}),
    "GET /{db}/_purged_infos_limit": (None, {200: {"type": "integer"}}),
    "PUT /{db}/_purged_infos_limit": ("integer", {200: ref("Done")}),
    "POST /{db}/_compact": ("nothing", {202: ref("Done")}),
    "POST /{db}/_compact/{name}": ("nothing", {202: ref("Done")}),
    "POST /{db}/_view_cleanup": ("nothing", {202: ref("Done")}),
    "POST /{db}/_ensure_full_commit": ("nothing", {201: obj({"ok": OK, "instance_start_time": TEXT})}),
    "GET /{db}/_partition/{partition}": (None, {200: ref("Partition")}),
    "POST /{db}/_bulk_docs": ("BulkDocs", {201: ref("BulkOutcome"), 202: ref("BulkOutcome")}),
    "POST /{db}/_bulk_get": ("BulkGet", {200: ref("BulkGot")}),
    "POST /{db}/_revs_diff": ("Revisions", {200: ref("RevsDiff")}),
    "POST /{db}/_missing_revs": ("Revisions", {200: ref("MissingRevs")}),
    "GET _docs": (None, {200: ref("Rows"), 304: ANY}),
    "POST _docs": ("Listing", {200: ref("Rows"), 304: ANY}),
    "POST queries": ("Queries", {200: ref("Results")}),
    "GET /{db}/_design/{name}/_view/{view}": (None, {200: ref("ViewRows")}),
    "POST /{db}/_design/{name}/_view/{view}": ("ViewQuery", {200: ref("ViewRows")}),
    "POST /{db}/_design/{name}/_view/{view}/queries": ("ViewQueries", {200: obj({"results": array(ref("ViewRows"))})}),
    "GET /{db}/_design/{name}/_list/{function}/{view...}": (None, {200: ANY}),
    "POST /{db}/_design/{name}/_list/{function}/{view...}": ("ViewQuery", {200: ANY}),
    "GET /{db}/_design/{name}/_info": (None, {200: obj({"name": TEXT, "view_index": {"type": "object"}})}),
    "POST _find": ("Query", {200: ref("Found")}),
    "POST _explain": ("Query", {200: ref("Explanation")}),
    "GET _index": (None, {200: ref("Indexes")}),
    "POST _index": ("Index", {200: ref("IndexCreated")}),
    "POST _bulk_delete": ("DesignDocuments", {200: ref("IndexesDeleted")}),
    "DELETE _index": (None, {200: ref("Done")}),
    "GET /{db}/_changes": (None, {200: ref("Changes"), 304: ANY}),
    "POST /{db}/_changes": ("Filter", {200: ref("Changes"), 304: ANY}),
    "GET document": (None, {200: {"anyOf": [ref("Document"), ref("Leaves")]}, 304: ANY}),
    "PUT document": ("Document", {200: ref("Written"), 201: ref("Written"), 202: ref("Accepted")}),
    "DELETE document": (None, {200: ref("Written"), 202: ref("Accepted")}),
    "GET attachment": (None, {200: ANY, 206: ANY, 304: ANY}),
    "PUT attachment": ("bytes", {201: ref("Written"), 202: ref("Written")}),
    "DELETE attachment": (None, {200: ref("Written"), 202: ref("Written")}),
}
# What each status of a refusal means: see _refusals for where it may come.
_REFUSALS = {"400": "malformed", "401": "credentials are missing or wrong", "403": "not allowed", "404": "not found",
             "409": "a conflict of documents", "412": "a precondition fails", "413": "too large",
             "415": "another content type is wanted", "416": "the range is not within the attachment",
             "500": "malformed in a way over which CouchDB stumbles", "501": "not emulated"}  # fmt: skip


def describe() -> dict[str, JSON]:
    """Return the description: the same in every run."""
    paths: dict[str, JSON] = {}
    for pattern, methods in endpoints().items():
        described: dict[str, JSON] = {
            method.lower(): _operation(method, pattern)
            for method in methods
            if method in _METHODS and _kind(method, pattern) is not None
        }
        if described and "{rest...}" not in pattern:
            paths[pattern.replace("...}", "}")] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "CouchDB, as couchdal serves it",
            "version": VERSION,
            "summary": "Documents, queries, changes and replication",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"basic": []}, {"cookie": []}],
        "paths": paths,
        "components": {
            "schemas": dict(SCHEMAS),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
            },
            "responses": {
                status: {"description": meaning, "content": {"application/json": {"schema": ref("Error")}}}
                for status, meaning in _REFUSALS.items()
            },
        },
    }


def _kind(method: str, pattern: str) -> str | None:
    """Return the key of an operation's row in the table; None for what is there only to be refused."""
    last = pattern.rpartition("/")[2]
    if pattern in ("/{db}/{doc_id}", "/{db}/_design/{design}", "/{db}/_local/{local}"):
        key = f"{method} document"
    elif last == "{name...}":
        key = f"{method} attachment"
    elif "/_index/" in pattern and method == "DELETE":
        key = "DELETE _index"
    elif last.endswith("_docs") and last != "_bulk_docs":
        key = f"{method} _docs"
    else:
        key = f"{method} {pattern}"
    return next((found for found in (key, f"{method} {last}") if found in _OPERATIONS), None)


def _operation(method: str, pattern: str) -> dict[str, JSON]:
    body, answers = _OPERATIONS[str(_kind(method, pattern))]
    name = "".join(part.strip("{.}").title() for part in pattern.replace("_", " ").replace("/", " ").split())
    operation: dict[str, JSON] = {
        "operationId": method.lower() + (name or "Server"),
        "tags": [_tag(pattern)],
        "description": _purpose(method, pattern),
        "parameters": [*_path_parameters(pattern), *_query_parameters(method, pattern)],
    }
    if body is not None:
        operation["requestBody"] = _body(body)
    operation["responses"] = {
        **{str(status): _answer(status, schema, method, pattern) for status, schema in sorted(answers.items())},
        **{status: {"$ref": f"#/components/responses/{status}"} for status in sorted(_refusals(method, pattern, body))},
    }
    return operation


def _refusals(method: str, pattern: str, body: str | None) -> set[str]:
    """Return the statuses that an operation can be refused with: as any can, and as its endpoint was seen to."""
    found = {"400", "401", "500", "501", *(error.partition(" ")[0] for error in ERRORS.get(pattern, ()))}
    if "{db}" in pattern:
        found |= {"403", "404"}
    if body is not None:
        found |= {"413", "415"}
    kind = str(_kind(method, pattern))
    if kind == "GET attachment":
        found.add("416")
    if method == "GET":
        return found - {"409", "412", "415"}
    return found | {"409", "412"} if kind.endswith((" document", " attachment")) else found


def _tag(pattern: str) -> str:
    if not pattern.startswith("/{db}"):
        return "server"
    last = pattern.rpartition("/")[2]
    if last.startswith("{") or "/_design/" in pattern or "/_local/" in pattern:
        return "indexes" if "/_index/" in pattern else "database" if pattern == "/{db}" else "documents"
    return {"_find": "queries", "_explain": "queries", "_index": "indexes", "_changes": "changes"}.get(last, "database")


def _purpose(method: str, pattern: str) -> str:
    """Return the first sentence about the function that answers."""
    route = next(route for route in ROUTES if route.pattern == _routed(pattern))
    text = load_endpoint(route.endpoints.get(method) or route.endpoints["*"]).__doc__ or ""
    return text.partition("\n")[0].replace("``", "`").strip()


def _routed(pattern: str) -> str:
    return "/{db}/_partition/{partition}/{rest...}" if pattern in IN_PARTITION else pattern


def _path_parameters(pattern: str) -> Iterator[JSON]:
    for part in pattern.split("/"):
        if part.startswith("{"):
            yield {"name": part.strip("{.}"), "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}}


def _query_parameters(method: str, pattern: str) -> Iterator[JSON]:
    members = _MEMBERS.get(pattern.rpartition("/")[2], frozenset())
    for name in PARAMETERS.get(pattern, ()):
        if name in members or _OF_METHOD.get(name, method) != method or (name in _WRITES and method == "GET"):
            continue
        if name in _VALUES:
            yield {"name": name, "in": "query", "content": {"application/json": {"schema": ANY}}}
        else:
            yield {"name": name, "in": "query", "schema": _parameter(name)}


def _parameter(name: str) -> Schema:
    if name in _FLAGS:
        return FLAG
    if name in _COUNTS:
        return COUNT
    return {**TEXT, "enum": list(_WORDS[name])} if name in _WORDS else TEXT


def _body(kind: str) -> dict[str, JSON]:
    if kind == "bytes":
        return {"required": True, "content": {"application/octet-stream": {"schema": ANY}}}
    schemas: dict[str, Schema] = {
        "nothing": ANY,
        "integer": {"type": "integer", "minimum": 1},
        "keys": obj({"keys": array(TEXT)}),
    }
    schema = schemas[kind] if kind in schemas else ref(kind)
    content: dict[str, JSON] = {"application/json": {"schema": schema}}
    if kind == "Login":
        content["application/x-www-form-urlencoded"] = {"schema": schema}
    return {"required": kind != "nothing", "content": content}


def _answer(status: int, schema: Schema, method: str, pattern: str) -> dict[str, JSON]:
    described: dict[str, JSON] = {"description": "done" if status < 300 else "see elsewhere, or nothing new"}
    if status in (302, 304):
        return described
    kind = "*/*" if _kind(method, pattern) == "GET attachment" or "/_list/" in pattern else "application/json"
    content: dict[str, JSON] = {kind: {"schema": schema}}
    if _kind(method, pattern) == "GET document":
        content["multipart/mixed"] = content["multipart/related"] = {"schema": ANY}
    if pattern == "/{db}/_changes":
        content["text/event-stream"] = {"schema": ANY}
        if status == 200:
            described["description"] = (
                "done; with feed=continuous one row of results a line, and then a line with last_seq and pending"
            )
    if pattern == "/{db}/_bulk_get":
        content["multipart/mixed"] = content["multipart/related"] = {"schema": ANY}
    return {**described, "content": content}
