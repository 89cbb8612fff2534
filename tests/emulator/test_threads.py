"""Many threads on one server: their writes, reads and feeds are consistent, thanks to the lock."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, cast

import pytest

from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.changes.changes_feed import ChangesFeed
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.errors import BackendError, Conflict
from couchdal.http.messages import ABSENT, Request

WRITERS = 6
ROUNDS = 25
COUNTERS = ("counter-0", "counter-1")
PAIR = ("left", "right")


@pytest.fixture(autouse=True)
def _eager_switching() -> Iterator[None]:
    """Make threads switch thousands of times more often than usual."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Load:
    """Writers, readers and followers of one database, and the inconsistencies they found."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        server = Server(clock=Clock(monotonic=time.monotonic))
        server.lock = lock  # type: ignore[assignment]
        self.backend = MemoryBackend(server=server)
        self.wrong: list[str] = []
        self.increments: Counter[str] = Counter()
        self.writes: Counter[str] = Counter()
        self.followed: list[list[dict[str, Any]]] = []
        self.send("/db", "PUT")
        self.send("/db/_bulk_docs", "POST", {"docs": [{"_id": doc_id, "n": 0} for doc_id in (*COUNTERS, *PAIR)]})

    def send(self, path: str, method: str = "GET", payload: object = ABSENT) -> Any:
        path, _, query = path.partition("?")
        headers = {"content-type": "application/json"}
        return self.backend.send(Request(method, path, query, headers, json=payload)).result()

    def run(self) -> list[str]:
        """Run all threads and return the inconsistencies."""
        writers = [threading.Thread(target=self.guarded(self.write), args=(number,)) for number in range(WRITERS)]
        readers = [threading.Thread(target=self.guarded(self.read), args=(writers,)) for _ in range(2)]
        followers = [threading.Thread(target=self.guarded(self.follow)) for _ in range(2)]
        threads = [*followers, *writers, *readers]
        for thread in threads:
            thread.start()
        for thread in (*writers, *readers):
            thread.join()
        # The last write: followers stop when they read it. They time out if they were never woken.
        self.send("/db/end", "PUT", {})
        self.writes["end"] += 1
        for thread in followers:
            thread.join()
        self.judge()
        return self.wrong

    def guarded(self, task: Callable[..., None]) -> Callable[..., None]:
        def run(*arguments: object) -> None:
            try:
                task(*arguments)
            except Exception as error:
                self.wrong.append(f"{task.__name__}: {error!r}")

        return run

    def write(self, number: int) -> None:
        for turn in range(ROUNDS):
            self.increment(COUNTERS[turn % 2])
            docs = [{"_id": f"{number}-{turn}-{part}"} for part in range(3)]
            for row in self.send("/db/_bulk_docs", "POST", {"docs": docs}):
                self.writes[row["id"]] += 1
            left, right = (row["doc"] for row in self.pair())
            docs = [{**left, "n": left["n"] + 1}, {**right, "n": right["n"] + 1}]
            outcomes = [row for row in self.send("/db/_bulk_docs", "POST", {"docs": docs}) if "ok" in row]
            self.writes.update(row["id"] for row in outcomes)
            if len(outcomes) == 1:
                self.wrong.append("one half of a request took effect between the halves of another")

    def increment(self, doc_id: str) -> None:
        for _ in range(10_000):
            document = self.send(f"/db/{doc_id}")
            try:
                self.send(f"/db/{doc_id}", "PUT", {**document, "n": document["n"] + 1})
            except Conflict:
                continue
            self.increments[doc_id] += 1
            return
        self.wrong.append(f"{doc_id} conflicts for ever")

    def pair(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.send("/db/_all_docs?include_docs=true", "POST", {"keys": list(PAIR)})["rows"]
        return rows

    def read(self, writers: list[threading.Thread]) -> None:
        while any(thread.is_alive() for thread in writers):
            left, right = (row["doc"]["n"] for row in self.pair())
            if left != right:
                self.wrong.append(f"a reader saw half a request: {left} and {right}")
            listed = self.send("/db/_all_docs")
            ids = [row["id"] for row in listed["rows"]]
            if ids != sorted(set(ids)) or listed["total_rows"] != len(ids):
                self.wrong.append("a listing does not agree with itself")

    def follow(self) -> None:
        rows: list[dict[str, Any]] = []
        self.followed.append(rows)
        response = self.backend.send(Request("GET", "/db/_changes", "feed=continuous&timeout=2000"))
        feed = cast(ChangesFeed, response.stream)
        for chunk in feed:
            rows += [json.loads(line) for line in chunk.split(b"\n") if line]
            if rows and rows[-1].get("id") == "end":
                feed.close()

    def judge(self) -> None:
        """Compare the answers that the threads got with the final state."""
        for doc_id in COUNTERS:
            stored = self.send(f"/db/{doc_id}")
            self.expect("increments", stored["n"], self.increments[doc_id])
            self.expect("revisions", int(stored["_rev"].partition("-")[0]), self.increments[doc_id] + 1)
        info = self.send("/db")
        made = len(COUNTERS) + len(PAIR) + self.increments.total() + self.writes.total()
        self.expect("sequences", number(info["update_seq"]), made)
        changes = self.send("/db/_changes")["results"]
        seqs = [number(row["seq"]) for row in changes]
        self.expect("sequences in order, each once", seqs, sorted(set(seqs)))
        self.expect("documents", [len(changes), info["doc_count"]], [len({row["id"] for row in changes})] * 2)
        for rows in self.followed:
            told = [row for row in rows if "id" in row]
            seqs = [number(row["seq"]) for row in told]
            self.expect("followed in order, each once", seqs, sorted(set(seqs)))
            last = {row["id"]: row["changes"] for row in told}
            self.expect("followed to the end", last, {row["id"]: row["changes"] for row in changes})

    def expect(self, what: str, found: object, wanted: object) -> None:
        if found != wanted:
            self.wrong.append(f"{what}: {str(found)[:80]} instead of {str(wanted)[:80]}")


def number(seq: str) -> int:
    return int(seq.partition("-")[0])


def test_threads_lose_no_update_and_share_no_sequence() -> None:
    assert Load(RLock()).run() == []


def test_same_load_fails_without_the_lock() -> None:
    """The test above is able to fail: it does so with a lock that locks nothing."""
    assert any(_goes_wrong(Load(nullcontext())) for _ in range(10))


def _goes_wrong(load: Load) -> bool:
    try:
        return load.run() != []
    except BackendError:
        # The journal may notice the other thread itself.
        return True
