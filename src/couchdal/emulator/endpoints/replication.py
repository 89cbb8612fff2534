"""``_replicate``. Sources: ``chttpd:possibly_hack``, ``chttpd_misc:handle_replicate_req``."""

from __future__ import annotations

from couchdal.emulator.engine.replication.endpoint import Endpoint, parse_endpoint
from couchdal.emulator.engine.replication.replication import parse_replication
from couchdal.emulator.engine.replication.replicator import Peers, replicate
from couchdal.emulator.engine.server.configured import configuration_of
from couchdal.emulator.http.call import Call, WithoutLock
from couchdal.errors import NotSupported
from couchdal.http.answers import json_response
from couchdal.http.headers import SESSION_COOKIE
from couchdal.http.json_text import JSON, encode_json
from couchdal.http.messages import Response
from couchdal.http.urls import quote
from couchdal.pace import begin_long


def run(call: Call) -> Response:
    """POST: replicate a database to another one, and answer when all is done."""
    body = call.json_object()
    call.require_json_type()
    replication = parse_replication(body, lambda name: _local(call, name))
    if replication.is_set("continuous") or replication.is_set("cancel"):
        raise NotSupported("continuous replications")
    server = call.server
    uuid = configuration_of(server).get("couchdb", "uuid") or ""
    begin_long()

    def work(peers: Peers) -> Response:
        return json_response({"ok": True, **replicate(server, replication, peers, uuid)})

    raise WithoutLock(call, work)


def _local(call: Call, name: JSON) -> Endpoint:
    """Return the endpoint for a database of this server. Its requests have the caller's rights."""
    config = configuration_of(call.server)
    text = name if isinstance(name, str) else encode_json(name).decode()
    host, port = config.get("chttpd", "bind_address") or "127.0.0.1", config.get("chttpd", "port") or "5984"
    quoted = quote(text).replace("%20", "+")
    headers: dict[str, JSON] = {"authorization": call.header("authorization") or "", "cookie": _session(call)}
    return parse_endpoint({"url": f"http://{host}:{port}/{quoted}", "headers": headers}, is_local=True)


def _session(call: Call) -> str:
    """Return the session cookie of the request, or an empty text."""
    pairs = (pair.strip() for pair in (call.header("cookie") or "").split(";"))
    return next((pair for pair in pairs if pair.startswith(f"{SESSION_COOKIE}=")), "")
