"""A server whose data is in a file: opening it, and opening it again.

Documents stay in the file until a request needs them.
"""

from __future__ import annotations

from contextlib import suppress

from couchdal.emulator.engine.config.configuration import Configuration
from couchdal.emulator.engine.config.parsing import parse_settings
from couchdal.emulator.engine.server.configured import configuration_of
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.events import GLOBAL_CHANGES, announced
from couchdal.emulator.engine.server.file_keeper import FileKeeper, KeptDatabase
from couchdal.emulator.engine.server.ids import Ids
from couchdal.emulator.engine.server.journal import Assignment, Changes, Commit
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.storage.sqlite import DataFile
from couchdal.errors import ServerError

# The name of a value that files of earlier versions have.
_OLDER_GENERATIONS = "generations"


def attach(server: Server, file: DataFile) -> FileKeeper:
    """Give a new server the data of a file, and keep its data there from now on.

    Raise ``ServerError`` if the file is damaged.
    """
    keeper = FileKeeper(file)
    _load(server, keeper)
    server.journal.keeper = keeper
    return keeper


def detach(server: Server, keeper: FileKeeper) -> None:
    """Close the file of a server. The next request opens it again. The caller holds the server's lock."""
    if keeper.file.is_open:
        server.journal.settle()
        for database in server.databases.values():
            # The next process reads on from there. Without it, that builds again what is missing.
            with suppress(ServerError):
                database.indexes.save()
            database.indexes.clear()
        keeper.file.close()
        server.journal.pending = _Reopening(server, keeper)


class _Reopening(Commit):
    """Opens the file of a server again, and reads it if another process has changed it."""

    __slots__ = ("_keeper", "_server")

    def __init__(self, server: Server, keeper: FileKeeper) -> None:
        self.outer = server.journal.pending
        self._server = server
        self._keeper = keeper

    def apply(self) -> None:
        """Do nothing: the next request calls ``redo``."""

    def redo(self) -> None:
        server, keeper = self._server, self._keeper
        if not keeper.file.is_open:
            keeper.file.open()
        # After a snapshot the server has left the state of the file.
        if server.journal.keeper is keeper and keeper.is_ahead():
            _load(server, keeper)

    def wake(self) -> None:
        for database in self._server.databases.values():
            database.changed()


def _load(server: Server, keeper: FileKeeper) -> None:
    """Bring a server to the state of its file. A new file gets the data of a new server."""
    file = keeper.file
    if keeper.count() == 0 and not file.read_only:
        with file.transaction():
            _begin(server, keeper)
    if file.read_only:
        file.hold()
    keeper.restart()
    ids = Ids(file.get_meta("ids") or 0)
    openings = int(file.get_meta("openings") or 0) + 1
    # Generated ids must differ from those of earlier openings.
    ids.begin(ids.seed + openings)
    server.ids = ids
    generation = _generation(file)
    databases = {kept.name: _database(server, keeper, kept) for kept in keeper.databases()}
    assignments: list[Assignment] = [(database, "deleted", True) for database in server.databases.values()]
    assignments += [(server, "databases", databases), (server, "generation", generation)]
    server.config = None
    config = Configuration.begin(configuration_of(server).base, file.get_meta("config"))
    assignments += [(server, "config", config), (server, "settings", parse_settings(config.values, server.version))]
    assignments.append((server, "admins", {**server.admins, **(file.get_meta("admins") or {})}))
    if GLOBAL_CHANGES in databases:
        assignments.append((server, "announced", announced(databases)))
    # A file that cannot be read must not be changed.
    if not file.read_only:
        with file.transaction():
            file.set_meta("openings", openings)
            if file.get_meta(_OLDER_GENERATIONS) is not None:
                file.set_meta("generation", generation)
                file.run("DELETE FROM meta WHERE name = ?", (_OLDER_GENERATIONS,))
        keeper.tidy()
    Changes(assignments).apply()
    if any(database.system == "_replicator" and database.doc_count for database in databases.values()):
        from couchdal.emulator.engine.replication.scheduler import scheduler_of  # few programs have replications

        scheduler_of(server)


def _generation(file: DataFile) -> int:
    """Return the server's generation. Earlier versions kept how often a database of each name was created."""
    generation: int | None = file.get_meta("generation")
    if generation is not None:
        return generation
    creations: dict[str, int] = file.get_meta(_OLDER_GENERATIONS) or {}
    return max(creations.values(), default=0) + 1


def _begin(server: Server, keeper: FileKeeper) -> None:
    new = Server(clock=server.clock)
    keeper.set_value("ids", server.ids.seed)
    keeper.set_value("generation", new.generation)
    for name, database in new.databases.items():
        keeper.create(name, database.settings(), keeper.new_storage())


def _database(server: Server, keeper: FileKeeper, kept: KeptDatabase) -> Database:
    database = server.new_database(kept.name, 1)
    for attribute, value in {**kept.settings, **kept.numbers._asdict()}.items():
        setattr(database, attribute, value)
    if database.ranges is not None:
        # JSON has no tuples.
        database.ranges = tuple((first, last) for first, last in database.ranges)
    database.storage = keeper.storage(kept.db)
    database.purges = list(keeper.purges(kept.db))
    return database
