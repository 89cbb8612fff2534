"""The emulated server: its databases, administrators, clock, ids and lock.

This module does not know requests. Two servers with the same seed give the same answers to the same requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from hashlib import md5
from threading import Condition, RLock
from typing import TYPE_CHECKING

from couchdal.api.versions import Version
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.server.clock import Clock
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.database_name import check_name
from couchdal.emulator.engine.server.events import GLOBAL_CHANGES, Announced, after_deletion, announced
from couchdal.emulator.engine.server.forks import remember
from couchdal.emulator.engine.server.ids import Ids
from couchdal.emulator.engine.server.journal import Action, Assignment, Changes, Journal, Keep
from couchdal.emulator.storage.memory import MemoryStorage
from couchdal.errors import NO_DATABASE, FileExists, NotFound, NotSupported
from couchdal.pace import begin_long, give_way, here, view_of, waiting

if TYPE_CHECKING:
    from couchdal.emulator.engine.config.configuration import Configuration
    from couchdal.emulator.engine.javascript.javascript import Message
    from couchdal.emulator.engine.javascript.runtime import Runtime
    from couchdal.emulator.engine.server.keeper import Keeper
    from couchdal.emulator.engine.server.replications import Replications
    from couchdal.emulator.engine.server.sharding import Resharding

# How long a writer waits before it looks whether its request was cancelled.
_LONGEST_WAIT_S = 0.05
_MOST_SHARDS = 4096


class ServerClock:
    """A server's clock for callers that do not hold its lock."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def now(self) -> float:
        """Return the server's time in seconds since 1970."""
        return self._server.clock.now()

    def monotonic(self) -> float:
        """Return seconds for time-outs: they pass as real time does, and jump with ``advance``."""
        return self._server.clock.monotonic()

    def advance(self, seconds: float) -> None:
        """Let time pass at once: cookies expire, feeds send a heartbeat or end. Raise ``ValueError`` if negative."""
        server = self._server
        with server.lock:
            server.journal.settle()
            woken = [database.changed for database in server.databases.values()]
            server.journal.publish(Changes([(server.clock, "advanced_s", server.clock.after(seconds))], woken=woken))


