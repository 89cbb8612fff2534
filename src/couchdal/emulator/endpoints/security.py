"""``_security`` and ``_revs_limit``: the settings of a database. Sources: ``chttpd_db``, ``fabric_db_meta``."""

from __future__ import annotations

from couchdal.emulator.engine.auth.security import is_security_object
from couchdal.emulator.engine.documents.document import copy_members
from couchdal.emulator.http.call import Call
from couchdal.errors import Forbidden, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response
from couchdal.pace import begin_if_large

_NOT_ADMIN = "You are not a db or server admin."


def read(call: Call) -> Response:
    """GET: the security object."""
    begin_if_large(call.db.security)
    return json_response(copy_members(call.db.security))


def write(call: Call) -> Response:
    """PUT: replace the security object.

    CouchDB asks each shard to store it. The shards refuse a malformed object, or a user who is not an administrator,
    and CouchDB reports either as a missing majority.
    """
    settings = call.server.settings
    if call.db.name == (settings.authentication_db or "_users") and settings.users_db_security_editable == "false":
        raise Forbidden("You can't edit the security object of the user database.")
    value = call.json()
    if call.db_admin_error(_NOT_ADMIN) is not None or not isinstance(value, dict) or not is_security_object(value):
        raise ServerError("no_majority", error="error")
    call.db.set_security(dict(value))
    return json_response({"ok": True})


def read_revs_limit(call: Call) -> Response:
    """GET: the number of revisions that a branch keeps."""
    return json_response(call.db.revs_limit)


def write_revs_limit(call: Call) -> Response:
    """PUT: set that number. CouchDB crashes on other values than positive integers, and on a user without the right."""
    limit = call.json()
    if type(limit) is not int or limit <= 0:
        raise ServerError("function_clause", error="unknown_error")
    refused = call.db_admin_error(_NOT_ADMIN)
    if refused is not None:
        raise ServerError(f'{{error,{{{refused.error},<<"{refused.reason}">>}}}}', error="badmatch")
    call.db.set_revs_limit(limit)
    return json_response({"ok": True})
