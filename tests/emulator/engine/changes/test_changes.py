"""Rows of the feed and feeds that wait, on the engine alone: values in, rows or text out, and time as told."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from couchdal.emulator.engine.changes.changes import ChangesQuery, Filter, parse_since, read_changes, start_cursor
from couchdal.emulator.engine.changes.changes_feed import FRAMINGS, ChangesFeed
from couchdal.emulator.engine.documents.document import parse_document
from couchdal.emulator.engine.documents.document_read import Shown
from couchdal.emulator.engine.documents.document_update import replicate_documents, update_documents
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.errors import BadRequest, ServerError


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def server(time: Time) -> Server:
    return Server(clock=Clock(monotonic=time))


@pytest.fixture
def db(server: Server) -> Database:
    return server.create("db")


def write(db: Database, *documents: dict[str, object]) -> list[object]:
    return list(update_documents(db, [parse_document(document) for document in documents]))


def replicate(db: Database, *documents: dict[str, object]) -> None:
    replicate_documents(db, [parse_document(document) for document in documents])


def read(db: Database, query: ChangesQuery | None = None, since: int = 0) -> tuple[list[str], int, int | None]:
    """Return the ids of the rows, the last sequence and what is pending."""
    query = query or ChangesQuery()
    cursor = start_cursor(db, query, since)
    rows, over = read_changes(db, query, cursor)
    assert over
    return [str(row["id"]) for row in rows], cursor.seq, cursor.pending


# --- rows ------------------------------------------------------------------------------------------------------------


def test_documents_come_in_the_order_of_their_last_change(db: Database) -> None:
    (rev, *_) = write(db, {"_id": "a"}, {"_id": "b"}, {"_id": "c"})
    write(db, {"_id": "a", "_rev": rev, "n": 1})
    assert read(db) == (["b", "c", "a"], 4, 0)
    assert read(db, since=3) == (["a"], 4, 0)


def test_descending_begins_at_the_newest_whatever_since_is(db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"}, {"_id": "c"})
    assert read(db, ChangesQuery(descending=True), since=2) == (["c", "b", "a"], 1, 0)
    assert read(db, ChangesQuery(descending=True, limit=1)) == (["c"], 3, 2)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (0, ([], 0, 3)),
        (1, (["a"], 1, 2)),
        (3, (["a", "b", "c"], 3, 0)),
        (-1, (["a", "b", "c"], 3, 0)),
    ],
)
def test_limit_counts_rows_and_a_negative_one_counts_none(db: Database, limit: int, expected: object) -> None:
    write(db, {"_id": "a"}, {"_id": "b"}, {"_id": "c"})
    assert read(db, ChangesQuery(limit=limit)) == expected


def test_change_that_does_not_pass_moves_last_seq_beyond_the_limit(db: Database) -> None:
    """CouchDB looks at one change more than the limit allows, and keeps its sequence when it doesn't pass."""
    write(db, *({"_id": doc_id} for doc_id in "abcdef"))
    only_e = Filter(matches=lambda document: document["_id"] == "e")
    assert read(db, ChangesQuery(limit=1, filter=only_e)) == (["e"], 6, 1)


def test_documents_that_are_looked_up_leave_the_others_pending(db: Database) -> None:
    write(db, *({"_id": doc_id} for doc_id in ("a", "b", "c", "_design/d")))
    assert read(db, ChangesQuery(filter=Filter(doc_ids=("c", "a", "none")))) == (["a", "c"], 4, 2)
    assert read(db, ChangesQuery(filter=Filter(design=True))) == (["_design/d"], 4, 3)


