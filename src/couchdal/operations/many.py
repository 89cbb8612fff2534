"""Calls for many documents at once: bulk reads and writes, the list of all, the changes feed, and queries.

A parameter that is ``None`` is not sent; CouchDB's documentation says what each one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from couchdal.http.json_text import JSON
from couchdal.http.messages import ABSENT
from couchdal.http.urls import quote
from couchdal.operations.operation import Doc, Operation, Selector, listed, present, query

if TYPE_CHECKING:
    from couchdal.types import (
        AllDocsResult,
        BulkGetResult,
        BulkRow,
        ChangesResult,
        FindResult,
        MissingRevisions,
        ViewResult,
    )

Feed: TypeAlias = Literal["normal", "longpoll", "continuous", "eventsource"]
Sort: TypeAlias = Iterable[str | Mapping[str, str]]


def bulk_docs(docs: Iterable[Doc], *, new_edits: bool | None = None) -> Operation[list[BulkRow]]:
    """Write many documents; each has its own outcome, and a conflict is a row that says so.

    ``new_edits=False`` stores the revisions as they are, which is how replicas are made.
    """
    payload: dict[str, object] = {"docs": listed(docs)}
    if new_edits is not None:
        payload["new_edits"] = new_edits
    return Operation("POST", "/_bulk_docs", payload)


def bulk_get(
    docs: Iterable[str | Doc],
    *,
    revs: bool | None = None,
    attachments: bool | None = None,
    latest: bool | None = None,
) -> Operation[BulkGetResult]:
    """Return many documents, each named by its id or by ``{"id": ..., "rev": ...}``."""
    wanted = [{"id": doc} if isinstance(doc, str) else doc for doc in listed(docs)]
    return Operation("POST", "/_bulk_get" + query(revs=revs, attachments=attachments, latest=latest), {"docs": wanted})


def revs_diff(revisions: Mapping[str, Iterable[str]]) -> Operation[dict[str, MissingRevisions]]:
    """Return, of the revisions named by document, those that the database does not have."""
    return Operation("POST", "/_revs_diff", {doc_id: listed(revs) for doc_id, revs in revisions.items()})


def all_docs(
    *,
    keys: Iterable[str] | None = None,
    key: str | None = None,
    startkey: str | None = None,
    endkey: str | None = None,
    inclusive_end: bool | None = None,
    descending: bool | None = None,
    limit: int | None = None,
    skip: int | None = None,
    include_docs: bool | None = None,
    conflicts: bool | None = None,
    attachments: bool | None = None,
    update_seq: bool | None = None,
) -> Operation[AllDocsResult]:
    """Return ids and revisions in the order of ids; ``keys`` gives a row for each, in the order asked."""
    path = "/_all_docs" + query(
        key=_text(key),
        startkey=_text(startkey),
        endkey=_text(endkey),
        inclusive_end=inclusive_end,
        descending=descending,
        limit=limit,
        skip=skip,
        include_docs=include_docs,
        conflicts=conflicts,
        attachments=attachments,
        update_seq=update_seq,
    )
    return Operation("GET", path) if keys is None else Operation("POST", path, {"keys": listed(keys)})


def view(
    design: str,
    name: str,
    *,
    keys: Iterable[object] | None = None,
    key: object = ABSENT,
    startkey: object = ABSENT,
    endkey: object = ABSENT,
    startkey_docid: str | None = None,
    endkey_docid: str | None = None,
    inclusive_end: bool | None = None,
    descending: bool | None = None,
    limit: int | None = None,
    skip: int | None = None,
    reduce: bool | None = None,
    group: bool | None = None,
    group_level: int | None = None,
    include_docs: bool | None = None,
    conflicts: bool | None = None,
    update_seq: bool | None = None,
) -> Operation[ViewResult]:
    """Return the rows of a design document's view, or what its reduce function makes of them.

    Keys are any JSON values, ``None`` among them; ``keys`` gives the rows of each key in the order asked.
    """
    path = f"/_design/{quote(design)}/_view/{quote(name)}" + query(
        key=_key(key),
        startkey=_key(startkey),
        endkey=_key(endkey),
        startkey_docid=startkey_docid,
        endkey_docid=endkey_docid,
        inclusive_end=inclusive_end,
        descending=descending,
        limit=limit,
        skip=skip,
        reduce=reduce,
        group=group,
        group_level=group_level,
        include_docs=include_docs,
        conflicts=conflicts,
        update_seq=update_seq,
    )
    return Operation("GET", path) if keys is None else Operation("POST", path, {"keys": listed(keys)})


def changes(
    feed: Feed = "normal",
    *,
    since: str | int | None = None,
    limit: int | None = None,
    descending: bool | None = None,
    style: Literal["main_only", "all_docs"] | None = None,
    include_docs: bool | None = None,
    conflicts: bool | None = None,
    attachments: bool | None = None,
    doc_ids: Iterable[str] | None = None,
    selector: Selector | None = None,
    filter: str | None = None,
    timeout: int | None = None,
    heartbeat: int | Literal[True] | None = None,
    seq_interval: int | None = None,
) -> Operation[ChangesResult]:
    """Return what changed after ``since``, oldest first; ``timeout`` and ``heartbeat`` are in milliseconds.

    ``doc_ids`` and ``selector`` choose their filter by themselves.
    """
    payload: dict[str, object] = {}
    if doc_ids is not None:
        filter, payload = filter or "_doc_ids", {"doc_ids": listed(doc_ids)}
    elif selector is not None:
        filter, payload = filter or "_selector", {"selector": selector}
    path = "/_changes" + query(
        feed=None if feed == "normal" else feed,
        since=since,
        limit=limit,
        descending=descending,
        style=style,
        include_docs=include_docs,
        conflicts=conflicts,
        attachments=attachments,
        filter=filter,
        timeout=timeout,
        heartbeat=heartbeat,
        seq_interval=seq_interval,
    )
    return Operation("POST", path, payload) if payload else Operation("GET", path)


def find(
    selector: Selector,
    *,
    fields: Iterable[str] | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
    skip: int | None = None,
    bookmark: str | None = None,
    use_index: str | Iterable[str] | None = None,
    conflicts: bool | None = None,
    execution_stats: bool | None = None,
    update: bool | None = None,
) -> Operation[FindResult]:
    """Return the documents that a selector matches; without ``limit``, CouchDB gives the first 25."""
    payload = _query_body(selector, fields, sort, limit, skip, bookmark, use_index, conflicts, execution_stats, update)
    return Operation("POST", "/_find", payload)


def explain(
    selector: Selector,
    *,
    fields: Iterable[str] | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
    skip: int | None = None,
    use_index: str | Iterable[str] | None = None,
) -> Operation[dict[str, JSON]]:
    """Return how CouchDB would run a query: the index, its range, and the indexes that it passed over."""
    payload = _query_body(selector, fields, sort, limit, skip, None, use_index, None, None, None)
    return Operation("POST", "/_explain", payload)


def _query_body(
    selector: Selector,
    fields: Iterable[str] | None,
    sort: Sort | None,
    limit: int | None,
    skip: int | None,
    bookmark: str | None,
    use_index: str | Iterable[str] | None,
    conflicts: bool | None,
    execution_stats: bool | None,
    update: bool | None,
) -> dict[str, object]:
    members = {
        "selector": selector,
        "fields": None if fields is None else listed(fields),
        "sort": None if sort is None else listed(sort),
        "limit": limit,
        "skip": skip,
        "bookmark": bookmark,
        "use_index": use_index if use_index is None or isinstance(use_index, str) else list(use_index),
        "conflicts": conflicts,
        "execution_stats": execution_stats,
        "update": update,
    }
    return present(members)


def _text(key: str | None) -> str | None:
    return None if key is None else _key(key)


def _key(key: object) -> str | None:
    # Keys travel as JSON text, quotes and all.
    return None if key is ABSENT else json.dumps(key, allow_nan=False)
