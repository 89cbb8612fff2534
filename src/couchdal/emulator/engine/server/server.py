"""The emulated server: its databases, its administrators, and what it is given from outside: clock, ids and lock.

It knows nothing of requests. Two servers with the same seed that see the same requests give the same answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import md5
from threading import RLock

from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.storage.memory import MemoryStorage
from couchdal.errors import BadRequest, FileExists, IllegalDatabaseName, NotFound

# An ending of digits is the time stamp of a shard; the suffix ".couch" is not looked at.
_NAME = re.compile(r"[a-z][a-z0-9_$()+/-]*(\.[0-9]{10,})?(\.couch)?\Z")
_SYSTEM_NAMES = ("_users", "_replicator", "_global_changes", "_metadata", "_nodes", "_dbs")
_UNPARTITIONED = ("_users", "_replicator")
# A file name may have 255 bytes, and the last segment's file has a time stamp and an extension.
_MAX_SEGMENT_LENGTH = 255
_MAX_LAST_SEGMENT_LENGTH = 238


class Clock:
    """Time as the engine sees it. The date stands still, so that answers can be repeated; waiting needs passing time.

    ``monotonic`` is what measures it; without one, that stands still too. ``date`` makes the date pass as well, as a
    server needs it whose cookies shall expire.
    """

    def __init__(
        self,
        now: float = 1_700_000_000.0,
        monotonic: Callable[[], float] | None = None,
        date: Callable[[], float] | None = None,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._date = date
        self._advanced_s = 0.0

    def now(self) -> float:
        """Return seconds since 1970."""
        return self._advanced_s + (self._now if self._date is None else self._date())

    def monotonic(self) -> float:
        """Return seconds that never go back, for time-outs."""
        return self._advanced_s + (self._now if self._monotonic is None else self._monotonic())

    def advance(self, seconds: float) -> None:
        """Have so much time pass at once. Raises ``ValueError`` for less than none."""
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds!r}")
        self._advanced_s += seconds


class Ids:
    """Document ids and secrets: 32 hex digits, a fixed run of them for each seed.

    As CouchDB's own ids do, those of one run share their beginning and rise, so that documents sort as they came.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.begin()

    def begin(self, seed: int | None = None) -> None:
        """Begin another run of document ids, or the first one again. Secrets stay: who is logged in remains so."""
        self._run_seed = self._seed if seed is None else seed
        self._count = 0
        self._shared = self._beginning(0)

    def next(self) -> str:
        self._count += 1
        run, number = divmod(self._count, 1 << 24)
        if number == 0:
            self._shared = self._beginning(run)
        return f"{self._shared}{number:06x}"

    def _beginning(self, run: int) -> str:
        return _digest(self._run_seed, f"run {run}")[:26]

    def named(self, purpose: str) -> str:
        """Return the id for one purpose, which is the same whenever it is asked for."""
        return _digest(self._seed, purpose)


def _digest(seed: int, purpose: str) -> str:
    return md5(f"{seed}/{purpose}".encode(), usedforsecurity=False).hexdigest()


class ServerClock:
    """A server's clock for those outside, who must not hold its lock."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def now(self) -> float:
        """Return seconds since 1970, as the server dates what it does."""
        return self._server.clock.now()

    def advance(self, seconds: float) -> None:
        """Have so much time pass at once: cookies expire, feeds give a sign of life or end. Raises ``ValueError``."""
        with self._server.lock:
            self._server.clock.advance(seconds)
            for database in self._server.databases.values():
                database.changed()


class Server:
    """One emulated CouchDB. ``admins`` maps names to passwords; without any, everybody is the admin."""

    __slots__ = (
        "__weakref__",
        "admins",
        "clock",
        "databases",
        "failures",
        "generations",
        "ids",
        "known_passwords",
        "lock",
    )

    def __init__(
        self, admins: dict[str, str] | None = None, clock: Clock | None = None, ids: Ids | None = None
    ) -> None:
        self.admins = {} if admins is None else admins
        self.clock = clock or Clock()
        self.ids = ids or Ids()
        # One lock for everything: requests are short, and the interpreter runs one at a time anyway.
        self.lock = RLock()
        self.empty()

    def empty(self) -> None:
        """Forget everything but the administrators, and have the databases again that every server has."""
        self.databases: dict[str, Database] = {}
        # How often a database of each name was made.
        self.generations: dict[str, int] = {}
        # Failed logins by address, name and salt: how many, and since when.
        self.failures: dict[tuple[str, str, str], tuple[int, float]] = {}
        # The passwords that were right before, by derived key: deriving one takes a good part of a second.
        self.known_passwords: dict[str, bytes] = {}
        for name in ("_replicator", "_users"):
            self.create(name)

    def database(self, name: str) -> Database:
        """Return a database; raises ``NotFound("Database does not exist.")``."""
        found = self.databases.get(name)
        if found is None:
            raise NotFound("Database does not exist.")
        return found

    def create(self, name: str, *, shards: int = 1, replicas: int = 1, partitioned: bool = False) -> Database:
        """Create a database; raises ``IllegalDatabaseName``, ``BadRequest`` or ``FileExists``."""
        self.check_new_name(name, partitioned=partitioned)
        # A database that is made anew must not take the sequences of the one before for its own.
        self.generations[name] = generation = self.generations.get(name, 0) + 1
        seq_text = md5(f"{name}/{generation}".encode(), usedforsecurity=False).hexdigest()
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

    def check_new_name(self, name: str, *, partitioned: bool = False) -> None:
        """Raise ``IllegalDatabaseName``, ``BadRequest`` or ``FileExists`` for a name that no new database can have."""
        validate_name(name)
        if partitioned and (name in _SYSTEM_NAMES or name.rpartition("/")[2] in _UNPARTITIONED):
            raise BadRequest("Cannot partition a system database")
        if name in self.databases:
            raise FileExists()

    def delete(self, name: str) -> None:
        """Delete a database and end the feeds that follow it; raises ``NotFound``."""
        found = self.database(name)
        del self.databases[name]
        found.deleted = True
        found.changed()


def validate_name(name: str) -> None:
    """Raise ``IllegalDatabaseName`` or ``BadRequest`` for a name that CouchDB gives no database."""
    prefix, slash, last = name.rpartition("/")
    if last in _SYSTEM_NAMES and (not slash or _NAME.match(prefix)):
        return
    if not _NAME.match(name):
        raise IllegalDatabaseName(
            f"Name: '{name}'. Only lowercase characters (a-z), digits (0-9), and any of the characters"
            " _, $, (, ), +, -, and / are allowed. Must begin with a letter."
        )
    if len(last) > _MAX_LAST_SEGMENT_LENGTH or any(len(part) > _MAX_SEGMENT_LENGTH for part in prefix.split("/")):
        raise BadRequest(f"At least one path segment of `{name}` is too long.", error="database_name_too_long")
