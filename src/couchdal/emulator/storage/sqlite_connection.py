"""Connections to the SQLite database of a data file: creating it, opening it, and bringing it to the present format."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from urllib.request import pathname2url

from couchdal.emulator.storage.sqlite_schema import APPLICATION_ID, FORMAT, MIGRATIONS, TABLES
from couchdal.errors import NotConfigured

_BUSY_TIMEOUT_S = 10
# The log grows while long requests read earlier states. When SQLite starts it again, it keeps this size at most.
_LOG_BYTES = 16 << 20
_HEADER = b"SQLite format 3\0"


def check_header(path: str) -> None:
    """Raise ``NotConfigured`` if a file does not begin as an SQLite database does."""
    try:
        with open(path, "rb") as file:
            head = file.read(100)
    except OSError as error:
        raise NotConfigured(f"{path} cannot be read: {error.strerror or error}") from None
    if not head:
        raise NotConfigured(f"{path} is empty; remove it, and couchdal creates a new one")
    if head[: len(_HEADER)] != _HEADER or len(head) < 100:
        raise NotConfigured(f"{path} is not a data file of couchdal, or its beginning is damaged")


def create(path: str) -> None:
    """Create a file without data. It gets its name when it is complete, so a crash never leaves a part of it."""
    new = path + "-new"
    with suppress(FileNotFoundError):
        os.unlink(new)
    try:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
            for statement in (*TABLES, f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {FORMAT}"):
                connection.execute(statement)
            connection.execute("VACUUM INTO ?", (new,))
        with open(new, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(new, path)
    finally:
        with suppress(OSError):
            os.unlink(new)


def connect(path: str, cache_kib: int, mode: str) -> sqlite3.Connection:
    """Open a connection that caches ``cache_kib`` KiB of pages. ``mode`` is ``rw`` or ``ro``."""
    query = f"mode={mode}"
    if mode == "ro" and not os.access(os.path.dirname(path), os.W_OK) and not os.path.exists(path + "-wal"):
        # SQLite would create a log, even to read.
        query += "&immutable=1"
    connection = sqlite3.connect(
        f"file:{pathname2url(path)}?{query}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        timeout=_BUSY_TIMEOUT_S,
    )
    try:
        connection.execute(f"PRAGMA cache_size = -{cache_kib}")
        connection.execute("PRAGMA trusted_schema = OFF")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def format_of(connection: sqlite3.Connection, path: str) -> int:
    """Return the version of the format. Raise ``NotConfigured`` if it is unknown."""
    (application,), (version,) = (
        connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
    )
    if application != APPLICATION_ID:
        raise NotConfigured(f"{path} is an SQLite database, but not a data file of couchdal")
    # Somebody else may have made the file. SQLite would run its triggers at each write, and its views at each read.
    foreign = connection.execute("SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone()
    if foreign is not None:
        raise NotConfigured(f"{path} has a trigger or a view, {foreign[0]!r}, which couchdal did not make")
    if version != FORMAT and version not in MIGRATIONS:
        raise NotConfigured(
            f"{path} has format {version}, and this version of couchdal reads format {FORMAT};"
            " install the version that wrote it, or a later one"
        )
    return int(version)


def prepare(connection: sqlite3.Connection, path: str, version: int, synchronous: str) -> None:
    """Bring a file to the present format."""
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise NotConfigured(f"{path} is on a file system that SQLite's write-ahead log does not work on")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    connection.execute(f"PRAGMA journal_size_limit = {_LOG_BYTES}")
    while version < FORMAT:
        connection.execute("BEGIN IMMEDIATE")
        for statement in MIGRATIONS[version]:
            connection.execute(statement)
        version += 1
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    # The name of a new file must be on the disk. Also, SQLite has deleted the journal of the change to WAL. If the
    # journal came back after a loss of power, SQLite would copy it into the file.
    _sync_folder(path)
    empty_log(connection)


def check_length(connection: sqlite3.Connection, path: str) -> None:
    """Raise ``NotConfigured`` if a file was cut short."""
    log = path + "-wal"
    if os.path.exists(log) and os.path.getsize(log):
        # The log may hold the missing pages.
        return
    (pages,), (size,) = (connection.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if os.path.getsize(path) < pages * size:
        raise NotConfigured(f"{path} is damaged: it was cut short")


def begin_reading(connection: sqlite3.Connection) -> None:
    """Begin a transaction in which a connection sees the present state."""
    connection.execute("BEGIN")
    # Only the first query fixes the state.
    connection.execute("SELECT count(*) FROM meta").fetchall()


def empty_log(connection: sqlite3.Connection) -> None:
    """Move the log into the file. The part that readers of an earlier state need stays in the log."""
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_S * 1000}")


def _sync_folder(path: str) -> None:
    """Make sure that the names of a file and its companions are on the disk."""
    if os.name == "posix":
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
