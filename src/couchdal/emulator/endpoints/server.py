"""``/``, ``_up``, ``_uuids``, ``_active_tasks``, ``_membership`` and the like. Source: ``chttpd_misc``."""

from __future__ import annotations

from email.utils import formatdate
from hashlib import md5

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, Gone, MethodNotAllowed
from couchdal.http.answers import json_response
from couchdal.http.messages import Response

_YEAR_S = 365 * 24 * 3600
_NODE = "nonode@nohost"


def welcome(call: Call) -> Response:
    """GET: the version of CouchDB that is emulated. ``vendor`` names the emulator."""
    return json_response(
        {
            "couchdb": "Welcome",
            "version": call.server.version.number,
            "git_sha": "",
            "uuid": call.server.ids.named("uuid"),
            "features": ["partitioned"],
            "vendor": {"name": "couchdal"},
        }
    )


def up(call: Call) -> Response:
    """GET: the server is always up."""
    return json_response({"status": "ok", "seeds": {}})


def uuids(call: Call) -> Response:
    """GET: ``count`` new ids, from the same sequence as the ids of documents."""
    text = call.param("count")
    count = 1 if text is None else parse_integer(text)
    if count is not None and count > call.server.settings.max_uuids:
        raise BadRequest("count parameter too large")
    if count is None or count < 0:
        raise BadRequest("count must be a positive integer")
    ids = [call.server.next_id() for _ in range(count)]
    tag = f'"{md5("".join(ids).encode(), usedforsecurity=False).hexdigest()}"'
    if call.has_etag(tag):
        return Response(304, {"etag": tag})
    headers = {
        "cache-control": "no-cache",
        "expires": "Mon, 01 Jan 1990 00:00:00 GMT",
        "pragma": "no-cache",
        "etag": tag,
    }
    return json_response({"uuids": ids}, headers=headers)


def active_tasks(call: Call) -> Response:
    """GET: the replications that run. The emulator finishes every other task at once."""
    call.require_server_admin()
    if call.server.replications is None:
        return json_response([])
    from couchdal.emulator.engine.replication.scheduler import scheduler_of  # few programs have replications

    return json_response(scheduler_of(call.server).tasks())


def membership(call: Call) -> Response:
    """GET: a cluster of one node."""
    return json_response({"all_nodes": [_NODE], "cluster_nodes": [_NODE]})


def reload_query_servers(call: Call) -> Response:
    """POST: nothing to do, because functions are always read from the current design document."""
    call.require_json_type()
    return json_response({"ok": True})


def icon(call: Call) -> Response:
    """GET: 404, because the emulator has no web interface with an icon. Browsers may cache that for a year."""
    if call.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
    expires = formatdate(call.server.clock.now() + _YEAR_S, usegmt=True)
    headers = {"content-type": "text/plain", "cache-control": f"public, max-age={_YEAR_S}", "expires": expires}
    return Response(404, headers, body=b"Not found.")


def interface(call: Call) -> Response:
    """GET and HEAD: 404, as the emulator has no web interface. ``couchdal serve --utils`` answers before it does."""
    if call.method not in ("GET", "HEAD"):
        raise MethodNotAllowed("Only GET,HEAD allowed", headers={"allow": "GET,HEAD"})
    if call.request.path == "/_utils":
        return Response(301, {"location": call.absolute_uri("/_utils/")})
    return Response(
        404, {"content-type": "text/plain", "cache-control": "private, must-revalidate"}, body=b"Not found."
    )


def temporary_view(call: Call) -> Response:
    """Any method: CouchDB 2 removed temporary views."""
    raise Gone("Temporary views are not supported in CouchDB")
