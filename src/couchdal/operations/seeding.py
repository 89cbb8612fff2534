"""Documents from files and to files: what is to be sent to load or to dump a database, and how files are read.

Source of the formats: CouchDB's own answers, ``_bulk_docs`` bodies, and the backups of ``couchbackup``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from couchdal.errors import CouchError
from couchdal.operations.many import bulk_docs, bulk_get
from couchdal.operations.operation import Operation

if TYPE_CHECKING:
    from couchdal.types import BulkRow, Document

# Operations that the caller runs one after the other, sending back the result of each.
Steps: TypeAlias = Generator[Operation[Any], Any, int]

_BATCH = 500


def load(path: str | os.PathLike[str]) -> Steps:
    """Write the documents of a file, and return how many; the steps to take.

    Documents that name their revision keep it, as in a replication. Raises ``ValueError`` for a file that holds
    something else than documents, before anything is written, and ``CouchError`` for the first one that is refused.
    """
    return load_documents(list(read_documents(path)))


def load_documents(documents: list[Document]) -> Steps:
    """Write documents as ``load`` does."""
    kept = [document for document in documents if "_rev" in document]
    new = [document for document in documents if "_rev" not in document]
    for batch, new_edits in [
        *((batch, False) for batch in _batches(kept)),
        *((batch, True) for batch in _batches(new)),
    ]:
        rows: list[BulkRow] = yield bulk_docs(batch, new_edits=None if new_edits else False)
        for row in rows:
            if "error" in row:
                raise _refused(cast("Mapping[str, object]", row))
    return len(documents)


def _refused(row: Mapping[str, object]) -> CouchError:
    word = str(row["error"])
    status = {"conflict": 409, "forbidden": 403, "unauthorized": 401}.get(word, 400)
    return CouchError(f"{row.get('id')}: {row.get('reason')}", status=status, error=word)


def dump(path: str | os.PathLike[str]) -> Steps:
    """Write all leaves of all documents to a file, one JSON object a line; the steps to take.

    They keep their revisions, histories and attachments: loaded into an empty database they are the same documents.
    """
    changes = yield Operation("GET", "/_changes?style=all_docs")
    wanted = [{"id": row["id"], "rev": leaf["rev"]} for row in changes["results"] for leaf in row["changes"]]
    target = Path(path)
    part = target.with_name(target.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8") as file:
        for batch in _batches(wanted):
            found = yield bulk_get(batch, revs=True, attachments=True)
            for result in found["results"]:
                for answer in result["docs"]:
                    if "ok" in answer:
                        file.write(json.dumps(answer["ok"], ensure_ascii=False, separators=(",", ":")) + "\n")
                        count += 1
    # A file that is half written never stands in the place of a whole one.
    part.replace(target)
    return count


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def read_documents(path: str | os.PathLike[str]) -> Iterator[Document]:
    """Yield the documents of a file: an array, one object a line, ``{"docs": [...]}``, or an answer of ``_all_docs``
    with its documents, or a backup of one array a line. Raises ``ValueError`` that names the file and the line.
    """
    text = Path(path).read_text("utf-8")
    for line, value in _values(text, path):
        for document in _documents_in(value):
            if not isinstance(document, dict):
                raise ValueError(f"{os.fspath(path)}, line {line}: {str(document)[:40]!r} is no document")
            yield document


def _values(text: str, path: str | os.PathLike[str]) -> Iterator[tuple[int, object]]:
    """Yield the JSON values that stand one after the other, each with its line."""
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
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


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _documents_in(value: object) -> Iterable[object]:
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        if isinstance(value.get("rows"), list) and "_id" not in value:
            return [row.get("doc") for row in value["rows"] if isinstance(row, dict) and row.get("doc") is not None]
        if isinstance(value.get("docs"), list) and "_id" not in value:
            return cast("list[object]", value["docs"])
        # What newer backups begin with.
        if value.get("name") == "@cloudant/couchbackup" and "_id" not in value:
            return ()
    return (value,)
