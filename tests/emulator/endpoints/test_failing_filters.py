"""Filter functions that throw after the first document.

They cannot be recorded: CouchDB sometimes sends a second error after the first.
"""

from __future__ import annotations

import pytest

from couchdal.errors import BrokenOff

pytest.importorskip("quickjs")

FEEDS = ("", "&feed=longpoll", "&feed=continuous", "&feed=eventsource")


@pytest.fixture
def db(send):
    send("PUT", "/db")
    docs = [{"_id": name, "long": "x" * 900} for name in "abcd"]
    assert send("POST", "/db/_bulk_docs", {"docs": docs}).status == 201
    filters = {
        "first": "function(doc) { doc.x.y; }",
        "type": "function(doc) { if (doc._id == 'd') doc.x.y; return true; }",
        "word": "function(doc) { if (doc._id == 'd') throw(['error', 'not_found', 'gone']); return true; }",
        "new": "function(doc) { if (doc._id == 'new') doc.x.y; return true; }",
    }
    assert send("PUT", "/db/_design/k", {"filters": filters}).status == 201
    return "/db"


@pytest.mark.parametrize("feed", FEEDS)
@pytest.mark.parametrize(
    ("name", "status", "error"), [("first", 500, "error"), ("type", 500, "TypeError"), ("word", 404, "not_found")]
)
def test_feed_answers_the_error_while_its_rows_are_buffered(send, db, feed, name, status, error):
    answer = send("GET", f"{db}/_changes?filter=k/{name}{feed}")
    assert (answer.status, answer.value()["error"]) == (status, error)


@pytest.mark.parametrize("feed", FEEDS)
def test_feed_breaks_off_after_rows_were_sent(send, db, feed):
    answer = send("GET", f"{db}/_changes?filter=k/type&include_docs=true{feed}")
    assert answer.status == 200
    sent = []
    with pytest.raises(BrokenOff, match=r"broke off: .*TypeError"):
        sent.extend(answer.stream)
    # The buffer holds one of these rows, and the others were sent.
    assert [name in b"".join(sent).decode() for name in ('"a"', '"b"', '"c"')] == [True, True, False]


def test_feed_breaks_off_when_the_filter_fails_at_a_new_document(send, db):
    stream = iter(send("GET", f"{db}/_changes?filter=k/new&feed=continuous").stream)
    assert b'"d"' in next(stream)
    send("PUT", f"{db}/new", {})
    with pytest.raises(BrokenOff):
        list(stream)


@pytest.mark.parametrize("thrown", ["'x'", "{}", "1"])
def test_reason_of_a_filter_without_a_message_is_a_term(send, db, thrown):
    functions = {"views": {"v": {"map": f"function(doc) {{ throw {thrown}; }}"}}}
    assert send("PUT", f"{db}/_design/v", functions).status == 201
    answer = send("GET", f"{db}/_changes?filter=_view&view=v/v")
    # CouchDB has a stack trace in Erlang in place of the empty list.
    assert (answer.status, answer.value()) == (500, {"error": "error", "reason": '{<<"unnamed_error">>,null,[]}'})


def test_filter_in_coffeescript_is_501(send, db):
    functions = {"language": "coffeescript", "filters": {"f": "(doc) -> true"}}
    assert send("PUT", f"{db}/_design/c", functions).status == 201
    answer = send("GET", f"{db}/_changes?filter=c/f")
    assert (answer.status, answer.value()["error"]) == (501, "not_implemented")
