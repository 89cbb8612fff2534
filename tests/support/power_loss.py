"""A disk that loses power: the possible contents of files afterwards, if only synced data is certain to be there.

A call to the operating system changes what programs see. The disk has it for certain after a sync of the file, and the
name of a new file after a sync of its folder. Of everything else, a loss of power may leave any part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

from watched_disk import DiskCall, Failure

#: What the files hold, by their names.
Image: TypeAlias = "dict[str, bytes]"
#: What happens to writes that were not synced: none of them is there, all are, any of them, or only later ones.
LOSSES = ("dropped", "kept", "torn", "reordered")
_CHANGES = ("write", "truncate", "sync", "delete")


@dataclass
class _File:
    #: What is on the disk for certain, and the calls since then.
    synced: bytearray = field(default_factory=bytearray)
    waiting: list[DiskCall] = field(default_factory=list)
    #: Whether its name is on the disk, and the deleted file that had the name before.
    is_named: bool = False
    before: _File | None = None
    is_deleted: bool = False

    def sync(self) -> None:
        for call in self.waiting:
            _apply(self.synced, call, len(call.data))
        self.waiting.clear()


def _apply(content: bytearray, call: DiskCall, size: int) -> None:
    if call.kind == "truncate":
        del content[call.offset :]
    else:
        content.extend(bytes(max(0, call.offset - len(content))))
        content[call.offset : call.offset + size] = call.data[:size]


class PoweredDisk:
    """Notes what is on the disk. With the given share of all calls, it notes what a loss of power may leave then."""

    def __init__(self, share: float, choose: Random) -> None:
        self.files: dict[str, _File] = {}
        self.share = share
        self.choose = choose
        self.images: list[tuple[str, Image]] = []

    def chooses(self, weight: float = 1) -> bool:
        """Return whether a moment is one of those that are checked."""
        return self.choose.random() < self.share * weight

    def begin(self, call: DiskCall) -> Failure | None:
        if call.kind in _CHANGES and self.chooses():
            name = f"before {call.kind} of {os.path.basename(call.path)}"
            self.images += [(f"{name}, {loss}", self.image(loss)) for loss in LOSSES]
        return None

    def end(self, call: DiskCall) -> None:
        file = self.files.get(call.path)
        if call.kind == "open":
            if file is None or file.is_deleted:
                self.files[call.path] = _File(before=file)
        elif file is None:
            return
        elif call.kind in ("write", "truncate"):
            file.waiting.append(call)
        elif call.kind == "sync":
            file.sync()
            # SQLite syncs the folder of a new log.
            if call.path.endswith(("-wal", "-journal")):
                file.is_named, file.before = True, None
        elif call.kind == "delete":
            file.is_deleted = True
            if call.offset:
                del self.files[call.path]

    def sync_folder(self) -> None:
        """Note that the names of all files are on the disk."""
        self.files = {path: file for path, file in self.files.items() if not file.is_deleted}
        for file in self.files.values():
            file.is_named, file.before = True, None

    def rename(self, old: str, new: str) -> None:
        """Note that a file has another name."""
        file = self.files.pop(old)
        file.is_named, file.before = False, self.files.get(new)
        self.files[new] = file

    def image(self, loss: str) -> Image:
        """Return what a loss of power may leave now."""
        found = {os.path.basename(path): self._left(file, loss) for path, file in self.files.items()}
        return {name: content for name, content in found.items() if content is not None}

    def _left(self, file: _File | None, loss: str) -> bytes | None:
        if file is None:
            return None
        keeps_name = loss == "kept" or (loss != "dropped" and self.choose.random() < 0.5)
        # The last change of the name is not on the disk.
        if file.is_deleted and keeps_name:
            return None
        if not file.is_deleted and not file.is_named and not keeps_name:
            return self._left(file.before, loss)
        content = bytearray(file.synced)
        calls = file.waiting
        if loss == "dropped":
            calls = []
        elif loss == "reordered":
            calls = calls[self.choose.randrange(len(calls) + 1) :]
        for call in calls:
            if loss == "torn" and self.choose.random() < 0.5:
                if self.choose.random() < 0.5:
                    _apply(content, call, self.choose.randrange(len(call.data) + 1))
            else:
                _apply(content, call, len(call.data))
        return bytes(content)
