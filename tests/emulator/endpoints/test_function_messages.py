"""What functions of design documents log and throw goes to the logger ``couchdal.javascript``."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from plugin_runs import run, unindented

from couchdal import CouchDAL, CouchError, MemoryBackend
from couchdal.emulator.engine.server.server import Server
from couchdal.server.javascript_workers import Workers

LOGGER = "couchdal.javascript"
THROWS = "function(doc) {\n  var a = 1;\n  emit(doc.user.name, a);\n}"


@pytest.fixture(params=["in process", "worker"])
def db(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[CouchDAL]:
    caplog.set_level(logging.INFO, LOGGER)
    workers = Workers(most=2) if request.param == "worker" else None
    yield CouchDAL(MemoryBackend(server=Server(javascript=workers)), database="tasks", create=True)
    if workers is not None:
        workers.close()


def texts(told: list[logging.LogRecord]) -> list[tuple[str, str]]:
    return [(record.levelname, record.getMessage()) for record in told if record.name == LOGGER]


def test_map_and_reduce_tell_document_and_line(db: CouchDAL, caplog: pytest.LogCaptureFixture) -> None:
    fine = "function(doc) {\n  log({id: doc._id});\n  log('x');\n  emit(doc._id, 1);\n}"
    reduce = "function(keys, values) {\n\n  throw new Error('no sum');\n}"
    views = {"by_user": {"map": THROWS}, "fine": {"map": fine, "reduce": reduce}}
    db.put_document("_design/people", {"views": views})
    db.put_document("a", {})
    assert db.view("people", "fine", reduce=False)["rows"] == [{"id": "a", "key": "a", "value": 1}]
    assert db.view("people", "by_user")["rows"] == []
    where = "tasks/_design/people/views"
    expected = [
        (
            "WARNING",
            f"{where}/by_user/map, document 'a', line 3: TypeError: cannot read property 'name' of undefined",
        ),
        ("INFO", f'{where}/fine/map, document \'a\', line 2: {{"id":"a"}}'),
        ("INFO", f"{where}/fine/map, document 'a', line 3: x"),
        ("WARNING", f"{where}/fine/reduce, line 3: Error: no sum"),
    ]
    found = texts(caplog.records)
    assert [one for one in expected if one not in found] == []
    assert set(found) <= set(expected)
    (thrown,) = [record for record in caplog.records if "TypeError" in record.getMessage()]
    assert (
        thrown.__dict__.items() >= {"database": "tasks", "design": "_design/people", "doc_id": "a", "line": 3}.items()
    )


@pytest.mark.parametrize(
    ("source", "status", "said"),
    [
        ("function(doc) {\n  throw({forbidden: 'no'});\n}", 403, '{"forbidden":"no"}'),
        ("function(doc) {\n  doc.x.y;\n}", 500, "TypeError: cannot read property 'y' of undefined"),
    ],
)
def test_validation_tells_what_it_throws(
    source: str, status: int, said: str, db: CouchDAL, caplog: pytest.LogCaptureFixture
) -> None:
    db.put_document("_design/rules", {"validate_doc_update": source})
    with pytest.raises(CouchError) as refused:
        db.put_document("bad", {})
    assert refused.value.status == status
    ((level, text),) = texts(caplog.records)
    assert level == "WARNING"
    assert text.startswith("tasks/_design/rules/validate_doc_update, document 'bad'")
    assert text.endswith(f": {said}")
    assert (", line 2: " in text) == (status == 500)


def test_filter_show_list_and_update_tell(db: CouchDAL, caplog: pytest.LogCaptureFixture) -> None:
    throwing = "function(a, b) {\n  log('called');\n  throw new Error('oops');\n}"
    design = {
        "filters": {"f": throwing},
        "shows": {"f": throwing},
        "lists": {"f": throwing},
        "updates": {"f": throwing},
    }
    db.put_document("_design/d", design)
    db.put_document("a", {})
    answers = []
    for path, method in (
        ("/_changes?filter=d/f&doc_ids=[]", "GET"),
        ("/_design/d/_show/f/a", "GET"),
        ("/_design/d/_list/f/_all_docs", "GET"),
        ("/_design/d/_update/f/a", "PUT"),
    ):
        caplog.clear()
        with pytest.raises(CouchError) as failed:
            db.get(path, method)
        answers.append(failed.value.reason)
        found = texts(caplog.records)
        assert [level for level, _ in found] == ["INFO", "WARNING"], path
        assert all(text.startswith("tasks/_design/d/") for _, text in found)
        assert found[0][1].endswith(", line 2: called")
        assert found[1][1].endswith(", line 3: Error: oops")
    assert "function raised error: Error: oops" in answers[1]


def test_messages_are_bounded_and_answers_stay_the_same(db: CouchDAL, caplog: pytest.LogCaptureFixture) -> None:
    noisy = "function(doc) { for (var i = 0; i < 70; i++) log('x'.repeat(5000)); emit(doc._id, null); }"
    db.put_document("_design/d", {"views": {"noisy": {"map": noisy}}})
    db.bulk_docs([{"_id": f"d{number:03}"} for number in range(300)])
    assert len(db.view("d", "noisy")["rows"]) == 300
    found = texts(caplog.records)
    assert len(found) == 101
    assert found[-1][1].endswith("further messages are dropped")
    assert max(len(text) for _, text in found) < 1200


@pytest.mark.parametrize("value", ["undefined", "null", "Object.create(null)", "{get name() { throw 1; }}"])
def test_any_value_can_be_logged_and_thrown(value: str, db: CouchDAL, caplog: pytest.LogCaptureFixture) -> None:
    db.put_document("_design/d", {"views": {"v": {"map": f"function(doc) {{ log({value}); emit(1, 1); }}"}}})
    db.put_document("a", {})
    assert len(db.view("d", "v")["rows"]) == 1
    assert len(texts(caplog.records)) == 1


def test_functions_without_messages_tell_nothing(db: CouchDAL, caplog: pytest.LogCaptureFixture) -> None:
    db.put_document("_design/d", {"validate_doc_update": "function(doc) {}"})
    db.put_document("a", {})
    assert texts(caplog.records) == []


def test_pytest_shows_messages_below_a_failed_test(tmp_path: Path) -> None:
    printed = run(
        tmp_path,
        test_rows=unindented(
            """
            def test_rows(dal):
                source = "function(doc) { log('seen'); emit(doc.user.name); }"
                dal.put_document("_design/people", {"views": {"by_user": {"map": source}}})
                dal.put_document("a", {})
                assert dal.view("people", "by_user")["rows"]
            """
        ),
    )
    shown = printed.partition("Captured log call")[2]
    assert "/_design/people/views/by_user/map, document 'a', line 1: seen" in shown
    assert "/_design/people/views/by_user/map, document 'a', line 1: TypeError: cannot read property" in shown
