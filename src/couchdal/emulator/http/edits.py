"""Writes with the rights of the user, and their answers. Every endpoint that writes documents uses these."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from couchdal.api.versions import SIMPLE_PBKDF2
from couchdal.emulator.engine.documents.attachment import check_names
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_update import Outcome, Validate, replicate_documents, update_documents
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.revisions.revision import Revision, parse_revision
from couchdal.emulator.http.call import Call, document_etag
from couchdal.errors import BadRequest, CouchError, ServerError
from couchdal.http.answers import json_response
from couchdal.http.messages import Response
from couchdal.http.urls import quote_like_couchdb


def document_from(call: Call, doc_id: str, document: Document) -> Document:
    """Return a document with the id in the path and the revision in the query or in If-Match.

    Raise ``BadRequest`` if the revisions in the body, the query and If-Match differ.
    """
    if document.attachments:
        check_names(document.attachments)
    text = call.param("rev")
    revision = None if text is None else parse_revision(text)
    if document.ids:
        if revision is not None and revision != document.revision:
            raise BadRequest("Document rev from request body and query string have different values")
        header_revision(call, document.revision)
    else:
        revision = header_revision(call, revision)
        if revision is not None:
            document.position, document.ids = revision[0], (revision[1],)
        else:
            document.position = 0
    document.doc_id = doc_id
    return document


def header_revision(call: Call, revision: Revision | None) -> Revision | None:
    """Return the revision in If-Match, or the given one. Raise ``BadRequest`` if they differ."""
    text = call.header("if-match")
    if text is None:
        return revision
    named = parse_revision(text.strip('"'))
    if revision is not None and revision != named:
        raise BadRequest("Document rev and etag have different values")
    return named


def edit(call: Call, documents: Sequence[Document]) -> list[Outcome]:
    """Make edits with this user's rights, and return the outcome of each."""
    if call.db.system == "_replicator":
        from couchdal.emulator.engine.replication.documents import owned  # few programs have replications

        setting = call.server.settings.replicator.get
        documents = [owned(document, call.user, call.db.security, setting) for document in documents]
    settings = call.server.settings
    outcomes = update_documents(call.db, _prepared(call, documents), call.design_error, _validate(call), settings)
    refused = sum(isinstance(outcome, CouchError) for outcome in outcomes)
    if refused:
        call.db.count("fabric/doc_update/errors", refused)
    _follow_users(call, documents)
    return outcomes


def edit_one(call: Call, document: Document) -> Outcome:
    """Make one edit, and return its outcome. CouchDB fails for a wrong ``w`` before it learns of other errors."""
    try:
        (outcome,) = edit(call, [document])
    except CouchError:
        acknowledged(call, 201)
        raise
    return outcome


def replicate(call: Call, documents: Sequence[Document]) -> list[tuple[Document, CouchError]]:
    """Store revisions made elsewhere with this user's rights, and return the refused ones with their errors."""
    settings = call.server.settings
    refused = replicate_documents(call.db, _prepared(call, documents), call.design_error, _validate(call), settings)
    _follow_users(call, documents)
    return refused


def _follow_users(call: Call, documents: Sequence[Document]) -> None:
    """Create or delete the databases of users who were written, if each user has one."""
    server, name = call.server, call.db.name
    if not server.settings.peruser_enable:
        return
    from couchdal.emulator.engine.auth.peruser import follow_users, is_followed  # few servers have such databases

    if is_followed(server, name):
        with server.holding():
            follow_users(server, [document.doc_id for document in documents])


def _prepared(call: Call, documents: Sequence[Document]) -> Sequence[Document]:
    """Return documents as they are stored. In the users database, passwords are replaced by hashes.

    Raise ``NotFound`` for the documents of other users.
    """
    db = call.db
    if db.partitioned:
        for document in documents:
            db.check_located(document.doc_id)
    if not db.system:
        return documents
    if db.system == "_replicator":
        from couchdal.emulator.engine.replication.scheduler import scheduler_of  # few programs have replications

        with call.server.lock:
            scheduler_of(call.server)
        return documents
    from couchdal.emulator.engine.auth.users import check_writable, hash_password  # few programs manage users

    for document in documents:
        check_writable(document.doc_id, call.user, db.security)
    ids, settings, known = call.server.ids, call.server.settings, call.server.known_passwords
    return [hash_password(document, ids.named(_salt_name(call, document)), settings, known) for document in documents]


def _salt_name(call: Call, document: Document) -> str:
    """Return the name of a new salt. A user who was deleted and is created again gets another one.

    With an equal salt, the old user's cookies would be valid again.
    """
    db, record = call.db, call.db.get(document.doc_id)
    history = (record and record.winner.rev, db.purge_seq, call.server.generation)
    name = f"salt/{document.doc_id}/{document.position}"
    return name if history == (None, 0, 1) else f"{name}/{history}"


def _validate(call: Call) -> Validate | None:
    """Return the validation functions of a database as one function, or None."""
    validate: Validate | None = None
    if call.db.name == "_users":
        from couchdal.emulator.engine.auth.auth_design import has_rules  # few programs manage users
        from couchdal.emulator.engine.auth.user_rules import validate_user_document
        from couchdal.emulator.engine.auth.users import OLDER_SCHEMES, SCHEMES

        if has_rules(call.db):
            is_new = call.server.version.has(SIMPLE_PBKDF2)
            validate = partial(
                validate_user_document,
                user=call.user,
                security=call.db.security,
                settings=call.server.settings,
                schemes=SCHEMES if is_new else OLDER_SCHEMES,
            )
    if not call.db.indexes.validators(call.db):
        return validate
    from couchdal.emulator.engine.javascript.validation import validation  # most databases have no functions

    return validation(call.db, call.user, validate)


def batched(call: Call, document: Document) -> Response:
    """Make one edit and ignore its outcome."""
    with suppress(CouchError):
        edit(call, [document])
    return json_response({"ok": True, "id": document.doc_id}, 202)


def saved(call: Call, document: Document, *, located: bool = False) -> Response:
    """Make one edit and return its answer. Raise the error of a refused edit."""
    outcome = edit_one(call, document)
    status = acknowledged(call, 200 if document.deleted else 201)
    if isinstance(outcome, CouchError):
        raise outcome
    return written(call, document, outcome, status, located=located)


def acknowledged(call: Call, status: int, copies: object = None) -> int:
    """Return the status of a write: 202 if ``w`` asks for more copies than one, since there is one node.

    Raise ``ServerError`` if ``w`` is not a number. The write has been made by then.
    """
    if type(copies) is not int:
        text = call.param("w")
        copies = 1 if text is None else parse_count(text)
    return 202 if copies > 1 else status


def parse_count(text: str) -> int:
    """Return the number of copies that ``r`` or ``w`` asks for. Raise ``ServerError("badarg")``."""
    count = parse_integer(text)
    if count is None:
        raise ServerError("badarg", error="unknown_error")
    return count


def written(call: Call, document: Document, rev: str, status: int, *, located: bool = False) -> Response:
    """Return the answer to a write: ``{"ok", "id", "rev"}`` with an ETag and, for PUT, a Location."""
    headers = {"etag": document_etag(document.doc_id, rev, document.body)}
    if located:
        headers["location"] = location(call, document.doc_id)
    return json_response({"ok": True, "id": document.doc_id, "rev": rev}, status, headers)


def location(call: Call, doc_id: str) -> str:
    """Return the absolute address of a document."""
    return call.absolute_uri(f"/{quote_like_couchdb(call.args['db'])}/{quote_like_couchdb(doc_id)}")
