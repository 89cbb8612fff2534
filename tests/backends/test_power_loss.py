"""A data file after a loss of power: it is sound, has each answered write, and has no write in part."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from disk_workload import WRITES, ask, state_of
from power_loss import Image, PoweredDisk
from watched_disk import WatchedDisk, watched_disk

from couchdal import MemoryBackend, SqliteBackend
from couchdal.http.messages import Request, Response


class Kept(MemoryBackend):
    """Sends each request to a data file and to a twin in memory, and checks what a loss of power leaves."""

    def __init__(self, folder: Path, watched: WatchedDisk, disk: PoweredDisk) -> None:
        super().__init__()
        self.watched = watched
        self.disk = disk
        self.folder = folder
        self.checked = 0
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
        (folder / "a.db").unlink()
        self.watched.observer = self.disk


@pytest.mark.parametrize("share", [0.02, pytest.param(1.0, marks=pytest.mark.soak)])
def test_no_answered_write_is_lost_with_the_power(
    share: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figure: Callable[[str, int], None]
) -> None:
    disk = PoweredDisk(share, Random(1))
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
        # To fill the log takes as long as everything else.
        writes = [write for kind, write in WRITES.items() if share == 1 or kind != "copy back"]
        for turn, write in enumerate(writes * 2):
            kept.send(write(kept, turn)).result()
            # The next request opens the file again.
            if turn % 7 == 6:
                kept.close()
        kept.close()
    figure("losses of power", kept.checked)
