"""The shapes of what CouchDB is asked and answers, for type checkers and readers; no program imports it as it runs.

They say what CouchDB promises and are not enforced: an answer may carry more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NotRequired, TypeAlias, TypedDict

from couchdal.http.json_text import JSON

Document: TypeAlias = dict[str, JSON]


class WriteResult(TypedDict):
    """What became of one document."""

    ok: bool
    id: str
    rev: str


class BulkRow(TypedDict):
    """What became of one document among many: ``ok`` and ``rev``, or ``error`` and ``reason``."""

    id: str
    ok: NotRequired[bool]
    rev: NotRequired[str]
    error: NotRequired[str]
    reason: NotRequired[str]


class FindResult(TypedDict):
    """``bookmark`` continues after the last document; ``warning`` says when no index helped."""

    docs: list[Document]
    bookmark: str
    warning: NotRequired[str]
    execution_stats: NotRequired[dict[str, JSON]]


class Row(TypedDict):
    """One row of ``_all_docs``: ``value`` holds the revision; a key that is not there has ``error`` instead."""

    id: str
    key: str
    value: dict[str, JSON]
    doc: NotRequired[Document | None]
    error: NotRequired[str]


class AllDocsResult(TypedDict):
    """``total_rows`` counts the whole database, ``offset`` the documents before the first row."""

    total_rows: int
    offset: int | None
    rows: list[Row]
    update_seq: NotRequired[str]


class ViewRow(TypedDict):
    """A row of a view; one that was reduced has neither an id nor a document, and ``None`` for the key of all rows."""

    key: JSON
    value: JSON
    id: NotRequired[str]
    doc: NotRequired[Document | None]


class ViewResult(TypedDict):
    """The rows of a view; totals are those of the whole view, and are not told of reduced rows."""

    rows: list[ViewRow]
    total_rows: NotRequired[int]
    offset: NotRequired[int]
    update_seq: NotRequired[str]


class ChangedRevision(TypedDict):
    """One leaf of a changed document."""

    rev: str


class Change(TypedDict):
    """A document that changed, at its latest sequence."""

    seq: str
    id: str
    changes: list[ChangedRevision]
    deleted: NotRequired[bool]
    doc: NotRequired[Document]


class ChangesResult(TypedDict):
    """``last_seq`` is where the next call goes on from; ``pending`` counts what is left."""

    results: list[Change]
    last_seq: str
    pending: int


class ChangesOptions(TypedDict, total=False):
    """What the changes feed can be asked for, beside its kind; ``timeout`` and ``heartbeat`` are in milliseconds."""

    since: str | int | None
    limit: int | None
    descending: bool | None
    style: Literal["main_only", "all_docs"] | None
    include_docs: bool | None
    conflicts: bool | None
    attachments: bool | None
    doc_ids: Iterable[str] | None
    selector: Mapping[str, object] | None
    filter: str | None
    timeout: int | None
    heartbeat: int | Literal[True] | None
    seq_interval: int | None


class BulkGetItem(TypedDict):
    """The revisions found of one document: each item of ``docs`` is ``{"ok": doc}`` or ``{"error": {...}}``."""

    id: str
    docs: list[dict[str, Document]]


class BulkGetResult(TypedDict):
    """One item for each that was asked for."""

    results: list[BulkGetItem]


class MissingRevisions(TypedDict):
    """The revisions that the database lacks, and leaves of its own that they may descend from."""

    missing: list[str]
    possible_ancestors: NotRequired[list[str]]


class DatabaseInfo(TypedDict):
    """The parts of a database's information that every CouchDB 3 gives."""

    db_name: str
    doc_count: int
    doc_del_count: int
    update_seq: str
    purge_seq: str
    sizes: dict[str, int]
    props: dict[str, JSON]
    instance_start_time: str


class UserContext(TypedDict):
    """Who the server takes the caller for; no name is nobody in particular."""

    name: str | None
    roles: list[str]


class SessionInfo(TypedDict):
    """The authenticated session."""

    ok: bool
    userCtx: UserContext
    info: dict[str, JSON]


class IndexList(TypedDict):
    """Mango's indexes, ``_all_docs`` first."""

    total_rows: int
    indexes: list[dict[str, JSON]]


class CreatedIndex(TypedDict):
    """``result`` is ``"created"`` or ``"exists"``."""

    result: str
    id: str
    name: str


class PurgeResult(TypedDict):
    """The revisions that were purged, by document."""

    purge_seq: str | None
    purged: dict[str, list[str]]


class Ok(TypedDict):
    """Done."""

    ok: bool


Security: TypeAlias = Mapping[str, JSON]
