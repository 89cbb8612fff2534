"""The engine's changes feed: rows as JSON values, waiting feeds as text, with a clock that the tests set."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from couchdal.emulator.engine.changes.changes import ChangesQuery, Filter, parse_since, read_changes, start_cursor
from couchdal.emulator.engine.changes.changes_feed import FRAMINGS, ChangesFeed
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.documents.document import parse_document
from couchdal.emulator.engine.documents.document_read import Shown
from couchdal.emulator.engine.documents.document_update import replicate_documents, update_documents
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.errors import BadRequest, ServerError


class Time:
    """A clock that a test sets."""

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
    return list(update_documents(db, [parse_document(document, Settings()) for document in documents]))


def replicate(db: Database, *documents: dict[str, object]) -> None:
    replicate_documents(db, [parse_document(document, Settings()) for document in documents])


def read(db: Database, query: ChangesQuery | None = None, since: int = 0) -> tuple[list[str], int, int | None]:
    """Return the ids of the rows, the last sequence and the number of pending changes."""
    query = query or ChangesQuery()
    cursor = start_cursor(db, query, since)
    rows, over = read_changes(db, query, cursor)
    assert over
    return [str(row["id"]) for row in rows], cursor.seq, cursor.pending


def test_rows_are_in_the_order_of_the_last_change(db: Database) -> None:
    (rev, *_) = write(db, {"_id": "a"}, {"_id": "b"}, {"_id": "c"})
    write(db, {"_id": "a", "_rev": rev, "n": 1})
    assert read(db) == (["b", "c", "a"], 4, 0)
    assert read(db, since=3) == (["a"], 4, 0)


def test_descending_feed_begins_at_the_newest_change_and_ignores_since(db: Database) -> None:
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
def test_limit_counts_rows_and_negative_means_unlimited(db: Database, limit: int, expected: object) -> None:
    write(db, {"_id": "a"}, {"_id": "b"}, {"_id": "c"})
    assert read(db, ChangesQuery(limit=limit)) == expected


def test_filtered_out_change_after_the_limit_moves_last_seq(db: Database) -> None:
    """CouchDB examines one change beyond the limit. If the filter excludes it, its sequence becomes ``last_seq``."""
    write(db, *({"_id": doc_id} for doc_id in "abcdef"))
    only_e = Filter(matches=lambda document: document["_id"] == "e")
    assert read(db, ChangesQuery(limit=1, filter=only_e)) == (["e"], 6, 1)


def test_filter_that_looks_up_documents_leaves_the_others_pending(db: Database) -> None:
    write(db, *({"_id": doc_id} for doc_id in ("a", "b", "c", "_design/d")))
    assert read(db, ChangesQuery(filter=Filter(doc_ids=("c", "a", "none")))) == (["a", "c"], 4, 2)
    assert read(db, ChangesQuery(filter=Filter(design=True))) == (["_design/d"], 4, 3)


def test_repeated_ids_repeat_their_rows(db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"})
    assert read(db, ChangesQuery(filter=Filter(doc_ids=("b", "a", "b"))))[0] == ["a", "b", "b"]


def test_more_ids_than_couchdb_looks_up_have_one_row_each(db: Database) -> None:
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


def test_all_docs_style_filters_every_leaf_and_includes_the_winner(db: Database) -> None:
    replicate(db, {"_id": "x", "_rev": "1-a", "n": 1}, {"_id": "x", "_rev": "1-b", "n": 2})
    first = Filter(matches=lambda document: document["n"] == 1)
    query = ChangesQuery(style="all_docs", filter=first, shown=Shown())
    (row,), _ = read_changes(db, query, start_cursor(db, query, 0))
    assert (row["changes"], row["doc"]) == ([{"rev": "1-a"}], {"_id": "x", "_rev": "1-b", "n": 2})
    assert read(db, ChangesQuery(filter=first))[0] == []


def test_unknown_style_fails_when_there_is_a_change(db: Database) -> None:
    query = ChangesQuery(style="")
    assert read(db, query) == ([], 0, 0)
    write(db, {"_id": "a"})
    with pytest.raises(ServerError) as caught:
        read(db, query)
    assert (caught.value.status, caught.value.error) == (500, "error")


def test_round_can_be_read_in_pieces(db: Database) -> None:
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


def test_parse_since_accepts_the_sequences_of_the_database(server: Server, db: Database) -> None:
    write(db, {"_id": "a"}, {"_id": "b"})
    assert [parse_since(db, text) for text in ("0", "now", db.seq(1), f'"{db.seq(2)}"')] == [0, 2, 1, 2]


@pytest.mark.parametrize("text", ["", "1", "00", "-1", "abc", "1-xyz", '"now"', '"0"', "null"])
def test_parse_since_refuses_malformed_text(db: Database, text: str) -> None:
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


Start = Callable[..., ChangesFeed]


@pytest.fixture
def start(server: Server, db: Database) -> Start:
    def start(
        kind: str, *, since: int = 0, wait_ms: int = 1000, heartbeats: bool = False, **asked: object
    ) -> ChangesFeed:
        query = ChangesQuery(**asked)  # type: ignore[arg-type]
        return ChangesFeed(server, db, query, since, FRAMINGS[kind], wait_ms=wait_ms, heartbeats=heartbeats)

    return start


def begin(feed: ChangesFeed) -> tuple[bytes, float | None]:
    """Return the first text of a feed, and the seconds of the wait that follows.

    The feed reads its first rows before anyone can subscribe. Therefore the second poll follows at once.
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


