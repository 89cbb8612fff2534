"""The backend of handles in a test run that can have a CouchDB: it delegates to the backend of the current test."""

from __future__ import annotations

from collections.abc import Mapping

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend, Emulator
from couchdal.backends.event_loop import InlineBackend, for_event_loop
from couchdal.config import BACKENDS, choose_backend
from couchdal.errors import MemoryOnly
from couchdal.http.messages import ABSENT, Request, Response

BOTH = "both"
COMPARE = "compare"
# The backends of tests that run on both, between tests; and of those whose answers are compared.
_MEANT = {BOTH: "memory", COMPARE: "couch"}


def current_backend() -> str:
    """Return the name of the backend of the current test; between tests that run on both, memory."""
    named = choose_backend(known=(*BACKENDS, *_MEANT))
    return _MEANT.get(named, named)


def is_compared() -> bool:
    """Return whether the answers of the current test are compared."""
    return choose_backend(known=(*BACKENDS, *_MEANT)) == COMPARE


class EitherBackend(BaseBackend):
    """The backend of handles that outlive a test, such as those created on import. Delegates to the current test's."""

    name = "memory or CouchDB"

    def __init__(self) -> None:
        # Shared by all views.
        self._opened: dict[str, BaseBackend] = {}
        self._asynchronous: dict[str, AsyncBackend] = {}
        self._bound: dict[tuple[str, str, str | None], BaseBackend] = {}

    def __repr__(self) -> str:
        return repr(self._current)

    @property
    def _current(self) -> BaseBackend:
        """The backend of the current test, with the database of this view."""
        named = current_backend()
        if self.database is None:
            return self._open(named)
        key = (named, self.database, self.default_database)
        if key not in self._bound:
            self._bound[key] = self._open(named).bind(self.database, default=self.default_database)
        return self._bound[key]

    def _open(self, named: str) -> BaseBackend:
        if named not in self._opened:
            self._opened[named] = open_backend(named)
        return self._opened[named]

    def asynchronous(self) -> AsyncBackend:
        """Return the asynchronous backend for the server of the current test."""
        named = current_backend()
        if named not in self._asynchronous:
            self._asynchronous[named] = for_event_loop(self._open(named))
        return self._asynchronous[named]

    @property
    def server_key(self) -> object:
        return self._current.server_key

    @property
    def provided(self) -> set[object]:
        return self._current.provided

    def require_emulator(self, asked: str, refusal: type[MemoryOnly] = MemoryOnly) -> Emulator:
        return self._current.require_emulator(asked, refusal)

    def relative_request(
        self,
        method: str,
        path: str,
        payload: object = ABSENT,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
    ) -> Request:
        return self._current.relative_request(method, path, payload, headers, body)

    def send(self, request: Request) -> Response:
        return self._current.send(request)

    def close(self) -> None:
        for backend in self._opened.values():
            backend.close()

    def for_event_loop(self) -> AsyncBackend:
        return _AsyncEitherBackend(self)

    async def aclose(self) -> None:
        """Release the backends' resources for this event loop, and all others."""
        for backend in self._asynchronous.values():
            await backend.aclose()
        self.close()


class _AsyncEitherBackend(InlineBackend):
    """``EitherBackend`` for callers on an event loop."""

    answers_at_once = False
    wrapped: EitherBackend

    async def send(self, request: Request) -> Response:
        return await self.wrapped.asynchronous().send(request)

    async def aclose(self) -> None:
        await self.wrapped.aclose()
