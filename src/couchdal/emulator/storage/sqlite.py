"""A data file: an SQLite database with transactions, and errors that name the file.

It knows tables, but no documents. One connection reads and writes.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import RLock
from typing import Any, TypeAlias
from urllib.request import pathname2url
from weakref import WeakSet

from couchdal.emulator.storage.owner import Owner
from couchdal.emulator.storage.sqlite_schema import APPLICATION_ID, FORMAT, MIGRATIONS, TABLES
from couchdal.errors import NotConfigured, ServerError

#: What SQLite stores, and what it returns.
Row: TypeAlias = "tuple[Any, ...]"
Values: TypeAlias = Sequence[object]

SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")
_HEADER = b"SQLite format 3\0"
# How much memory the connection keeps for pages.
_CACHE_KIB = 16_384
_FULL = sqlite3.SQLITE_FULL
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_files: WeakSet[DataFile] = WeakSet()
# Connections of the parent process. To close them here could harm the file.
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
        self.open()
        _files.add(self)

    # --- opening and closing ------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open the file. Create it if it does not exist, unless it is opened only to be read."""
        path = self.path
        is_new = not os.path.exists(path) or (not os.path.getsize(path) and not os.path.exists(path + "-wal"))
        if is_new and self.read_only:
            raise NotConfigured(f"{path} does not exist, or is empty")
        if not is_new:
            self._check_header()
        if not self.read_only:
            if not is_new and not os.access(path, os.W_OK):
                raise NotConfigured(f"{path} is read-only; make it writable, or copy it")
            self._owner = Owner(path)
        is_usable = False
        try:
            with self._named_errors(opening=True):
                self._writer = self._connect()
                version = self._format_of(self._writer)
                if not self.read_only:
                    self._prepare(self._writer, version)
                elif version != FORMAT:
                    raise NotConfigured(f"{path} has format {version}; open it once to be written, which changes that")
            is_usable = True
        finally:
            if not is_usable:
                self.close()

    def _check_header(self) -> None:
        try:
            with open(self.path, "rb") as file:
                head = file.read(100)
        except OSError as error:
            raise NotConfigured(f"{self.path} cannot be read: {error.strerror or error}") from None
        if head[: len(_HEADER)] != _HEADER or len(head) < 100:
            raise NotConfigured(f"{self.path} is not a data file of couchdal, or its beginning is damaged")

    def _connect(self) -> sqlite3.Connection:
        mode = "ro" if self.read_only else "rwc"
        uri = f"file:{pathname2url(self.path)}?mode={mode}"
        connection = sqlite3.connect(
            uri, uri=True, isolation_level=None, check_same_thread=False, cached_statements=256, timeout=10
        )
        try:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _format_of(self, connection: sqlite3.Connection) -> int:
        """Return the version of the format; 0 if nothing was ever written."""
        (application,), (version,), (tables,) = (
            connection.execute(statement).fetchone()
            for statement in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_master")
        )
        if application != APPLICATION_ID and (application or tables):
            raise NotConfigured(f"{self.path} is an SQLite database, but not a data file of couchdal")
        if version > FORMAT or (0 < version < FORMAT and version not in MIGRATIONS):
            raise NotConfigured(
                f"{self.path} has format {version}, and this version of couchdal reads format {FORMAT};"
                " install the version that wrote it, or a later one"
            )
        return int(version)

    def _prepare(self, connection: sqlite3.Connection, version: int) -> None:
        if not version:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
            raise NotConfigured(f"{self.path} is on a file system that SQLite's write-ahead log does not work on")
        connection.execute(f"PRAGMA synchronous = {self._synchronous}")
        while version < FORMAT:
            statements = MIGRATIONS[version] if version else (*TABLES, f"PRAGMA application_id = {APPLICATION_ID}")
            version = version + 1 if version else FORMAT
            connection.execute("BEGIN IMMEDIATE")
            for statement in statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        _sync_folder(self.path)
        # Now the file itself must hold all pages that it counts.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
        if os.path.getsize(self.path) < pages * size:
            raise NotConfigured(f"{self.path} is damaged: it was cut short")

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
            writer, self._writer = self._writer, None
            if writer is not None:
                with suppress(sqlite3.Error):
                    writer.close()
            if self._owner is not None:
                self._owner.release()
                self._owner = None

    def abandon(self) -> None:
        """Forget, in a forked process, what belongs to its parent."""
        _abandoned.append(self._writer)
        self._writer, self._lock = None, RLock()
        if self._owner is not None:
            self._owner.abandon()
            self._owner = None

    # --- reading and writing ------------------------------------------------------------------------------------------

    @property
    def _open_writer(self) -> sqlite3.Connection:
        if self._writer is None:
            raise NotConfigured(f"{self.path} is closed; a forked process must open it anew")
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
        """Make all changes of the block, or none. At its end they are on the disk."""
        with self._lock, self._named_errors():
            writer = self._open_writer
            # An exception may have interrupted another transaction between two statements.
            self.undo()
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield
                writer.execute("COMMIT")
            finally:
                # After an error, a transaction may be open.
                self.undo()

    def undo(self) -> None:
        """Undo a transaction that did not end."""
        with self._lock:
            writer = self._open_writer
            if writer.in_transaction:
                with suppress(sqlite3.Error):
                    writer.execute("ROLLBACK")

    # --- settings -----------------------------------------------------------------------------------------------------

    def get_meta(self, name: str) -> Any:
        """Return a setting of the server; None if it was never set."""
        rows = self.rows("SELECT value FROM meta WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def set_meta(self, name: str, value: object) -> None:
        """Set a setting of the server to a JSON value."""
        self.run("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def copy(self, path: str) -> None:
        """Write the present state to a new file."""
        with self._lock, self._named_errors():
            self._open_writer.execute("VACUUM INTO ?", (path,))

    # --- house-keeping ------------------------------------------------------------------------------------------------

    def shrink(self) -> None:
        """Give the space of removed rows back to the file system."""
        self.rows("PRAGMA incremental_vacuum")
        self.rows("PRAGMA wal_checkpoint(TRUNCATE)")

    def check(self) -> list[str]:
        """Return what SQLite itself finds wrong with the file."""
        found = [row[0] for row in self.rows("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def damaged(self, what: str) -> ServerError:
        """Return the error for data that its checksum does not fit."""
        return ServerError(f"{self.path} is damaged: {what}", error="file_corruption")

    @contextmanager
    def _named_errors(self, *, opening: bool = False) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise NotConfigured(f"{self.path} cannot be opened: {error.strerror or error}") from None
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


def copy_file(path: str, copy: str) -> None:
    """Copy a data file, also while another process owns it. Raise ``NotConfigured`` if it is none."""
    file = DataFile(path, read_only=True)
    try:
        file.copy(copy)
    finally:
        file.close()


def _sync_folder(path: str) -> None:
    """Make sure that the name of a new file is on the disk."""
    if os.name == "posix":
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _after_fork() -> None:
    for file in list(_files):
        file.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