def test_repeated_ids_repeat_their_rows(db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"})
    assert read(db, ChangesQuery(filter=Filter(doc_ids=("b", "a", "b"))))[0] == ["a", "b", "b"]


def test_more_ids_than_are_looked_up_are_read_from_the_feed_once_each(db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"})
    many = ("b", "b", *(str(number) for number in range(1000)))
    assert read(db, ChangesQuery(filter=Filter(doc_ids=many))) == (["b"], 2, 0)


def test_all_docs_style_lists_live_leaves_before_deleted_ones(db: Database) -> None:
    replicate(
        db,
        {"_id": "x", "_rev": "1-a"},
        {"_id": "x", "_rev": "1-c"},
        {"_id": "x", "_rev": "2-b", "_deleted": True},
    )
    query = ChangesQuery(style="all_docs")
    (row,), _ = read_changes(db, query, start_cursor(db, query, 0))
    assert row["changes"] == [{"rev": "1-c"}, {"rev": "1-a"}, {"rev": "2-b"}]
    assert "deleted" not in row


def test_selector_is_asked_for_every_leaf_but_shows_the_winner(db: Database) -> None:
    replicate(db, {"_id": "x", "_rev": "1-a", "n": 1}, {"_id": "x", "_rev": "1-b", "n": 2})
    first = Filter(matches=lambda document: document["n"] == 1)
    query = ChangesQuery(style="all_docs", filter=first, shown=Shown())
    (row,), _ = read_changes(db, query, start_cursor(db, query, 0))
    assert (row["changes"], row["doc"]) == ([{"rev": "1-a"}], {"_id": "x", "_rev": "1-b", "n": 2})
    assert read(db, ChangesQuery(filter=first))[0] == []


def test_unknown_style_fails_only_when_there_is_a_change(db: Database) -> None:
    query = ChangesQuery(style="")
    assert read(db, query) == ([], 0, 0)
    write(db, {"_id": "a"})
    with pytest.raises(ServerError) as caught:
        read(db, query)
    assert (caught.value.status, caught.value.error) == (500, "error")


def test_rounds_can_be_read_in_pieces(db: Database) -> None:
    write(db, *({"_id": doc_id} for doc_id in "abcde"))
    query = ChangesQuery(limit=4)
    cursor = start_cursor(db, query, 0)
    pieces = []
    over = False
    while not over:
        rows, over = read_changes(db, query, cursor, most=2)
        pieces.append([row["id"] for row in rows])
    assert pieces == [["a", "b"], ["c", "d"], []]
    assert (cursor.seq, cursor.pending) == (4, 1)


def test_rows_are_copies(db: Database) -> None:
    write(db, {"_id": "a", "list": [1]})
    query = ChangesQuery(shown=Shown())
    for _ in range(2):
        (row,), _ = read_changes(db, query, start_cursor(db, query, 0))
        document = row["doc"]
        assert isinstance(document, dict)
        assert document["list"] == [1]
        document["list"].append(2)


# --- sequences -------------------------------------------------------------------------------------------------------


def test_since_is_read_as_it_was_given_out(server: Server, db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"})
    assert [parse_since(db, text) for text in ("0", "now", db.seq(1), f'"{db.seq(2)}"')] == [0, 2, 1, 2]


@pytest.mark.parametrize("text", ["", "1", "00", "-1", "abc", "1-xyz", '"now"', '"0"', "null"])
def test_malformed_since_is_refused(db: Database, text: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_since(db, text)
    assert caught.value.reason == "Malformed sequence supplied in 'since' parameter."


def test_sequence_of_another_database_starts_from_the_beginning(server: Server, db: Database) -> None:
    other = server.create("other")
    write(other, {"_id": "a"})
    old = db.seq(5)
    assert parse_since(db, other.seq(1)) == 0
    server.delete("db")
    assert parse_since(server.create("db"), old) == 0


# --- feeds -----------------------------------------------------------------------------------------------------------

Start = Callable[..., ChangesFeed]


@pytest.fixture
def start(server: Server, db: Database) -> Start:
    def start(kind: str, *, since: int = 0, wait_ms: int = 1000, beats: bool = False, **asked: object) -> ChangesFeed:
        query = ChangesQuery(**asked)  # type: ignore[arg-type]
        return ChangesFeed(server, db, query, since, FRAMINGS[kind], wait_ms, beats)

    return start


def begin(feed: ChangesFeed) -> tuple[bytes, float | None]:
    """Return what a feed begins with, and how long it waits then.

    Its first rows were read before anyone could subscribe, so it wants to be polled once more at once.
    """
    text, seconds = feed.poll()
    assert seconds == 0.0
    more, seconds = feed.poll()
    assert more == b""
    return text, seconds


def row(db: Database, number: int, doc_id: str) -> str:
    changed = {"seq": db.seq(number), "id": doc_id, "changes": [{"rev": "1-967a00dff5e02add41819138abb3284d"}]}
    return json.dumps(changed, separators=(",", ":"))


def test_longpoll_waits_for_a_change_and_ends_with_it(db: Database, start: Start, time: Time) -> None:
    feed = start("longpoll")
    assert begin(feed) == (b'{"results":[\n\n', 1.0)
    time.seconds = 0.25
    assert feed.poll() == (b"", 0.75)
    write(db, {"_id": "a"})
    text, seconds = feed.poll()
    assert (text.decode(), seconds) == (f'\n{row(db, 1, "a")}\n],\n"last_seq":"{db.seq(1)}","pending":0}}\n\n', None)
    assert feed.poll() == (b"", None)


def test_longpoll_ends_without_rows_when_its_time_is_over(db: Database, start: Start, time: Time) -> None:
    write(db, {"_id": "a"})
    feed = start("longpoll", since=1)
    feed.poll()
    time.seconds = 1.0
    assert feed.poll() == (f'\n],\n"last_seq":"{db.seq(1)}","pending":0}}\n\n'.encode(), None)


def test_continuous_feed_goes_on_with_lines_until_its_limit(db: Database, start: Start) -> None:
    write(db, {"_id": "a"})
    feed = start("continuous", limit=2)
    assert begin(feed) == (row(db, 1, "a").encode() + b"\n", 1.0)
    write(db, {"_id": "b"})
    last = json.dumps({"last_seq": db.seq(2), "pending": 0}, separators=(",", ":"))
    assert feed.poll() == (f"\n{row(db, 2, 'b')}\n{last}\n\n".encode(), None)


def test_each_change_starts_the_wait_anew(db: Database, start: Start, time: Time) -> None:
    feed = start("continuous")
    feed.poll()
    time.seconds = 0.9
    write(db, {"_id": "a"})
    assert feed.poll()[1] == 1.0
    time.seconds = 1.8
    assert feed.poll() == (b"", pytest.approx(0.1))


@pytest.mark.parametrize(
    ("kind", "beat"),
    [("longpoll", b"\n"), ("continuous", b"\n"), ("eventsource", b"event: heartbeat\ndata: \n\n")],
)
def test_heartbeats_come_for_as_long_as_nothing_changes(start: Start, time: Time, kind: str, beat: bytes) -> None:
    feed = start(kind, wait_ms=500, beats=True)
    feed.poll()
    for count in range(1, 4):
        time.seconds = count * 0.5
        assert feed.poll() == (beat, 0.5)


def test_event_stream_names_the_sequence_of_each_row(db: Database, start: Start, time: Time) -> None:
    write(db, {"_id": "a"})
    feed = start("eventsource")
    assert begin(feed) == (f'data: {row(db, 1, "a")}\nid: "{db.seq(1)}"\n\n'.encode(), 1.0)
    time.seconds = 1.0
    assert feed.poll() == (b"", None)


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("longpoll", '\n],\n"last_seq":"{}","pending":0}}\n\n'),
        ("continuous", '{{"last_seq":"{}","pending":0}}\n\n'),
        ("eventsource", ""),
    ],
)
def test_feed_ends_when_its_database_is_deleted(
    server: Server, db: Database, start: Start, kind: str, end: str
) -> None:
    feed = start(kind, beats=True)
    feed.poll()
    server.delete("db")
    assert feed.poll() == (end.format(db.seq(0)).encode(), None)


def test_change_that_a_filter_drops_only_gives_a_sign_of_life(db: Database, start: Start) -> None:
    feed = start("longpoll", filter=Filter(doc_ids=("b",)))
    feed.poll()
    write(db, {"_id": "a"})
    assert feed.poll() == (b"\n", 1.0)
    write(db, {"_id": "b"})
    assert row(db, 2, "b").encode() in feed.poll()[0]


def test_local_document_wakes_no_feed(db: Database, start: Start) -> None:
    feed = start("continuous")
    feed.poll()
    write(db, {"_id": "_local/a"})
    assert feed.poll() == (b"", 1.0)


def test_long_feed_is_read_a_piece_at_a_time(db: Database, start: Start) -> None:
    write(db, *({"_id": f"{number:04}"} for number in range(450)))
    feed = start("continuous", limit=450)
    pieces = [feed.poll() for _ in range(4)]
    counts = [(text.count(b'"id"'), seconds) for text, seconds in pieces]
    assert counts == [(200, 0.0), (200, 0.0), (50, None), (0, None)]


def test_wait_is_never_longer_than_a_minute(start: Start) -> None:
    assert begin(start("longpoll", wait_ms=3_600_000))[1] == 60.0


def test_error_of_a_query_is_raised_before_the_feed_begins(db: Database, start: Start) -> None:
    write(db, {"_id": "a"})
    with pytest.raises(ServerError):
        start("continuous", style="")


def test_subscriber_is_called_after_each_change_and_once_when_the_feed_is_closed(db: Database, start: Start) -> None:
    calls: list[int] = []
    feed = start("continuous")
    feed.subscribe(lambda: calls.append(db.update_seq))
    write(db, {"_id": "a"})
    feed.close()
    feed.close()
    write(db, {"_id": "b"})
    assert calls == [1, 1]
    assert not db.watchers
    assert feed.poll() == (b"", None)
