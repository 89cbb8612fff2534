"""Sizes of databases, partitions and views: exact where CouchDB's are stable, and elsewhere growing as CouchDB's do."""

from __future__ import annotations

import pytest

from couchdal import CouchDAL, MemoryBackend
from couchdal.emulator.engine.indexes.sizes import encoded_size


# What CouchDB's own function returned for these values.
@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({}, 2),
        ([], 2),
        ([[]], 4),
        ({"a": 1}, 7),
        ({"a": {"b": [1, 2, 3]}}, 19),
        ("", 2),
        ("é", 4),
        (True, 4),
        (False, 5),
        (None, 4),
        (0, 1),
        (-1, 2),
        (9999, 4),
        (10_000, 5),
        (99_999, 5),
        (100_000, 6),
        (0.0, 3),
        (1.0, 3),
        (-1.0, 4),
        (0.5, 3),
        (0.01, 4),
        (1e-10, 5),
        (1e-100, 6),
        (1e-300, 3),
        (2.5, 3),
        (1e10, 4),
        (1e100, 5),
    ],
)
def test_size_of_a_value_is_couchdb_s_estimate(value, size):
    assert encoded_size(value) == size


def test_deeply_nested_value_has_a_size():
    value: list = []
    for _ in range(100_000):
        value = [value]
    assert encoded_size(value) == 200_002


@pytest.fixture
def dal() -> CouchDAL:
    return CouchDAL(MemoryBackend(), database="db", create=True)


def put(dal: CouchDAL, document: dict) -> str:
    return dal.get("/" + document["_id"].replace("_design/", "_design%2F"), "PUT", document)["rev"]


def attach(dal: CouchDAL, doc_id: str, size: int) -> None:
    kind = {"content-type": "application/octet-stream"}
    assert dal.request("PUT", f"/{doc_id}/x", body=b"z" * size, headers=kind).status == 201


def sizes(dal: CouchDAL) -> dict[str, int]:
    return dal.get("/")["sizes"]


# Recorded on CouchDB 3.5.0.
def test_external_size_counts_leaves_and_attachments(dal):
    assert sizes(dal) == {"file": 8349, "external": 0, "active": 0}
    for number in range(5):
        put(dal, {"_id": f"d{number}", "n": number, "text": "x" * 100})
        assert sizes(dal)["external"] == 117 * (number + 1)
    put(dal, {**dal.get_document("d0"), "z": 1})
    assert sizes(dal)["external"] == 591
    dal.get(f"/d1?rev={dal.get_document('d1')['_rev']}", "DELETE")
    assert sizes(dal)["external"] == 591 - 115
    attach(dal, "att", 10_000)
    assert sizes(dal)["external"] == 591 - 115 + 10_002


def test_conflict_counts_and_shared_attachment_counts_once(dal):
    attach(dal, "a", 1000)
    before = sizes(dal)["external"]
    stub = dal.get_document("a")
    put(dal, {**stub, "b": 1})
    assert sizes(dal)["external"] == before + 5
    dal.bulk_docs([{"_id": "a", "_rev": "2-abc", "c": "conflict"}], new_edits=False)
    assert sizes(dal)["external"] == before + 5 + encoded_size({"c": "conflict"})


def test_file_grows_with_each_write_and_shrinks_with_a_compaction(dal):
    last = 0
    for number in range(20):
        document = {"_id": "a", "n": number, "text": "x" * 500}
        put(dal, {**dal.get_document("a"), **document} if number else document)
        assert sizes(dal)["file"] > last
        last = sizes(dal)["file"]
    before = sizes(dal)
    dal.get("/_compact", "POST", {})
    after = sizes(dal)
    assert after["file"] < before["file"]
    assert after["active"] <= after["file"]
    assert {**after, "file": 0} == {**before, "file": 0}


def test_sizes_are_rolled_back(dal):
    put(dal, {"_id": "a", "n": 1})
    before = sizes(dal)
    snapshot = dal.emulator.snapshot()
    put(dal, {"_id": "b", "n": 1})
    dal.get("/_compact", "POST", {})
    assert sizes(dal) != before
    snapshot.restore()
    assert sizes(dal) == before
    assert dal.emulator.check() == []


def test_purged_document_has_no_size(dal):
    rev = put(dal, {"_id": "a", "text": "x" * 1000})
    dal.get("/_purge", "POST", {"a": [rev]})
    assert sizes(dal)["external"] == 0


def test_purge_of_an_unknown_revision_changes_no_size(dal):
    put(dal, {"_id": "a", "text": "x" * 1000})
    before = sizes(dal)["external"]
    dal.get("/_purge", "POST", {"a": ["1-abc"]})
    assert sizes(dal)["external"] == before


def test_partition_has_the_sizes_of_its_documents():
    backend = MemoryBackend()
    backend.server.create("parts", partitioned=True)
    dal = CouchDAL(backend, database="parts")
    put(dal, {"_id": "a:1", "n": 1})
    put(dal, {"_id": "b:1", "n": 100})
    assert dal.get("/_partition/a")["sizes"]["external"] == 7
    assert dal.get("/_partition/b")["sizes"]["external"] == 9
    assert dal.get("/")["sizes"]["external"] == 16


def test_file_of_a_view_shrinks_with_its_compaction(dal):
    put(dal, {"_id": "_design/v", "views": {"t": {"map": "function(doc){emit(doc.n, doc.text)}"}}})
    dal.bulk_docs([{"_id": str(number), "n": number, "text": "x" * 50} for number in range(50)])
    dal.view("v", "t")
    view = dal.get("/_design/v/_info")["view_index"]["sizes"]
    assert 0 < view["active"] <= view["external"]
    dal.bulk_docs([{**dal.get_document(str(number)), "n": 0} for number in range(50)])
    dal.view("v", "t")
    before = dal.get("/_design/v/_info")["view_index"]["sizes"]
    assert before["file"] > view["file"]
    dal.get("/_compact/v", "POST", {})
    after = dal.get("/_design/v/_info")["view_index"]["sizes"]
    assert after["file"] < before["file"]
    assert after["external"] == before["external"]