class Server:
    """One emulated CouchDB. ``admins`` maps names to passwords. Without admins, everybody is an administrator.

    ``javascript`` decides where functions of design documents run; without it, they run in this process.
    """

    __slots__ = (
        "__weakref__",
        "_turn",
        "admins",
        "announced",
        "clock",
        "config",
        "databases",
        "failures",
        "generation",
        "ids",
        "javascript",
        "journal",
        "known_passwords",
        "lock",
        "party_admin",
        "provided",
        "replications",
        "resharding",
        "settings",
        "started_at",
        "tell",
        "wake",
        "watchers",
    )

    def __init__(
        self,
        admins: dict[str, str] | None = None,
        clock: Clock | None = None,
        ids: Ids | None = None,
        javascript: Runtime | None = None,
    ) -> None:
        self.admins: dict[str, str] = {} if admins is None else admins
        # While this is the only administrator, requests without credentials have an administrator's rights, too.
        self.party_admin: str | None = None
        self.clock: Clock = clock or Clock()
        self.started_at: float = self.clock.now()
        self.ids: Ids = ids or Ids()
        # The values of the configuration, created on first use, and the settings that the engine reads from them.
        self.config: Configuration | None = None
        self.settings: Settings = Settings(self.ids.named("secret"))
        self.javascript: Runtime | None = javascript
        self.tell: Callable[[str, str, Message], None] | None = None
        # The background replications, created when the first is requested, and the function that is called then.
        self.replications: Replications | None = None
        self.wake: Callable[[], None] | None = None
        # One lock for everything: the interpreter runs one thread at a time anyway.
        self.lock: RLock = RLock()
        # After taking the lock, code that reads or writes calls ``journal.settle()`` first.
        self.journal: Journal = Journal()
        # Grows with each deletion, and is a part of update sequences. So a database that is created again does not
        # accept the sequences of its predecessor.
        self.generation: int = 1
        self.databases: dict[str, Database] = self._system_databases()
        # The databases that handles created on first use.
        self.provided: set[object] = set()
        # The state that the documents of "_global_changes" record, while that database exists.
        self.announced: Announced | None = None
        # These functions are called after a database was created.
        self.watchers: dict[object, Callable[[], None]] = {}
        # The jobs that split shards, once a request used them.
        self.resharding: Resharding | None = None
        # Failed logins by address, name and salt: their number, and the time of the first.
        self.failures: dict[tuple[str, str, str], tuple[int, float]] = {}
        # Digests of correct passwords by derived key, because deriving a key takes a good part of a second.
        self.known_passwords: dict[str, bytes] = {}
        # The lock, and the condition on which writers wait for each other.
        self._turn: tuple[RLock, Condition] | None = None
        remember(self)

    @property
    def version(self) -> Version:
        """The version of CouchDB that this server answers as."""
        return self.settings.version

    def become(self, version: Version) -> None:
        """Answer as a version of CouchDB does. The server must not have been used yet."""
        values = self.config.values if self.config is not None else None
        if values is None:
            self.settings = Settings(self.settings.secret, version)
        else:
            from couchdal.emulator.engine.config.parsing import parse_settings  # only servers with a file

            self.settings = parse_settings(values, version)

    @property
    def is_closed(self) -> bool:
        """Return whether requests without credentials lack an administrator's rights."""
        return bool(self.admins) and (self.party_admin is None or self.admins.keys() != {self.party_admin})

    @contextmanager
    def exclusively(self) -> Iterator[None]:
        """Take the lock for a short step of a request that works without it."""
        pace = here.pace
        held = pace is not None and pace.holds_lock
        with self.lock:
            journal = self.journal
            journal.settle()
            try:
                journal.busy = True
                if pace is not None:
                    pace.holds_lock = True
                yield
            finally:
                journal.busy = False
                if pace is not None:
                    pace.holds_lock = held

    def holding(self) -> AbstractContextManager[None]:
        """Take the lock for a short step, if the request does not hold it anyway."""
        pace = here.pace
        return nullcontext() if pace is None or pace.holds_lock else self.exclusively()

    def wait_until(self, is_free: Callable[[], bool]) -> None:
        """Wait until other requests have ended their computation without the lock.

        The caller holds the lock. Other requests take it meanwhile, so the caller must not have read anything yet.
        """
        if is_free():
            return
        begin_long()
        turn = self._turn
        if turn is None or turn[0] is not self.lock:
            turn = self._turn = self.lock, Condition(self.lock)
        while not is_free():
            if here.pace is None:
                self._wait_in_process(turn[1])
                continue
            with waiting(), turn[1]:
                if not is_free():
                    turn[1].wait(_LONGEST_WAIT_S)
            give_way()

    def _wait_in_process(self, turn: Condition) -> None:
        journal, busy = self.journal, self.journal.busy
        journal.busy = False
        turn.wait(_LONGEST_WAIT_S)
        journal.settle()
        journal.busy = busy

    def end_waiting(self) -> None:
        """Let waiting requests check their condition again. The caller holds the lock."""
        if self._turn is not None:
            self._turn[1].notify_all()

    def await_writer(self, name: str, writer: object = None) -> Database:
        """Wait until no other request computes a write to a database. Reserve it for ``writer`` and return it.

        The caller holds the lock, as for ``wait_until``. Raise ``NotFound`` if the database was deleted.
        """
        self.wait_until(lambda: self.database(name).writer is None)
        found = self.database(name)
        found.writer = writer
        return found

    def end_write(self, db: Database) -> None:
        """Let the next request write to a database that was reserved. The caller holds the lock."""
        db.writer = None
        self.end_waiting()

    @contextmanager
    def reading(self, db: Database) -> Iterator[Database]:
        """Yield one state of a database: the view of the running request, or the database itself under the lock."""
        view = view_of(db)
        if view is not None:
            with view as seen:
                yield seen
            return
        with self.lock:
            self.journal.settle()
            yield db

    def next_id(self) -> str:
        """Return the next generated id. This is for requests that work without the lock."""
        with self.lock:
            settings = self.settings
            if settings.uuids_algorithm == "sequential":
                return self.ids.next()
            return self.ids.next_of(settings.uuids_algorithm, self.clock.now(), settings.utc_id_suffix)

    def empty(self, action: Action, *more: Assignment, keep: Keep = lambda keeper: None) -> None:
        """Delete all data but the configuration, and create the system databases.

        The other changes are made in the same commit.
        """
        old, databases = self.databases.values(), self._system_databases()
        assignments: list[Assignment] = [(database, "deleted", True) for database in old]
        assignments += (
            (self, "databases", databases),
            (self, "generation", 1),
            (self, "failures", {}),
            (self, "provided", set()),
            (self, "resharding", None),
            (self, "announced", None),
            (self, "known_passwords", {}),
            (self, "replications", None),
            *more,
        )
        keep_new = partial(_keep_new, list(self.databases), databases, 1)
        woken = [database.changed for database in old]
        changes = Changes(assignments, [action], woken=woken, keep=lambda keeper: (keep_new(keeper), keep(keeper)))
        self.journal.publish(changes)

    def _system_databases(self) -> dict[str, Database]:
        return {name: self.new_database(name, 1) for name in ("_replicator", "_users")}

    def database(self, name: str) -> Database:
        """Return a database. Raise ``NotFound("Database does not exist.")``."""
        found = self.databases.get(name)
        if found is None:
            raise NotFound(NO_DATABASE)
        return found

    def create(self, name: str, *, shards: int = 1, replicas: int = 1, partitioned: bool = False) -> Database:
        """Create a database.

        Raise ``IllegalDatabaseName``, ``BadRequest`` or ``FileExists``, and ``NotSupported`` for too many shards.
        """
        self.check_new_name(name, partitioned=partitioned)
        if shards > _MOST_SHARDS:
            raise NotSupported(f"databases with more than {_MOST_SHARDS} shards are not emulated")
        created = self.new_database(name, self.generation, shards=shards, replicas=replicas, partitioned=partitioned)
        insert = partial(self.databases.__setitem__, name, created)
        assignments: list[Assignment] = []
        if name == GLOBAL_CHANGES:
            assignments.append((self, "announced", announced(self.databases)))
        keep = partial(_keep_new, (), {name: created}, self.generation)
        self.journal.publish(Changes(assignments, [insert], woken=list(self.watchers.values()), keep=keep))
        return created

    def new_database(
        self, name: str, generation: int, *, shards: int = 1, replicas: int = 1, partitioned: bool = False
    ) -> Database:
        seq_text = md5(f"{name}/{generation}".encode(), usedforsecurity=False).hexdigest()
        database = Database(
            name,
            MemoryStorage() if self.journal.keeper is None else self.journal.keeper.new_storage(),
            seq_text,
            instance_start_time=str(int(self.clock.now())),
            partitioned=partitioned,
            shards=shards,
            replicas=replicas,
            journal=self.journal,
            javascript=self.javascript,
        )
        if self.tell is not None:
            database.indexes.tell = partial(self.tell, name)
        return database

    def tell_messages(self, tell: Callable[[str, str, Message], None]) -> None:
        """Pass the messages of functions to ``tell``, with the names of their database and their design document."""
        self.tell = tell
        for name, database in self.databases.items():
            database.indexes.tell = partial(tell, name)

    def check_new_name(self, name: str, *, partitioned: bool = False) -> None:
        """Raise ``IllegalDatabaseName``, ``BadRequest`` or ``FileExists`` if a new database cannot have this name."""
        check_name(name, partitioned=partitioned)
        if name in self.databases:
            raise FileExists()

    def delete(self, name: str) -> None:
        """Delete a database and end the feeds that follow it. Raise ``NotFound``."""
        found = self.database(name)
        remove = partial(self.databases.pop, name, None)
        generation = self.generation + 1
        assignments: list[Assignment] = [(found, "deleted", True), (self, "generation", generation)]
        if self.announced is not None:
            known = None if name == GLOBAL_CHANGES else after_deletion(self.announced, found)
            assignments.append((self, "announced", known))
        keep = partial(_keep_new, [name], {}, generation)
        self.journal.publish(Changes(assignments, [remove], woken=[found.changed], keep=keep))


def _keep_new(gone: Iterable[str], made: Mapping[str, Database], generation: int, keeper: Keeper) -> None:
    for name in gone:
        keeper.delete(name)
    for name, database in made.items():
        keeper.create(name, database.settings(), database.storage)
    keeper.set_value("generation", generation)
