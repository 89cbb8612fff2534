"""The owner of a data file: a lock that one process holds, and that names it to others.

The operating system releases the lock when the process ends, however it ends.
"""

from __future__ import annotations

import os
from contextlib import suppress

from couchdal.errors import NotConfigured

_SUFFIX = "-owner"


class Owner:
    """The lock of this process on a data file. Raise ``NotConfigured`` if another process, or this one, has it."""

    def __init__(self, path: str) -> None:
        self._path = path + _SUFFIX
        while True:
            try:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
            except OSError as error:
                raise NotConfigured(f"{path} cannot be locked: {error.strerror or error}") from None
            try:
                _lock(self._file)
            except OSError:
                found = os.read(self._file, 4096).decode("utf-8", "replace").strip()
                os.close(self._file)
                raise NotConfigured(f"{path} is in use by {found or 'another process'}; one process owns it") from None
            # Otherwise the last owner removed the file while this process was opening it: try again.
            if _is_current(self._file, self._path):
                break
            os.close(self._file)
        self.announce("")

    def announce(self, address: str) -> None:
        """Let others read the process id and the address of this process."""
        text = f"process {os.getpid()}" + (f" at {address}" if address else "")
        # The lock also works without the text, which cannot be written to a full disk.
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, text.encode(), 0)

    def release(self) -> None:
        """Let another process own the file."""
        with suppress(OSError):
            os.unlink(self._path)
        self.abandon()

    def abandon(self) -> None:
        """Close a forked process's copy of the lock. The parent keeps it."""
        os.close(self._file)


def _lock(file: int) -> None:
    try:
        import fcntl  # not on Windows
    except ImportError:  # Windows
        import msvcrt  # only there

        # Lock a byte that is never read, because a locked byte cannot be read.
        os.lseek(file, 1 << 20, os.SEEK_SET)
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        os.lseek(file, 0, os.SEEK_SET)
    else:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_current(file: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except OSError:
        return False
