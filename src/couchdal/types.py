"""Types of CouchDB's requests and answers, for type checkers and for readers.

Nothing here is enforced at run time: every value is a plain ``dict``, and an answer may have more members.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypeAlias, TypedDict, overload

from couchdal.http.json_text import JSON

if TYPE_CHECKING:

    class Document(dict[str, Any]):
        """A document that CouchDB returned: a ``dict`` whose ``_id`` and ``_rev`` are strings.

        Its other members are ``Any``, because only the caller knows what the documents of a database hold.
        To write a document, pass any mapping: a ``dict``, a ``TypedDict`` or a changed ``Document``.

        >>> db.put_document("a", {"n": 1})["ok"]
        True
        >>> doc = db.get_document("a")
        >>> rev: str = doc["_rev"]
        """

        @overload
        def __getitem__(self, key: Literal["_id", "_rev"], /) -> str: ...
        @overload
        def __getitem__(self, key: Literal["_deleted"], /) -> bool: ...
        @overload
        def __getitem__(self, key: Literal["_conflicts", "_deleted_conflicts"], /) -> list[str]: ...
        @overload
        def __getitem__(self, key: Literal["_attachments"], /) -> dict[str, Attachment]: ...
        @overload
        def __getitem__(self, key: Literal["_revisions"], /) -> Revisions: ...
        @overload
        def __getitem__(self, key: str, /) -> Any: ...
        def __getitem__(self, key: str, /) -> Any: ...

else:
    # A plain ``dict`` at run time: JSON is decoded to plain dictionaries, and nobody has to convert them.
    Document = dict

#: A query in Mango's language, such as ``{"type": "task", "due": {"$lt": "2030"}}``.
Selector: TypeAlias = Mapping[str, object]
#: The order of a query: field names, or ``{"field": "desc"}``.
Sort: TypeAlias = Iterable[str | Mapping[str, str]]


class Attachment(TypedDict):
    """An attachment's entry in a document: its ``data`` in base64, or a ``stub`` without it."""

    content_type: str
    revpos: int
    digest: str
    length: NotRequired[int]
    stub: NotRequired[bool]
    data: NotRequired[str]


class Revisions(TypedDict):
    """A revision's history, the newest first; ``start`` is the number of the first of ``ids``."""

    start: int
    ids: list[str]


class Ok(TypedDict):
    """The answer to a request that was carried out."""

    ok: bool


class WriteResult(TypedDict):
    """The id and the new revision of a document that was written."""

    ok: bool
    id: str
    rev: str


class BulkRow(TypedDict):
    """The outcome for one of many documents: ``ok`` and ``rev``, or ``error`` and ``reason``."""

    id: str
    ok: NotRequired[bool]
    rev: NotRequired[str]
    error: NotRequired[str]
    reason: NotRequired[str]


class OpenRevision(TypedDict):
    """One revision of a document: ``ok`` has the document; ``missing`` names a revision that does not exist."""

    ok: NotRequired[Document]
    missing: NotRequired[str]


class FindResult(TypedDict):
    """The documents that a query found. ``bookmark`` continues after the last; ``warning`` reports a missing index."""

    docs: list[Document]
    bookmark: str
    warning: NotRequired[str]
    execution_stats: NotRequired[ExecutionStats]


class ExecutionStats(TypedDict):
    """What a query cost."""

    total_keys_examined: int
    total_docs_examined: int
    total_quorum_docs_examined: int
    results_returned: int
    execution_time_ms: float


class RowValue(TypedDict):
    """The revision of a document in a row of ``_all_docs``."""

    rev: str
    deleted: NotRequired[bool]


class Row(TypedDict):
    """A row of ``_all_docs``. The row of a key that does not exist has ``key`` and ``error`` only."""

    id: str
    key: str
    value: RowValue
    doc: NotRequired[Document | None]
    error: NotRequired[str]


class AllDocsResult(TypedDict):
    """``total_rows`` counts the documents of the database, ``offset`` those before the first row."""

    total_rows: int
    offset: int | None
    rows: list[Row]
    update_seq: NotRequired[str]


class ViewRow(TypedDict):
    """A row of a view. A reduced row has no ``id`` and no ``doc``; its ``key`` is ``None`` unless rows are grouped."""

    key: Any
    value: Any
    id: NotRequired[str]
    doc: NotRequired[Document | None]


class ViewResult(TypedDict):
    """The rows of a view. Reduced results have no totals."""

    rows: list[ViewRow]
    total_rows: NotRequired[int]
    offset: NotRequired[int]
    update_seq: NotRequired[str]


