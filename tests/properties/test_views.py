"""Properties of every view: what blocks keep does not change an answer."""

from __future__ import annotations

import json
import random
from itertools import groupby
from typing import Any

import pytest
from effort import examples

from couchdal import CouchDAL, MemoryBackend

pytest.importorskip("quickjs")
pytestmark = pytest.mark.random

MAP = "function (doc) { for (var i in doc.keys) emit(doc.keys[i], doc.n + Number(i)); }"
VIEWS = {
    "sum": {"map": MAP, "reduce": "_sum"},
    "count": {"map": MAP, "reduce": "_count"},
    "stats": {"map": MAP, "reduce": "_stats"},
    "distinct": {"map": MAP, "reduce": "_approx_count_distinct"},
    "js": {"map": MAP, "reduce": "function (keys, values) { return sum(values); }"},
}
KEYS: list[object] = [None, True, 1, 2.5, "a", "A", "é", [], [1], [1, 2], [1, 2, 3], ["a", 1], [[1], 2], {"x": 1}]


def values_of(name: str, rows: list[Any]) -> object:
    values = [row["value"] for row in rows]
    if name == "count":
        return len(values)
    if name == "distinct":
        return len({json.dumps(row["key"]) for row in rows})
    if name == "stats":
        squares = sum(value * value for value in values)
        found = {"sum": sum(values), "count": len(values), "min": min(values), "max": max(values)}
        return {**found, "sumsqr": squares}
    return sum(values)


def cut(key: Any, level: int | None) -> Any:
    return key[:level] if level is not None and isinstance(key, list) else key


def grouped(name: str, rows: list[Any], level: int | None) -> list[object]:
    """Return the groups of rows, as a reduced query shows them."""
    if level == 0:
        return [{"key": None, "value": values_of(name, rows)}] if rows else []
    # As text, because Python takes 1 for true.
    groups = groupby(rows, lambda row: json.dumps(cut(row["key"], level)))
    return [{"key": json.loads(key), "value": values_of(name, list(group))} for key, group in groups]


def write(db: CouchDAL, chance: random.Random, count: int) -> None:
    known = {row["id"]: row["value"]["rev"] for row in db.get("/_all_docs")["rows"]}
    docs: dict[str, dict[str, object]] = {}
    for _ in range(count):
        doc_id = str(chance.randrange(600))
        doc: dict[str, object] = {"_id": doc_id, "n": chance.randrange(1000)}
        doc["keys"] = [chance.choice(KEYS) for _ in range(chance.randrange(4))]
        if doc_id in known:
            doc["_rev"] = known[doc_id]
            doc["_deleted"] = chance.random() < 0.3
        docs[doc_id] = doc
    db.bulk_docs(list(docs.values()))


@pytest.mark.parametrize("seed", range(examples(quick=6, soak=200)))
def test_groups_of_blocks_are_the_groups_of_their_rows(seed: int) -> None:
    chance = random.Random(seed)
    db = CouchDAL(MemoryBackend())
    db.put_document("_design/v", {"views": VIEWS})
    for _ in range(4):
        write(db, chance, chance.choice((3, 100, 700)))
        for name in VIEWS:
            level = chance.choice((0, 1, 2, None))
            query: dict[str, object] = {"descending": chance.random() < 0.5}
            if chance.random() < 0.6:
                low, high = sorted(chance.sample(range(len(KEYS)), 2))
                bounds = (KEYS[high], KEYS[low]) if query["descending"] else (KEYS[low], KEYS[high])
                query |= {"start_key": bounds[0], "end_key": bounds[1], "inclusive_end": chance.random() < 0.5}
            path = f"/_design/v/_view/{name}"
            rows = db.get(path, "POST", {**query, "reduce": False})["rows"]
            skip = chance.randrange(len(rows) + 2)
            assert db.get(path, "POST", {**query, "reduce": False, "skip": skip, "limit": 9})["rows"] == rows[skip:][:9]
            grouping = {"group": True} if level is None else {"group_level": level}
            page = {"skip": chance.randrange(3), "limit": chance.choice((1, 3, 100))}
            found = db.get(path, "POST", {**query, **grouping, **page})["rows"]
            assert found == grouped(name, rows, level)[page["skip"] :][: page["limit"]]


def test_function_that_forgets_rereduce_gives_a_wrong_result_for_many_rows() -> None:
    """As on CouchDB. A function must be able to reduce its own results."""
    db = CouchDAL(MemoryBackend())
    count = {
        "map": "function (doc) { emit(null, doc.n); }",
        "reduce": "function (keys, values) { return values.length; }",
    }
    db.bulk_docs([{"n": number} for number in range(1000)])
    db.put_document("_design/count", {"views": {"v": count}})
    assert db.get("/_design/count/_view/v")["rows"][0]["value"] < 1000
