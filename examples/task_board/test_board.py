"""The task board's tests. They need no CouchDB; with DAL_BACKEND=couch and COUCHDB_URL they run on one."""

from __future__ import annotations

import pytest
from board import Board, main

from couchdal import Conflict, CouchDAL, Document, NotFound


@pytest.fixture
def board() -> Board:
    board = Board(CouchDAL(database="board", create=True))
    board.set_up()
    return board


def titles(board: Board) -> list[str]:
    return [task.title for task in board.open_tasks(page_size=2)]


def test_task_is_added_and_read(board: Board) -> None:
    task = board.add("write tests", "2030-01-01", ["work"])
    assert board.task(task.id) == task
    assert (task.title, task.state, task.votes, task.tags) == ("write tests", "open", 0, ["work"])


def test_open_tasks_come_page_by_page_in_order_of_their_due_date(board: Board) -> None:
    for month in (3, 1, 2):
        board.add(f"task {month}", f"2030-0{month}-01")
    board.add_all(["task 4", "task 5"], "2030-04-01")
    board.finish(next(board.open_tasks()).id)
    assert titles(board) == ["task 2", "task 3", "task 4", "task 5"]


def test_tags_are_counted(board: Board) -> None:
    board.add("a", "2030-01-01", ["work", "urgent"])
    board.add("b", "2030-01-01", ["work"])
    assert board.tags() == {"work": 2, "urgent": 1}


def test_removed_task_is_missing(board: Board) -> None:
    task = board.add("a", "2030-01-01")
    board.remove(task.id)
    with pytest.raises(NotFound):
        board.task(task.id)


def test_edit_starts_again_after_a_conflict(board: Board) -> None:
    task = board.add("a", "2030-01-01")
    attempts = 0

    def edit(doc: Document) -> None:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            board.vote(task.id)  # somebody else writes in between
        doc["votes"] = doc.get("votes", 0) + 1

    assert board.change(task.id, edit).votes == 2


def test_edit_gives_up_when_every_attempt_conflicts(board: Board) -> None:
    task = board.add("a", "2030-01-01")
    with pytest.raises(Conflict):
        board.change(task.id, lambda doc: print(board.vote(task.id)))


def test_versions_of_two_replicas_are_merged(board: Board) -> None:
    common = {"_id": "t", "title": "a", "due": "2030-01-01", "state": "open"}
    board.db.bulk_docs(
        [{**common, "_rev": "1-aa", "votes": 3, "tags": ["home"]}, {**common, "_rev": "1-bb", "tags": ["work"]}],
        new_edits=False,
    )
    assert [task.rev for task in board.conflicts("t")] == ["1-bb", "1-aa"]
    merged = board.merge("t")
    assert (merged.votes, merged.tags) == (3, ["home", "work"])
    assert [task.rev for task in board.conflicts("t")] == [merged.rev]


def test_history_continues_where_it_ended(board: Board) -> None:
    since = board.history()[1]
    task = board.add("a", "2030-01-01")
    assert board.history(since)[0] == [task.id]


def test_changes_are_watched_as_they_happen(board: Board) -> None:
    since = board.history()[1]
    task = board.add("a", "2030-01-01")
    watched = board.watch(since, timeout_ms=500)
    assert next(watched) == f"{task.id[:8]}  open: a ({task.rev})"
    board.remove(task.id)
    assert "removed" in next(watched)
    assert list(watched) == []


def test_commands_print_tasks(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["add", "write tests", "--due", "2030-01-01", "--tag", "work"], board.db) == 0
    assert main(["list"], board.db) == 0
    added, listed = capsys.readouterr().out.splitlines()
    assert added == listed == str(next(board.open_tasks()))
    assert added.endswith("2030-01-01  write tests #work  (0 votes)")


def test_command_for_a_missing_task_fails(board: Board, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finish", "none"], board.db) == 1
    assert capsys.readouterr().err == "there is no such task\n"


def test_optional_members_of_a_document_have_defaults(board: Board) -> None:
    board.db.put_document("t", {"title": "a", "due": "2030-01-01"})
    task = board.task("t")
    assert (task.state, task.votes, task.tags) == ("open", 0, [])
