"""``_security`` and ``_revs_limit``: a database's settings. Source: ``chttpd_db`` and ``fabric_db_meta``."""

from __future__ import annotations

from couchdal.emulator.engine.auth.security import is_security_object
from couchdal.emulator.http.call import Call
from couchdal.errors import Forbidden, ServerError
from couchdal.http.answers import json_response
from couchdal.http.json_text import copy_json
from couchdal.http.messages import Response

_NOT_ADMIN = "You are not a db or server admin."


def read(call: Call) -> Response:
    """GET the security object: to all who may read the database."""
    return json_response(copy_json(call.db.security))


def write(call: Call) -> Response:
    """PUT a security object.

    The shards of a database vote on it, and each refuses a malformed one, or one from a user who is no administrator:
    both show as a missing majority.
    """
    if call.db.name == "_users":
        raise Forbidden("You can't edit the security object of the user database.")
    value = call.json()
    if call.db_admin_error(_NOT_ADMIN) is not None or not isinstance(value, dict) or not is_security_object(value):
        raise ServerError("no_majority", error="error")
    call.db.security = dict(value)
    call.db.settings_changed()
    return json_response({"ok": True})


def read_revs_limit(call: Call) -> Response:
    """GET how many revisions of a branch's history are kept."""
    return json_response(call.db.revs_limit)


def write_revs_limit(call: Call) -> Response:
    """PUT a positive integer. CouchDB crashes over everything else, and over users who may not."""
    limit = call.json()
    if type(limit) is not int or limit <= 0:
        raise ServerError("function_clause", error="unknown_error")
    refused = call.db_admin_error(_NOT_ADMIN)
    if refused is not None:
        raise ServerError(f'{{error,{{{refused.error},<<"{refused.reason}">>}}}}', error="badmatch")
    call.db.revs_limit = limit
    call.db.settings_changed()
    return json_response({"ok": True})
