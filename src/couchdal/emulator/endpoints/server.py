"""``/``, ``_up``, ``_uuids``, ``_active_tasks``, ``_membership``. Source: ``chttpd_misc``."""

from __future__ import annotations

from hashlib import md5

from couchdal.api import VERSION
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, Gone
from couchdal.http.answers import json_response
from couchdal.http.messages import Response

_MAX_UUIDS = 1000
_NODE = "nonode@nohost"


def welcome(call: Call) -> Response:
    """GET: the version of CouchDB that is emulated. ``vendor`` names the emulator."""
    return json_response(
        {
            "couchdb": "Welcome",
            "version": VERSION,
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
    if count is not None and count > _MAX_UUIDS:
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
    """GET: an empty list, because the emulator finishes every task at once."""
    call.require_server_admin()
    return json_response([])


def membership(call: Call) -> Response:
    """GET: a cluster of one node."""
    return json_response({"all_nodes": [_NODE], "cluster_nodes": [_NODE]})


def temporary_view(call: Call) -> Response:
    """Any method: CouchDB 2 removed temporary views."""
    raise Gone("Temporary views are not supported in CouchDB")
