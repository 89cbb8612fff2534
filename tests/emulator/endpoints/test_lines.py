"""The text of long answers, line by line, as a live CouchDB sent it."""

from __future__ import annotations

import pytest

DOCS = [{"_id": "a", "n": 1}, {"_id": "b", "n": 2}]
A = b'{"id":"a","key":"a","value":{"rev":"1-731bef401491606a3b246ed178e697c1"}}'
B = b'{"id":"b","key":"b","value":{"rev":"1-43a36d04d31d38efc5b9245c53e00627"}}'
WARNING = b'"warning": "No matching index found, create an index to optimize query time."'
VIEWS = {"t": {"map": "function(d){emit(d.n,1)}", "reduce": "_sum"}, "u": {"map": "function(d){emit(d.n,1)}"}}


@pytest.fixture
def db(send) -> None:
    send("PUT", "/db")
    send("POST", "/db/_bulk_docs", {"docs": DOCS})


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("method", "path", "payload", "text"),
    [
        ("GET", "_all_docs", None, b'{"total_rows":2,"offset":0,"rows":[\r\n' + A + b",\r\n" + B + b"\r\n]}\n"),
        ("GET", "_all_docs?limit=0", None, b'{"total_rows":2,"offset":0,"rows":[\r\n\r\n]}\n'),
        (
            "POST",
            "_all_docs",
            {"keys": ["a", "zz"]},
            b'{"total_rows":2,"offset":null,"rows":[\r\n' + A + b',\r\n{"key":"zz","error":"not_found"}\r\n]}\n',
        ),
        (
            "POST",
            "_all_docs/queries",
            {"queries": [{}, {"limit": 0}]},
            b'{"results":[\r\n{"total_rows":2,"offset":0,"rows":[\r\n' + A + b",\r\n" + B + b"\r\n]},\r\n"
            b'{"total_rows":2,"offset":0,"rows":[\r\n\r\n]}\r\n]}\n',
        ),
        ("GET", "_local_docs", None, b'{"total_rows":null,"offset":null,"rows":[\r\n\r\n]}\n'),
        (
            "POST",
            "_find",
            {"selector": {}},
            b'{"docs":[\r\n{"_id":"a","_rev":"1-731bef401491606a3b246ed178e697c1","n":1},\r\n'
            b'{"_id":"b","_rev":"1-43a36d04d31d38efc5b9245c53e00627","n":2}\r\n],\r\n'
            b'"bookmark": BOOKMARK,\r\n' + WARNING + b"}\r\n\n",
        ),
        (
            "POST",
            "_find",
            {"selector": {"x": 1}},
            b'{"docs":[\r\n],\r\n"bookmark": "nil",\r\n' + WARNING + b"}\r\n\n",
        ),
    ],
)
def test_listing_has_a_row_on_each_line(send, method, path, payload, text):
    answer = send(method, f"/db/{path}", payload) if payload is not None else send(method, f"/db/{path}")
    content = answer.content()
    if b"BOOKMARK" in text:
        bookmark = content.partition(b'"bookmark": ')[2].partition(b",\r\n")[0]
        text = text.replace(b"BOOKMARK", bookmark)
    assert content == text


@pytest.mark.usefixtures("db")
def test_query_without_possible_rows_has_documents_only(send):
    send("POST", "/db/_index", {"index": {"fields": ["a"]}})
    selector = {"$and": [{"a": {"$lt": 1}}, {"a": {"$gt": 2}}]}
    assert send("POST", "/db/_find", {"selector": selector}).content() == b'{"docs":[\r\n]}\r\n\n'


@pytest.mark.usefixtures("db")
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("t", b'{"rows":[\r\n{"key":null,"value":2}\r\n]}\n'),
        ("t?group=true", b'{"rows":[\r\n{"key":1,"value":1},\r\n{"key":2,"value":1}\r\n]}\n'),
        ("t?key=99", b'{"rows":[\r\n\r\n]}\n'),
        (
            "u",
            b'{"total_rows":2,"offset":0,"rows":[\r\n{"id":"a","key":1,"value":1},\r\n'
            b'{"id":"b","key":2,"value":1}\r\n]}\n',
        ),
    ],
)
def test_view_has_a_row_on_each_line(send, path, text):
    send("PUT", "/db/_design/v", {"views": VIEWS})
    assert send("GET", f"/db/_design/v/_view/{path}").content() == text


@pytest.mark.usefixtures("db")
def test_sequence_of_a_listing_comes_before_its_rows(send):
    text = send("GET", "/db/_all_docs?update_seq=true&limit=1").content()
    assert text.startswith(b'{"total_rows":2,"offset":0,"update_seq":"2-')
    assert text.endswith(b'","rows":[\r\n' + A + b"\r\n]}\n")


@pytest.mark.usefixtures("db")
def test_feed_that_is_read_once_has_a_row_on_each_line(send):
    answer = send("GET", "/db/_changes")
    first, second = answer.value()["results"]
    head, one, two, close, last, empty = answer.content().split(b"\n")[:6]
    assert (head, close, empty) == (b'{"results":[', b"],", b"")
    assert one.endswith(b'"changes":[{"rev":"1-731bef401491606a3b246ed178e697c1"}]},\r')
    assert one.startswith(b'{"seq":"%b","id":"a"' % first["seq"].encode())
    assert two.startswith(b'{"seq":"%b","id":"b"' % second["seq"].encode())
    assert two.endswith(b"]}")
    assert last == b'"last_seq":"%b","pending":0}' % second["seq"].encode()
    assert answer.content().endswith(b',"pending":0}\n\n')


@pytest.mark.usefixtures("db")
def test_feed_without_rows_has_an_empty_line(send):
    text = send("GET", "/db/_changes?since=now").content()
    assert text.startswith(b'{"results":[\n\n],\n"last_seq":"2-')


@pytest.mark.usefixtures("db")
def test_query_takes_time(send):
    stats = send("POST", "/db/_find", {"selector": {}, "execution_stats": True}).value()["execution_stats"]
    assert stats["execution_time_ms"] > 0
