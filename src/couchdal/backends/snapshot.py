"""States of the emulator to return to.

Taking one and returning to it cost what has changed since, not what the databases hold.
"""

from __future__ import annotations

from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.state import keep, restore


class Snapshot:
    """The state of a memory server when it was made. It may be restored as often as one likes."""

    def __init__(self, server: Server, provided: set[str]) -> None:
        self._server = server
        self._provided = provided
        with server.lock:
            self._state = keep(server)
            self._were_provided = set(provided)

    def __repr__(self) -> str:
        return f"<Snapshot of {len(self._state.databases)} databases>"

    def with_changes_since(self, before: Snapshot) -> Snapshot:
        """Return a snapshot of this state and what has changed since another one; the server stays as it is."""
        from couchdal.emulator.engine.server.carry_over import (
            carry_over,  # needed where scopes of fixtures cross, which is rare
        )

        with self._server.lock:
            carried = Snapshot.__new__(Snapshot)
            carried._server, carried._provided = self._server, self._provided
            carried._state = carry_over(self._server, before._state, self._state)
            carried._were_provided = self._were_provided | (self._provided - before._were_provided)
        return carried

    def restore(self) -> None:
        """Return the server to this state, whichever handle or thread changed it."""
        with self._server.lock:
            restore(self._server, self._state)
            self._provided.clear()
            self._provided.update(self._were_provided)
