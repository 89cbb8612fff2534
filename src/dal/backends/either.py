"""Memory or CouchDB, whichever tests are being run on: for handles that were made before that was settled.

It decides nothing: each call goes on to the backend that ``DAL_BACKEND`` names by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dal.backends import open_backend
from dal.backends.base import BaseBackend
from dal.config import BOTH, choose_backend
from dal.wire import Request, Response

if TYPE_CHECKING:
    from dal.backends.snapshot import Snapshot
    from dal.engine.server import ServerClock


class EitherBackend(BaseBackend):
    """Hands on to memory wherever no test says that it is CouchDB's turn."""

    name = "memory or CouchDB"
    fallback_database = "default"

    def __init__(self) -> None:
        # Shared by all views.
        self._opened: dict[str, BaseBackend] = {}
        self._provides = True

    def __repr__(self) -> str:
        return f"<EitherBackend, now {self.chosen!r}>"

    @property
    def chosen(self) -> BaseBackend:
        """The backend of the moment, with this one's database."""
        named = choose_backend()
        named = "memory" if named == BOTH else named
        if named not in self._opened:
            self._opened[named] = open_backend(named)
        opened = self._opened[named]
        return opened if self.database is None else opened.bind(self.database, provide=self._provides)

    @property
    def server_key(self) -> object:
        return self.chosen.server_key

    @property
    def collation(self) -> str | None:
        return self.chosen.collation

    @property
    def clock(self) -> ServerClock:
        return self.chosen.clock

    def send(self, request: Request) -> Response:
        return self.chosen.send(request)

    def bind(self, database: str, *, provide: bool = False) -> EitherBackend:
        bound = super().bind(database)
        bound._provides = provide
        return bound

    def provide(self, database: str, *, explicit: bool) -> None:
        self.chosen.provide(database, explicit=explicit)

    def seed_ids(self, seed: int) -> None:
        self.chosen.seed_ids(seed)

    def snapshot(self) -> Snapshot:
        return self.chosen.snapshot()

    def reset(self) -> None:
        self.chosen.reset()

    def close(self) -> None:
        for backend in self._opened.values():
            backend.close()
