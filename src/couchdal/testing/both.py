"""``--dal-backend=both``: every test runs on memory, then on CouchDB, each time with fresh shared fixtures."""

from __future__ import annotations

from typing import Any

import pytest

from couchdal.testing.choice import ChosenBackends
from couchdal.testing.marks import marked_backend


class BothBackends(ChosenBackends):
    """Runs each test on memory and on CouchDB, unless a mark chooses one of them."""

    @pytest.fixture(autouse=True)
    def _on_both(self, dal_backend: str) -> None:
        pass

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("dal_backend", ("memory", "couch"), indirect=True, scope="session")

    def choose(self, items: list[pytest.Item]) -> dict[pytest.Item, str]:
        """Return the backends of the tests. Copy those of ``unittest.TestCase``, and remove what a mark excludes."""
        backends: dict[pytest.Item, str] = {}
        twins: list[pytest.Item] = []
        excluded: set[pytest.Item] = set()
        for item in items:
            marked, parameter = marked_backend(item), _parameter(item)
            if _is_of_unittest(item):
                backends[item] = marked or "memory"
                if marked is None:
                    twins.append(_twin(item))
            elif parameter is not None and marked in (None, parameter):
                backends[item] = parameter
            elif parameter is not None:
                excluded.add(item)
        items[:] = [*(item for item in items if item not in excluded), *twins]
        return backends | dict.fromkeys(twins, "couch")


def _parameter(item: pytest.Item) -> str | None:
    """Return the backend among a test's parameters; ``None`` for an item that is not a test function."""
    callspec: Any = getattr(item, "callspec", None)
    named: str | None = callspec.params.get("dal_backend") if callspec is not None else None
    return named


def _is_of_unittest(item: pytest.Item) -> bool:
    # Such tests take no fixtures, so they have no parameters.
    return isinstance(item, pytest.Function) and getattr(item, "nofuncargs", False)


def _twin(item: pytest.Item) -> pytest.Item:
    """Return a copy of a test of a ``unittest.TestCase``, to run on CouchDB."""
    assert item.parent is not None
    case: type = item.parent.obj  # type: ignore[attr-defined]
    name = f"{item.name}[couch]"
    # pytest and unittest identify a test by the name of its method.
    setattr(case, name, getattr(case, item.name))
    return type(item).from_parent(item.parent, name=name)
