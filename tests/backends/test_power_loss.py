"""A data file after a loss of power: it is sound, has each answered write, and has no write in part."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from random import Random

import pytest
from disk_workload import WRITES, ask, state_of
from power_loss import Image, PoweredDisk
from watched_disk import WatchedDisk, watched_disk

from couchdal import MemoryBackend, SqliteBackend
from couchdal.emulator.engine.indexes import row_index, stored_blocks
from couchdal.http.messages import Request, Response


class Kept(MemoryBackend):
    """Sends each request to a data file and to a twin in memory, and checks what a loss of power leaves."""

    def __init__(self, folder: Path, watched: WatchedDisk, disk: PoweredDisk) -> None:
        super().__init__()
        self.watched = watched
        self.disk = disk
        self.folder = folder
        self.checked = self.indexes = 0
        self.state = state_of(self)
        self.path = folder / "a.db"
        self.file = SqliteBackend(self.path)
        self.check_images([self.state])

    def send(self, request: Request) -> Response:
        answer = super().send(request)
        if hasattr(self, "file") and request.method != "GET":
            assert self.file.send(request).status == answer.status
            before, self.state = self.state, state_of(self)
            self.check_images([before, self.state])
            if self.disk.chooses(10):
                self.check(self.disk.image("dropped"), [self.state], f"after {request}")
        return answer

    def close(self) -> None:
        self.file.close()
        self.check_images([self.state])

    def check_images(self, allowed: list[dict[str, object]]) -> None:
        """Check what the losses of power have left since the last request."""
        images, self.disk.images = self.disk.images, []
        for name, image in images:
            self.check(image, allowed, name)

    def check(self, image: Image, allowed: list[dict[str, object]], name: str) -> None:  # type: ignore[override]
        self.watched.observer = None
        folder = self.folder / str(self.checked)
        self.checked += 1
        folder.mkdir()
        for file, content in image.items():
            (folder / file).write_bytes(content)
        found = SqliteBackend(folder / "a.db")
        assert state_of(found) in allowed, (name, folder)
        assert found.check() == [], (name, folder)
        found.close()
        with closing(sqlite3.connect(folder / "a.db")) as connection:
            self.indexes += connection.execute("SELECT count(*) FROM indexes WHERE state <> ''").fetchone()[0]
        (folder / "a.db").unlink()
        self.watched.observer = self.disk


@pytest.fixture
def powered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[PoweredDisk], AbstractContextManager[Kept]]:
    """A function that opens a file on a disk which loses its power."""

    @contextmanager
    def open_on(disk: PoweredDisk) -> Iterator[Kept]:
        fsync, replace = os.fsync, os.replace

        def sync(number: int) -> None:
            fsync(number)
            if os.path.samestat(os.fstat(number), os.stat(tmp_path)):
                disk.sync_folder()
            for path, file in disk.files.items():
                if os.path.exists(path) and os.path.samestat(os.fstat(number), os.stat(path)):
                    file.sync()

        def rename(old: str, new: str) -> None:
            replace(old, new)
            if old in disk.files:
                disk.rename(old, new)

        # SQLite does not make these calls.
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "replace", rename)
        with watched_disk() as watched:
            watched.observer = disk
            kept = Kept(tmp_path, watched, disk)
            ask(kept, "PUT", "/tasks")
            yield kept
            kept.close()

    return open_on


Powered = Callable[[PoweredDisk], AbstractContextManager[Kept]]
SHARES = pytest.mark.parametrize("share", [0.02, pytest.param(1.0, marks=pytest.mark.soak)])


@SHARES
def test_no_answered_write_is_lost_with_the_power(
    share: float, powered: Powered, figure: Callable[[str, int], None]
) -> None:
    with powered(PoweredDisk(share, Random(1))) as kept:
        # To fill the log takes as long as everything else.
        writes = [write for kind, write in WRITES.items() if share == 1 or kind != "copy back"]
        for turn, write in enumerate(writes * 2):
            kept.send(write(kept, turn)).result()
            # The next request opens the file again.
            if turn % 7 == 6:
                kept.close()
    figure("losses of power", kept.checked)


@SHARES
def test_index_has_the_rows_of_the_documents_after_a_loss_of_power(
    share: float, powered: Powered, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, int], None]
) -> None:
    """``check`` compares them, in each image."""
    monkeypatch.setattr(row_index, "_MANY", 10)
    monkeypatch.setattr(row_index, "_AT_ONCE", 30)
    monkeypatch.setattr(stored_blocks, "_AT_ONCE", 1)
    with powered(PoweredDisk(share, Random(2))) as kept:
        ask(kept, "POST", "/tasks/_index", {"index": {"fields": ["n"]}, "ddoc": "i", "name": "i"})
        for turn in range(4):
            docs = [{"_id": f"{turn}-{number}", "n": number * 7 % 11} for number in range(40)]
            ask(kept, "POST", "/tasks/_bulk_docs", {"docs": docs})
            query = {"selector": {"n": {"$gt": 3}}, "use_index": "i", "limit": 200}
            assert "warning" not in ask(kept, "POST", "/tasks/_find", query)
            if turn % 2:
                kept.close()
    assert kept.indexes > 3
    figure("losses of power with an index", kept.checked)
