"""``_purge``, ``_purged_infos``, ``_purged_infos_limit``, ``_compact``, ``_view_cleanup``. Source: ``chttpd_db``."""

from __future__ import annotations

from contextlib import suppress

from couchdal.emulator.engine.documents.document_read import open_winner
from couchdal.emulator.engine.documents.purge import compact, purge
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision import Revision, format_revision, parse_revision
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest, CouchError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response
from couchdal.pace import begin_long

_MAX_DOCUMENTS = 100
_MAX_REVISIONS = 1000


def write(call: Call) -> Response:
    """POST ``{doc_id: [rev, ...]}``: remove leaves as if they had never existed."""
    call.db.count("couchdb/httpd/purge_requests")
    call.require_json_type()
    requests = {doc_id: _revisions(value) for doc_id, value in call.json_object().items()}
    if len(requests) > _MAX_DOCUMENTS:
        raise BadRequest("Exceeded maximum number of documents.")
    if sum(map(len, requests.values())) > _MAX_REVISIONS:
        raise BadRequest("Exceeded maximum number of revisions.")
    for doc_id in requests:
        call.db.check_located(doc_id)
    purged = purge(call.db, requests)
    call.db.count("couchdb/database_purges")
    for name in ("success", "total"):
        call.db.count(f"couchdb/document_purges/{name}", len(requests))
    shown = {doc_id: [format_revision(*rev) for rev in revisions] for doc_id, revisions in purged.items()}
    # As for other writes, 202 means fewer copies than ``w`` asks for. Here a ``w`` that is not a number is ignored.
    wanted = call.param("w") or ""
    short = bool(requests) and (parse_integer(wanted) or 0) > 1
    return json_response({"purge_seq": None, "purged": shown}, 202 if short else 201)


def _revisions(value: object) -> list[Revision]:
    if not isinstance(value, list):
        raise BadRequest("Invalid list of revisions")
    return [parse_revision(item) for item in value]


def read_infos(call: Call) -> Response:
    """GET: the purged revisions, each once, in the order of ids and revisions."""
    infos = {(info.doc_id, info.revisions) for info in call.db.purges}
    rows = [{"id": doc_id, "revs": [format_revision(*rev) for rev in revisions]} for doc_id, revisions in sorted(infos)]
    return json_response({"purged_infos": rows})


def read_infos_limit(call: Call) -> Response:
    """GET: the number of purges that the database remembers after a compaction."""
    return json_response(call.db.purged_infos_limit)


def write_infos_limit(call: Call) -> Response:
    """PUT: set that number."""
    limit = call.json()
    if type(limit) is not int or limit <= 0:
        raise BadRequest("`purged_infos_limit` must be positive integer")
    call.db.set_purged_infos_limit(limit)
    return json_response({"ok": True})


def compact_database(call: Call) -> Response:
    """POST: drop the bodies of old revisions. CouchDB does so later, the emulator at once."""
    call.require_json_type()
    compact(call.db)
    return json_response({"ok": True}, 202)


def compact_view(call: Call) -> Response:
    """POST: compact the views of a design document. CouchDB does so later, the emulator at once."""
    call.require_json_type()
    record, _ = open_winner(call.db, "_design/" + call.args["name"])
    if isinstance(record.body.get("views"), dict):
        with suppress(CouchError):
            # CouchDB finds out later that there is nothing to compact.
            call.db.indexes.compact_view(call.db, record.body)
    return json_response({"ok": True}, 202)


def clean_up_views(call: Call) -> Response:
    """POST: delete the indexes in a data file that no design document defines any more."""
    keeper = call.db.journal.keeper
    if keeper is not None:
        begin_long()
        call.db.indexes.clean_up(call.db)
        keeper.tidy()
    return json_response({"ok": True}, 202)
