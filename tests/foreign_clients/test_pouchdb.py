"""PouchDB replicates with `couchdal serve` over a real socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DOCUMENTS = 2000
# For tests in which every document travels both ways.
FEWER = 1000


@pytest.fixture(scope="module")
def replicate(node: Callable[[str], Callable[..., Any]]) -> Callable[..., Any]:
    """A function that gives a command to the program that replicates."""
    return node("replicate.mjs")


@pytest.fixture
def remote(server: Any, db: str) -> str:
    """The address of a new database, with the admin's credentials."""
    return f"{server.with_credentials}/{db}"


class Pouch:
    """A PouchDB database on disk. Each call opens it again."""

    def __init__(self, replicate: Callable[..., Any], local: Path, remote: str) -> None:
        self.replicate, self._local, self._remote = replicate, local, remote

    def __call__(self, command: str, **options: Any) -> Any:
        return self.replicate(command=command, local=str(self._local), remote=self._remote, options=options)


@pytest.fixture
def one(replicate: Callable[..., Any], tmp_path: Path, remote: str) -> Pouch:
    return Pouch(replicate, tmp_path / "one", remote)


@pytest.fixture
def other(replicate: Callable[..., Any], tmp_path: Path, remote: str) -> Pouch:
    return Pouch(replicate, tmp_path / "other", remote)


def assert_same_trees(*replicas: Pouch) -> list[Any]:
    """Check that all sides have the same leaves: revision, history, deletion, mark, attachments. Return them."""
    shown = [replica("trees") for replica in replicas]
    for sides in shown:
        assert sides["here"] == sides["there"] == shown[0]["there"]
    trees: list[Any] = shown[0]["there"]
    return trees


def test_push_and_pull_copy_every_document(one: Pouch, other: Pouch) -> None:
    one("write", **{"from": 0, "to": DOCUMENTS, "mark": "one"})
    assert one("push")["docs_written"] == DOCUMENTS
    assert other("pull")["docs_written"] == DOCUMENTS
    assert len(assert_same_trees(one, other)) == DOCUMENTS


def test_replication_resumes_from_its_checkpoint_when_the_client_restarts(
    node: Callable[[str], Callable[..., Any]], one: Pouch, other: Pouch
) -> None:
    one("write", **{"from": 0, "to": 1000, "mark": "one"})
    one("push")
    other("pull")
    one.replicate = other.replicate = node("replicate.mjs")
    one("write", **{"from": 1000, "to": 1010, "mark": "one"})
    assert one("push")["docs_read"] == 10
    assert other("pull")["docs_read"] == 10
    assert one("push")["docs_read"] == other("pull")["docs_read"] == 0


def test_conflicts_updates_and_deletions_of_both_sides_meet(one: Pouch, other: Pouch) -> None:
    one("write", **{"from": 0, "to": FEWER, "mark": "first"})
    one("push")
    other("pull")
    # Both sides edit independently: every sixth document conflicts, and some are deleted on one side only.
    one("edit", every=2, mark="one")
    other("edit", every=3, mark="other")
    one("edit", every=7, remove=True)
    other("edit", every=11, remove=True)
    for _ in range(2):
        for replica in (one, other):
            replica("push")
            replica("pull")
    trees = assert_same_trees(one, other)
    assert len(trees) == FEWER
    conflicted = [leaves for _, leaves in trees if len(leaves) > 1]
    assert len(conflicted) >= FEWER // 6
    assert {leaf[3] for leaves in conflicted for leaf in leaves} >= {"one", "other"}
    assert any(leaf[1] for leaves in conflicted for leaf in leaves)


def test_attachments_travel_in_both_directions(one: Pouch, other: Pouch) -> None:
    one("write", **{"from": 0, "to": 3, "mark": "one"})
    one("attach", n=1, name="letter é.txt", content="from here")
    one("push")
    other("pull")
    assert other("read", n=1, name="letter é.txt") == "from here"
    other("attach", n=1, name="big", content="x" * 200_000)
    other("push")
    one("pull")
    assert one("read", n=1, name="big") == "x" * 200_000
    assert one("read", n=1, name="letter é.txt") == "from here"
    assert_same_trees(one, other)


def test_live_sync_carries_what_is_written_meanwhile(one: Pouch, other: Pouch) -> None:
    one("write", **{"from": 0, "to": FEWER, "mark": "one"})
    one("live", count=FEWER + 2, mark="first")
    other("pull")
    other("edit", every=5, mark="other")
    other("live", count=FEWER + 4, mark="second")
    one("live", count=FEWER + 6, mark="third")
    other("pull")
    assert_same_trees(one, other)
