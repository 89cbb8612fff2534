"""``@pytest.mark.dal(backend=...)``: tests that choose their backend.

Tests on memory run first, and those on CouchDB last. When the backend changes, shared fixtures are set up again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator

import pytest

from couchdal.backends import open_backend
from couchdal.backends.base import BaseBackend
from couchdal.testing.either import COMPARE, EitherBackend, current_backend
from couchdal.testing.marks import marked_backend

_ORDER = ("memory", "sqlite", COMPARE, "couch")


class ChosenBackends:
    """Runs each test on its backend. Test runs that can have a CouchDB register it.

    ``chosen`` is the backend of tests that do not choose. ``prepare`` is called before the first test, with the
    backends that tests choose.
    """

    def __init__(self, chosen: str, prepare: Callable[[set[str]], None]) -> None:
        self._chosen = chosen
        self._prepare = prepare
        # The backends of the tests that choose one. Other tests run once, on the backend of the run.
        self._backends: dict[pytest.Item, str] = {}
        self._is_collecting = True

    def open_unnamed(self) -> BaseBackend:
        """Return the backend of a handle that does not name one."""
        if self._is_collecting or self._backends:
            return EitherBackend()
        return open_backend(current_backend())

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._backends = self.choose(items)
        self._is_collecting = False
        if self._backends:
            self._prepare(set(self._backends.values()))
            # Keep the order of tests on one backend, which another plugin may have chosen.
            items.sort(key=lambda item: _ORDER.index(self._of(item)))

    def choose(self, items: list[pytest.Item]) -> dict[pytest.Item, str]:
        """Return the backends of the tests that choose one."""
        return {item: named for item in items if (named := marked_backend(item)) is not None}

    def _of(self, item: pytest.Item) -> str:
        named = self._backends.get(item, self._chosen)
        return named if named in _ORDER else "memory"

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        named = self._backends.get(item)
        if named is None:
            return (yield)
        item.user_properties.append(("dal_backend", named))
        if marked_backend(item) is not None:
            item.user_properties.append(("dal_only", f"for {named} only"))
        before = os.environ.get("DAL_BACKEND")
        os.environ["DAL_BACKEND"] = named
        try:
            return (yield)
        finally:
            if before is None:
                del os.environ["DAL_BACKEND"]
            else:
                os.environ["DAL_BACKEND"] = before

    @pytest.hookimpl(specname="pytest_runtest_protocol", tryfirst=True)
    def pytest_runtest_protocol_before_the_backend_changes(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> object:
        """Tear down shared fixtures before the backend changes, as if this were the last test."""
        if nextitem is None or self._of(nextitem) == self._of(item):
            return None
        return item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