class ChangedRevision(TypedDict):
    """A leaf of a changed document."""

    rev: str


class Change(TypedDict):
    """The latest change of a document."""

    seq: str
    id: str
    changes: list[ChangedRevision]
    deleted: NotRequired[bool]
    doc: NotRequired[Document]


class ChangesResult(TypedDict):
    """``last_seq`` is the ``since`` of the next call; ``pending`` counts the changes that are left."""

    results: list[Change]
    last_seq: str
    pending: int


class FollowOptions(TypedDict, total=False):
    """The keyword arguments of ``follow_changes``. ``doc_ids`` and ``selector`` set ``filter`` themselves."""

    style: Literal["main_only", "all_docs"] | None
    include_docs: bool | None
    conflicts: bool | None
    attachments: bool | None
    doc_ids: Iterable[str] | None
    selector: Selector | None
    filter: str | None


class ChangesOptions(FollowOptions, total=False):
    """The keyword arguments of ``changes``. ``timeout`` and ``heartbeat`` are in milliseconds."""

    since: str | int | None
    limit: int | None
    descending: bool | None
    timeout: int | None
    heartbeat: int | Literal[True] | None
    seq_interval: int | None


class BulkGetError(TypedDict):
    """Why a revision could not be read."""

    id: str
    rev: str
    error: str
    reason: str


class BulkGetDoc(TypedDict):
    """One requested revision: ``ok`` has the document, ``error`` says why it is missing."""

    ok: NotRequired[Document]
    error: NotRequired[BulkGetError]


class BulkGetItem(TypedDict):
    """The revisions of one document."""

    id: str
    docs: list[BulkGetDoc]


class BulkGetResult(TypedDict):
    """One item for each requested document, in the order of the request."""

    results: list[BulkGetItem]


class MissingRevisions(TypedDict):
    """The revisions that the database lacks, and its own leaves that they may descend from."""

    missing: list[str]
    possible_ancestors: NotRequired[list[str]]


class DatabaseSizes(TypedDict):
    """A database's sizes in bytes: its file, its data, and its data without compression."""

    file: int
    external: int
    active: int


class DatabaseInfo(TypedDict):
    """Information about a database, as every CouchDB 3 gives it."""

    db_name: str
    doc_count: int
    doc_del_count: int
    update_seq: str
    purge_seq: str
    sizes: DatabaseSizes
    props: dict[str, JSON]
    instance_start_time: str


class SecurityMembers(TypedDict, total=False):
    """The users and roles that have a right in a database."""

    names: list[str]
    roles: list[str]


class Security(TypedDict, total=False):
    """A database's security object. Without ``members``, everybody may read and write."""

    admins: SecurityMembers
    members: SecurityMembers


class UserContext(TypedDict):
    """The user of a session; ``name`` is ``None`` for an anonymous one."""

    name: str | None
    roles: list[str]


class SessionInfo(TypedDict):
    """The session that the request's credentials belong to."""

    ok: bool
    userCtx: UserContext
    info: dict[str, JSON]


class Uuids(TypedDict):
    """Ids that the server generated."""

    uuids: list[str]


class IndexFields(TypedDict):
    """The fields of an index, each with its direction, and the selector of a partial one."""

    fields: list[dict[str, str]]
    partial_filter_selector: NotRequired[dict[str, JSON]]


# ``def`` is a keyword, so this one is not a class statement.
Index = TypedDict(
    "Index", {"ddoc": str | None, "name": str, "type": str, "partitioned": NotRequired[bool], "def": IndexFields}
)
Index.__doc__ = """A Mango index; ``ddoc`` is ``None`` for ``_all_docs``."""


class IndexList(TypedDict):
    """The Mango indexes of a database, ``_all_docs`` first."""

    total_rows: int
    indexes: list[Index]


class CreatedIndex(TypedDict):
    """``result`` is ``"created"`` or ``"exists"``; ``id`` is that of the design document."""

    result: Literal["created", "exists"]
    id: str
    name: str


class Explanation(TypedDict):
    """How CouchDB would run a query: the index, the range of keys, and the indexes that it considered."""

    dbname: str
    index: Index
    selector: dict[str, JSON]
    opts: dict[str, JSON]
    limit: int
    skip: int
    fields: list[str] | str
    index_candidates: NotRequired[list[dict[str, Any]]]
    mrargs: NotRequired[dict[str, JSON]]


class PurgeResult(TypedDict):
    """The revisions that were purged, by document."""

    purge_seq: str | None
    purged: dict[str, list[str]]
