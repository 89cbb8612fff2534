"""``--dal-backend=both``: every test runs on memory, then on CouchDB, each time with fresh shared fixtures."""

from __future__ import annotations

import os
from collections.abc import Generator, Mapping
from typing import Any

import pytest

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend, Emulator
from couchdal.backends.event_loop import InlineBackend, for_event_loop
from couchdal.config import BACKENDS, choose_backend
from couchdal.errors import MemoryOnly
from couchdal.http.messages import ABSENT, Request, Response

BOTH = "both"
_TWIN = pytest.StashKey[str]()


class EitherBackend(BaseBackend):
    """Delegates to the backend that the current test uses, for handles that are made at import."""

    name = "memory or CouchDB"

    def __init__(self) -> None:
        # Shared by all views.
        self._opened: dict[str, BaseBackend] = {}
        self._asynchronous: dict[str, AsyncBackend] = {}

    def __repr__(self) -> str:
        return f"<EitherBackend, now {self._current!r}>"

    @property
    def _current(self) -> BaseBackend:
        """The backend of the current test, with the database of this view."""
        opened = self._open(_current_name())
        return opened if self.database is None else opened.bind(self.database, default=self.default_database)

    def _open(self, named: str) -> BaseBackend:
        if named not in self._opened:
            self._opened[named] = open_backend(named)
        return self._opened[named]

    def asynchronous(self) -> AsyncBackend:
        """Return the asynchronous backend for the server of the current test."""
        named = _current_name()
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
        """Release what the backends hold for this event loop, and the rest."""
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


def _current_name() -> str:
    """Return the backend of the current test; memory between tests."""
    named = choose_backend(known=(*BACKENDS, BOTH))
    return "memory" if named == BOTH else named


def _backend_of(item: pytest.Item) -> str | None:
    """Return the backend of a test; ``None`` for an item that is not a test function, which runs once, on memory."""
    callspec: Any = getattr(item, "callspec", None)
    named: str | None = callspec.params.get("dal_backend") if callspec is not None else None
    return named or item.stash.get(_TWIN, None)


class BothBackends:
    """Runs each test on memory and on CouchDB. Runs with ``--dal-backend=both`` register it."""

    @pytest.fixture(autouse=True)
    def _on_both(self, dal_backend: str) -> None:
        pass

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("dal_backend", BACKENDS, indirect=True, scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items += [_twin(item) for item in items if _is_of_unittest(item)]
        # Within each half the order stays as it is; another plugin may have changed it.
        items.sort(key=_runs_on_couch)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        named = _backend_of(item)
        if named is None:
            return (yield)
        item.user_properties.append(("dal_backend", named))
        before, os.environ["DAL_BACKEND"] = os.environ["DAL_BACKEND"], named
        try:
            return (yield)
        finally:
            os.environ["DAL_BACKEND"] = before

    @pytest.hookimpl(specname="pytest_runtest_protocol", tryfirst=True)
    def pytest_runtest_protocol_before_the_backend_changes(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> object:
        """Tear down shared fixtures before the backend changes, as if this were the last test."""
        if nextitem is None or _runs_on_couch(nextitem) == _runs_on_couch(item):
            return None
        return item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


def _runs_on_couch(item: pytest.Item) -> bool:
    return _backend_of(item) == "couch"


def _is_of_unittest(item: pytest.Item) -> bool:
    # Such tests take no fixtures, so they have no parameters.
    return isinstance(item, pytest.Function) and getattr(item, "nofuncargs", False)


def _twin(item: pytest.Item) -> pytest.Item:
    """Return a copy of a test of a ``unittest.TestCase``, to run on CouchDB."""
    item.stash[_TWIN] = "memory"
    assert item.parent is not None
    case: type = item.parent.obj  # type: ignore[attr-defined]
    name = f"{item.name}[couch]"
    # pytest and unittest identify a test by the name of its method.
    setattr(case, name, getattr(case, item.name))
    twin: pytest.Item = type(item).from_parent(item.parent, name=name)
    twin.stash[_TWIN] = "couch"
    return twin
