"""The disk under SQLite, watched: an observer sees each call to the operating system, and may make it fail.

SQLite reaches files through a table of functions (its VFS). Here a copy of the default table calls the observer first.
It is registered with ``ctypes`` in the library that Python's ``sqlite3`` has loaded, and is the default while a disk is
watched.
"""

from __future__ import annotations

import _sqlite3
import atexit
import ctypes
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import pytest

_OK, _IOERR = sqlite3.SQLITE_OK, sqlite3.SQLITE_IOERR
#: SQLite's error code for a failure of each kind.
FAILURES = {
    "read": _IOERR | (1 << 8),
    "write": _IOERR | (3 << 8),
    "sync": _IOERR | (4 << 8),
    "truncate": _IOERR | (6 << 8),
    "delete": _IOERR | (10 << 8),
    "map": _IOERR | (21 << 8),
    "open": sqlite3.SQLITE_CANTOPEN,
    "full": sqlite3.SQLITE_FULL,
}


class DiskCall(NamedTuple):
    """One call: ``kind`` is read, write, sync, truncate, delete, map, or open. ``data`` is what is written."""

    kind: str
    path: str
    offset: int = 0
    data: bytes = b""


class Failure(NamedTuple):
    """How a call fails: with this code, after this many bytes were written."""

    code: int
    written: int = 0


class Observer(Protocol):
    def begin(self, call: DiskCall) -> Failure | None:
        """Let a call happen, or fail."""

    def end(self, call: DiskCall) -> None:
        """Note that a call has succeeded."""


class _Vfs(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        ("file_size", ctypes.c_int),
        ("longest_path", ctypes.c_int),
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_void_p),
        ("open", ctypes.c_void_p),
        ("delete", ctypes.c_void_p),
        # Eleven more functions, which no version has moved.
        ("others", ctypes.c_void_p * 14),
    ]


class _Methods(ctypes.Structure):
    _fields_ = [
        ("version", ctypes.c_int),
        *(
            (name, ctypes.c_void_p)
            for name in (
                "close",
                "read",
                "write",
                "truncate",
                "sync",
                "size",
                "lock",
                "unlock",
                "check_lock",
                "control",
            )
        ),
        *((name, ctypes.c_void_p) for name in ("sector", "traits", "map", "map_lock", "barrier", "unmap")),
        *((name, ctypes.c_void_p) for name in ("fetch", "unfetch")),
    ]


_INT, _LONG, _POINTER = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
_TYPES = {
    "open": ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _POINTER, _INT, _POINTER),
    "delete": ctypes.CFUNCTYPE(_INT, _POINTER, ctypes.c_char_p, _INT),
    "read": ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG),
    "write": ctypes.CFUNCTYPE(_INT, _POINTER, _POINTER, _INT, _LONG),
    "truncate": ctypes.CFUNCTYPE(_INT, _POINTER, _LONG),
    "sync": ctypes.CFUNCTYPE(_INT, _POINTER, _INT),
    "map": ctypes.CFUNCTYPE(_INT, _POINTER, _INT, _INT, _INT, _POINTER),
}


