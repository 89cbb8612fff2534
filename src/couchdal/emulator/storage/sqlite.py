"""A data file: an SQLite database with transactions, and errors that name the file.

This module knows tables, but not documents. One connection reads and writes. If a state of the file is still being read
when the next transaction begins, that state gets its own connection.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, RLock
from typing import Any
from weakref import ReferenceType, WeakSet, ref

from couchdal.emulator.storage.block_cache import BlockCache
from couchdal.emulator.storage.owner import Owner
from couchdal.emulator.storage.sqlite_connection import (
    begin_reading,
    check_header,
    check_length,
    connect,
    create,
    empty_log,
    format_of,
    prepare,
)
from couchdal.emulator.storage.sqlite_schema import FORMAT
from couchdal.emulator.storage.sqlite_values import Row, Values, sealed, unsealed
from couchdal.errors import NotConfigured, ServerError

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
# How much memory connections keep for pages: the one that writes, and those of earlier states.
_CACHE_KIB = 16_384
_POINT_CACHE_KIB = 2_048
_FULL = sqlite3.SQLITE_FULL
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_files: WeakSet[DataFile] = WeakSet()
# Connections of the parent process. Closing them in the forked process could damage the file.
_abandoned: list[object] = []


class DataFile:
    """An open data file. Raise ``NotConfigured`` if it is not one, is damaged, or belongs to another process."""

    def __init__(self, path: str, *, synchronous: str = "FULL", read_only: bool = False) -> None:
        self.path: str = os.path.realpath(path)
        if synchronous.upper() not in SYNCHRONOUS:
            raise NotConfigured(f"synchronous is {synchronous!r}; it must be one of: {', '.join(SYNCHRONOUS)}")
        self.read_only: bool = read_only
        self._synchronous = synchronous
        self._owner: Owner | None = None
        self._writer: sqlite3.Connection | None = None
        self._lock = RLock()
        # The present state, if a reader uses it.
        self._point: ReferenceType[Point] | None = None
        self._points: WeakSet[Point] = WeakSet()
        #: The blocks of indexes that were read last.
        self.cache: BlockCache = BlockCache()
        self.open()
        _files.add(self)

    # --- opening and closing ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file. Create it if it does not exist, unless it is opened read-only."""
        path = self.path
        is_new = not os.path.exists(path)
        if is_new and self.read_only:
            raise NotConfigured(f"{path} does not exist")
        if not is_new:
            check_header(path)
        if not self.read_only:
            if not is_new and not os.access(path, os.W_OK):
                raise NotConfigured(f"{path} is read-only; make it writable, or copy it")
            self._owner = Owner(path)
        is_usable = False
        try:
            with self._named_errors(opening=True):
                if is_new:
                    create(path)
                self._writer = connect(path, _CACHE_KIB, "ro" if self.read_only else "rw")
                version = format_of(self._writer, path)
                if not self.read_only:
                    prepare(self._writer, path, version, self._synchronous)
                elif version != FORMAT:
                    raise NotConfigured(
                        f"{path} has format {version}; open it once for writing, which changes the format"
                    )
                check_length(self._writer, path)
            is_usable = True
        finally:
            if not is_usable:
                self.close()

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def announce(self, address: str) -> None:
        """Let other processes read the address at which this one serves the file."""
        if self._owner is not None:
            self._owner.announce(address)

    def close(self) -> None:
        """Close the file, and let another process own it."""
        with self._lock:
            with suppress(ServerError):
                self._leave_point()
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(sqlite3.Error):
                    writer.close()
            if self._owner is not None:
                self._owner.release()
                self._owner = None

    def abandon(self) -> None:
        """Forget, in a forked process, the connections and the lock of its parent."""
        _abandoned.append(self._writer)
        self._writer, self._lock = None, RLock()
        self.cache.clear()
        for point in list(self._points):
            _abandoned.append(point.abandoned())
        if self._owner is not None:
            self._owner.abandon()
            self._owner = None

    # --- reading and writing ------------------------------------------------------------------------------------------

    @property
    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise NotConfigured(f"{self.path} is closed; a forked process must open it again")
        return self._writer

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Return the rows of a query, as the connection that writes sees them."""
        with self._lock, self._named_errors():
            return self._open_writer.execute(statement, values).fetchall()

    def run(self, statement: str, values: Values = ()) -> int:
        """Run a statement, and return how many rows it changed."""
        with self._lock, self._named_errors():
            return self._open_writer.execute(statement, values).rowcount

    def run_many(self, statement: str, values: Iterable[Values]) -> None:
        """Run a statement once for each of several values."""
        with self._lock, self._named_errors():
            self._open_writer.executemany(statement, values)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of the block, or none. At the end of the block they are on the disk."""
        with self._lock, self._named_errors():
            writer = self._open_writer
            # An exception may have interrupted another transaction between two statements.
            self.undo()
            self._leave_point()
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                writer.execute("COMMIT")
            except sqlite3.Error:
                self._revoke(writer)
                raise
            finally:
                # After an error, a transaction may be open.
                self.undo()

    def _revoke(self, writer: sqlite3.Connection) -> None:
        """End the log before a commit that could not be synced. Otherwise the commit could be there after a crash."""
        self.undo()
        # Another commit replaces it.
        with suppress(sqlite3.Error):
            writer.execute("INSERT INTO meta VALUES ('refused', 1) ON CONFLICT DO UPDATE SET value = value + 1")

    def undo(self) -> None:
        """Undo a transaction that did not end."""
        with self._lock:
            writer = self._open_writer
            if writer.in_transaction:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")

    # --- states -------------------------------------------------------------------------------------------------------

    def hold(self) -> None:
        """Show the present state from now on, even if the owner of the file writes. This object is read-only."""
        with self._lock, self._named_errors(opening=True):
            if not self._open_writer.in_transaction:
                begin_reading(self._open_writer)

    def point(self) -> Point:
        """Return the present state."""
        with self._lock:
            point = None if self._point is None else self._point()
            if point is None:
                point = Point(self)
                self._point = ref(point)
                self._points.add(point)
            return point

    def _leave_point(self) -> None:
        """Give the present state its own connection, if a reader uses it, because this connection will write."""
        point = None if self._point is None else self._point()
        if point is not None:
            with self._named_errors():
                connection = connect(self.path, _POINT_CACHE_KIB, "ro")
                begin_reading(connection)
                point.use(connection)
        self._point = None

    # --- settings -----------------------------------------------------------------------------------------------------

    def get_meta(self, name: str) -> Any:
        """Return a setting of the server; None if it was never set."""
        rows = self.rows("SELECT value FROM meta WHERE name = ?", (name,))
        return unsealed(self, rows[0][0]) if rows else None

    def set_meta(self, name: str, value: object) -> None:
        """Set a setting of the server to a JSON value."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, sealed(value)))

    def copy(self, path: str) -> None:
        """Write the present state to a new file."""
        with self._lock, self._named_errors():
            self._open_writer.execute("VACUUM INTO ?", (path,))

    # --- house-keeping ------------------------------------------------------------------------------------------------

    def shrink(self, pages: int) -> bool:
        """Give the space of this many unused pages back to the file system. Return whether there are more."""
        with self._lock, self._named_errors():
            writer = self._open_writer
            self.undo()
            # It makes a step for each page, and ``execute`` makes the first one only.
            writer.executescript(f"PRAGMA incremental_vacuum({pages})")
            ((left,),) = writer.execute("PRAGMA freelist_count").fetchall()
            if not left:
                empty_log(writer)
        return bool(left)

    def check(self) -> list[str]:
        """Return what SQLite itself finds wrong with the file."""
        found = [row[0] for row in self.rows("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def damaged(self, what: str) -> ServerError:
        """Return the error for data that does not fit its checksum."""
        return ServerError(f"{self.path} is damaged: {what}", error="file_corruption")

    @contextmanager
    def _named_errors(self, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotConfigured(f"{self.path} cannot be opened: {error.strerror or error}") from None
        except UnicodeDecodeError:
            # SQLite's message has a part of a damaged schema.
            if opening:
                raise NotConfigured(f"{self.path} is damaged: a text is not UTF-8") from None
            raise self.damaged("a text is not UTF-8") from None
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if opening:
                damaged = "is damaged" if code in _BROKEN else "cannot be opened"
                raise NotConfigured(f"{self.path} {damaged}: {error}") from None
            if code == _FULL:
                raise ServerError(f"{self.path}: {error}", status=507, error="insufficient_storage") from None
            if code in _BROKEN:
                raise self.damaged(str(error)) from None
            raise ServerError(f"{self.path}: {error}", error="file_error") from None


class Point:
    """One state of a data file. It can be read as long as it is referenced, even if the file is written meanwhile."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._lock = Lock()

    def rows(self, statement: str, values: Values = ()) -> list[Row]:
        """Return the rows of a query."""
        file = self._file
        if self._connection is None:
            with file._lock:
                # The file may have been written meanwhile.
                if self._connection is None:
                    return file.rows(statement, values)
        with self._lock, file._named_errors():
            return self._connection.execute(statement, values).fetchall()

    def damaged(self, what: str) -> ServerError:
        return self._file.damaged(what)

    def point(self) -> Point:
        return self

    def use(self, connection: sqlite3.Connection) -> None:
        """Read from this connection from now on."""
        self._connection = connection

    def abandoned(self) -> object:
        """Return, in a forked process, the connection that belongs to its parent. It cannot be used any more."""
        connection, self._connection, self._lock = self._connection, None, Lock()
        return connection

    def __del__(self) -> None:
        if self._connection is not None:
            self._connection.close()


def copy_file(path: str, copy: str) -> None:
    """Copy a data file, even while another process owns it. Raise ``NotConfigured`` if it is not a data file."""
    file = DataFile(path, read_only=True)
    try:
        file.copy(copy)
    finally:
        file.close()


def _after_fork() -> None:
    for file in list(_files):
        file.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
