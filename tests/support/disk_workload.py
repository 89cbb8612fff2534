"""Writes of each kind to a data file, and its state as plain values: for tests of disks that fail or lose power."""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

from couchdal import MemoryBackend, SqliteBackend
from couchdal.http.messages import Request

#: Makes what a write needs and returns its request. The number makes it differ from other writes of its kind.
Write = Callable[[MemoryBackend, int], Request]
_JSON = {"content-type": "application/json", "accept": "application/json"}


def request(method: str, path: str, payload: object = None) -> Request:
    path, _, query = path.partition("?")
    return Request(method, path, query, _JSON, b"" if payload is None else json.dumps(payload).encode())


def ask(backend: MemoryBackend, method: str, path: str, payload: object = None) -> Any:
    return backend.send(request(method, path, payload)).result()


def _create(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", f"/made-{n}")


def _put(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", f"/tasks/put-{n}", {"n": n})


def _update(backend: MemoryBackend, n: int) -> Request:
    rev = ask(backend, "PUT", f"/tasks/update-{n}", {"n": n})["rev"]
    return request("PUT", f"/tasks/update-{n}", {"n": -n, "_rev": rev})


def _conflict(backend: MemoryBackend, n: int) -> Request:
    ask(backend, "PUT", f"/tasks/conflict-{n}", {"n": n})
    docs = [{"_id": f"conflict-{n}", "_rev": f"1-{letter * 32}", "n": letter} for letter in "ab"]
    return request("POST", "/tasks/_bulk_docs", {"new_edits": False, "docs": docs})


def _bulk(backend: MemoryBackend, n: int) -> Request:
    docs = [{"_id": f"bulk-{n}-{number}", "text": "x" * 400} for number in range(30)]
    return request("POST", "/tasks/_bulk_docs", {"docs": docs})


def _attach(backend: MemoryBackend, n: int) -> Request:
    data = base64.b64encode(bytes(range(256)) * 100).decode()
    return request("PUT", f"/tasks/attach-{n}", {"_attachments": {"a": {"data": data}}})


def _delete(backend: MemoryBackend, n: int) -> Request:
    rev = ask(backend, "PUT", f"/tasks/delete-{n}", {"n": n})["rev"]
    return request("DELETE", f"/tasks/delete-{n}?rev={rev}")


def _purge(backend: MemoryBackend, n: int) -> Request:
    rev = ask(backend, "PUT", f"/tasks/purge-{n}", {"n": n})["rev"]
    return request("POST", "/tasks/_purge", {f"purge-{n}": [rev]})


def _security(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", "/tasks/_security", {"members": {"names": [], "roles": []}, "n": n})


def _limit(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", "/tasks/_revs_limit", 100 + n)


def _local(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", "/tasks/_local/one", {"n": n})


def _user(backend: MemoryBackend, n: int) -> Request:
    user = {"name": f"jo-{n}", "type": "user", "roles": []}
    return request("PUT", f"/_users/org.couchdb.user:jo-{n}", user)


def _configure(backend: MemoryBackend, n: int) -> Request:
    return request("PUT", "/_node/_local/_config/couchdb/max_document_size", str(8_000_000 + n))


def _compact(backend: MemoryBackend, n: int) -> Request:
    # It removes the body of the first revision.
    backend.send(_update(backend, n)).result()
    return request("POST", "/tasks/_compact", {})


def _drop(backend: MemoryBackend, n: int) -> Request:
    ask(backend, "PUT", f"/drop-{n}")
    ask(backend, "POST", f"/drop-{n}/_bulk_docs", {"docs": [{"_id": str(n), "text": "x" * 900} for n in range(20)]})
    return request("DELETE", f"/drop-{n}")


def _copy_back(backend: MemoryBackend, n: int) -> Request:
    """Fill the write-ahead log with 954 pages, so that the write copies them into the file."""
    if isinstance(backend, SqliteBackend):
        # The log starts again.
        with closing(sqlite3.connect(backend.path)) as connection:
            connection.execute("PRAGMA wal_checkpoint").fetchall()
    for part in range(18):
        ask(backend, "PUT", "/tasks/_local/two", {"n": n, "part": part, "text": "x" * 200_000})
    return request("PUT", "/tasks/_local/two", {"n": n, "text": "x" * 200_000})


WRITES: dict[str, Write] = {
    "create": _create,
    "put": _put,
    "update": _update,
    "conflict": _conflict,
    "bulk": _bulk,
    "attachment": _attach,
    "delete": _delete,
    "purge": _purge,
    "security": _security,
    "limit": _limit,
    "local": _local,
    "user": _user,
    "configuration": _configure,
    "compact": _compact,
    "delete a database": _drop,
    "copy back": _copy_back,
}


def state_of(backend: MemoryBackend) -> dict[str, object]:
    """Return what a file keeps, as its user sees it."""
    names = ask(backend, "GET", "/_all_dbs")
    config = ask(backend, "GET", "/_node/_local/_config/couchdb")
    # Each server has an identifier.
    config.pop("uuid")
    return {"config": config, **{name: _database(backend, f"/{name}") for name in names}}


def _database(backend: MemoryBackend, base: str) -> dict[str, object]:
    found = ask(backend, "GET", base)
    state: dict[str, object] = {name: found[name] for name in ("doc_count", "doc_del_count", "props")}
    changes = ask(backend, "GET", f"{base}/_changes?style=all_docs&include_docs=true")
    rows = [{**row, "seq": _number(row["seq"])} for row in changes["results"]]
    state["changes"], state["last_seq"] = rows, _number(changes["last_seq"])
    state["leaves"] = [
        ask(backend, "GET", f"{base}/{row['id']}?open_revs=all&revs=true") for row in rows if len(row["changes"]) > 1
    ]
    state["local"] = ask(backend, "GET", f"{base}/_local_docs?include_docs=true")["rows"]
    for path in ("_security", "_revs_limit", "_purged_infos_limit", "_purged_infos"):
        state[path] = ask(backend, "GET", f"{base}/{path}")
    return state


def _number(seq: object) -> str:
    """Return the number of a sequence. Servers differ in what follows it."""
    return str(seq).partition("-")[0]
