"""A task board on the command line: tasks are documents, and several people may work on them at once.

python board.py add "write tests" --due 2030-01-01
python board.py list
python board.py watch

COUCHDB_URL names the CouchDB and COUCHDB_DATABASE the database. Without a server, tests run on the emulator.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from couchdal import Change, Conflict, CouchDAL, CouchError, Document, FileExists, NotFound

ATTEMPTS = 5


@dataclass(frozen=True)
class Task:
    """A task as the program sees it."""

    id: str
    rev: str
    title: str
    due: str
    state: str = "open"
    votes: int = 0
    tags: list[str] = field(default_factory=list)

    @classmethod
    def from_document(cls, doc: Document) -> Task:
        return cls(
            id=doc["_id"],
            rev=doc["_rev"],
            title=doc["title"],
            due=doc["due"],
            state=doc.get("state", "open"),
            votes=doc.get("votes", 0),
            tags=doc.get("tags", []),
        )

    def __str__(self) -> str:
        tags = "".join(f" #{tag}" for tag in self.tags)
        return f"{self.id[:8]}  {self.due}  {self.title}{tags}  ({self.votes} votes)"


class Board:
    """The tasks of one database."""

    def __init__(self, db: CouchDAL) -> None:
        self.db = db

    def set_up(self) -> None:
        """Create the database and its index, unless they exist."""
        with suppress(FileExists):
            self.db.create_database()
        self.db.create_index(["state", "due"], ddoc="board", name="by-state-and-due")

    # Reading

    def task(self, task_id: str) -> Task:
        return Task.from_document(self.db.get_document(task_id))

    def open_tasks(self, page_size: int = 100) -> Iterator[Task]:
        """Yield the open tasks, the most urgent ones first."""
        bookmark: str | None = None
        while True:
            page = self.db.find(
                {"state": "open", "due": {"$gt": None}}, sort=["state", "due"], limit=page_size, bookmark=bookmark
            )
            for doc in page["docs"]:
                yield Task.from_document(doc)
            if len(page["docs"]) < page_size:
                return
            bookmark = page["bookmark"]

    def tags(self) -> Counter[str]:
        """Return how many tasks have each tag."""
        found: Counter[str] = Counter()
        for row in self.db.all_docs(include_docs=True)["rows"]:
            doc = row.get("doc")
            if doc is not None and not row["id"].startswith("_design/"):
                found.update(doc.get("tags", []))
        return found

    # Writing

    def add(self, title: str, due: str, tags: Sequence[str] = ()) -> Task:
        written = self.db.post_document({"title": title, "due": due, "state": "open", "votes": 0, "tags": list(tags)})
        return self.task(written["id"])

    def add_all(self, titles: Sequence[str], due: str) -> list[str]:
        """Add many tasks in one request, and return their ids."""
        ids = []
        for row in self.db.bulk_docs([{"title": title, "due": due, "state": "open"} for title in titles]):
            if "error" in row:
                raise RuntimeError(f"{row['id']} was refused: {row.get('reason')}")
            ids.append(row["id"])
        return ids

    def change(self, task_id: str, edit: Callable[[Document], None]) -> Task:
        """Read a task, edit it and write it; start again if another user wrote it in between."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._change(task_id, edit)
            except Conflict:
                continue
        return self._change(task_id, edit)

    def _change(self, task_id: str, edit: Callable[[Document], None]) -> Task:
        doc = self.db.get_document(task_id)
        edit(doc)
        doc["_rev"] = self.db.put_document(task_id, doc)["rev"]
        return Task.from_document(doc)

    def finish(self, task_id: str) -> Task:
        def edit(doc: Document) -> None:
            doc["state"] = "done"

        return self.change(task_id, edit)

    def vote(self, task_id: str) -> Task:
        def edit(doc: Document) -> None:
            doc["votes"] = doc.get("votes", 0) + 1

        return self.change(task_id, edit)

    def remove(self, task_id: str) -> None:
        self.db.delete_document(task_id, self.db.get_document(task_id)["_rev"])

    # Replicas that were written to at the same time

    def conflicts(self, task_id: str) -> list[Task]:
        """Return the versions of a task: the one that CouchDB shows, then those that lost."""
        winner = self.db.get_document(task_id, conflicts=True)
        losers = [self.db.get_document(task_id, rev=rev) for rev in winner.get("_conflicts", [])]
        return [Task.from_document(doc) for doc in [winner, *losers]]

    def merge(self, task_id: str) -> Task:
        """Make one version of all: the votes of the best, the tags of each."""
        winner = self.db.get_document(task_id, conflicts=True)
        losing_revs = winner.pop("_conflicts", [])
        losers = [self.db.get_document(task_id, rev=rev) for rev in losing_revs]
        winner["votes"] = max(doc.get("votes", 0) for doc in [winner, *losers])
        winner["tags"] = sorted({tag for doc in [winner, *losers] for tag in doc.get("tags", [])})
        deletions = [{"_id": task_id, "_rev": rev, "_deleted": True} for rev in losing_revs]
        rows = self.db.bulk_docs([winner, *deletions])
        refused = [row.get("reason", "") for row in rows if "error" in row]
        if refused:
            raise RuntimeError(f"{task_id} was not merged: {', '.join(refused)}")
        return self.task(task_id)

    # Following

    def history(self, since: str = "0") -> tuple[list[str], str]:
        """Return the ids of the tasks that changed, and where to go on."""
        found = self.db.changes(since=since)
        return [change["id"] for change in found["results"]], found["last_seq"]

    def watch(self, since: str = "now", timeout_ms: int = 60_000) -> Iterator[str]:
        """Yield a line for each change, as it happens, until nothing happens for ``timeout_ms``."""
        with self.db.changes("continuous", since=since, include_docs=True, timeout=timeout_ms) as feed:
            for change in feed:
                if not change["id"].startswith("_design/"):
                    yield describe(change)


def describe(change: Change) -> str:
    """Return a line about a change."""
    rev = change["changes"][0]["rev"]
    if change.get("deleted"):
        return f"{change['id'][:8]}  removed ({rev})"
    doc = change.get("doc")
    if doc is None:
        return f"{change['id'][:8]}  changed ({rev})"
    state: str = doc.get("state", "open")
    return f"{change['id'][:8]}  {state}: {doc['title']} ({rev})"


def main(arguments: Sequence[str] | None = None, db: CouchDAL | None = None) -> int:
    parser = argparse.ArgumentParser(description="A task board on CouchDB.")
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add a task")
    add.add_argument("title")
    add.add_argument("--due", required=True)
    add.add_argument("--tag", action="append", default=[])
    commands.add_parser("list", help="list the open tasks")
    commands.add_parser("watch", help="print changes as they happen")
    for name in ("finish", "vote", "merge"):
        commands.add_parser(name, help=f"{name} a task").add_argument("task")
    options = parser.parse_args(arguments)
    board = Board(db or CouchDAL())
    try:
        board.set_up()
        if options.command == "add":
            print(board.add(options.title, options.due, options.tag))
        elif options.command == "list":
            print(*board.open_tasks(), sep="\n")
        elif options.command == "watch":
            for line in board.watch():
                print(line)
        else:
            print(getattr(board, options.command)(options.task))
    except NotFound:
        print("there is no such task", file=sys.stderr)
        return 1
    except CouchError as error:
        print(f"CouchDB refused: {error.reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
