"""Documents in ``_replicator``: their checks, their owners, and the state that the server writes to them.

Source: ``couch_replicator_docs``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_read import show
from couchdal.emulator.engine.documents.document_update import update_documents
from couchdal.emulator.engine.erlang.term_text import Atom, TupleTerm
from couchdal.emulator.engine.replication.endpoint import Setting, parse_endpoint
from couchdal.emulator.engine.replication.failures import Malformed, malformed
from couchdal.emulator.engine.replication.jobs import DocKey, State, iso_time
from couchdal.emulator.engine.replication.replication import Replication, parse_replication
from couchdal.emulator.engine.replication.replication_id import normalized
from couchdal.emulator.engine.revisions.revision import parse_revision
from couchdal.emulator.engine.server.database import Database
from couchdal.errors import BadRequest, CouchError, Forbidden
from couchdal.http.json_text import JSON

if TYPE_CHECKING:
    from couchdal.emulator.engine.server.server import Server

_CREDENTIALS = re.compile(r"http(s)?://(?:[^:]+):[^@]+@(.*)\Z", re.DOTALL)
_STATE: Final = "_replication_state"
# CouchDB throws these as a list of characters, and prints them so.
_AS_TEXT: Final = "mutually exclusive"


def owned(document: Document, user: UserContext, security: Mapping[str, object], setting: Setting) -> Document:
    """Return a replication document as it is stored: with its owner. Raise ``Forbidden`` if CouchDB refuses it."""
    if document.doc_id.startswith(("_design/", "_local/")):
        return document
    body = document.body
    owner = body.get("owner") if "owner" in body else None
    if "owner" in body and owner != user.name and not is_db_admin(user, security):
        raise Forbidden("Can't update replication documents from other users.")
    if owner is None:
        document = Document(
            document.doc_id,
            {**body, "owner": user.name},
            position=document.position,
            ids=document.ids,
            deleted=document.deleted,
            attachments=document.attachments,
        )
    if not document.deleted and body.get(_STATE) != "failed":
        try:
            _parsed(document.body, setting)
        except CouchError as error:
            raise Forbidden(_reason(error)) from None
    return document


def _parsed(body: Mapping[str, object], setting: Setting) -> Replication:
    context = body.get("user_ctx", {})
    if not isinstance(context, dict):
        raise malformed(TupleTerm((Atom("case_clause"), context)))
    replication = parse_replication(body, setting)  # type: ignore[arg-type]
    normalized(replication)
    return replication


def _reason(error: CouchError) -> str:
    """Return an error of a replication as CouchDB words it for a document."""
    if isinstance(error, BadRequest):
        text = f'"{error.reason}"'
        if _AS_TEXT not in error.reason:
            text = f"<<{text}>>"
        return f"{{throw,{{bad_request,{text}}}}}"
    return error.text if isinstance(error, Malformed) else error.reason


def without_credentials(value: object, user: str | None) -> object:
    """Return an answer in which replication documents of other users have no credentials."""
    if isinstance(value, list):
        return [without_credentials(item, user) for item in value]
    if not isinstance(value, dict):
        return value
    if "owner" in value and value["owner"] == user:
        return value
    return {
        name: _stripped(item) if name in ("source", "target") else without_credentials(item, user)
        for name, item in value.items()
    }


def _stripped(side: object) -> object:
    if isinstance(side, str):
        return _CREDENTIALS.sub(lambda found: f"http{found[1] or ''}://{found[2]}", side)
    if isinstance(side, dict):
        # CouchDB keeps the credentials in ``url``.
        return {name: _stripped(value) for name, value in side.items() if name not in ("headers", "auth")}
    return side


def find_changes(db: Database, since: int, setting: Setting) -> Iterator[tuple[str, Replication | CouchError | None]]:
    """Yield the documents that changed, each with the replication that it defines, or its error, or None.

    None means that it defines none any more: it was deleted, or it has its final state.
    """
    for record in list(db.storage.changes(since)):
        if record.doc_id.startswith("_design/"):
            continue
        body = {} if record.deleted else show(db, record, record.winner)
        state = body.get(_STATE)
        if record.deleted or state == "completed":
            yield record.doc_id, None
        elif state != "failed":
            try:
                yield record.doc_id, _parsed(body, setting)
            except CouchError as error:
                yield record.doc_id, error


def write_state(server: Server, key: DocKey, state: str, *, reason: str | None = None, stats: JSON = None) -> None:
    """Write the state of a replication to its document, if it still exists. The caller holds the lock."""
    name, doc_id = key
    if name not in server.databases:
        return
    db = server.await_writer(name)
    try:
        record = db.get(doc_id)
        if record is None or record.deleted:
            return
        body = show(db, record, record.winner)
        position, digits = parse_revision(str(body["_rev"]))
        kept = {key: value for key, value in body.items() if key not in ("_id", "_rev", "_attachments")}
        for gone in ("_replication_state_reason", "_replication_stats"):
            kept.pop(gone, None)
        kept |= {_STATE: state, "_replication_state_time": iso_time(server.clock.now())}
        if reason is not None:
            kept["_replication_state_reason"] = reason
        if stats is not None:
            kept["_replication_stats"] = stats
        update_documents(db, [Document(doc_id, kept, position=position, ids=(digits,))])
    finally:
        server.end_write(db)


def info_of(key: DocKey, body: Mapping[str, object], state: State) -> dict[str, object]:
    """Return a replication as ``_scheduler/docs`` shows it. It has no state if its document defines no replication."""
    doc = state.docs.get(key)
    if doc is not None:
        job = state.jobs.get(doc.job) if doc.job is not None else None
        return {**(job.summary(key) if job is not None else doc.shown())}
    word = body.get(_STATE)
    info: object = None
    started = updated = body.get("_replication_state_time")
    if word not in ("completed", "failed"):
        word = started = None
    elif word == "completed":
        stats = body.get("_replication_stats")
        members = dict(stats) if isinstance(stats, dict) else {}
        started = members.pop("start_time", None)
        info = members
    elif (reason := body.get("_replication_state_reason")) is not None:
        info = {"error": reason}
    source, target = (_url(body.get(name)) for name in ("source", "target"))
    return {
        "database": key[0],
        "doc_id": key[1],
        "id": None,
        "source": source,
        "target": target,
        "state": word,
        "error_count": int(word == "failed"),
        "info": info,
        "start_time": started,
        "last_updated": updated,
    }


def _url(side: object) -> str | None:
    """Return the address of a side, without credentials; nothing of one that is malformed."""
    try:
        return parse_endpoint(side).url  # type: ignore[arg-type]
    except CouchError as error:
        return side if error.reason == "local_endpoints_not_supported" and isinstance(side, str) else None
