"""Interception in test runs: for all tests by a setting, and for one test by a mark or a fixture."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from couchdal.http.origins import ANSWERED, Origin
from couchdal.interception.intercept import Interception, intercept


def prepare(origins: Iterable[str], where: str) -> Interception:
    """Return an interception whose backend is that of the test run. Raise ``pytest.UsageError`` for a wrong origin."""
    try:
        return intercept(*origins)
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"{where}: {error}") from None


def begin_for(item: pytest.Item) -> Interception | None:
    """Begin the interception that the marks of a test define, if there are any. It ends with the test."""
    marks = list(item.iter_markers("dal_intercept"))
    if not marks:
        return None
    wanted = [origin for mark in marks for origin in mark.args]
    interception = prepare(wanted, f"{item.nodeid}: dal_intercept")
    interception.__enter__()
    item.addfinalizer(lambda: interception.__exit__(None, None, None))
    return interception


def address_of(origin: Origin) -> str:
    """Return an address that clients can be given."""
    return str(origin._replace(port=5984) if origin.port is None else origin)


class InterceptionPlugin:
    """Intercepts the origins of the setting ``dal_intercept`` for the whole test run."""

    def __init__(self, origins: Iterable[str]) -> None:
        self.interception: Interception = prepare(origins, "dal_intercept").__enter__()

    def pytest_unconfigure(self) -> None:
        self.interception.__exit__(None, None, None)


def end_left_on(kept: list[object]) -> None:
    """End the interceptions that a test left on. Raise ``AssertionError`` that names them. ``kept`` ones go on."""
    left = [found for found in ANSWERED.values() if found not in kept and isinstance(found, Interception)]
    for interception in left:
        interception.__exit__(None, None, None)
    if left:
        names = ", ".join(str(origin) for interception in left for origin in interception.origins)
        raise AssertionError(f"the test left the interception of {names} on: write `with couchdal.intercept(...):`")
