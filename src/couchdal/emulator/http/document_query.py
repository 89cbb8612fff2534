"""The query parameters of document requests, and the right to read a document.

Source: ``chttpd_db:parse_doc_query``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from couchdal.emulator.engine.documents.document_read import PLAIN, Shown
from couchdal.emulator.engine.revisions.revision import Revision, parse_revision
from couchdal.emulator.http.call import Call
from couchdal.emulator.http.edits import parse_count
from couchdal.errors import BadRequest
from couchdal.http.json_text import decode_request
from couchdal.http.messages import Response

_FLAGS = {
    "revs": {"revs": True},
    "revs_info": {"revs_info": True},
    "conflicts": {"conflicts": True},
    "deleted_conflicts": {"deleted_conflicts": True},
    "local_seq": {"local_seq": True},
    "attachments": {"attachments": True},
    "att_encoding_info": {"encoding_info": True},
    "meta": {"revs_info": True, "conflicts": True, "deleted_conflicts": True},
}


class DocumentQuery:
    """The query parameters of a document request. CouchDB parses them in order; the last value of a name counts."""

    __slots__ = ("atts_since", "copies", "deleted", "latest", "new_edits", "open_revs", "rev", "shown")

    def __init__(self, parameters: list[tuple[str, str]]) -> None:
        self.rev: Revision | None = None
        #: False without ``open_revs``, None for all leaves.
        self.open_revs: list[Revision] | None | bool = False
        self.latest: bool = False
        self.deleted: bool = False
        self.new_edits: bool = True
        self.atts_since: tuple[Revision, ...] | None = None
        self.copies: str | None = None
        flags: dict[str, bool] = {}
        for name, value in parameters:
            if name in _FLAGS and value == "true":
                flags |= _FLAGS[name]
            elif name == "latest" and value == "true":
                self.latest = True
            elif name == "deleted" and value == "true":
                self.deleted = True
            elif name == "new_edits" and value in ("true", "false"):
                self.new_edits = value == "true"
            elif name == "rev":
                self.rev = parse_revision(value)
            elif name == "open_revs":
                self.open_revs = None if value == "all" else parse_revisions(value) or False
            elif name == "atts_since":
                self.atts_since = tuple(parse_revisions(value))
            elif name == "r":
                self.copies = value
        self.shown: Shown = PLAIN
        if flags or self.atts_since is not None:
            self.shown = Shown(**flags, atts_since=self.atts_since)

    def check_copies(self) -> None:
        """Raise ``ServerError`` if the number of copies to read (``r``) is not a number."""
        if self.copies is not None:
            parse_count(self.copies)


_NO_QUERY = DocumentQuery([])


def document_query(call: Call) -> DocumentQuery:
    """Return the query parameters of a document request. Raise ``BadRequest``."""
    return DocumentQuery(call.params) if call.request.query else _NO_QUERY


def parse_revisions(text: str) -> list[Revision]:
    """Return the revisions of a JSON array of strings. Raise ``BadRequest``."""
    value = decode_request(text.encode("utf-8", "surrogateescape"))
    if type(value) is not list:
        raise BadRequest("Invalid list of revisions")
    return [parse_revision(item) for item in value]


def readable(call: Call, doc_id: str, document: Mapping[str, object]) -> Mapping[str, object]:
    """Return the part of a document that the caller may read: in the users database, others see public members only.

    Raise ``NotFound`` if the caller may read no part, and ``Forbidden`` for a design document of the users database.
    """
    db = call.db
    if db.system != "_users" or call.user.is_admin:
        return document
    from couchdal.emulator.engine.auth.users import readable_part  # few programs manage users

    return readable_part(doc_id, document, call.user, db.security, call.server.settings)


def redirect_to_design_path(call: Call) -> Response:
    """Return the redirection to the path with a plain slash, for a design document whose slash was escaped."""
    head, *tail = re.split("_design%2F", call.request.path, flags=re.IGNORECASE)
    query = f"?{call.request.query}" if call.request.query else ""
    return Response(301, {"location": call.absolute_uri(head + "_design/" + "".join(tail) + query)})
