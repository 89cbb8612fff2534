"""What every backend that stands before another one hands on: what the server behind both of them is, and has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from couchdal.backends.base import Backend

if TYPE_CHECKING:
    from couchdal.backends.snapshot import Snapshot
    from couchdal.emulator.engine.server.server import ServerClock


class WrappingBackend(Backend):
    """A backend before ``wrapped``."""

    wrapped: Backend

    @property
    def server_key(self) -> object:
        return self.wrapped.server_key

    @property
    def collation(self) -> str | None:
        return self.wrapped.collation

    @property
    def clock(self) -> ServerClock:
        return self.wrapped.clock

    def seed_ids(self, seed: int) -> None:
        self.wrapped.seed_ids(seed)

    def snapshot(self) -> Snapshot:
        return self.wrapped.snapshot()

    def provide(self, database: str, *, explicit: bool) -> None:
        self.wrapped.provide(database, explicit=explicit)
