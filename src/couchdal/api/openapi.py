"""The OpenAPI 3.1 description of the API, built from the tables of routes, parameters and operations.

It omits COPY, which OpenAPI 3.1 cannot describe, and HEAD, which is answered wherever GET is.
"""

from __future__ import annotations

from collections.abc import Iterator

from couchdal.api import VERSION
from couchdal.api.known_errors import ERRORS
from couchdal.api.openapi_operations import OPERATIONS, Operation
from couchdal.api.openapi_schemas import ANY, SCHEMAS, TEXT, Schema, parameter, ref
from couchdal.api.parameters import VALUES, parameters_of
from couchdal.api.routes import ROUTES, Route
from couchdal.http.headers import SESSION_COOKIE
from couchdal.http.json_text import JSON

# What each status of a refusal means. _refusals says which of them an operation has.
_REFUSALS = {
    "400": "the request is malformed",
    "401": "credentials are missing or wrong",
    "403": "the user may not do this",
    "404": "not found",
    "406": "the function has no answer of an accepted content type",
    "409": "the document was changed in the meantime",
    "412": "a precondition failed",
    "413": "the body is too large",
    "415": "the content type is not supported",
    "416": "the attachment does not have this range",
    "500": "CouchDB fails on this malformed request",
    "501": "the emulator does not support this",
}


def describe() -> dict[str, JSON]:
    """Return the description. It is the same in every run."""
    paths: dict[str, JSON] = {}
    for route in ROUTES:
        described = {method.lower(): operation for method, operation in _operations(route)}
        if described:
            paths[route.pattern.replace("...}", "}")] = described
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


def _operations(route: Route) -> Iterator[tuple[str, JSON]]:
    """Yield the methods of a route with their descriptions."""
    if not route.is_listed:
        return
    for method in route.methods:
        endpoint = route.endpoints[method]
        operation = OPERATIONS.get(f"{method} {endpoint}")
        if operation is not None:
            yield method, _described(route, method, endpoint, operation)


def _described(route: Route, method: str, endpoint: str, operation: Operation) -> dict[str, JSON]:
    pattern = route.pattern
    name = "".join(part.strip("{.}").title() for part in pattern.replace("_", " ").replace("/", " ").split())
    described: dict[str, JSON] = {
        "operationId": method.lower() + (name or "Server"),
        "tags": [_tag(pattern)],
        "description": operation.purpose,
        "parameters": [*_path_parameters(pattern), *_query_parameters(route, method)],
    }
    body = _body(method, endpoint, operation)
    if body is not None:
        described["requestBody"] = body
    refusals = sorted(_refusals(method, route, endpoint, has_body=body is not None))
    described["responses"] = {
        **{str(status): _answer(status, schema, endpoint) for status, schema in sorted(operation.answers.items())},
        **{status: {"$ref": f"#/components/responses/{status}"} for status in refusals},
    }
    return described


def _refusals(method: str, route: Route, endpoint: str, *, has_body: bool) -> set[str]:
    """Return the error statuses of an operation: those of every operation, and those that its route is known for."""
    found = {"400", "401", "500", "501", *(error.partition(" ")[0] for error in ERRORS.get(route.pattern, ()))}
    if "{db}" in route.pattern:
        found |= {"403", "404"}
    if "{node}" in route.pattern:
        found |= {"404"}
    if has_body:
        found |= {"413", "415"}
    if endpoint == "attachments.read":
        found.add("416")
    if method == "GET":
        return found - {"409", "412", "415"}
    return found | {"409", "412"} if endpoint.startswith(("documents.", "attachments.")) else found


def _tag(pattern: str) -> str:
    if not pattern.startswith("/{db}"):
        return "server"
    last = pattern.rpartition("/")[2]
    if last.startswith("{") or "/_design/" in pattern or "/_local/" in pattern:
        return "indexes" if "/_index/" in pattern else "database" if pattern == "/{db}" else "documents"
    return {"_find": "queries", "_explain": "queries", "_index": "indexes", "_changes": "changes"}.get(last, "database")


def _path_parameters(pattern: str) -> Iterator[JSON]:
    for part in pattern.split("/"):
        if part.startswith("{"):
            yield {"name": part.strip("{.}"), "in": "path", "required": True, "schema": {**TEXT, "minLength": 1}}


def _query_parameters(route: Route, method: str) -> Iterator[JSON]:
    parameters = parameters_of(route, method)
    for name in parameters.query:
        if name in parameters.body:
            # CouchDB takes it in either place; one description is enough.
            continue
        if name in VALUES:
            yield {"name": name, "in": "query", "content": {"application/json": {"schema": ANY}}}
        else:
            yield {"name": name, "in": "query", "schema": parameter(name)}


def _body(method: str, endpoint: str, operation: Operation) -> dict[str, JSON] | None:
    if f"{method} {endpoint}" == "PUT attachments.write":
        return {"required": True, "content": {"application/octet-stream": {"schema": ANY}}}
    if operation.body is None:
        return None
    content: dict[str, JSON] = {"application/json": {"schema": operation.body}}
    if endpoint == "session.log_in":
        content["application/x-www-form-urlencoded"] = {"schema": operation.body}
    return {"required": operation.body != ANY, "content": content}


def _answer(status: int, schema: Schema, endpoint: str) -> dict[str, JSON]:
    described: dict[str, JSON] = {"description": "done" if status < 300 else "see elsewhere, or not modified"}
    if status in (302, 304):
        return described
    kind = (
        "*/*"
        if endpoint in ("attachments.read", "design_functions.list_rows", "node.prometheus")
        else "application/json"
    )
    content: dict[str, JSON] = {kind: {"schema": schema}}
    if endpoint in ("documents.read", "bulk_get.read"):
        content["multipart/mixed"] = content["multipart/related"] = {"schema": ANY}
    if endpoint in ("changes.read", "db_updates.read"):
        content["text/event-stream"] = {"schema": ANY}
        if status == 200:
            described["description"] = (
                "done; with feed=continuous one row of results a line, and then a line with last_seq and pending"
            )
    return {**described, "content": content}
