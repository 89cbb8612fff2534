"""Every document id reaches the server intact, and never names anything but that document."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, strategies as st

from couchdal import CouchBackend, CouchDAL
from couchdal.operations.operation import attachment_path, document_path
from couchdal.transcripts.scenario import RECORDED_ADMIN

ODD_IDS = [
    "a/b", "a+b", "a b", "a%b", "a%2Fb", "%zz", "a?b=c", "a#b", "a&b", "a;b", "a=b", "a\\b", "a\nb\r\n", "\x7f", "\x00",
    ".", "..", "...", "./a", "../a", "a/../b", "a//b", "/", "//", "/a", "a/", " ", "é", "e\u0301", "日本", "\U0001f600",
    '"', "'", "<a>", "{}", "[0]", "|", "^", "`", "~", "a:b", "a@b", "http://x/", "_design/x", "_design/a/b",
    "_design/é", "_design/_x", "a/_all_docs", "~_x", "x" * 200,
]  # fmt: skip


def test_every_odd_id_names_its_own_document(dal: CouchDAL) -> None:
    for doc_id in ODD_IDS:
        assert dal.put_document(doc_id, {"i": doc_id})["id"] == doc_id
    for doc_id in ODD_IDS:
        doc = dal.get_document(doc_id)
        assert (doc["_id"], doc["i"]) == (doc_id, doc_id)
    assert {row["id"] for row in dal.all_docs()["rows"]} == set(ODD_IDS)
    for doc_id in ODD_IDS:
        dal.delete_document(doc_id, dal.get_document(doc_id)["_rev"])  # type: ignore[arg-type]
    assert dal.info()["doc_count"] == 0


def test_every_odd_id_is_a_destination_of_a_copy(dal: CouchDAL) -> None:
    dal.put_document("source", {"x": 1})
    for doc_id in ODD_IDS:
        assert dal.copy_document("source", doc_id)["id"] == doc_id
        assert dal.get_document(doc_id)["x"] == 1


def test_every_odd_id_names_its_own_local_document_and_attachments(dal: CouchDAL) -> None:
    for doc_id in ODD_IDS:
        assert dal.put_local(doc_id, {"i": doc_id})["id"] == f"_local/{doc_id}"
        if not doc_id.startswith("_"):
            dal.put_attachment("holder" + doc_id, doc_id, doc_id.encode())
    for doc_id in ODD_IDS:
        assert dal.get_local(doc_id)["i"] == doc_id
        if not doc_id.startswith("_"):
            assert dal.get_attachment("holder" + doc_id, doc_id) == doc_id.encode()


@given(doc_id=st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: text[0] != "_"))
def test_path_of_any_id_is_one_segment_of_unreserved_characters(doc_id: str) -> None:
    path = document_path(doc_id)
    assert path.count("/") == 1
    assert path not in ("/.", "/..")
    assert set(path[1:]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%")
    assert attachment_path(doc_id, doc_id) == path + path


class TestRandomIds:
    @pytest.fixture(scope="class")
    @staticmethod
    def handle(served_address: str) -> Iterator[CouchDAL]:
        user, password = RECORDED_ADMIN
        dal = CouchDAL(
            CouchBackend(served_address, user=user, password=password), database=f"ids{uuid.uuid4().hex[:12]}"
        )
        dal.create_database()
        yield dal
        dal.delete_database()

    @given(doc_id=st.text(st.characters(exclude_categories=("Cs",)), min_size=1).filter(lambda text: text[0] != "_"))
    def test_any_id_comes_back_over_http(self, handle: CouchDAL, doc_id: str) -> None:
        written = handle.post_document({"_id": doc_id, "n": uuid.uuid4().hex})
        read = handle.get_document(doc_id)
        assert (read["_id"], read["_rev"]) == (doc_id, written["rev"])
        handle.delete_document(doc_id, written["rev"])


def test_lone_surrogate_in_a_path_is_refused(dal: CouchDAL) -> None:
    for call in (dal.get_document, dal.get):
        with pytest.raises(ValueError):
            call("\ud800")


def test_header_that_would_begin_another_line_is_refused(couch: Callable[..., CouchBackend]) -> None:
    with pytest.raises(ValueError):
        CouchDAL(couch(database="db")).request("GET", "/", headers={"x": "a\r\nHost: other"})


def test_path_cannot_begin_another_request(couch: Callable[..., CouchBackend]) -> None:
    response = CouchDAL(couch(database="db")).request("GET", "/a HTTP/1.1\r\nHost: x\r\n\r\nDELETE /db")
    assert response.status == 404
