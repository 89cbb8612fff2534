"""Fail each allocation of a write, or each level of the stack, and check that the data stay consistent.

``python failing_memory.py allocations 1`` runs in another process than the tests, because an allocation that fails at a
bad moment may end it. It prints, for each kind of write, how many places it tried and what was wrong.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

from couchdal import CouchError, MemoryBackend
from couchdal.http.messages import Request

Act = Callable[[MemoryBackend], object]


def ask(backend: MemoryBackend, method: str, path: str, payload: object = None) -> Any:
    path, _, query = path.partition("?")
    body = b"" if payload is None else json.dumps(payload).encode()
    return backend.send(Request(method, path, query, {"content-type": "application/json"}, body)).result()


def filled() -> MemoryBackend:
    backend = MemoryBackend()
    ask(backend, "PUT", "/db")
    ask(backend, "POST", "/db/_index", {"index": {"fields": ["n"]}, "ddoc": "by", "name": "n"})
    ask(backend, "POST", "/db/_bulk_docs", {"docs": [{"_id": f"d{n}", "_rev": "1-a", "n": n} for n in range(6)],
                                            "new_edits": False})  # fmt: skip
    ask(backend, "PUT", "/db/_local/l", {"n": 1})
    find(backend)
    return backend


def find(backend: MemoryBackend) -> Any:
    return ask(backend, "POST", "/db/_find", {"selector": {"n": {"$gte": 0}}, "limit": 99})["docs"]


WRITES: dict[str, Act] = {
    "put": lambda backend: ask(backend, "PUT", "/db/new", {"n": 1}),
    "update": lambda backend: ask(backend, "PUT", "/db/d0?rev=1-a", {"n": 9}),
    "delete": lambda backend: ask(backend, "DELETE", "/db/d1?rev=1-a"),
    "bulk": lambda backend: ask(backend, "POST", "/db/_bulk_docs", {"docs": [{"n": n} for n in range(4)]}),
    "attachment": lambda backend: ask(backend, "PUT", "/db/with", {"_attachments": {"a": {"data": "aGVsbG8="}}}),
    "local": lambda backend: ask(backend, "PUT", "/db/_local/m", {"n": 2}),
    "index": lambda backend: ask(backend, "POST", "/db/_index", {"index": {"fields": ["m"]}, "ddoc": "m"}),
    "find": find,
    "purge": lambda backend: ask(backend, "POST", "/db/_purge", {"d2": ["1-a"]}),
    "database": lambda backend: ask(backend, "PUT", "/other"),
}


def contents(backend: MemoryBackend) -> object:
    found: dict[str, object] = {}
    for name, db in backend.server.databases.items():
        records = [(one.doc_id, one.seq, [leaf.rev for leaf in one.tree]) for one in db.storage.changes()]
        found[name] = (db.doc_count, db.doc_del_count, db.update_seq, db.purge_seq, records, len(db.storage.locals()))
    return found


# ``importlib`` reports some failed allocations as a SystemError without a cause.
_FAILURES = (MemoryError, SystemError)


def states(act: Act) -> tuple[object, object]:
    backend = filled()
    before = contents(backend)
    act(backend)
    return before, contents(backend)


def fail_allocations(act: Act, step: int) -> tuple[int, list[str]]:
    """Fail one allocation after the other, until the write needs no more. Return how many, and what was wrong."""
    import _testcapi

    allowed = states(act)
    wrong = []
    number = tried = 0
    while True:
        backend = filled()
        failed = False
        _testcapi.set_nomemory(number, number + 1)
        try:
            act(backend)
        except _FAILURES:
            failed = True
        finally:
            _testcapi.remove_mem_hooks()
        # Some failures are handled within Python. A hundred in a row means that the write has ended.
        if not failed and number > 100 and not any(fails(act, later) for later in range(number, number + 100)):
            return tried, wrong
        tried += 1
        # The next request finishes or undoes the write.
        wrong += [f"allocation {number}: {text}" for text in backend.check()]
        if contents(backend) not in allowed:
            wrong.append(f"allocation {number}: the write happened by half: {contents(backend)}")
        number += step


def fails(act: Act, number: int) -> bool:
    import _testcapi

    backend = filled()
    _testcapi.set_nomemory(number, number + 1)
    try:
        act(backend)
    except _FAILURES:
        return True
    finally:
        _testcapi.remove_mem_hooks()
    return False


def fail_stack(act: Act, step: int) -> tuple[int, list[str]]:
    """Leave one frame more each time, until the write has enough of them."""
    allowed = states(act)
    wrong: list[str] = []
    depth = 1
    tried = 0
    limit = sys.getrecursionlimit()
    while True:
        backend = filled()
        done = False
        try:
            sys.setrecursionlimit(frames() + depth)
            act(backend)
            done = True
        except (RecursionError, CouchError):
            # JSON that is nested too deeply is refused, and it seems so when the stack is short.
            pass
        finally:
            sys.setrecursionlimit(limit)
        if done:
            return tried, wrong
        tried += 1
        wrong += [f"depth {depth}: {text}" for text in backend.check()]
        if contents(backend) not in allowed:
            wrong.append(f"depth {depth}: the write happened by half: {contents(backend)}")
        depth += step


def frames() -> int:
    count = 0
    frame: Any = sys._getframe()
    while frame is not None:
        count, frame = count + 1, frame.f_back
    return count


def main() -> None:
    way, step = sys.argv[1:]
    found = {}
    for kind, act in WRITES.items():
        # The first calls import modules and fill caches.
        for _ in range(2):
            act(filled())
        tried, wrong = (fail_allocations if way == "allocations" else fail_stack)(act, int(step))
        found[kind] = (tried, wrong[:20])
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
