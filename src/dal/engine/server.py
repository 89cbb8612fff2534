"""The emulated server: its databases, its administrators, and what it is given from outside: clock, ids and lock.

It knows nothing of requests. Two servers with the same seed that see the same requests give the same answers.
"""

from __future__ import annotations

import re

from dataclasses import dataclass, field
from hashlib import md5
from threading import RLock

from dal.engine.database import Database
from dal.errors import BadRequest, FileExists, IllegalDatabaseName, NotFound
from dal.storage.memory import MemoryStorage

VERSION = "3.5.0"
_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*\Z")
_SYSTEM_NAMES = ("_users", "_replicator", "_global_changes", "_nodes", "_dbs")
_MAX_NAME_LENGTH = 238


class Clock:
    """Time as the engine sees it: it stands still until it is told otherwise, so that answers can be repeated."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never go back, for time-outs."""
        return self._now


class Ids:
    """Document ids and secrets: 32 hex digits, a fixed run of them for each seed."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return md5(f"{self._seed}/{self._count}".encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True, eq=False)
class Server:
    """One emulated CouchDB. ``admins`` maps names to passwords; without any, everybody is the admin."""

    admins: dict[str, str] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    ids: Ids = field(default_factory=Ids)
    databases: dict[str, Database] = field(default_factory=dict)
    # One lock for everything: requests are short, and the interpreter runs one at a time anyway.
    lock: RLock = field(default_factory=RLock)

    def database(self, name: str) -> Database:
        """Return a database; raises ``NotFound("Database does not exist.")``."""
        found = self.databases.get(name)
        if found is None:
            raise NotFound("Database does not exist.")
        return found

    def create(self, name: str, *, shards: int = 2, replicas: int = 1, partitioned: bool = False) -> Database:
        """Create a database; raises ``IllegalDatabaseName``, ``BadRequest`` or ``FileExists``."""
        validate_name(name)
        if name in self.databases:
            raise FileExists()
        seq_text = md5(name.encode(), usedforsecurity=False).hexdigest()
        created = Database(
            name,
            MemoryStorage(),
            seq_text,
            instance_start_time=str(int(self.clock.now())),
            partitioned=partitioned,
            shards=shards,
            replicas=replicas,
        )
        self.databases[name] = created
        return created

    def delete(self, name: str) -> None:
        """Delete a database and end the feeds that follow it; raises ``NotFound``."""
        found = self.database(name)
        del self.databases[name]
        found.deleted = True
        found.changed()


def validate_name(name: str) -> None:
    """Raise ``IllegalDatabaseName`` or ``BadRequest`` for a name that CouchDB gives no database."""
    if name in _SYSTEM_NAMES:
        return
    if not _NAME.match(name):
        raise IllegalDatabaseName(
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters"
            " _, $, (, ), +, -, and / are allowed. Must begin with a letter."
        )
    if any(len(part) > _MAX_NAME_LENGTH for part in name.split("/")):
        raise BadRequest(f"At least one path segment of `{name}` is too long.", error="database_name_too_long")


