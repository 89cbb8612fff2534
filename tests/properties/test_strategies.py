"""The strategies for users: what they draw is valid on every server, and the state machine finds a fault."""

from __future__ import annotations

import random
import uuid

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings, strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from couchdal import CouchBackend, CouchDAL, MemoryBackend
from couchdal.testing.strategies import DatabaseMachine, documents, edit_histories, json_values, selectors
from couchdal.transcripts.scenario import RECORDED_ADMIN

FEW = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def database() -> CouchDAL:
    return CouchDAL(MemoryBackend(), database="drawn", create=True)


@FEW
@given(documents())
def test_documents_come_back_as_they_were_drawn(doc: dict[str, object]) -> None:
    db = database()
    rev = db.put_document(str(doc["_id"]), doc)["rev"]
    assert db.get_document(str(doc["_id"])) == {**doc, "_rev": rev}


@FEW
@given(st.lists(documents(), unique_by=lambda doc: str(doc["_id"]), max_size=6), selectors())
def test_selectors_are_valid(docs: list[dict[str, object]], selector: dict[str, object]) -> None:
    db = database()
    db.bulk_docs(docs)
    assert db.count(selector) == len(list(db.iter_find(selector, page_size=2))) <= len(docs)


@FEW
@given(edit_histories("doc"), st.integers())
def test_order_of_edits_does_not_matter(edits: list[dict[str, object]], seed: int) -> None:
    shuffled = list(edits)
    random.Random(seed).shuffle(shuffled)
    one, other = database(), database()
    one.bulk_docs(edits, new_edits=False)
    other.bulk_docs(shuffled, new_edits=False)
    assert sorted(str(leaf) for leaf in one.open_revs("doc")) == sorted(str(leaf) for leaf in other.open_revs("doc"))


def test_edit_histories_have_conflicts_and_deletions() -> None:
    def has_conflict(edits: list[dict[str, object]]) -> bool:
        db = database()
        db.bulk_docs(edits, new_edits=False)
        return list(db.find_conflicted()) == ["doc"]

    assert len(find(edit_histories("doc"), has_conflict)) >= 2
    assert find(edit_histories("doc"), lambda edits: any(edit.get("_deleted") for edit in edits))
    assert find(json_values(), lambda value: isinstance(value, dict) and bool(value))


def test_machine_passes_on_memory_and_over_http(served_address: str) -> None:
    class OverHttp(DatabaseMachine):
        def open_database(self) -> CouchDAL:
            user, password = RECORDED_ADMIN
            backend = CouchBackend(served_address, user=user, password=password)
            handle = CouchDAL(backend, database=f"machine-{uuid.uuid4().hex[:12]}")
            handle.create_database()
            return handle

    run_state_machine_as_test(DatabaseMachine, settings=settings(FEW, max_examples=15, stateful_step_count=15))
    run_state_machine_as_test(OverHttp, settings=settings(FEW, max_examples=3, stateful_step_count=8))


def test_machine_finds_a_fault_of_the_code_under_test() -> None:
    class WithFault(DatabaseMachine):
        @rule(doc=documents())
        def forget(self, doc: dict[str, object]) -> None:
            self.dal.bulk_docs([doc])

    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            WithFault, settings=settings(FEW, max_examples=30, print_blob=False, phases=[Phase.generate])
        )
