"""Seeds: files, named by a mark or a setting, whose documents each test finds in its databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from couchdal.testing.marks import check_marks

if TYPE_CHECKING:
    from couchdal.backends.memory import MemoryBackend
    from couchdal.client import CouchDAL

# Memory servers that have loaded some files, by database name and by the files with their modification times.
_loaded: dict[tuple[str, tuple[tuple[Path, int], ...]], MemoryBackend] = {}


def seeds_of(item: pytest.Item) -> Iterator[tuple[Path, str | None]]:
    """Yield the seed files of a test with their databases; ``None`` is the database of ``CouchDAL()``.

    Names may be glob patterns. Those in a mark are relative to the test's folder, those in the setting to the root
    folder. Raise ``pytest.UsageError`` for a name that matches no file.
    """
    folder = item.config.rootpath
    for text in item.config.getini("dal_seed"):
        yield from ((file, None) for file in _files(folder, text, "dal_seed"))
    for mark in reversed(list(item.iter_markers("dal"))):
        named = mark.kwargs.get("seed", ())
        for text in (named,) if isinstance(named, str) else named:
            yield from ((file, mark.kwargs.get("database")) for file in _files(item.path.parent, text, item.nodeid))


def _files(folder: Path, text: str, origin: str) -> list[Path]:
    found = [Path(text)] if Path(text).is_absolute() else sorted(folder.glob(text))
    if not found or not all(file.is_file() for file in found):
        raise pytest.UsageError(f"{origin}: no seed {text!r} in {folder}")
    return found


def plant(item: pytest.Item) -> None:
    """Load the seeds of a test into its databases. Raise ``pytest.UsageError``, or the error of loading a file."""
    by_database: dict[str | None, list[Path]] = {}
    for file, database in seeds_of(item):
        by_database.setdefault(database, []).append(file)
    for database, files in by_database.items():
        from couchdal.client import CouchDAL  # most tests have no seed

        dal = CouchDAL(database=database)
        if _is_new(dal):
            _fork_into(dal, files)
            continue
        if dal.request("GET", "/").status == 404:
            dal.create_database()
        for file in files:
            dal.load(file)


def _is_new(dal: CouchDAL) -> bool:
    """Return whether a handle's database is on the shared memory server and has never been written to."""
    from couchdal.backends.memory import default_backend  # most tests have no seed

    server = default_backend().server
    if dal.backend.server_key is not server or dal.name is None:
        return False
    database = server.databases.get(dal.name)
    return database is None or database.is_untouched()


def _fork_into(dal: CouchDAL, files: list[Path]) -> None:
    """Copy the loaded files into the shared memory server. The cost does not depend on their size."""
    # Most tests have no seed.
    from couchdal.backends.memory import MemoryBackend, default_backend
    from couchdal.client import CouchDAL

    name = str(dal.name)
    key = (name, tuple((file, file.stat().st_mtime_ns) for file in files))
    if key not in _loaded:
        seeded = MemoryBackend(database=name)
        handle = CouchDAL(seeded)
        handle.create_database()
        for file in files:
            handle.load(file)
        database = seeded.server.database(name)
        database.indexes.build(database)
        _loaded[key] = seeded
    default_backend().adopt(_loaded[key].server.database(name))


def check_seeds(item: pytest.Item) -> None:
    """Raise ``pytest.UsageError`` for a mark ``dal`` with wrong arguments, and for a seed that does not exist."""
    check_marks(item)
    for _ in seeds_of(item):
        pass