def test_longpoll_ends_without_rows_after_its_timeout(db: Database, start: Start, time: Time) -> None:
    write(db, {"_id": "a"})
    feed = start("longpoll", since=1)
    feed.poll()
    time.seconds = 1.0
    assert feed.poll() == (f'\n],\n"last_seq":"{db.seq(1)}","pending":0}}\n\n'.encode(), None)


def test_continuous_feed_sends_lines_until_its_limit(db: Database, start: Start) -> None:
    write(db, {"_id": "a"})
    feed = start("continuous", limit=2)
    assert begin(feed) == (row(db, 1, "a").encode() + b"\n", 1.0)
    write(db, {"_id": "b"})
    last = json.dumps({"last_seq": db.seq(2), "pending": 0}, separators=(",", ":"))
    assert feed.poll() == (f"\n{row(db, 2, 'b')}\n{last}\n\n".encode(), None)


def test_each_change_restarts_the_wait(db: Database, start: Start, time: Time) -> None:
    feed = start("continuous")
    feed.poll()
    time.seconds = 0.9
    write(db, {"_id": "a"})
    assert feed.poll()[1] == 1.0
    time.seconds = 1.8
    assert feed.poll() == (b"", pytest.approx(0.1))


@pytest.mark.parametrize(
    ("kind", "heartbeat"),
    [("longpoll", b"\n"), ("continuous", b"\n"), ("eventsource", b"event: heartbeat\ndata: \n\n")],
)
def test_feed_sends_heartbeats_while_nothing_changes(start: Start, time: Time, kind: str, heartbeat: bytes) -> None:
    feed = start(kind, wait_ms=500, heartbeats=True)
    feed.poll()
    for count in range(1, 4):
        time.seconds = count * 0.5
        assert feed.poll() == (heartbeat, 0.5)


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
    feed = start(kind, heartbeats=True)
    feed.poll()
    server.delete("db")
    assert feed.poll() == (end.format(db.seq(0)).encode(), None)


def test_filtered_out_change_sends_only_a_heartbeat(db: Database, start: Start) -> None:
    feed = start("longpoll", filter=Filter(doc_ids=("b",)))
    feed.poll()
    write(db, {"_id": "a"})
    assert feed.poll() == (b"\n", 1.0)
    write(db, {"_id": "b"})
    assert row(db, 2, "b").encode() in feed.poll()[0]


def test_local_document_does_not_wake_a_feed(db: Database, start: Start) -> None:
    feed = start("continuous")
    feed.poll()
    write(db, {"_id": "_local/a"})
    assert feed.poll() == (b"", 1.0)


def test_poll_reads_a_long_feed_in_pieces(db: Database, start: Start) -> None:
    write(db, *({"_id": f"{number:04}"} for number in range(450)))
    feed = start("continuous", limit=450)
    pieces = [feed.poll() for _ in range(4)]
    counts = [(text.count(b'"id"'), seconds) for text, seconds in pieces]
    assert counts == [(200, 0.0), (200, 0.0), (50, None), (0, None)]


def test_wait_lasts_at_most_a_minute(start: Start) -> None:
    assert begin(start("longpoll", wait_ms=3_600_000))[1] == 60.0


def test_constructor_raises_the_error_of_a_query(db: Database, start: Start) -> None:
    write(db, {"_id": "a"})
    with pytest.raises(ServerError):
        start("continuous", style="")


def test_subscriber_is_called_after_each_change_and_once_on_close(db: Database, start: Start) -> None:
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
