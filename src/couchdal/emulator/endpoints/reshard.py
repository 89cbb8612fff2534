"""``_reshard``: jobs that split the shards of databases. Source: ``mem3_reshard_httpd``."""

from __future__ import annotations

from couchdal.emulator.endpoints.node import NODE
from couchdal.emulator.engine.erlang.integers import parse_hex
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.emulator.engine.server.resharding import (
    change_state,
    chosen_shards,
    find_job,
    remove_job,
    resharding_of,
    resume_job,
    start_job,
    stop_job,
)
from couchdal.emulator.engine.server.sharding import Range, shard_name
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, NotFound, ServerError
from couchdal.http.answers import json_response
from couchdal.http.json_text import JSON
from couchdal.http.messages import Response

_RING_END = 2**32 - 1
_OK = {"ok": True}


def summary(call: Call) -> Response:
    """GET: whether jobs may run, and how many are in each state."""
    return json_response(resharding_of(call.server).described())


def read_state(call: Call) -> Response:
    """GET: whether jobs may run, and why not."""
    found = resharding_of(call.server)
    return json_response({"state": found.state, "reason": found.reason})


def write_state(call: Call) -> Response:
    """PUT ``{"state": "running" or "stopped", "reason": ...}``."""
    stopped, reason = _state(call, "Cluster-wide resharding stopped by the user")
    change_state(call.server, stopped=stopped, reason=reason if stopped else None)
    return json_response(_OK)


def _state(call: Call, default: str) -> tuple[bool, JSON]:
    call.require_json_type()
    body = call.json_object()
    if "state" not in body:
        raise BadRequest("Expected a `state` field")
    if body["state"] not in ("running", "stopped"):
        raise BadRequest("State field not `running` or `stopped`")
    return body["state"] == "stopped", body.get("reason", default)


def read_jobs(call: Call) -> Response:
    """GET: all jobs."""
    jobs = resharding_of(call.server).jobs
    rows = [jobs[job_id].described(NODE) for job_id in sorted(jobs)]
    return json_response({"total_rows": len(rows), "offset": 0, "jobs": rows})


def create_jobs(call: Call) -> Response:
    """POST: a job for each shard that ``db``, ``shard``, ``range`` and ``node`` choose."""
    call.require_json_type()
    body = call.json_object()
    _check_node(body.get("node"))
    shard, name = _checked_shard(body.get("shard")), _checked_database(call, body.get("db"))
    wanted = _checked_range(body["range"]) if "range" in body else None
    if body.get("type") != "split":
        raise BadRequest("`job type must be `split`")
    if name is not None and shard is not None:
        raise BadRequest("`db` and `shard` are mutually exclusive")
    if name is None and shard is None:
        raise BadRequest("Must specify at least `db` or `shard`")
    if shard is not None and wanted is not None:
        raise ServerError("function_clause")
    chosen = chosen_shards(call.server, name=name, shard=shard, wanted=wanted)
    if not chosen:
        raise NotFound()
    rows = [
        {"ok": True, "id": start_job(call.server, db, one, NODE), "node": NODE, "shard": shard_name(db, one)}
        for db, one in chosen
    ]
    return json_response(rows, 201)


def _check_node(node: JSON) -> None:
    if node is not None and not isinstance(node, str):
        raise BadRequest("Invalid `node`")
    if node not in (None, NODE):
        raise BadRequest("`node` is not a valid node name")


def _checked_shard(shard: JSON) -> str | None:
    if shard is None:
        return None
    if not isinstance(shard, str):
        raise BadRequest("Invalid `shard`")
    parts = shard.split("/", 2)
    if len(parts) != 3 or parts[0] != "shards" or len(parts[1]) != 17 or parts[1][8] != "-":
        raise BadRequest("`shard` is invalid")
    return shard


def _checked_database(call: Call, name: JSON) -> str | None:
    if name is None:
        return None
    if not isinstance(name, str) or name not in call.server.databases:
        raise BadRequest("Invalid `db`")
    return name


def _checked_range(text: JSON) -> Range:
    if isinstance(text, str) and len(text) == 17 and text[8] == "-":
        begin, end = (parse_hex(part) for part in (text[:8], text[9:]))
        if begin is not None and end is not None and 0 <= begin < end <= _RING_END:
            return begin, end
    raise BadRequest("Invalid `range`")


def read_job(call: Call) -> Response:
    """GET: one job."""
    return json_response(find_job(call.server, call.args["job"]).described(NODE))


def delete_job(call: Call) -> Response:
    """DELETE: forget a job. Shards that were split stay split."""
    remove_job(call.server, call.args["job"])
    return json_response(_OK)


def read_job_state(call: Call) -> Response:
    """GET: the state of one job, and why it was stopped."""
    job = find_job(call.server, call.args["job"])
    return json_response({"state": job.state, "reason": job.reason})


def write_job_state(call: Call) -> Response:
    """PUT ``{"state": "running" or "stopped", "reason": ...}``: run a job that was stopped, or stop it."""
    stopped, reason = _state(call, "Stopped by user")
    if stopped:
        stop_job(call.server, call.args["job"], str(reason))
        return json_response(_OK)
    found = resharding_of(call.server)
    if found.stopped:
        why = "stopped" if found.reason is None else f"{{stopped,{pretty_term(found.reason)}}}"
        return json_response({"error": why}, 500)
    resume_job(call.server, call.args["job"])
    return json_response(_OK)


def not_found(call: Call) -> Response:
    """Any method: an unknown path."""
    raise NotFound()


def fail(call: Call) -> Response:
    """Any method: a path on which CouchDB crashes."""
    raise ServerError("function_clause")
