"""Work that CouchDB does in the background, in steps that a caller drives. It holds the server's lock during a step.

This is the update of indexes, which CouchDB's ``ken`` starts after each write, and the record of events.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from couchdal.errors import CouchError

if TYPE_CHECKING:
    from couchdal.emulator.engine.server.server import Server


def work_of(server: Server) -> Iterator[None]:
    """Do all work that is due, one piece at each step.

    An index that fails is not updated: the query that needs it gets the error.
    """
    if server.announced is not None:
        from couchdal.emulator.engine.server.global_changes import record_events  # few servers record events

        record_events(server)
        yield
    for database in list(server.databases.values()):
        for index in database.indexes.outrun(database):
            with suppress(CouchError):
                index.refresh(database)
            yield
