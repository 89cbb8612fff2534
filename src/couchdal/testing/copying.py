"""Copies of databases on a live server, with all leaves, attachments, local documents and settings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from couchdal.backends.base import BaseBackend
from couchdal.errors import CouchError
from couchdal.http.json_text import JSON
from couchdal.http.messages import ABSENT, Request
from couchdal.http.urls import quote

_MOST_LEAVES = 200
_HEADERS = {"accept": "application/json", "content-type": "application/json"}
_LIMITS = ("_revs_limit", "_purged_infos_limit")
_SETTINGS = ("_security", *_LIMITS)
_DEFAULT_LIMIT = 1000
Leaf = tuple[str, str]


class Mark(NamedTuple):
    """A state of a database, to find later changes by comparison: its sequence, settings and local documents."""

    sequence: str
    settings: dict[str, JSON]
    locals: dict[str, JSON]


def ask(backend: BaseBackend, method: str, path: str, payload: object = ABSENT, query: str = "") -> JSON:
    """Return the answer to a request that no middleware sees. Raise ``CouchError``."""
    return backend.result(backend.send(Request(method, path, query, _HEADERS, json=payload)))


def objects(value: JSON) -> list[dict[str, JSON]]:
    """Return the objects of a list."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def member(value: JSON, name: str) -> JSON:
    """Return a member of an object; ``None`` if it does not exist."""
    return value.get(name) if isinstance(value, dict) else None


def copy_database(backend: BaseBackend, source: str, target: str) -> bool:
    """Copy a database to a new one, with the order of its changes. Return whether the source exists.

    Sequences start again, so the numbers in them are smaller than in the source.
    """
    from_, to = f"/{quote(source)}", f"/{quote(target)}"
    try:
        info = ask(backend, "GET", from_)
    except CouchError as error:
        if error.status == 404:
            return False
        raise
    shards = member(member(info, "cluster"), "q")
    partitioned = member(member(info, "props"), "partitioned") is True
    ask(backend, "PUT", to, query=f"q={shards}" + ("&partitioned=true" if partitioned else ""))
    for name in _LIMITS:
        limit = ask(backend, "GET", f"{from_}/{name}")
        if limit != _DEFAULT_LIMIT:
            ask(backend, "PUT", f"{to}/{name}", limit)
    ask(backend, "PUT", f"{to}/_security", ask(backend, "GET", f"{from_}/_security"))
    late: list[JSON] = []
    changes = ask(backend, "GET", f"{from_}/_changes", query="style=all_docs")
    for leaves in _runs(_leaves(changes)):
        documents = read_leaves(backend, source, leaves)
        # Write validation functions last: they might refuse documents that are older.
        late += [document for document in documents if "validate_doc_update" in document]
        write_leaves(backend, target, [document for document in documents if document not in late])
    write_leaves(backend, target, late)
    write_local(backend, target, list(_read_local(backend, source).values()))
    return True


def mark(backend: BaseBackend, database: str) -> Mark:
    """Return the present state of a database."""
    path = f"/{quote(database)}"
    sequence = str(member(ask(backend, "GET", path), "update_seq"))
    settings = {name: ask(backend, "GET", f"{path}/{name}") for name in _SETTINGS}
    return Mark(sequence, settings, _read_local(backend, database))


def copy_changes(backend: BaseBackend, source: str, before: Mark, target: str) -> None:
    """Repeat in another database what has changed since a mark."""
    to, now = f"/{quote(target)}", mark(backend, source)
    since = f"style=all_docs&since={quote(before.sequence)}"
    for leaves in _runs(_leaves(ask(backend, "GET", f"/{quote(source)}/_changes", query=since))):
        write_leaves(backend, target, read_leaves(backend, source, leaves))
    for name, value in now.settings.items():
        if value != before.settings[name]:
            ask(backend, "PUT", f"{to}/{name}", value)
    changed = {doc_id: doc for doc_id, doc in now.locals.items() if doc != before.locals.get(doc_id)}
    for doc_id in {*changed, *(before.locals.keys() - now.locals.keys())} & _read_local(backend, target).keys():
        ask(backend, "DELETE", f"{to}/{_local_path(doc_id)}")
    write_local(backend, target, list(changed.values()))


def _read_local(backend: BaseBackend, database: str) -> dict[str, JSON]:
    rows = member(ask(backend, "GET", f"/{quote(database)}/_local_docs", query="include_docs=true"), "rows")
    return {str(row["id"]): row["doc"] for row in objects(rows)}


def _local_path(doc_id: str) -> str:
    return "/".join(quote(part) for part in doc_id.split("/", 1))


def _leaves(changes: JSON) -> Iterator[Leaf]:
    for row in objects(member(changes, "results")):
        for leaf in objects(row["changes"]):
            yield str(row["id"]), str(leaf["rev"])


def _runs(leaves: Iterator[Leaf]) -> Iterator[list[Leaf]]:
    """Yield leaves in lists with rising ids: CouchDB numbers the edits of one request in the order of their ids."""
    run: list[Leaf] = []
    for leaf in leaves:
        if run and (leaf[0] < run[-1][0] or (len(run) >= _MOST_LEAVES and leaf[0] != run[-1][0])):
            yield run
            run = []
        run.append(leaf)
    if run:
        yield run


def read_leaves(backend: BaseBackend, database: str, leaves: Sequence[Leaf]) -> list[dict[str, JSON]]:
    """Return leaves with their histories and attachments."""
    wanted = {"docs": [{"id": doc_id, "rev": rev} for doc_id, rev in leaves]}
    answer = ask(backend, "POST", f"/{quote(database)}/_bulk_get", wanted, "revs=true&attachments=true")
    found = [item for row in objects(member(answer, "results")) for item in objects(row["docs"])]
    return [cast("dict[str, JSON]", item["ok"]) for item in found if "ok" in item]


def write_leaves(backend: BaseBackend, database: str, documents: Sequence[JSON]) -> None:
    """Write leaves as they are. Raise ``CouchError`` for the first one that is refused."""
    if documents:
        body = {"docs": list(documents), "new_edits": False}
        for row in objects(ask(backend, "POST", f"/{quote(database)}/_bulk_docs", body)):
            raise CouchError(f"{database}/{row.get('id')}: {row.get('reason')}", error=str(row.get("error")))


def write_local(backend: BaseBackend, database: str, documents: Sequence[JSON]) -> None:
    """Write local documents, each with the rev that it has."""
    for document in objects(list(documents)):
        path = _local_path(str(document["_id"]))
        number = int(str(document["_rev"]).partition("-")[2])
        body = {**document, "_rev": f"0-{number - 1}"}
        if number <= 1:
            del body["_rev"]
        ask(backend, "PUT", f"/{quote(database)}/{path}", json.loads(json.dumps(body)))
