"""What a server and its databases were at some moment: what snapshots keep.

Apart from what makes them and returns to them, so that whoever never goes back does not import it.
"""

from __future__ import annotations

from typing import NamedTuple

from dal.engine.database import Database
from dal.engine.document import DocumentRecord
from dal.storage.base import Storage


class DatabaseState(NamedTuple):
    """What a database was at some moment: its documents, which nobody writes to any more, and its other members."""

    storage: Storage[DocumentRecord]
    members: dict[str, object]


class ServerState(NamedTuple):
    """What a server was at some moment."""

    databases: dict[str, tuple[Database, DatabaseState]]
    admins: dict[str, str]
    generations: dict[str, int]
    failures: dict[tuple[str, str, str], tuple[int, float]]
    ids: dict[str, object]
    clock: dict[str, object]
