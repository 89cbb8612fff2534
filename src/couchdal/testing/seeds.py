"""Seeds of tests: the files that a mark or a setting names, read once and put into the databases of each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from couchdal.backends.memory import MemoryBackend
    from couchdal.client import CouchDAL

# Memory servers that hold what came of some files, by a database's name and the files with the times of their changes.
_loaded: dict[tuple[str, tuple[tuple[Path, int], ...]], MemoryBackend] = {}


def seeds_of(item: pytest.Item) -> Iterator[tuple[Path, str | None]]:
    """Yield the files for a test, and the databases that they are for (None: the one that ``CouchDAL()`` means).

    Names are relative to the test's own folder in a mark, and to the root folder in the setting; they may be patterns.
    Raises ``pytest.UsageError`` for a name that means no file.
    """
    folder = item.config.rootpath
    for text in item.config.getini("dal_seed"):
        yield from ((file, None) for file in _files(folder, text))
    for mark in reversed(list(item.iter_markers("dal"))):
        named = mark.kwargs.get("seed", ())
        for text in (named,) if isinstance(named, str) else named:
            yield from ((file, mark.kwargs.get("database")) for file in _files(item.path.parent, text))


def _files(folder: Path, text: str) -> list[Path]:
    found = [Path(text)] if Path(text).is_absolute() else sorted(folder.glob(text))
    if not found or not all(file.is_file() for file in found):
        raise pytest.UsageError(f"no seed {text!r} in {folder}")
    return found


def plant(item: pytest.Item) -> None:
    """Put the seeds of a test into its databases; raises ``pytest.UsageError``, or what the files are refused with."""
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
    """Whether a handle means a database of the memory server that nobody has written to."""
    from couchdal.backends.memory import default_backend

    server = default_backend().server
    if dal.backend.server_key is not server or dal.name is None:
        return False
    database = server.databases.get(dal.name)
    return database is None or database.is_untouched()


def _fork_into(dal: CouchDAL, files: list[Path]) -> None:
    """Put a fork of what the files load into the memory server: it costs the same however much that is."""
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


def check_marks(item: pytest.Item) -> None:
    """Raise ``pytest.UsageError`` for arguments that the mark does not have."""
    for mark in item.iter_markers("dal"):
        wrong = set(mark.kwargs) - {"seed", "database"}
        if mark.args or wrong:
            raise pytest.UsageError(
                f"the mark dal takes seed= and database=, not {', '.join(sorted(wrong)) or 'names'}"
            )
