"""Memory or CouchDB, whichever tests are being run on: for handles that were made before that was settled.

It decides nothing: each call goes on to the backend that ``DAL_BACKEND`` names by then.
"""

from __future__ import annotations

from couchdal.backends import open_backend
from couchdal.backends.base import BaseBackend
from couchdal.backends.delegating import WrappingBackend
from couchdal.config import BOTH, choose_backend
from couchdal.http.messages import Request, Response


class EitherBackend(WrappingBackend, BaseBackend):
    """Hands on to memory wherever no test says that it is CouchDB's turn."""

    name = "memory or CouchDB"

    def __init__(self) -> None:
        # Shared by all views.
        self._opened: dict[str, BaseBackend] = {}
        self._provides = True

    def __repr__(self) -> str:
        return f"<EitherBackend, now {self.wrapped!r}>"

    @property
    def wrapped(self) -> BaseBackend:  # type: ignore[override]
        """The backend of the moment, with this one's database."""
        named = choose_backend()
        named = "memory" if named == BOTH else named
        if named not in self._opened:
            self._opened[named] = open_backend(named)
        opened = self._opened[named]
        return opened if self.database is None else opened.bind(self.database, provide=self._provides)

    def send(self, request: Request) -> Response:
        return self.wrapped.send(request)

    def bind(self, database: str, *, provide: bool = False) -> EitherBackend:
        bound = super().bind(database)
        bound._provides = provide
        return bound

    def fork(self) -> BaseBackend:  # type: ignore[override]
        return self.wrapped.fork()

    def reset(self) -> None:
        self.wrapped.reset()

    def close(self) -> None:
        for backend in self._opened.values():
            backend.close()
