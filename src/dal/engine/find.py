"""Answering a query: which rows are read, in which order, and where the answer begins and ends.

It knows nothing of requests. Source: ``mango_cursor_view``, ``mango_execution_stats``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dal.engine.bookmark import pack_bookmark, unpack_bookmark
from dal.engine.database import Database
from dal.engine.document import DocumentRecord, copy_members
from dal.engine.document_read import Shown, show
from dal.engine.field_path import parse_field, project
from dal.engine.find_options import FindOptions
from dal.engine.key_range import Extreme, KeyRange, field_range, indexable_fields
from dal.engine.selector_match import compile_selector
from dal.errors import BadRequest, QueryParseError

_SCAN_WARNING_RATIO = 10
_NO_INDEX = "No matching index found, create an index to optimize query time."
_HIGH_RATIO = (
    "The number of documents examined is high in proportion to the number of results returned. "
    "Consider adding a more specific index to improve this."
)
_CONFLICTS = Shown(conflicts=True)


@dataclass(slots=True)
class ExecutionStats:
    """What a query cost, as ``execution_stats`` shows it."""

    keys_examined: int = 0
    docs_examined: int = 0
    results: int = 0

    def shown(self, quorum: bool) -> dict[str, object]:
        return {
            "total_keys_examined": self.keys_examined,
            "total_docs_examined": 0 if quorum else self.docs_examined,
            "total_quorum_docs_examined": self.docs_examined if quorum else 0,
            "results_returned": self.results,
            "execution_time_ms": 0.0,
        }


def find(db: Database, options: FindOptions) -> dict[str, object]:
    """Return the answer to a query: ``docs``, ``bookmark``, and where they apply ``execution_stats`` and ``warning``.

    Raises ``CouchError`` for a sort that no index serves, an index that is not there, or a malformed bookmark.
    """
    if options.partition and not db.partitioned:
        raise QueryParseError("`partition` parameter is not supported on this db")
    _check_index(db, options)
    key_range = field_range(options.selector, "_id") if "_id" in indexable_fields(options.selector) else KeyRange()
    if key_range is None or _matches_nothing(options):
        return {"docs": []}
    scan = _Scan(db, options, key_range)
    documents = scan.run()
    answer: dict[str, object] = {"docs": documents, "bookmark": scan.bookmark()}
    if options.execution_stats:
        answer["execution_stats"] = scan.stats.shown(options.r > 1)
    answer["warning"] = "\n".join(_warnings(options, scan.stats))
    return answer


def _check_index(db: Database, options: FindOptions) -> None:
    """See to it that a scan over all documents can serve the query: sorted by ``_id`` or not at all."""
    fields = [field for field, _ in options.sort]
    if fields and (fields != ["_id"] or "_id" not in indexable_fields(options.selector)):
        reason = "No index exists for this sort, try indexing by the sort fields."
        raise BadRequest(reason, error="no_usable_index")
    if options.allow_fallback or options.use_index == []:
        if not options.allow_fallback:
            reason = "You must specify an index with the `use_index` parameter."
            raise BadRequest(reason, error="invalid_index")
        return
    reason = f"{_index_name(options.use_index)} specified by `use_index` could not be found or it is not suitable."
    raise BadRequest(reason, error="invalid_index")


def _index_name(use_index: list[str]) -> str:
    design = use_index[0].removeprefix("_design/")
    return f"_design/{design}" + (f", {use_index[1]}" if len(use_index) > 1 else "")


def _matches_nothing(options: FindOptions) -> bool:
    """Whether the selector is only an empty list of alternatives, which CouchDB doesn't run."""
    return options.selector in ({"$and": []}, {"$or": []})


def _warnings(options: FindOptions, stats: ExecutionStats) -> Iterator[str]:
    if options.use_index:
        why = "it does not contain a valid index" if len(options.use_index) == 1 else "it is not a valid index"
        yield f"{_index_name(options.use_index)} was not used because {why} for this query."
    yield _NO_INDEX
    if stats.docs_examined > _SCAN_WARNING_RATIO * max(stats.results, 1):
        yield _HIGH_RATIO


class _Scan:
    """One pass over the documents in the order of their ids."""

    def __init__(self, db: Database, options: FindOptions, key_range: KeyRange) -> None:
        self.db = db
        self.options = options
        self.stats = ExecutionStats()
        self.descending = bool(options.sort) and options.sort[0][1] == "desc"
        self.key_range = key_range
        self.skip = options.skip
        self.last: str | None = None
        self.resumed: str | None = None
        if options.bookmark is not None:
            self.resumed, _ = unpack_bookmark(options.bookmark)
            self.skip += 1
        self.matches = compile_selector(options.selector)
        paths = [parse_field(field) for field in options.fields or ()]
        self.project: Callable[[dict[str, object]], dict[str, object]] | None = None
        if options.fields is not None:
            self.project = lambda document: project(document, paths)

    def run(self) -> list[dict[str, object]]:
        """Return the documents of this page, and count what was looked at.

        The scan ends at the first match beyond the page, which it has looked at. What was counted since the last match
        is not told when a matching design document is passed over: its shard never reports it.
        """
        documents: list[dict[str, object]] = []
        skip, limit, examined, reported = self.skip, self.options.limit, 0, 0
        dropped = 0
        for record in self._records():
            examined += 1
            document = self._view(record)
            if not self.matches(document):
                continue
            if record.doc_id.startswith("_design/"):
                dropped += examined - reported
                reported = examined
                continue
            reported = examined
            if len(documents) < limit:
                # The next page begins behind the last row that was shown or skipped.
                self.last = record.doc_id
            if skip > 0:
                skip -= 1
            elif len(documents) < limit:
                documents.append(self._shown(document))
            else:
                break
        self.stats.keys_examined = self.stats.docs_examined = examined - dropped
        self.stats.results = len(documents)
        return documents

    def _records(self) -> Iterator[DocumentRecord]:
        if not isinstance(self.key_range.high, Extreme | str):
            # Every other value is below every id.
            return iter(())
        low, high = _text(self.key_range.low), _text(self.key_range.high)
        if self.resumed is not None:
            low, high = (low, self.resumed) if self.descending else (self.resumed, high)
        start, end = (high, low) if self.descending else (low, high)
        return self.db.storage.live(start, end, descending=self.descending)

    def _view(self, record: DocumentRecord) -> dict[str, object]:
        """Return the document as the selector sees it; its parts are shared with the store, and only looked at."""
        node = record.winner
        if node.attachments or self.options.conflicts:
            return show(self.db, record, node, _CONFLICTS if self.options.conflicts else Shown())
        return {"_id": record.doc_id, "_rev": node.rev, **(node.body or {})}

    def _shown(self, document: dict[str, object]) -> dict[str, object]:
        if self.project is not None:
            document = self.project(document)
        copied: dict[str, object] = {}
        copy_members(document, copied)
        return copied

    def bookmark(self) -> str:
        """Return where the next page begins; where nothing matched, the bookmark that was sent."""
        if self.last is None:
            return self.options.bookmark or "nil"
        return pack_bookmark(self.last, self.last)


def _text(bound: object) -> str | None:
    return None if isinstance(bound, Extreme) or type(bound) is not str else bound
