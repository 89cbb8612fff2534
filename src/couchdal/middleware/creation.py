"""``create=True``: creates a handle's database before the handle's first request to it."""

from __future__ import annotations

from weakref import ref

from couchdal.backends.base import AsyncBackend, Backend, BaseBackend, database_path
from couchdal.http.messages import Request
from couchdal.middleware.chain import Steps

_HEADERS = {"accept": "application/json"}


class Creation:
    """The creation of one handle's database. Views of the handle share it."""

    def __init__(self, database: str) -> None:
        self._path = database_path(database)

    def create(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Send ``PUT`` for the database before the first request to it: the middleware of the handle.

        A 412 says that the database exists. Any other error is the answer to the request. A first request that creates
        or deletes the database is sent as it is.
        """
        if self._concerns(request.path) and not self._is_done(backend):
            if request.path != self._path or request.method not in ("PUT", "DELETE"):
                made = yield Request("PUT", self._path, headers=_HEADERS)
                if made.status >= 400 and made.status != 412:
                    return made
            self._remember(backend)
        return (yield request)

    def _concerns(self, path: str) -> bool:
        return path == self._path or path.startswith(self._path + "/")

    def _is_done(self, backend: Backend) -> bool:
        return ref(self) in backend.provided

    def _remember(self, backend: Backend) -> None:
        # A rollback of the emulator, or the end of a test on CouchDB, forgets it. So does the end of the handle.
        provided = backend.provided
        provided.add(ref(self, provided.discard))
