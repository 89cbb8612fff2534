"""Dispatch: finds the endpoint that answers a request, and calls it.

CouchDB checks a request in a fixed order, and the first check that fails decides the error: the encoding of the query
and the path, credentials, rights, the path, the database, the partition, the design document, the method. Sources:
``chttpd:handle_request_int``, ``chttpd_db:handle_partition_req``, ``chttpd_db:handle_design_req``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from importlib import import_module
from typing import TypeAlias, cast

from couchdal.api.routes import Route, find_route
from couchdal.emulator.engine.auth.security import is_db_admin
from couchdal.emulator.engine.documents.partition import validate_partition
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.http.authentication import identify
from couchdal.emulator.http.authorization import authorize
from couchdal.emulator.http.call import Call
from couchdal.emulator.storage.base import DamagedIndex
from couchdal.errors import BadRequest, MethodNotAllowed, NotFound, NotSupported
from couchdal.http.headers import effective_method
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.urls import check_encoding, split_path

Endpoint: TypeAlias = Callable[[Call], Response]


def dispatch(server: Server, request: Request) -> Response:
    """Return the answer to a request. Raise ``CouchError``. The caller holds the server's lock."""
    endpoint, call = prepare(server, request)
    # ``answered`` is inlined here, because this is the path of every request.
    try:
        response = endpoint(call)
    except DamagedIndex:
        response = endpoint(call)
    return response if call.user.renewed_cookie is None else finish(call, response)


def answered(endpoint: Endpoint, call: Call) -> Response:
    """Return the answer of an endpoint. If an index on the disk is damaged, it begins again with a new index."""
    try:
        return endpoint(call)
    except DamagedIndex:
        return endpoint(call)


def prepare(server: Server, request: Request, writer: object = None) -> tuple[Endpoint, Call]:
    """Return the endpoint of a request, and its call. Raise ``CouchError``. The caller holds the server's lock.

    For a request that writes to a database, wait until no other request computes a write to it. Then reserve the
    database for ``writer``.
    """
    method = effective_method(request.method, request.headers)
    if request.query:
        check_encoding(request.query)
    segments = split_path(request.path)
    if "+" in request.path and not server.settings.decode_plus_to_space:
        segments = split_path(request.path, plus_is_space=False)
    user = identify(server, request)
    authorize(server, user, method, segments)
    route, args = find_route(segments)
    db = None
    if "db" in args and (len(segments) > 1 or method not in ("PUT", "DELETE")):
        db = server.database(args["db"])
        if db.name == "_global_changes":
            from couchdal.emulator.engine.server.global_changes import record_events  # few servers have it

            record_events(server)
        elif db.name == "_users" and db.update_seq == 0:
            from couchdal.emulator.engine.auth.auth_design import ensure_auth_design  # few programs manage users

            ensure_auth_design(db)
    call = Call(request, server, args, user, db)
    if len(segments) > 3 and db is not None:
        call = _check_path(call, segments)
    if route.since is not None and not server.version.has(route.since):
        raise NotFound("missing")
    name = route.endpoints.get(method)
    endpoint = find_endpoint(route, method) if name is None else load_endpoint(name)
    if db is not None and (db.writer is not None or writer is not None):
        call.writes = method not in ("GET", "HEAD") and method not in route.reading
        if call.writes:
            call.db = server.await_writer(db.name, writer)
    if db is not None and db.system == "_replicator" and not is_db_admin(user, db.security):
        return partial(_without_credentials, endpoint), call
    return endpoint, call


def _without_credentials(endpoint: Endpoint, call: Call) -> Response:
    """Return an answer without the credentials in replication documents of other users.

    Raise ``NotSupported`` for answers other than JSON, in which credentials cannot be found.
    """
    from couchdal.emulator.engine.replication.documents import without_credentials  # few programs have replications

    response = endpoint(call)
    if response.json is not ABSENT:
        response.json = without_credentials(response.json, call.user.name)
    elif response.stream is not None or response.body:
        response.close()
        raise NotSupported("replication documents of other users are shown as JSON only")
    return response


def finish(call: Call, response: Response) -> Response:
    """Return the answer with the headers that concern the user."""
    if call.user.renewed_cookie is not None:
        response.headers.setdefault("set-cookie", call.user.renewed_cookie)
    return response


def _check_path(call: Call, segments: Sequence[str]) -> Call:
    """Return the call for the endpoint. Raise ``CouchError`` for a wrong partition or a missing design document."""
    below = segments[1:]
    if "partition" in call.args:
        call, below = _in_partition(call), segments[3:]
    if len(below) > 2 and below[0] == "_design" and below[2].startswith("_"):
        from couchdal.emulator.engine.documents.document_read import open_winner  # few requests get here

        open_winner(call.db, f"_design/{below[1]}")
    return call


def _in_partition(call: Call) -> Call:
    """Return the call with the partition as a parameter. Endpoints know partitions only in this form."""
    partition = call.args["partition"]
    if not call.db.partitioned:
        raise BadRequest("database is not partitioned")
    validate_partition(partition)
    if call.param("partition") not in (None, partition):
        raise BadRequest("Conflicting value for `partition` in query string")
    # CouchDB sorts the parameters on the way, and keeps the first of a repeated one.
    parameters = dict(reversed(call.params)) | {"partition": partition}
    return call.with_params(sorted(parameters.items()))


def find_endpoint(route: Route, method: str) -> Endpoint:
    """Return the function that answers a method. Raise ``MethodNotAllowed`` or ``NotSupported``."""
    if route.unsupported and (not route.allow or ("GET" if method == "HEAD" else method) in route.allow.split(",")):
        raise NotSupported(f"{method} {route.pattern}: {route.unsupported}")
    name = route.endpoint(method)
    if name is None:
        raise MethodNotAllowed(f"Only {route.allow} allowed", headers={"allow": route.allow})
    return load_endpoint(name)


@cache
def load_endpoint(name: str) -> Endpoint:
    """Return the function with the name ``module.function``.

    Its module is imported now, because most processes use few endpoints: importing all of them takes longer than
    importing the rest of the emulator.
    """
    module, _, function = name.partition(".")
    return cast(Endpoint, getattr(import_module(f"couchdal.emulator.endpoints.{module}"), function))
