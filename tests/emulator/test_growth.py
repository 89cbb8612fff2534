"""How the cost of requests grows: the number of Python's steps at n, 2n and 4n. A busy machine has no effect."""

from __future__ import annotations

import sys
from collections.abc import Callable
from hashlib import md5
from types import FrameType

import pytest

from couchdal import CouchDAL, MemoryBackend

pytestmark = pytest.mark.usefixtures("no_middleware")

#: Prepares a database for size n, and returns the work to measure.
Prepare = Callable[[CouchDAL, int], Callable[[], object]]

# n log n grows by 2.2 from 250 to 500. A quadratic part of a tenth of the work lets the last doubling exceed this.
MOST_PER_DOUBLING = 2.6


def steps_of(work: Callable[[], object]) -> int:
    """Return how many lines of Python a call runs, and how many functions it calls, those written in C included."""
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    def line(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal steps
        steps += 1
        return line

    before = sys.gettrace(), sys.getprofile()
    sys.setprofile(count)
    sys.settrace(line)
    try:
        work()
    finally:
        sys.settrace(before[0])
        sys.setprofile(before[1])
    return steps


def ids(count: int) -> list[str]:
    return [md5(str(number).encode()).hexdigest() for number in range(count)]


def bush(n: int) -> list[dict[str, object]]:
    """Return n branches of one first revision."""
    root = "f" * 32
    return [{"_id": "d", "_revisions": {"start": 2, "ids": [rev_id, root]}, "n": 1} for rev_id in ids(n)]


def roots(n: int) -> list[dict[str, object]]:
    """Return n histories that have nothing in common."""
    return [{"_id": "d", "_rev": f"1-{rev_id}"} for rev_id in ids(n)]


def comb(n: int) -> list[dict[str, object]]:
    """Return a branch for each revision of a long history, in no order. Each names only its parent."""
    trunk = ids(n)
    branches = [
        {"_id": "d", "_revisions": {"start": place + 2, "ids": [rev_id[::-1], rev_id]}}
        for place, rev_id in enumerate(trunk)
    ]
    whole = {"_id": "d", "_revisions": {"start": n, "ids": trunk[::-1]}}
    return sorted([whole, *branches], key=str)


def replicate(db: CouchDAL, docs: list[dict[str, object]]) -> Callable[[], object]:
    return lambda: db.bulk_docs(docs, new_edits=False)


def filled(db: CouchDAL, n: int) -> None:
    db.bulk_docs([{"_id": f"{number:05}", "n": number, "m": number % 7, "s": str(number)} for number in range(n)])


def edits_of_all_leaves(db: CouchDAL, n: int) -> Callable[[], object]:
    db.bulk_docs(bush(n), new_edits=False)
    return lambda: db.bulk_docs([{"_id": "d", "_rev": f"2-{rev_id}", "_deleted": True} for rev_id in ids(n)])


def stemmed(db: CouchDAL, n: int) -> Callable[[], object]:
    db.request("PUT", "/_revs_limit", json=3)
    return replicate(db, comb(n))


def reads_leaves(method: str, path: str, make: Callable[[int], object] | None = None) -> Prepare:
    def prepare(db: CouchDAL, n: int) -> Callable[[], object]:
        db.bulk_docs(bush(n), new_edits=False)
        body = {} if make is None else {"json": make(n)}
        return lambda: answered(db, method, path, **body)

    return prepare


def reads(method: str, path: str, make: Callable[[int], object] | None = None) -> Prepare:
    def prepare(db: CouchDAL, n: int) -> Callable[[], object]:
        filled(db, n)
        body = {} if make is None else {"json": make(n)}
        return lambda: answered(db, method, path, **body)

    return prepare


def answered(db: CouchDAL, method: str, path: str, **body: object) -> None:
    answer = db.request(method, path, headers={"accept": "application/json"}, **body)  # type: ignore[arg-type]
    assert answer.status in (200, 201), answer.json


def finds(selector: Callable[[int], object], documents: int | None = None) -> Prepare:
    """Return the work of a query whose selector grows, over n documents or a fixed number of them."""

    def prepare(db: CouchDAL, n: int) -> Callable[[], object]:
        filled(db, n if documents is None else documents)
        db.create_index(["n"])
        answered(db, "POST", "/_find", json={"selector": {"n": 0}})
        query = {"selector": selector(n), "limit": 10 * n}
        return lambda: answered(db, "POST", "/_find", json=query)

    return prepare


def viewed(query: str, make: Callable[[int], object] | None = None) -> Prepare:
    def prepare(db: CouchDAL, n: int) -> Callable[[], object]:
        pytest.importorskip("quickjs")
        filled(db, n)
        code = "function (doc) { emit(doc.n, 1); emit([doc.m, doc.n], doc.n); }"
        db.put_document("_design/v", {"views": {"v": {"map": code, "reduce": "_sum"}}})
        answered(db, "GET", "/_design/v/_view/v")
        path = f"/_design/v/_view/v?{query}"
        if make is None:
            return lambda: answered(db, "GET", path)
        return lambda: answered(db, "POST", path, json=make(n))

    return prepare


def nested(n: int) -> object:
    selector: object = {"n": 1}
    for number in range(min(n, 20)):
        selector = {"$or": [{"m": number}, {"$and": [selector, {"n": {"$gte": 0}}]}]}
    return {"$or": [selector, *({"$nor": [{"n": number}, {"s": str(number)}]} for number in range(n))]}


def purges(db: CouchDAL, n: int) -> Callable[[], object]:
    db.bulk_docs(bush(n), new_edits=False)
    return lambda: answered(db, "POST", "/_purge", json={"d": [f"2-{rev_id}" for rev_id in ids(n)[1:]]})


def attaches(db: CouchDAL, n: int) -> Callable[[], object]:
    stubs = {f"a{number}": {"data": "eHh4", "content_type": "text/plain"} for number in range(n)}
    return lambda: (db.put_document("d", {"_attachments": stubs}), db.get("/d?attachments=true"))


def one_by_one(db: CouchDAL, n: int) -> Callable[[], object]:
    def work() -> None:
        for number in range(n):
            db.put_document(f"d{number}", {})
            db.get("/_all_docs?limit=2")
            db.get("/_changes?limit=1")

    return work


WORK: dict[str, Prepare] = {
    "leaves of one revision": lambda db, n: replicate(db, bush(n)),
    "leaves without a common revision": lambda db, n: replicate(db, roots(n)),
    "branches of a long history in any order": lambda db, n: replicate(db, comb(n)),
    "leaves that are stemmed": stemmed,
    "edits of all leaves": edits_of_all_leaves,
    "open_revs": reads_leaves("GET", "/d?open_revs=all"),
    "conflicts": reads_leaves("GET", "/d?conflicts=true&revs_info=true&deleted_conflicts=true"),
    "revs_diff of leaves": reads_leaves("POST", "/_revs_diff", lambda n: {"d": [f"2-{one}" for one in ids(2 * n)]}),
    "bulk_get of leaves": reads_leaves(
        "POST", "/_bulk_get", lambda n: {"docs": [{"id": "d", "rev": f"2-{one}"} for one in ids(n)]}
    ),
    "bulk_get of the latest leaves": reads_leaves(
        "POST", "/_bulk_get?latest=true", lambda n: {"docs": [{"id": "d", "rev": f"2-{one}"} for one in ids(n)]}
    ),
    "changes with all leaves": reads_leaves("GET", "/_changes?style=all_docs"),
    "bulk write": lambda db, n: lambda: filled(db, n),
    "bulk write of one document": lambda db, n: lambda: db.bulk_docs([{"_id": "d", "n": one} for one in range(n)]),
    "one by one": one_by_one,
    "revs_diff": reads("POST", "/_revs_diff", lambda n: {f"{one:05}": ["1-a", "2-b"] for one in range(n)}),
    "bulk_get": reads("POST", "/_bulk_get", lambda n: {"docs": [{"id": f"{one:05}"} for one in range(n)]}),
    "changes": reads("GET", "/_changes?include_docs=true"),
    "changes of ids": reads(
        "POST", "/_changes?filter=_doc_ids", lambda n: {"doc_ids": [f"{one:05}" for one in range(n)]}
    ),
    "changes by a selector": reads(
        "POST", "/_changes?filter=_selector", lambda n: {"selector": {"$or": [{"n": one} for one in range(n)]}}
    ),
    "all_docs": reads("GET", "/_all_docs?include_docs=true"),
    "all_docs of keys": reads("POST", "/_all_docs", lambda n: {"keys": [f"{one:05}" for one in range(n)]}),
    "find": finds(lambda n: {"m": {"$gt": 2}}),
    "find by an index": finds(lambda n: {"n": {"$gt": 2}}),
    "find $or": finds(lambda n: {"$or": [{"n": one} for one in range(n)]}),
    "find $or of texts": finds(lambda n: {"$or": [{"s": f"é{one}"} for one in range(n)]}),
    "find $or of fields": finds(lambda n: {"$or": [{("n", "m", "s")[one % 3]: one} for one in range(n)]}),
    "find $in": finds(lambda n: {"n": {"$in": [-one for one in range(n)]}}),
    "find $in of objects": finds(lambda n: {"n": {"$in": [{"x": one} for one in range(n)]}}),
    "find $nor": finds(lambda n: {"$nor": [{"n": -one} for one in range(n)]}),
    "find $nin": finds(lambda n: {"n": {"$nin": [str(one) for one in range(n)]}}),
    "find $and of ranges": finds(lambda n: {"$and": [{"n": {"$gt": one - n}} for one in range(n)]}),
    "find $and of differences": finds(lambda n: {"$and": [{"n": {"$ne": -one}} for one in range(n)]}),
    "find $or of ranges": finds(lambda n: {"$or": [{"n": {"$gt": one + n}} for one in range(n)]}),
    "find many conditions": finds(lambda n: {"$and": [{f"f{one}": {"$ne": one}} for one in range(n)]}, documents=20),
    "find many fields": finds(lambda n: {f"f{one}": {"$exists": False} for one in range(n)}, documents=20),
    "find nested conditions": finds(nested, documents=20),
    "find $all": finds(lambda n: {"n": {"$all": list(range(n))}}, documents=20),
    "explain": reads("POST", "/_explain", lambda n: {"selector": {"$or": [{"n": one} for one in range(n)]}}),
    "view": viewed("reduce=false&include_docs=true"),
    "grouped view": viewed("group=true"),
    "view grouped by level": viewed("group_level=1"),
    "reduced view": viewed(""),
    "keys of a view": viewed("reduce=false", lambda n: {"keys": list(range(n))}),
    "groups of keys": viewed("group=true", lambda n: {"keys": list(range(n))}),
    "skipped groups": viewed("group=true&skip=5&limit=5"),
    "purge": purges,
    "attachments": attaches,
}


@pytest.mark.parametrize("name", WORK)
def test_steps_of_a_request_grow_at_most_as_n_log_n(name: str) -> None:
    # The first call imports modules and fills caches.
    WORK[name](CouchDAL(MemoryBackend()), 30)()
    steps = []
    for n in (60, 120, 240):
        work = WORK[name](CouchDAL(MemoryBackend()), n)
        steps.append(steps_of(work))
    # What does not grow counts only in the first difference.
    first, second = steps[1] - steps[0], steps[2] - steps[1]
    assert second <= MOST_PER_DOUBLING * max(first, 60), steps


def reduced_after_a_write(query: str) -> Prepare:
    def prepare(db: CouchDAL, n: int) -> Callable[[], object]:
        read = viewed(query)(db, n)
        read()
        db.put_document("new", {"n": n // 2, "m": 3})
        return read

    return prepare


@pytest.mark.parametrize("query", ["", "group_level=1&startkey=[1]&endkey=[5,200]", "reduce=false&skip=500&limit=5"])
@pytest.mark.parametrize("written", [False, True])
def test_steps_of_a_reduced_view_hardly_grow_with_its_rows(query: str, written: bool) -> None:
    steps = []
    for n in (500, 500, 4000):
        prepare = reduced_after_a_write(query) if written else viewed(query)
        work = prepare(CouchDAL(MemoryBackend()), n)
        if not written:
            work()
        steps.append(steps_of(work))
    # The rows are eight times as many.
    assert steps[2] < 3 * steps[1], steps
