"""pytest shows below a failed test what functions of design documents logged, whichever request ran them."""

from __future__ import annotations

from pathlib import Path

from plugin_runs import run, unindented

FAILING = """
    import httpx2
    import threading

    VIEW = '''function(doc) {
      log('maps ' + doc._id);
      if (doc.wrong)
        throw new Error('wrong');
      emit(doc._id, null);
    }'''
    FILTER = '''function(doc, req) {
      log('filters ' + doc._id);
      return true;
    }'''

    def test_fails(dal, couch_server):
        dal.put_document("_design/d", {
            "views": {"first": {"map": VIEW}, "second": {"map": "function(doc) {\\n\\n log('second'); }"}},
            "filters": {"f": FILTER},
        })
        dal.put_document("a", {"wrong": True})
        # The request for one view builds the other one, too.
        dal.get("/_design/d/_view/second")
        dal.put_document("b", {})
        httpx2.get(f"{couch_server}/default/_design/d/_view/second")
        with dal.changes("continuous", filter="d/f", timeout=200) as feed:
            next(feed)
            dal.put_document("later", {})
            list(feed)
        dal.put_document("c", {})
        dal.emulator.settle()
        assert False

    def test_passes(dal):
        pass
"""


def test_messages_have_document_and_line(tmp_path: Path) -> None:
    printed = run(tmp_path, "-p", "no:randomly", test_failing=unindented(FAILING))
    assert "1 failed, 1 passed" in printed, printed
    for line in (
        "default/_design/d/views/first/map, document 'a', line 2: maps a",
        "default/_design/d/views/first/map, document 'a', line 4: Error: wrong",
        "default/_design/d/views/second/map, document 'a', line 3: second",
        "default/_design/d/views/first/map, document 'b', line 2: maps b",
        "default/_design/d/filters/f, document 'later', line 2: filters later",
        "default/_design/d/views/first/map, document 'c', line 2: maps c",
    ):
        assert printed.count(line) == 1, (line, printed)
