"""``_replicate`` and ``_scheduler``. Sources: ``chttpd:possibly_hack``, ``couch_replicator_httpd``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final, cast

from couchdal.emulator.engine.documents.all_docs import list_range
from couchdal.emulator.engine.documents.document_read import PLAIN, show
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.replication.documents import info_of
from couchdal.emulator.engine.replication.failures import badarg, function_clause
from couchdal.emulator.engine.replication.jobs import State
from couchdal.emulator.engine.replication.replication import parse_replication
from couchdal.emulator.engine.replication.replicator import (
    Peers,
    find_ids,
    opened,
    place_of,
    replicate,
    replicator_setting,
)
from couchdal.emulator.engine.replication.scheduler import known_scheduler, scheduler_of
from couchdal.emulator.engine.server.configured import configuration_of
from couchdal.emulator.http.call import Call, WithoutLock
from couchdal.emulator.http.listings import to_listing
from couchdal.emulator.http.view_query import ViewQuery, parse_parameters, validate_listing
from couchdal.errors import BadRequest, MethodNotAllowed, NotFound, QueryParseError
from couchdal.http.answers import json_response
from couchdal.http.headers import SESSION_COOKIE
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import quote
from couchdal.pace import begin_long

_REPLICATOR: Final = "_replicator"
# The address of a side that has none.
_REMOTE: Final = "http://"
# CouchDB answers differently for words that are atoms in its code but not states, and for other words. These are atoms.
_ATOMS: Final = frozenset(
    (
        *(
            "x",
            "foo",
            "ok",
            "true",
            "false",
            "null",
            "undefined",
            "added",
            "started",
            "stopped",
            "crashed",
            "triggered",
        ),
        *("scheduled", "not_owner", "waiting", "done", "all", "any", "none", "active", "stop", "start"),
    )
)
_STATES: Final = ("initializing", "error", "running", "pending", "crashing", "completed", "failed")


def run(call: Call) -> Response:
    """POST: replicate a database to another one, and answer when the replication is complete."""
    body = call.json_object()
    call.require_json_type()
    replication = parse_replication(body, partial(replicator_setting, call.server), _local_sides(call, body))
    if replication.is_set("cancel") and replication.id is not None:
        return _cancelled(call, replication.id)
    server = call.server
    begin_long()

    def work(peers: Peers) -> Response:
        if not (replication.is_set("continuous") or replication.is_set("cancel")):
            return json_response({"ok": True, **replicate(server, replication, peers)})
        with opened(replication, peers) as (source, _):
            job_id = find_ids(replication, place_of(server, peers), source)[0] + replication.extension
        with server.exclusively():
            if replication.is_set("cancel"):
                return _cancelled(call, job_id)
            scheduler_of(server).add(job_id, replication, call.user.name)
        return json_response({"ok": True, "_local_id": job_id}, 202)

    raise WithoutLock(call, work)


def refuse(call: Call) -> Response:
    """Any other method. CouchDB looks at the body first."""
    if call.request.content():
        call.json_object()
    else:
        raise BadRequest("Missing request body")
    raise MethodNotAllowed("Only POST allowed", headers={"allow": "POST"})


def _cancelled(call: Call, job_id: str) -> Response:
    """Cancel a replication. Users other than administrators may cancel only those that they started."""
    scheduler = known_scheduler(call.server)
    job = scheduler.state.jobs.get(job_id) if scheduler is not None else None
    if scheduler is None or job is None:
        raise NotFound()
    if job.user != call.user.name:
        call.require_server_admin()
    scheduler.cancel(job_id)
    return json_response({"ok": True, "_local_id": job_id})


def fail(call: Call) -> Response:
    """Any method on a path below ``_scheduler`` that has no meaning."""
    if call.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
    return json_response({"error": "not found"}, 404)


def list_jobs(call: Call) -> Response:
    """GET ``_scheduler/jobs``: the replications that run or wait to run."""
    limit, skip = _number(call, "limit", 100), _number(call, "skip", 0)
    jobs = sorted(_state(call).jobs.values(), key=lambda job: job.id)
    chosen = [job.shown() for job in jobs[skip : skip + limit]]
    return json_response({"total_rows": len(jobs), "offset": min(skip, len(jobs)), "jobs": chosen})


def read_job(call: Call) -> Response:
    """GET ``_scheduler/jobs/{id}``."""
    job = _state(call).jobs.get(call.args["job"].replace(" ", "+"))
    if job is None:
        raise NotFound()
    return json_response(job.shown())


def read_docs(call: Call) -> Response:
    """GET ``_scheduler/docs`` and paths below it: the replications that documents define, or one of them."""
    segments = call.args.get("below", "_replicator").split("/")
    if segments[-1] != _REPLICATOR and segments[-2:-1] != [_REPLICATOR]:
        raise BadRequest("Invalid path")
    if segments[-1] == _REPLICATOR:
        return _list_docs(call, "/".join(segments))
    db = call.server.database("/".join(segments[:-1]))
    record = db.get(segments[-1])
    if record is None or record.deleted:
        raise NotFound()
    return json_response(info_of((db.name, segments[-1]), show(db, record, record.winner), _state(call)))


def _list_docs(call: Call, name: str) -> Response:
    states = _wanted_states(call)
    parameters = [item for item in call.params if item[0] != "states"]
    query = parse_parameters(ViewQuery(include_docs=True), parameters, decoded=False)
    query = validate_listing(query, None, partitioned=False)
    db, wanted = call.server.database(name), to_listing(query)
    # CouchDB applies the limit before it selects documents by state.
    most = None if wanted.limit is None else wanted.skip + wanted.limit
    listed = list_range(db, replace(wanted, skip=0, limit=most, shown=PLAIN))
    state, docs = _state(call), []
    for row in cast("list[dict[str, dict[str, object]]]", listed["rows"]):
        if not str(row["id"]).startswith("_design/"):
            info = info_of((name, str(row["id"])), row["doc"], state)
            if info["state"] is not None and (not states or info["state"] in states):
                docs.append(info)
    total = db.doc_count
    return json_response({"total_rows": total, "offset": min(total, wanted.skip), "docs": docs[wanted.skip :]})


def _wanted_states(call: Call) -> list[str]:
    states = [state.lower() for state in (call.param("states") or "").split(",") if state]
    unknown = [state for state in states if state not in _STATES]
    if not _ATOMS.issuperset(unknown):
        raise QueryParseError(f"States must be one or more of [{','.join(_STATES)}]")
    if unknown:
        raise QueryParseError(f"Unknown states [{','.join(unknown)}]. Choose from: [{','.join(_STATES)}]")
    return states


def _state(call: Call) -> State:
    scheduler = known_scheduler(call.server)
    if scheduler is None:
        return State()
    scheduler.read_documents()
    return scheduler.state


def _number(call: Call, name: str, default: int) -> int:
    text = call.param(name)
    number = default if text is None else parse_integer(text)
    if number is None:
        raise QueryParseError(f"{name} must be an integer")
    if number < 0:
        raise QueryParseError(f"{name} not in range of [0,infinity]")
    return number


def _local_sides(call: Call, body: dict[str, JSON]) -> dict[str, JSON]:
    """Return the sides that name databases of this server, as addresses. Their requests have the caller's rights."""
    found: dict[str, JSON] = {}
    for name in ("source", "target"):
        side = body.get(name, {})
        address = side.get("url", _REMOTE) if isinstance(side, dict) else side
        if not (isinstance(address, str) and address.startswith(("http://", "https://"))):
            found[name] = _local(call, address)
    return found


def _local(call: Call, name: JSON) -> JSON:
    config = configuration_of(call.server)
    host, port = config.get("chttpd", "bind_address") or "127.0.0.1", config.get("chttpd", "port") or "5984"
    headers: dict[str, JSON] = {"authorization": call.header("authorization") or "", "cookie": _session(call)}
    return {"url": f"http://{host}:{port}/{_quoted(name)}", "headers": headers}


def _quoted(name: JSON) -> str:
    """Return what a request gives as the name of a database, for an address. Raise ``CouchError``."""
    if isinstance(name, dict):
        raise function_clause()
    if not isinstance(name, list):
        text = name if isinstance(name, str) else encode_json(name).decode()
    elif all(type(item) is int for item in name):
        # Erlang takes an array of bytes for a text.
        text = bytes(int(str(item)) & 255 for item in name).decode("utf-8", "surrogateescape")
    else:
        raise badarg()
    return quote(text, "surrogateescape").replace("%20", "+")


def _session(call: Call) -> str:
    """Return the session cookie of the request, or an empty string."""
    pairs = (pair.strip() for pair in (call.header("cookie") or "").split(";"))
    return next((pair for pair in pairs if pair.startswith(f"{SESSION_COOKIE}=")), "")
