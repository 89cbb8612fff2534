"""``/{db}``: create, delete, describe and post to a database; the lists of databases. Source: ``chttpd_db``."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from hashlib import md5

from couchdal.emulator.engine.documents.attachment import check_names
from couchdal.emulator.engine.documents.document import parse_document
from couchdal.emulator.engine.documents.partition import check_new_id
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.http.call import Call, WithoutLock
from couchdal.emulator.http.edits import acknowledged, batched, edit, location
from couchdal.emulator.http.listings import to_listing
from couchdal.emulator.http.view_query import ViewQuery, parse_parameters, validate_listing
from couchdal.errors import BadRequest, CouchError, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import ABSENT, Response
from couchdal.http.urls import quote_like_couchdb
from couchdal.pace import here, unlocked, view_of

_MAX_DATABASES = 100


def create(call: Call) -> Response:
    """PUT: create a database. The body and the content type do not matter."""
    # On one node, there is one copy, so only the form of ``n`` is checked.
    _positive(call, "n", 1)
    shards = _positive(call, "q", 1)
    placement = call.param("placement")
    _check_placement(placement)
    if call.param("engine") not in (None, "couch"):
        raise BadRequest("invalid_engine_extension")
    partitioned = call.param("partitioned")
    if partitioned not in (None, "true", "false"):
        raise BadRequest("Invalid `partitioned` parameter")
    name = call.args["db"]
    if placement is not None:
        call.server.check_new_name(name, partitioned=partitioned == "true")
        raise ServerError("no_nodes_in_zone")
    created = call.server.create(name, shards=shards, partitioned=partitioned == "true")
    # CouchDB keeps a document for each database.
    created.count("couchdb/document_inserts")
    created.count("couchdb/document_writes")
    return json_response({"ok": True}, 201, {"location": call.absolute_uri("/" + quote_like_couchdb(name))})


def _positive(call: Call, name: str, default: int) -> int:
    text = call.param(name)
    if text is None:
        return default
    number = parse_integer(text)
    if number is None or number < 1:
        raise BadRequest(f"The `{name}` value should be a positive integer.")
    return number


def _check_placement(text: str | None) -> None:
    rules = [rule.split(":") for rule in text.split(",") if rule] if text is not None else []
    valid = all(len(rule) == 2 and rule[0] and (parse_integer(rule[1]) or 0) > 0 for rule in rules)
    if text == "" or not valid:
        raise BadRequest("The `placement` value should be in a format `zone:n`.")


def delete(call: Call) -> Response:
    """DELETE: delete the database. A ``rev`` is refused, because the client probably means a document."""
    if call.param("rev") is not None:
        raise BadRequest(
            "You tried to DELETE a database with a ?=rev parameter. Did you mean to DELETE a document instead?"
        )
    found = call.server.database(call.args["db"])
    call.server.delete(found.name)
    found.count("couchdb/document_writes")
    keeper = call.server.journal.keeper
    if keeper is None:
        return json_response({"ok": True})

    def tidied(peers: object) -> Response:
        if here.pace is not None:
            here.pace.has_written = True
        keeper.tidy()
        return json_response({"ok": True})

    raise WithoutLock(call, tidied)


def read(call: Call) -> Response:
    """GET: information about a database."""
    return json_response(call.db.info())


def post(call: Call) -> Response:
    """POST: write a document, with the id in its body or a new one. ``batch=ok`` does not wait for the outcome."""
    call.require_json_type()
    document = parse_document(call.json(), call.server.settings)
    if document.doc_id:
        check_new_id(call.db, document.doc_id)
    check_names(document.attachments)
    if document.doc_id == "":
        document.doc_id = call.server.next_id()
        document.position, document.ids = 0, ()
    if call.param("batch") == "ok":
        return batched(call, document)
    (outcome,) = edit(call, [document])
    status = acknowledged(call, 201)
    if isinstance(outcome, CouchError):
        raise outcome
    headers = {"location": location(call, document.doc_id)}
    return json_response({"ok": True, "id": document.doc_id, "rev": outcome}, status, headers)


def ensure_full_commit(call: Call) -> Response:
    """POST: replicators send this before they save a checkpoint. The emulator commits every write at once."""
    call.require_json_type()
    return json_response({"ok": True, "instance_start_time": call.db.instance_start_time}, 201)


def list_names(call: Call) -> Response:
    """GET ``_all_dbs``: the names in order. The parameters of ``_all_docs`` choose among them."""
    return _listed(call, list(_chosen(call)))


def list_infos(call: Call) -> Response:
    """GET ``_dbs_info``: the same with information about each."""
    databases = call.server.databases
    users = databases.get("_users")
    if users is not None and users.update_seq == 0:
        from couchdal.emulator.engine.auth.auth_design import ensure_auth_design  # few programs manage users

        with call.server.holding():
            ensure_auth_design(users)
    return _listed(call, [row for row in _infos(call, _chosen(call)) if "info" in row])


def _chosen(call: Call) -> list[str]:
    """Return the names that the parameters choose, in the requested order."""
    query = parse_parameters(ViewQuery(), call.params, decoded=False)
    query = validate_listing(query, call.server.settings, partitioned=False)
    if query.keys is not ABSENT:
        # CouchDB treats the list as a database, but cannot look up keys in it.
        raise ServerError("", error="function_clause")
    wanted = to_listing(query)
    low, high = (wanted.end, wanted.start) if wanted.descending else (wanted.start, wanted.end)
    names = () if wanted.empty else sorted(call.server.databases, reverse=wanted.descending)
    chosen = [name for name in names if (low is None or name >= low) and (high is None or name <= high)]
    if not wanted.inclusive_end:
        chosen = [name for name in chosen if name != wanted.end]
    return chosen[wanted.skip :][: wanted.limit]


def _listed(call: Call, rows: list[object]) -> Response:
    state = "/".join(f"{name}:{db.instance_start_time}" for name, db in sorted(call.server.databases.items()))
    tag = f'"{md5(state.encode(), usedforsecurity=False).hexdigest()}"'
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    return json_response(rows, headers={"etag": tag})


def post_infos(call: Call) -> Response:
    """POST ``_dbs_info`` with ``keys``: a row for each key, in their order."""
    call.require_json_type()
    body = call.json_object()
    keys = body.get("keys")
    if "keys" not in body:
        raise BadRequest("`keys` member must exist.")
    if not isinstance(keys, list):
        raise BadRequest("`keys` member must be an array.")
    if len(keys) > _MAX_DATABASES:
        raise BadRequest("too_many_keys")
    return json_response(_infos(call, keys))


def _infos(call: Call, keys: Iterable[object]) -> list[dict[str, object]]:
    """Return a row for each name. Sizes may take long, so others may have the server's lock meanwhile."""
    rows: list[dict[str, object]] = []
    with unlocked():
        for key in keys:
            found = call.server.databases.get(key) if isinstance(key, str) else None
            if found is None:
                rows.append({"key": key, "error": "not_found"})
                continue
            with view_of(found) or nullcontext(found) as database:
                rows.append({"key": key, "info": database.info()})
    return rows
