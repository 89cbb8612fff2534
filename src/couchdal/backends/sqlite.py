"""``SqliteBackend``: the emulator with its data in one SQLite file.

A write is on the disk before its answer goes out. One process owns a file; within it, all handles share one server.
"""

from __future__ import annotations

import os
from threading import Lock
from time import monotonic, time
from urllib.parse import parse_qs, unquote, urlsplit
from weakref import WeakValueDictionary

from couchdal.backends.memory import MemoryBackend
from couchdal.config import couchdb_version
from couchdal.emulator.engine.javascript.runtime import Runtime
from couchdal.emulator.engine.server.clock import Clock
from couchdal.emulator.engine.server.ids import Ids
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.stored_server import attach, detach
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.emulator.storage.sqlite_indexes import damaged_indexes
from couchdal.emulator.storage.sqlite_rows import damaged_documents
from couchdal.errors import CouchError, NotConfigured

SCHEME = "sqlite:///"


class SqliteBackend(MemoryBackend):
    """An emulated CouchDB whose data is in the file ``path``, which is created if it does not exist.

    ``synchronous`` is SQLite's setting: with ``"NORMAL"`` a loss of power can undo the last writes, with ``"OFF"`` it
    can damage the file. With ``read_only``, the file must exist, another process may own it, and every write is
    refused. ``version`` is the version of CouchDB, as for ``MemoryBackend``. Raise ``NotConfigured`` if the file cannot
    be used: it is damaged, a later version of couchdal wrote it, or another process owns it.

    Writes after ``snapshot()`` or in a ``rollback()`` stay in memory, and so do the writes of a fork. After the
    snapshot is restored, writes go to the file again.

    >>> backend = SqliteBackend("tasks.db")
    >>> CouchDAL(backend, database="tasks", create=True).put_document("a", {"n": 1})["ok"]
    True
    >>> backend.close()
    """

    name: str = "the sqlite backend"
    # The views of a shared backend keep this object alive.
    _opened: _Opened | None = None

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        admin: tuple[str, str] | None = None,
        database: str | None = None,
        read_only: bool = False,
        synchronous: str = "FULL",
        version: str | None = None,
        javascript: Runtime | None = None,
    ) -> None:
        #: The file.
        self.path: str = os.path.realpath(path)
        file = DataFile(self.path, read_only=read_only, synchronous=synchronous)
        # The secret that signs cookies must not be predictable.
        ids = Ids(int.from_bytes(os.urandom(16)))
        server = Server(clock=Clock(monotonic=monotonic, date=time), ids=ids, javascript=javascript)
        is_loaded = False
        try:
            self._keeper = attach(server, file)
            is_loaded = True
        except CouchError as error:
            raise NotConfigured(error.reason or str(error)) from None
        finally:
            if not is_loaded:
                file.close()
        super().__init__(admin, server=server, database=database, version=version)

    def __repr__(self) -> str:
        return f"<SqliteBackend of {self.path}, {len(self.server.databases)} databases>"

    def check(self) -> list[str]:
        """Return what is wrong with the file and with the data in memory. The list is empty unless one is damaged."""
        file, server = self._keeper.file, self.server
        with server.lock:
            server.journal.settle()
            # Damaged rows cannot be compared with anything.
            return [*file.check(), *damaged_documents(file), *damaged_indexes(file)] or super().check()

    def kept_configuration(self) -> dict[str, dict[str, str]]:
        """Return the configuration in the file: the values that were set, and the administrators' password hashes."""
        file = self._keeper.file
        return {**(file.get_meta("config") or {}), "admins": file.get_meta("admins") or {}}

    def announce(self, address: str) -> None:
        """Publish the address at which this process serves the file, for the error that other processes get."""
        self._keeper.file.announce(address)

    def close(self) -> None:
        """Close the file, so that another process can open it. The next request opens it again."""
        super().close()
        with self.server.lock:
            detach(self.server, self._keeper)


class _Opened:
    """A backend that handles share. Its views keep it, so the file stays known as long as one of them exists."""

    def __init__(self, backend: SqliteBackend) -> None:
        self.backend: SqliteBackend = backend
        backend._opened = self


_opened: WeakValueDictionary[tuple[str, bool], _Opened] = WeakValueDictionary()
_lock = Lock()


def open_file(path: str, *, read_only: bool = False) -> SqliteBackend:
    """Return the backend of a file. All handles of this process share it."""
    key = os.path.realpath(path), read_only
    with _lock:
        opened = _opened.get(key)
        if opened is None:
            opened = _opened[key] = _Opened(SqliteBackend(path, read_only=read_only, version=couchdb_version()))
        return opened.backend


def open_url(url: str) -> SqliteBackend:
    """Return the backend of ``sqlite:///relative/path`` or ``sqlite:////absolute/path``, read-only with ``?mode=ro``.

    Raise ``NotConfigured`` for another form.
    """
    parts = urlsplit(url)
    path, query = unquote(parts.path), parse_qs(parts.query, keep_blank_values=True)
    modes = query.pop("mode", ["rw"])
    if not url.startswith(SCHEME) or len(path) < 2 or parts.fragment or query or modes not in (["rw"], ["ro"]):
        raise NotConfigured(
            f"{url!r} must be sqlite:///relative/path or sqlite:////absolute/path, with ?mode=ro or not"
        )
    return open_file(path[1:], read_only=modes == ["ro"])
