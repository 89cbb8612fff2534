"""The feed of databases: rollback, forks, feeds that wait, and writes between two requests."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from couchdal.backends.memory import MemoryBackend


@pytest.fixture
def recorded(send) -> None:
    assert send("PUT", "/_global_changes").status == 201


def events(send, query: str = "") -> list[tuple[str, str]]:
    rows = send("GET", f"/_db_updates{query}").value()["results"]
    return [(row["type"], row["db_name"]) for row in rows]


def follow(send, query: str) -> Iterator[bytes]:
    stream = send("GET", f"/_db_updates?{query}").stream
    # The first chunk is what the feed begins with.
    return iter(stream)


def test_events_need_the_database_of_events(send):
    answer = send("GET", "/_db_updates")
    assert (answer.status, answer.value()["reason"]) == (404, "Database does not exist.")


@pytest.mark.usefixtures("recorded")
def test_database_that_lived_between_two_looks_is_told_in_full(send):
    assert events(send) == [("updated", "_dbs")]
    send("PUT", "/short")
    send("PUT", "/short/a", {})
    send("DELETE", "/short")
    assert events(send) == [("created", "short"), ("deleted", "short"), ("updated", "_dbs"), ("updated", "short")]


@pytest.mark.usefixtures("recorded")
def test_database_that_is_created_again_is_deleted_created_and_updated(send):
    send("PUT", "/db")
    send("PUT", "/db/a", {})
    seen = send("GET", "/_db_updates").value()["last_seq"]
    send("DELETE", "/db")
    send("PUT", "/db")
    send("PUT", "/db/a", {})
    assert events(send, f"?since={seen}") == [
        ("created", "db"),
        ("deleted", "db"),
        ("updated", "_dbs"),
        ("updated", "db"),
    ]


def test_events_of_an_earlier_database_of_events_are_forgotten(send, backend: MemoryBackend):
    for name in ("_global_changes", "db"):
        send("PUT", f"/{name}")
    send("DELETE", "/_global_changes")
    send("DELETE", "/db")
    assert backend.server.announced is None
    send("PUT", "/_global_changes")
    assert events(send) == [("updated", "_dbs")]


@pytest.mark.usefixtures("recorded")
def test_settings_and_local_documents_are_no_events(send):
    send("PUT", "/db")
    send("PUT", "/db/a", {})
    before = send("GET", "/_db_updates").value()
    for path, value in (("_security", {}), ("_revs_limit", 5), ("_local/a", {})):
        assert send("PUT", f"/db/{path}", value).status in (200, 201)
    assert send("GET", "/_db_updates").value() == before


@pytest.mark.usefixtures("recorded")
def test_each_update_is_a_new_revision_of_its_event(send):
    send("PUT", "/db")
    for number in range(1, 4):
        send("PUT", f"/db/{number}", {})
        assert send("GET", "/_global_changes/updated:db").value()["_rev"].startswith(f"{number}-")


@pytest.mark.usefixtures("recorded")
def test_purge_is_an_event(send):
    send("PUT", "/db")
    rev = send("PUT", "/db/a", {}).value()["rev"]
    seen = send("GET", "/_db_updates").value()["last_seq"]
    send("POST", "/db/_purge", {"a": [rev]})
    assert events(send, f"?since={seen}") == [("updated", "db")]


@pytest.mark.usefixtures("recorded")
def test_events_are_rolled_back(send, backend: MemoryBackend):
    send("PUT", "/kept")
    before = send("GET", "/_db_updates").value()
    snapshot = backend.snapshot()
    send("PUT", "/gone")
    send("PUT", "/kept/a", {})
    assert len(events(send)) > len(before["results"])
    snapshot.restore()
    assert send("GET", "/_db_updates").value() == before
    assert backend.check() == []


@pytest.mark.usefixtures("recorded")
def test_fork_records_its_own_events(send, backend: MemoryBackend):
    fork = backend.fork()
    send("PUT", "/here")
    assert ("created", "here") in events(send)
    backend.server = fork.server
    assert ("created", "here") not in events(send)


@pytest.mark.usefixtures("recorded")
def test_longpoll_ends_with_the_next_event_of_any_database(send):
    feed = follow(send, "feed=longpoll&since=now")
    assert next(feed) == b'{"results":[\n'
    send("PUT", "/later")
    text = b"".join(feed)
    rows = json.loads(b'{"results":[\n' + text)["results"]
    assert [(row["type"], row["db_name"]) for row in rows] == [("created", "later"), ("updated", "_dbs")]


@pytest.mark.usefixtures("recorded")
def test_continuous_feed_follows_databases_that_came_later(send):
    feed = follow(send, "feed=continuous&since=now&limit=3")
    send("PUT", "/later")
    rows = [json.loads(line) for line in next(feed).splitlines()]
    send("PUT", "/later/a", {})
    rows += [json.loads(line) for line in b"".join(feed).splitlines() if line]
    assert [row.get("db_name") for row in rows] == ["later", "_dbs", "later", None]


@pytest.mark.usefixtures("recorded")
def test_event_stream_has_the_rows_of_the_changes_feed(send, backend: MemoryBackend):
    send("PUT", "/db")
    feed = follow(send, "feed=eventsource&heartbeat=1000&limit=1")
    (line, identity, *_) = b"".join(feed).split(b"\n")
    row = json.loads(line.removeprefix(b"data: "))
    assert row["id"] == "created:db"
    assert json.loads(identity.removeprefix(b"id: ")) == row["seq"]


@pytest.mark.usefixtures("recorded")
def test_feed_sends_heartbeats_alone(send, backend: MemoryBackend):
    stream = send("GET", "/_db_updates?feed=continuous&since=now&heartbeat=1000").stream
    assert stream.poll()[0] == b""
    backend.clock.advance(2)
    assert stream.poll()[0] == b"\n"
    send("PUT", "/db")
    assert stream.poll()[0].startswith(b'{"db_name":"db"')
    stream.close()


@pytest.mark.usefixtures("recorded")
def test_changes_feed_of_the_events_wakes_when_a_database_changes(send):
    stream = send("GET", "/_global_changes/_changes?feed=longpoll&since=now").stream
    stream.poll()
    send("PUT", "/db")
    assert b'"id":"created:db"' in stream.poll()[0]


@pytest.mark.usefixtures("recorded")
def test_work_of_the_server_records_events(send, backend: MemoryBackend):
    send("PUT", "/db")
    db = backend.server.databases["_global_changes"]
    assert db.doc_count == 0
    backend.settle()
    assert db.doc_count == 2
