"""Definitions of Mango indexes in design documents: reading, naming, adding and removing them.

This module does not know rows or queries. Source: ``mango_idx``, ``mango_idx_view``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha1

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.erlang.external_term import binary, encode_term, integer
from couchdal.errors import CouchError, NotFound, ServerError
from couchdal.http.json_text import encode_json


@dataclass(frozen=True, slots=True)
class IndexDefinition:
    """One index: its design document, the name of its view, and its definition, which is the view's ``map``.

    The special index over ids has no design document.
    """

    ddoc: str | None
    name: str
    definition: Mapping[str, object]
    partitioned: bool

    @property
    def columns(self) -> tuple[str, ...]:
        """The field paths of the key. Raise ``ServerError`` for a handwritten view without fields."""
        fields = self.definition.get("fields", False)
        if type(fields) is not dict:
            raise ServerError("false" if fields is False else '{<<"fields">>,[]}', error="badmatch")
        return tuple(fields)

    @property
    def is_json(self) -> bool:
        return self.ddoc is not None

    @property
    def partial_filter(self) -> object:
        """The selector that documents must match to be in the index, or None."""
        chosen = self.definition.get("partial_filter_selector", _ABSENT)
        if chosen is _ABSENT:
            # The older name, from text indexes.
            chosen = self.definition.get("selector", {})
        return chosen if chosen != {} else None

    @property
    def signature(self) -> str:
        """The name of the index on a disk. Another definition has another one."""
        return sha1(
            encode_json([self.ddoc, self.name, self.definition, self.partitioned]), usedforsecurity=False
        ).hexdigest()

    def sort_key(self) -> tuple[str, str]:
        """Return the key by which CouchDB lists indexes. The special index comes first."""
        return (self.ddoc or "", self.name)

    def to_json(self) -> dict[str, object]:
        """Return the index as ``_index`` and ``_explain`` show it."""
        shown: dict[str, object] = {"ddoc": self.ddoc, "name": self.name, "type": "json" if self.is_json else "special"}
        if self.is_json:
            shown["partitioned"] = self.partitioned
        members: dict[str, object] = {}
        for name, value in self.definition.items():
            if name == "fields":
                members[name] = [{field: order} for field, order in value.items()] if isinstance(value, dict) else []
            elif name != "partial_filter_selector" or value != {}:
                members[name] = value
        shown["def"] = members
        return shown


_ABSENT = object()
ALL_DOCS = IndexDefinition(None, "_all_docs", {"fields": {"_id": "asc"}}, False)
# The definitions of every database without indexes of its own.
ONLY_ALL_DOCS = (ALL_DOCS,)


def defined_indexes(record: DocumentRecord, *, of_database: bool) -> Iterator[IndexDefinition]:
    """Yield the indexes that a design document defines. ``of_database`` says whether its database is partitioned."""
    body = record.body
    views = body.get("views")
    if body.get("language") != "query" or type(views) is not dict:
        return
    options = body.get("options")
    own = options.get("partitioned") if type(options) is dict else None
    partitioned = own if type(own) is bool else of_database
    for name, view in views.items():
        if type(view) is dict and _is_definition(view):
            yield IndexDefinition(record.doc_id, name, view["map"], partitioned)


def _is_definition(view: Mapping[str, object]) -> bool:
    """Return whether a view is well-formed. CouchDB logs and ignores other views."""
    definition = view.get("map")
    if type(definition) is not dict or type(view.get("options")) is not dict:
        return False
    fields = definition.get("fields", {})
    return type(fields) is dict or fields == []


# --- names -----------------------------------------------------------------------------------------------------------


def generated_name(request: Mapping[str, object]) -> str:
    """Return the name that CouchDB generates for an index: the SHA-1 of its definition and all options of the request.

    ``request`` has an entry for every option. None stands for an option's default.
    """
    entries = [_entry(tag, _option(tag, request[name])) for tag, name in _TAGS]
    items = b"l" + len(entries).to_bytes(4, "big") + b"".join(entries) + b"j"
    term = b"\x83h\x02" + encode_term(request["index"]) + items
    return sha1(term, usedforsecurity=False).hexdigest()


# In Erlang's order of terms, by which CouchDB sorts the options.
_TAGS = (
    ("ddoc", "ddoc"),
    ("def", "index"),
    ("name", "name"),
    ("partitioned", "partitioned"),
    ("type", "type"),
    ("w", "w"),
)
_DEFAULTS = {"ddoc": "auto_name", "name": "auto_name", "partitioned": "db_default"}


def _option(tag: str, value: object) -> bytes:
    if value is None and tag in _DEFAULTS:
        return _atom(_DEFAULTS[tag])
    if type(value) is int:
        return integer(value)
    return binary(value.encode()) if type(value) is str else encode_term(value)


def _entry(tag: str, value: bytes) -> bytes:
    return b"h\x02" + _atom(tag) + value


def _atom(name: str) -> bytes:
    return b"d" + len(name).to_bytes(2, "big") + name.encode()


# --- design documents ------------------------------------------------------------------------------------------------

EMPTY_BODY: Mapping[str, object] = {"language": "query"}


def with_index(
    body: Mapping[str, object], name: str, definition: Mapping[str, object], original: object
) -> dict[str, object]:
    """Return a design document's body with an index added. It replaces one of the same name.

    ``original`` is the definition as the client sent it.
    """
    views = body.get("views")
    view = {"map": definition, "reduce": "_count", "options": {"def": original}}
    return {**body, "views": {**(views if type(views) is dict else {}), name: view}}


def without_index(body: Mapping[str, object], name: str) -> dict[str, object]:
    """Return a design document's body without an index. Raise ``NotFound`` (``invalid_index``)."""
    views = body.get("views")
    if type(views) is not dict or name not in views:
        raise NotFound(f"JSON index {name} not found in this design doc.", error="invalid_index")
    rest = {other: view for other, view in views.items() if other != name}
    changed = dict(body)
    if rest:
        changed["views"] = rest
    else:
        del changed["views"]
    return changed


def with_partitioned(
    body: dict[str, object], partitioned: bool | None, *, doc_id: str, is_new: bool
) -> dict[str, object]:
    """Return a design document's body with the option ``partitioned``.

    Raise ``CouchError`` (``invalid_partitioned_option``) if the document exists with another value.
    """
    options = body.get("options")
    current = options.get("partitioned") if type(options) is dict else None
    if current is partitioned:
        return body
    if not is_new:
        reason = f"Requested partitioned option does not match existing value on design document {doc_id}"
        raise CouchError(reason, status=400, error="invalid_partitioned_option")
    return body if partitioned is None else {**body, "options": {"partitioned": partitioned}}
