"""``--dal-backend=both``: all tests run on memory, then all on CouchDB, the fixtures that they share made anew.

Imported, and registered as a plugin, by such runs only.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

_BACKENDS = ("memory", "couch")
_TWIN = pytest.StashKey[str]()


def _backend_of(item: pytest.Item) -> str | None:
    """Return the backend that a test runs on; None for what is no test function, which runs once, on memory."""
    callspec: Any = getattr(item, "callspec", None)
    named: str | None = callspec.params.get("dal_backend") if callspec is not None else None
    return named or item.stash.get(_TWIN, None)


class BothBackends:
    """Has each test run on memory and on CouchDB, where it is registered."""

    @pytest.fixture(autouse=True)
    def _on_both(self, dal_backend: str) -> None:
        pass

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("dal_backend", _BACKENDS, indirect=True, scope="session")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items += [_twin(item) for item in items if _is_of_unittest(item)]
        # Within each half the order stays what it was, or what another plugin made of it.
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
        """Before the backend changes, end what tests share, as if this were the last test."""
        if nextitem is None or _runs_on_couch(nextitem) == _runs_on_couch(item):
            return None
        return item.ihook.pytest_runtest_protocol(item=item, nextitem=None)


def _runs_on_couch(item: pytest.Item) -> bool:
    return _backend_of(item) == "couch"


def _is_of_unittest(item: pytest.Item) -> bool:
    # Such tests take no fixtures, and so no parameters.
    return isinstance(item, pytest.Function) and getattr(item, "nofuncargs", False)


def _twin(item: pytest.Item) -> pytest.Item:
    """Return the same test of a ``unittest.TestCase`` once more, for CouchDB."""
    item.stash[_TWIN] = "memory"
    assert item.parent is not None
    case: type = item.parent.obj  # type: ignore[attr-defined]
    name = f"{item.name}[couch]"
    # A test is known by the name of a method, to pytest and to unittest.
    setattr(case, name, getattr(case, item.name))
    twin: pytest.Item = type(item).from_parent(item.parent, name=name)
    twin.stash[_TWIN] = "couch"
    return twin
