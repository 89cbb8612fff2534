"""Look at data files, check them, and move their data: ``couchdal info``, ``check``, ``dump`` and ``load``.

A dump is text: one JSON object on each line. The first line has its format, the next one the configuration. Then each
database has a line with its settings, which the lines of its documents follow: one for each leaf of a revision tree,
with its ancestors and attachments, and one for each local document.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from typing import TypeAlias, TypeVar

from couchdal.backends.sqlite import SqliteBackend
from couchdal.emulator.engine.indexes.indexes import AUTH_DESIGN, AUTH_REVISION
from couchdal.emulator.engine.revisions.revision import format_revision
from couchdal.errors import BackendError, CouchError, NotConfigured
from couchdal.http.json_text import decode_json, encode_json
from couchdal.http.messages import Request
from couchdal.http.urls import quote

Line: TypeAlias = "dict[str, object]"
T = TypeVar("T")

FORMAT = 1
_PAGE = 100
# Its documents start replications, so they come last.
_LAST_DATABASE = "_replicator"
_SETTINGS = ("_security", "_revs_limit", "_purged_infos_limit")


def load(path: str) -> int:
    """Create a file from a dump on standard input. If that fails, no file is left."""
    if os.path.exists(path):
        return _fail("load", f"{path} exists; name a new file")
    is_loaded = False
    try:
        with closing(SqliteBackend(path)) as backend:
            read_dump(backend, sys.stdin.buffer)
        is_loaded = True
    except (BackendError, CouchError, ValueError, KeyError, TypeError) as error:
        return _fail("load", f"the dump cannot be loaded: {error}")
    finally:
        if not is_loaded:
            for suffix in ("", "-wal", "-shm"):
                with suppress(OSError):
                    os.unlink(path + suffix)
    return 0


def _run(command: str, action: Callable[[SqliteBackend], int], path: str) -> int:
    try:
        with closing(SqliteBackend(path, read_only=True)) as backend:
            # Whoever can read the file can read all of its data.
            backend.server.admins = {}
            return action(backend)
    except (BackendError, CouchError) as error:
        return _fail(command, str(error))


def _fail(command: str, reason: str) -> int:
    print(f"couchdal {command}: {reason}", file=sys.stderr)
    return 1


def _print_info(backend: SqliteBackend) -> int:
    print(f"{backend.path}: {os.path.getsize(backend.path):,} bytes")
    for name in _databases(backend):
        found = _expect(_get(backend, f"/{quote(name)}"), dict)
        counts = f"{found['doc_count']:,} documents, {found['doc_del_count']:,} deleted"
        print(f"{name}: {counts}, update sequence {str(found['update_seq']).partition('-')[0]}")
    return 0


def _print_problems(backend: SqliteBackend) -> int:
    problems = backend.check()
    print("\n".join(problems) or f"{backend.path} is sound")
    return 1 if problems else 0


def _print_dump(backend: SqliteBackend) -> int:
    for line in dumped(backend):
        sys.stdout.buffer.write(encode_json(line) + b"\n")
    return 0


def dumped(backend: SqliteBackend) -> Iterator[Line]:
    """Yield the lines of a dump."""
    yield {"couchdal": FORMAT}
    yield {"config": backend.kept_configuration()}
    for name in _databases(backend):
        base = f"/{quote(name)}"
        properties = _expect(_get(backend, base), dict)["props"]
        settings = {setting: _get(backend, f"{base}/{setting}") for setting in _SETTINGS}
        yield {"database": name, "partitioned": bool(properties.get("partitioned")), **settings}
        for doc in _leaves(backend, base):
            # A server that loads the dump makes this document itself.
            if name != "_users" or (doc["_id"], doc["_rev"]) != (AUTH_DESIGN, format_revision(*AUTH_REVISION)):
                yield {"doc": doc}
        for row in _expect(_get(backend, f"{base}/_local_docs", "include_docs=true"), dict)["rows"]:
            yield {"local": row["doc"]}


def _databases(backend: SqliteBackend) -> list[str]:
    names = _expect(_get(backend, "/_all_dbs"), list)
    return sorted(names, key=lambda name: (name == _LAST_DATABASE, name))


def _leaves(backend: SqliteBackend, base: str) -> Iterator[Line]:
    """Yield all leaves. Design documents come last: their validation must not refuse what was there before them."""
    designs: list[object] = []
    since = "0"
    while True:
        page = _expect(_get(backend, f"{base}/_changes", f"style=all_docs&limit={_PAGE}&since={since}"), dict)
        if not page["results"]:
            break
        since = quote(str(page["last_seq"]))
        wanted = [{"id": row["id"], "rev": change["rev"]} for row in page["results"] for change in row["changes"]]
        later = [one for one in wanted if one["id"].startswith("_design/")]
        designs += later
        yield from _read(backend, base, [one for one in wanted if one not in later])
    yield from _read(backend, base, designs)


def _read(backend: SqliteBackend, base: str, wanted: list[object]) -> Iterator[Line]:
    query = "revs=true&attachments=true"
    answer = _expect(_send(backend, "POST", f"{base}/_bulk_get", {"docs": wanted}, query), dict)
    for result in answer["results"]:
        for doc in result["docs"]:
            yield doc["ok"]


def read_dump(backend: SqliteBackend, lines: Iterable[bytes]) -> None:
    """Load a dump into a new file. Raise ``ValueError`` for a line that is not part of a dump."""
    config: Mapping[str, Mapping[str, str]] = {}
    base, waiting = "", list[Line]()
    for number, text in enumerate(lines, 1):
        line = _expect(decode_json(text), dict)
        if (number == 1) is not (line.get("couchdal") == FORMAT):
            raise ValueError(f'line {number}: the first line of a dump is {{"couchdal":{FORMAT}}}, and no other one')
        if "doc" in line:
            waiting.append(line["doc"])
            if len(waiting) >= _PAGE:
                _write(backend, base, waiting)
        elif "local" in line:
            doc = line["local"]
            doc_id, body = doc["_id"], {key: value for key, value in doc.items() if key not in ("_id", "_rev")}
            _send(backend, "PUT", f"{base}/_local/{quote(doc_id.removeprefix('_local/'))}", body)
        elif "database" in line:
            _write(backend, base, waiting)
            base = f"/{quote(_expect(line['database'], str))}"
            _create(backend, base, line)
        elif "config" in line:
            config = line["config"]
        elif number > 1:
            raise ValueError(f"line {number} is not a line of a dump")
    if not base:
        raise ValueError("it holds no database")
    _write(backend, base, waiting)
    for section, values in config.items():
        for key, value in values.items():
            backend.config[f"{section}/{key}"] = value


def _create(backend: SqliteBackend, base: str, line: Line) -> None:
    if backend.send(Request("HEAD", base)).status == 404:
        _send(backend, "PUT", base, query="partitioned=true" if line["partitioned"] else "")
    for setting in _SETTINGS:
        if _get(backend, f"{base}/{setting}") != line[setting]:
            _send(backend, "PUT", f"{base}/{setting}", line[setting])


def _write(backend: SqliteBackend, base: str, docs: list[Line]) -> None:
    """Write documents as they are, and empty the list."""
    if docs:
        refused = _expect(_send(backend, "POST", f"{base}/_bulk_docs", {"new_edits": False, "docs": docs}), list)
        if refused:
            raise NotConfigured(f"a document was refused: {encode_json(refused[0]).decode()}")
        docs.clear()


def _get(backend: SqliteBackend, path: str, query: str = "") -> object:
    return _send(backend, "GET", path, query=query)


def _send(backend: SqliteBackend, method: str, path: str, payload: object = None, query: str = "") -> object:
    request = Request(method, path, query)
    if payload is not None:
        request = Request(method, path, query, {"content-type": "application/json"}, json=payload)
    return backend.result(backend.send(request))


def _expect(value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r:.80} is not a {kind.__name__}")
    return value


#: Each takes the path of a file and returns the exit status of the command.
COMMANDS: Mapping[str, Callable[[str], int]] = {
    "info": partial(_run, "info", _print_info),
    "check": partial(_run, "check", _print_problems),
    "dump": partial(_run, "dump", _print_dump),
    "load": load,
}
