"""Listings of documents by id: all documents, design documents, or local documents.

This module does not know requests. Ids sort by their raw bytes, unlike keys of views. Source: ``fabric_view_all_docs``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from sys import maxsize
from typing import TypeVar

from couchdal.emulator.engine.documents.document import DocumentRecord, copy_members
from couchdal.emulator.engine.documents.document_read import Shown, show
from couchdal.emulator.engine.documents.document_store import DocumentStore
from couchdal.emulator.storage.base import LocalDocument
from couchdal.errors import ServerError, thrown
from couchdal.http.json_text import encode_json
from couchdal.pace import paced

_Found = TypeVar("_Found")

_DESIGN = ("_design/", "_design0")
_LOCAL = "_local/"


@dataclass(frozen=True, slots=True)
class Listing:
    """Which rows to list: ids from ``start`` to ``end`` (None: no bound), or none if ``empty``.

    ``shown`` is None without ``include_docs``. ``in_partition`` says that the listing is of one partition.
    """

    start: str | None = None
    end: str | None = None
    empty: bool = False
    inclusive_end: bool = True
    descending: bool = False
    skip: int = 0
    limit: int | None = None
    shown: Shown | None = None
    design: bool = False
    in_partition: bool = False


def list_range(db: DocumentStore, listing: Listing, *, late: bool = False) -> dict[str, object]:
    """Return ``total_rows``, ``offset`` and ``rows`` of the live documents in a range.

    With ``late``, ``rows`` is an iterator that reads the present state later. The storage must be on a disk.
    """
    start, end = listing.start, listing.end
    if listing.design:
        low, high = _DESIGN
        if listing.descending:
            start, end = high if start is None else min(start, high), max(end or low, low)
        else:
            start, end = max(start or low, low), high if end is None else min(end, high)
    total = _count_design(db) if listing.design else db.doc_count
    # A descending listing that starts below every id has passed them all.
    before = db.doc_count if listing.empty and listing.descending else _before(db, start, listing.descending)
    records: Iterable[DocumentRecord] = ()
    if not listing.empty:
        storage = db.storage.steady() if late else db.storage
        records = storage.live(start, end, listing.inclusive_end, listing.descending)
    chosen = _window(records, listing)
    rows: object = _late_rows(db, chosen, listing.shown) if late else _rows(db, chosen, listing.shown)
    # A partition has one shard, which skips its own rows only.
    skipped = min(listing.skip, _count(db, listing)) if listing.in_partition else listing.skip
    return {"total_rows": total, "offset": min(before + skipped, total), "rows": rows}


def _count(db: DocumentStore, listing: Listing) -> int:
    if listing.empty:
        return 0
    low, high = (listing.end, listing.start) if listing.descending else (listing.start, listing.end)
    assert low is not None
    assert high is not None
    at_low, at_high = (listing.inclusive_end, True) if listing.descending else (True, listing.inclusive_end)
    stop = db.storage.live_before(high, inclusive=at_high)
    return max(0, stop - db.storage.live_before(low, inclusive=not at_low))


def _count_design(db: DocumentStore) -> int:
    return db.storage.live_before(_DESIGN[1]) - db.storage.live_before(_DESIGN[0])


def _before(db: DocumentStore, start: str | None, descending: bool) -> int:
    """Return how many documents come before ``start`` in the order of reading."""
    if start is None:
        return 0
    if descending:
        return db.doc_count - db.storage.live_before(start, inclusive=True)
    return db.storage.live_before(start)


def _rows(db: DocumentStore, records: Iterable[DocumentRecord], shown: Shown | None) -> list[object]:
    if shown is None:
        return [
            {"id": record.doc_id, "key": record.doc_id, "value": {"rev": record.winner.rev}}
            for record in paced(records)
        ]
    rows: list[object] = []
    for record in paced(records):
        document = show(db, record, record.winner, shown)
        doc_id = record.doc_id
        rows.append({"id": doc_id, "key": doc_id, "value": {"rev": document["_rev"]}, "doc": document})
    return rows


def _late_rows(db: DocumentStore, records: Iterable[DocumentRecord], shown: Shown | None) -> Iterator[object]:
    for record in records:
        if shown is not None:
            db.count("couchdb/database_reads")
        yield from _rows(db, (record,), shown)


def list_keys(
    db: DocumentStore, keys: Sequence[object], listing: Listing, *, others: bool = False
) -> dict[str, object]:
    """Return a row for each key, in their order. A listing of design documents skips other ids, unless ``others``."""
    wanted = list(keys)
    if listing.descending:
        wanted.reverse()
    stop = None if listing.limit is None else listing.skip + listing.limit
    wanted = wanted[listing.skip : stop]
    if listing.design and not others:
        wanted = [key for key in wanted if isinstance(key, str) and key.startswith(_DESIGN[0])]
    total = _count_design(db) if listing.design else db.doc_count
    return {"total_rows": total, "offset": None, "rows": [_key_row(db, key, listing.shown) for key in paced(wanted)]}


def _key_row(db: DocumentStore, key: object, shown: Shown | None) -> dict[str, object]:
    doc_id = _doc_id(key)
    if doc_id is None and db.partitioned:
        raise _crash_of_hash(key)
    if doc_id is not None and doc_id.startswith(_LOCAL):
        local = db.storage.get_local(doc_id)
        return {"key": key, "error": "not_found"} if local is None else _local_row(doc_id, local, shown)
    if doc_id is not None:
        db.check_located(doc_id)
    record = db.storage.get(doc_id) if doc_id is not None else None
    if record is None:
        return {"key": key, "error": "not_found"}
    value: dict[str, object] = {"rev": record.winner.rev}
    row: dict[str, object] = {"id": key, "key": key, "value": value}
    if record.deleted:
        value["deleted"] = True
    if shown is not None:
        row["doc"] = None if record.deleted else show(db, record, record.winner, shown)
    return row


def _crash_of_hash(key: object) -> ServerError:
    """Return the error of a key that is not a text in a partitioned database, where CouchDB hashes it."""
    if key is None or isinstance(key, bool):
        return thrown(encode_json(key).decode(), "function_clause")
    return thrown("badarg", "")


def _doc_id(key: object) -> str | None:
    """Return the id that a key stands for. For Erlang, an array of strings and bytes is a string too."""
    if isinstance(key, str):
        return key
    if isinstance(key, list):
        parts = [chr(item) if type(item) is int and 0 <= item < 128 else _doc_id(item) for item in key]
        return "".join(part for part in parts if part is not None) if None not in parts else None
    return None


def list_local(db: DocumentStore, keys: Sequence[object] | None, listing: Listing) -> dict[str, object]:
    """Return the local documents, or those that ``keys`` name. CouchDB does not count them."""
    rows: list[object]
    if keys is None:
        found = _window(_locals_in_range(db, listing), listing)
        rows = [_local_row(doc_id, local, listing.shown) for doc_id, local in found]
    else:
        wanted = list(keys)
        if listing.descending:
            wanted.reverse()
        wanted = wanted[listing.skip : _stop(listing)]
        rows = [_key_row(db, key, listing.shown) for key in wanted if isinstance(key, str) and key.startswith(_LOCAL)]
    return {"total_rows": None, "offset": None, "rows": rows}


def _window(found: Iterable[_Found], listing: Listing) -> Iterator[_Found]:
    # Requests may contain larger numbers than an iterator can count.
    stop = _stop(listing)
    return islice(found, min(listing.skip, maxsize), None if stop is None else min(stop, maxsize))


def _stop(listing: Listing) -> int | None:
    return None if listing.limit is None else listing.skip + listing.limit


def _locals_in_range(db: DocumentStore, listing: Listing) -> Iterator[tuple[str, LocalDocument]]:
    low, high = (listing.end, listing.start) if listing.descending else (listing.start, listing.end)
    found = db.storage.locals()
    if listing.descending:
        found.reverse()
    for doc_id, local in found:
        inside = (low is None or doc_id >= low) and (high is None or doc_id <= high)
        if inside and not listing.empty and (listing.inclusive_end or doc_id != listing.end):
            yield doc_id, local


def _local_row(doc_id: str, local: LocalDocument, shown: Shown | None) -> dict[str, object]:
    rev = f"0-{local.revision}"
    row: dict[str, object] = {"id": doc_id, "key": doc_id, "value": {"rev": rev}}
    if shown is not None:
        row["doc"] = show_local(doc_id, local)
    return row


def show_local(doc_id: str, local: LocalDocument) -> dict[str, object]:
    """Return the JSON object of a local document. It shares no mutable value with the store."""
    return {"_id": doc_id, "_rev": f"0-{local.revision}", **copy_members(local.body)}
