"""``_shards``, ``_sync_shards``, ``_cluster_setup``: a cluster of one node. Sources: ``mem3_httpd``, ``setup``."""

from __future__ import annotations

from ipaddress import ip_address

from couchdal.emulator.endpoints.node import NODE
from couchdal.emulator.engine.auth.admins import ADMINS
from couchdal.emulator.engine.server.configured import configuration_of, set_value
from couchdal.emulator.engine.server.sharding import range_text, shard_of, shards_of
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, CouchError, ServerError, thrown
from couchdal.http.answers import json_response
from couchdal.http.json_text import JSON, decode_request
from couchdal.http.messages import Response

_LOCAL = ("127.0.0.1", "::1")
_MOST_COPIES = 3
_SYSTEM: JSON = ["_users", "_replicator"]


def shards(call: Call) -> Response:
    """GET: the ranges of the shards, each with its nodes."""
    return json_response({"shards": {range_text(shard): [NODE] for shard in shards_of(call.db)}})


def document_shard(call: Call) -> Response:
    """GET: the shard that holds a document, which need not exist."""
    return json_response({"range": range_text(shard_of(call.db, call.args["doc_id"])), "nodes": [NODE]})


def fail(call: Call) -> Response:
    """Any method: a path on which CouchDB crashes."""
    raise ServerError("function_clause")


def sync_shards(call: Call) -> Response:
    """POST: there is no other node to synchronize with."""
    return json_response({"ok": True}, 202)


def state(call: Call) -> Response:
    """GET ``_cluster_setup``: the state of the setup. It follows from the configuration and the existing databases."""
    text = call.param("ensure_dbs_exist")
    wanted = _SYSTEM if text is None else decode_request(text.encode("utf-8", "surrogateescape"))
    config = configuration_of(call.server)
    if config.get("couchdb", "single_node") == "true":
        found = "single_node_enabled"
    elif (config.get("cluster", "n") or "3") == "1":
        ready = call.server.admins and _exist(call, wanted)
        found = "single_node_enabled" if ready else "single_node_disabled"
    elif not _is_cluster_enabled(call):
        found = "cluster_disabled"
    else:
        found = "cluster_finished" if _exist(call, wanted) else "cluster_enabled"
    return json_response({"state": found})


def set_up(call: Call) -> Response:
    """POST ``_cluster_setup`` with ``action``: set up a node, or finish the cluster. Other nodes cannot be added."""
    call.require_json_type()
    try:
        setup = call.json_object()
    except CouchError:
        raise BadRequest("Missing JSON body'") from None
    action = setup.get("action", "missing")
    if not isinstance(action, str):
        raise ServerError("badarg")
    if action == "enable_cluster":
        _enable_cluster(call, setup)
    elif action == "finish_cluster":
        _finish(call, setup)
    elif action == "enable_single_node":
        _require_admin(call, setup)
        _set_up_node(call, setup, copies=1)
        _create_missing(call, setup)
    elif action == "add_node" and not _is_cluster_enabled(call):
        raise BadRequest("Cluster is not enabled.")
    elif action == "add_node" and isinstance(setup.get("host"), str):
        raise BadRequest("Add node failed. Invalid Host and/or Port.")
    elif action in ("add_node", "receive_cookie") and not isinstance(setup.get("cookie"), str):
        raise ServerError("badarg")
    elif action not in ("remove_node", "receive_cookie"):
        raise BadRequest("Invalid Action'")
    return json_response({"ok": True}, 201)


def _enable_cluster(call: Call, setup: dict[str, JSON]) -> None:
    if _is_cluster_enabled(call):
        raise BadRequest("Cluster is already enabled")
    _require_admin(call, setup)
    address, current = setup.get("bind_address"), configuration_of(call.server).get("chttpd", "bind_address")
    if address in _LOCAL or (address is None and current in _LOCAL):
        raise thrown("error", "Cluster setup requires a remote bind_address (not 127.0.0.1 nor ::1)")
    if address is not None:
        _check_address(address)
    count = setup.get("node_count")
    if count is None:
        raise thrown("error", "Cluster setup requires node_count to be configured")
    # Erlang orders numbers before all other values.
    _set_up_node(call, setup, copies=min(count, _MOST_COPIES) if type(count) is int else _MOST_COPIES)


def _require_admin(call: Call, setup: dict[str, JSON]) -> None:
    if not call.server.admins and setup.get("username") is None and setup.get("password") is None:
        raise thrown("error", "Cluster setup requires admin account to be configured")


def _check_address(address: JSON) -> None:
    if not isinstance(address, str):
        raise ServerError("badarg")
    try:
        ip_address(address)
    except ValueError:
        raise thrown("error", "ok") from None


def _set_up_node(call: Call, setup: dict[str, JSON], copies: int) -> None:
    """Set what ``enable_cluster`` and ``enable_single_node`` set. Nothing is set if a value is invalid."""
    address, port = setup.get("bind_address"), setup.get("port")
    _check_address(address)
    name = setup.get("username")
    password = setup.get("password_hash", setup.get("password"))
    if (name is None) != (password is None) or not isinstance(name, str | None):
        raise ServerError("badarg")
    values = [("chttpd", "bind_address", str(address)), ("cluster", "n", str(copies))]
    if name is not None and isinstance(password, str):
        values.append((ADMINS, name, password))
    if isinstance(port, str | int) and not isinstance(port, bool):
        values.append(("chttpd", "port", str(port)))
    for section, key, value in values:
        set_value(call.server, section, key, value)


def _finish(call: Call, setup: dict[str, JSON]) -> None:
    if _exist(call, setup.get("ensure_dbs_exist", _SYSTEM)):
        raise BadRequest("Cluster is already finished")
    _create_missing(call, setup)


def _create_missing(call: Call, setup: dict[str, JSON]) -> None:
    names = setup.get("ensure_dbs_exist", _SYSTEM)
    for name in names if isinstance(names, list) else ():
        if isinstance(name, str) and name not in call.server.databases:
            try:
                call.server.create(name)
            except CouchError:
                # CouchDB ignores names that are not allowed for a database.
                continue


def _exist(call: Call, names: JSON) -> bool:
    if not isinstance(names, list):
        raise ServerError("function_clause")
    return all(isinstance(name, str) and name in call.server.databases for name in names)


def _is_cluster_enabled(call: Call) -> bool:
    address = configuration_of(call.server).get("chttpd", "bind_address")
    return address != "127.0.0.1" and bool(call.server.admins)
