"""The pytest plugin: its options, its fixtures, and when what is done.

Every test finds on the memory server what its fixtures put there and nothing else, whichever module made its
``CouchDAL()``. It must not import the emulator: in a test run that has no use for it, it costs next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest

from dal.pytest_plugin.isolation import Isolation

_ISOLATION = pytest.StashKey[Isolation]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("couchdal_indexes", "require: queries that no index serves fail; watch: they are remembered")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ISOLATION] = Isolation()
    mode = config.getini("couchdal_indexes")
    if mode:
        # Before any module under test makes its CouchDAL(); what is set outside counts more.
        os.environ.setdefault("DAL_INDEXES", mode)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[object], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    with request.config.stash[_ISOLATION].setting_up(request.node):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    item.config.stash[_ISOLATION].open(item)
    return (yield)
