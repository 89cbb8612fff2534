"""``_purge``, ``_purged_infos`` and its limit, ``_compact``, ``_view_cleanup``. Source: ``chttpd_db``."""

from __future__ import annotations

from couchdal.emulator.engine.documents.document_read import open_winner
from couchdal.emulator.engine.documents.purge import compact, purge
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest
from couchdal.http.answers import json_response
from couchdal.http.messages import Response

_MAX_DOCUMENTS = 100
_MAX_REVISIONS = 1000


def write(call: Call) -> Response:
    """POST ``{doc_id: [rev, ...]}``: take leaves out as if they had never been."""
    call.require_json_type()
    requests = {doc_id: _revisions(value) for doc_id, value in call.json_object().items()}
    if len(requests) > _MAX_DOCUMENTS:
        raise BadRequest("Exceeded maximum number of documents.")
    if sum(map(len, requests.values())) > _MAX_REVISIONS:
        raise BadRequest("Exceeded maximum number of revisions.")
    for doc_id in requests:
        call.db.check_located(doc_id)
    purged = purge(call.db, requests)
    shown = {doc_id: [format_revision(*rev) for rev in revisions] for doc_id, revisions in purged.items()}
    # As for other writes, more copies are asked for than there are; but only a number is read as one.
    wanted = call.param("w") or ""
    short = bool(requests) and (parse_integer(wanted) or 0) > 1
    return json_response({"purge_seq": None, "purged": shown}, 202 if short else 201)


def _revisions(value: object) -> list[Revision]:
    if not isinstance(value, list):
        raise BadRequest("Invalid list of revisions")
    return [parse_revision(item) for item in value]


def read_infos(call: Call) -> Response:
    """GET: what was purged: a set, and so in the order of ids and revisions, each pair once."""
    infos = {(info.doc_id, info.revisions) for info in call.db.purges}
    rows = [{"id": doc_id, "revs": [format_revision(*rev) for rev in revisions]} for doc_id, revisions in sorted(infos)]
    return json_response({"purged_infos": rows})


def read_infos_limit(call: Call) -> Response:
    """GET: how many purges the database remembers after a compaction."""
    return json_response(call.db.purged_infos_limit)


def write_infos_limit(call: Call) -> Response:
    """PUT: a positive integer."""
    limit = call.json()
    if type(limit) is not int or limit <= 0:
        raise BadRequest("`purged_infos_limit` must be positive integer")
    call.db.purged_infos_limit = limit
    call.db.settings_changed()
    return json_response({"ok": True})


def compact_database(call: Call) -> Response:
    """POST: forget the bodies of old revisions, at once instead of some time later."""
    call.require_json_type()
    compact(call.db)
    return json_response({"ok": True}, 202)


def compact_view(call: Call) -> Response:
    """POST to a design document's name: there is nothing to compact in the emulator."""
    call.require_json_type()
    open_winner(call.db, "_design/" + call.args["name"])
    return json_response({"ok": True}, 202)


def clean_up_views(call: Call) -> Response:
    """POST: there are no old index files in the emulator."""
    return json_response({"ok": True}, 202)
