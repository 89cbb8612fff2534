"""Files of documents: parses the files that ``load`` takes, and writes those of ``dump``.

Source of the formats: CouchDB's answers, ``_bulk_docs`` bodies, and the backups of ``couchbackup``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, cast

from couchdal.errors import error_class
from couchdal.http.json_text import refuse_constant

if TYPE_CHECKING:
    from couchdal.types import BulkGetResult, BulkRow, ChangesResult, Document

Item = TypeVar("Item")

_BATCH = 500


def batches_of(documents: list[Document]) -> Iterator[tuple[list[Document], bool | None]]:
    """Yield documents in batches, each with the value of ``new_edits`` to write it with."""
    kept = [document for document in documents if "_rev" in document]
    new = [document for document in documents if "_rev" not in document]
    return chain(((batch, False) for batch in _batches(kept)), ((batch, None) for batch in _batches(new)))


def check_written(rows: list[BulkRow]) -> None:
    """Raise ``CouchError`` for the first row with an error."""
    for row in rows:
        if "error" in row:
            status = {"conflict": 409, "forbidden": 403, "unauthorized": 401}.get(row["error"], 400)
            refused = error_class(status, row["error"])
            raise refused(f"{row.get('id')}: {row.get('reason')}", status=status, error=row["error"])


def leaf_batches(changes: ChangesResult) -> Iterator[list[Mapping[str, object]]]:
    """Yield the leaves of a changes feed with ``style=all_docs``, in batches for ``bulk_get``."""
    return _batches([{"id": row["id"], "rev": leaf["rev"]} for row in changes["results"] for leaf in row["changes"]])


class Dump:
    """A file of documents, one per line. It replaces an older file when it is complete, never before."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.count: int = 0
        self._target = Path(path)
        self._part = self._target.with_name(self._target.name + ".part")

    def __enter__(self) -> Dump:
        self._file = self._part.open("w", encoding="utf-8")
        return self

    def write(self, found: BulkGetResult) -> None:
        """Append the documents of an answer of ``_bulk_get``."""
        for result in found["results"]:
            for answer in result["docs"]:
                if "ok" in answer:
                    self._file.write(json.dumps(answer["ok"], ensure_ascii=False, separators=(",", ":")) + "\n")
                    self.count += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            self._part.replace(self._target)
        else:
            self._part.unlink()


def _batches(items: list[Item]) -> Iterator[list[Item]]:
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def read_documents(path: str | os.PathLike[str]) -> Iterator[Document]:
    """Yield the documents of a file. Raise ``ValueError`` with the file's name and the line.

    A file holds an array, one object per line, ``{"docs": [...]}``, an answer of ``_all_docs`` with its documents, or a
    backup of one array per line.
    """
    text = Path(path).read_text("utf-8")
    for line, value in _values(text, path):
        for document in _documents_in(value):
            if not isinstance(document, dict):
                raise ValueError(f"{os.fspath(path)}, line {line}: {str(document)[:40]!r} is not a document")
            yield cast("Document", document)


def _values(text: str, path: str | os.PathLike[str]) -> Iterator[tuple[int, object]]:
    """Yield the JSON values of a text, each with its line."""
    decoder = json.JSONDecoder(parse_constant=refuse_constant)
    at = _next(text, 0)
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}, line {line}: {error}") from None
        yield line, value
        at = _next(text, at)


def _next(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\ufeff":
        at += 1
    return at


def _documents_in(value: object) -> list[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict) and "_id" not in value:
        rows, docs = value.get("rows"), value.get("docs")
        if isinstance(rows, list):
            return [row.get("doc") for row in rows if isinstance(row, dict) and row.get("doc") is not None]
        if isinstance(docs, list):
            return docs
        # The header of a newer backup.
        if value.get("name") == "@cloudant/couchbackup":
            return []
    return [value]