class WatchedDisk:
    """The copy of the default VFS. SQLite may call it as long as the process lives."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        self.observer: Observer | None = None
        self._paths: dict[int, str] = {}
        self._tables: dict[int, _Methods] = {}
        self._callbacks: list[object] = []
        # What the tables had before, and where.
        self._replaced: list[tuple[object, str, int]] = []
        library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
        library.sqlite3_vfs_register.argtypes = [_POINTER, _INT]
        library.sqlite3_vfs_unregister.argtypes = [_POINTER]
        default = library.sqlite3_vfs_find(None)
        self.vfs = _Vfs()
        ctypes.memmove(ctypes.byref(self.vfs), default, ctypes.sizeof(_Vfs))
        self.vfs.name = b"watched"
        self._real_open = _TYPES["open"](self.vfs.open)
        self._real_delete = _TYPES["delete"](self.vfs.delete)
        self._replace(self.vfs, "open", self._open)
        self._replace(self.vfs, "delete", self._delete)
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.vfs))
        atexit.register(self._restore)

    def _replace(self, table: object, kind: str, function: Callable[..., int]) -> None:
        self._replaced.append((table, kind, getattr(table, kind)))
        callback = _TYPES[kind](function)
        self._callbacks.append(callback)
        setattr(table, kind, ctypes.cast(callback, _POINTER).value)

    def _restore(self) -> None:
        """Let files that are still open be closed without Python, which ends."""
        for table, kind, real in self._replaced:
            setattr(table, kind, real)

    def _watch(self, call: DiskCall, act: Callable[[], int], write: Callable[[int], int] | None = None) -> int:
        observer = self.observer
        failure = observer.begin(call) if observer is not None else None
        if failure is not None:
            if write is not None and failure.written:
                write(failure.written)
            return failure.code
        code = act()
        if code == _OK and observer is not None:
            observer.end(call)
        return code

    def _open(self, vfs: int, name: int | None, file: int, flags: int, found: int | None) -> int:
        # A temporary file has no name.
        path = "" if name is None else os.fsdecode(ctypes.string_at(name))
        pointer = ctypes.cast(file, ctypes.POINTER(_POINTER))
        # SQLite does not close a file without methods.
        pointer[0] = None
        code = self._watch(DiskCall("open", path), lambda: self._real_open(vfs, name, file, flags, found))
        if code == _OK and path:
            self._paths[file] = path
            pointer[0] = ctypes.addressof(self._table(pointer[0]))
        return code

    def _delete(self, vfs: int, name: bytes, sync_folder: int) -> int:
        call = DiskCall("delete", os.fsdecode(name), sync_folder)
        return self._watch(call, lambda: self._real_delete(vfs, name, sync_folder))

    def _table(self, real: Any) -> _Methods:
        """Return a copy of a table of methods, in which some are watched."""
        table = self._tables.get(real)
        if table is None:
            table = self._tables[real] = _Methods()
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(table))
            size = ctypes.sizeof(_Methods) if ctypes.cast(real, ctypes.POINTER(_INT))[0] >= 3 else _Methods.fetch.offset
            ctypes.memmove(ctypes.byref(table), real, size)
            for kind in ("read", "write", "truncate", "sync", "map"):
                address = getattr(table, kind)
                # A file that is not locked has no shared memory.
                if address is None:
                    continue
                method = _TYPES[kind](address)
                self._replace(table, kind, getattr(self, f"_{kind}")(method))
        return table

    def _read(self, real: Callable[..., int]) -> Callable[..., int]:
        def read(file: int, place: int, size: int, offset: int) -> int:
            return self._watch(DiskCall("read", self._paths[file], offset), lambda: real(file, place, size, offset))

        return read

    def _write(self, real: Callable[..., int]) -> Callable[..., int]:
        def write(file: int, place: int, size: int, offset: int) -> int:
            # Tests write a lot before they watch.
            if self.observer is None:
                return real(file, place, size, offset)
            call = DiskCall("write", self._paths[file], offset, ctypes.string_at(place, size))
            return self._watch(
                call, lambda: real(file, place, size, offset), lambda part: real(file, place, part, offset)
            )

        return write

    def _truncate(self, real: Callable[..., int]) -> Callable[..., int]:
        def truncate(file: int, size: int) -> int:
            return self._watch(DiskCall("truncate", self._paths[file], size), lambda: real(file, size))

        return truncate

    def _sync(self, real: Callable[..., int]) -> Callable[..., int]:
        # No power is lost in a test, so it need not wait for a real disk.
        def sync(file: int, flags: int) -> int:
            return self._watch(DiskCall("sync", self._paths[file]), lambda: _OK)

        return sync

    def _map(self, real: Callable[..., int]) -> Callable[..., int]:
        def map_memory(file: int, region: int, size: int, extend: int, found: int) -> int:
            call = DiskCall("map", self._paths[file] + "-shm", region)
            return self._watch(call, lambda: real(file, region, size, extend, found))

        return map_memory


_disks: list[WatchedDisk] = []


def _disk() -> WatchedDisk:
    """Return the watched disk of this process. Skip the test if SQLite's functions cannot be reached."""
    if not _disks:
        try:
            # The search for a function goes on in the libraries that this one needs.
            library = ctypes.CDLL(getattr(_sqlite3, "__file__", None))
            _disks.append(WatchedDisk(library))
        except (OSError, AttributeError) as error:
            pytest.skip(f"the SQLite library of this Python cannot be reached: {error}")
    return _disks[0]


@contextmanager
def watched_disk() -> Iterator[WatchedDisk]:
    """Let the files that are opened within the block be on a disk that can have an observer."""
    disk = _disk()
    disk.library.sqlite3_vfs_register(ctypes.byref(disk.vfs), 1)
    try:
        yield disk
    finally:
        disk.library.sqlite3_vfs_unregister(ctypes.byref(disk.vfs))
        disk.observer = None
