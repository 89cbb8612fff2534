"""The pytest plugin: every test starts with an empty memory server, whichever module made its ``CouchDAL()``.

It must not import the emulator: in a test run that has no use for it, it costs one dictionary look-up a test.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini("couchdal_indexes", "require: queries that no index serves fail; watch: they are remembered")


def pytest_configure(config: pytest.Config) -> None:
    mode = config.getini("couchdal_indexes")
    if mode:
        # Before any module under test makes its CouchDAL(); what is set outside counts more.
        os.environ.setdefault("DAL_INDEXES", mode)


# First, so that fixtures already find the server empty and what they write is still there for the test.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    memory: ModuleType | None = sys.modules.get("dal.backends.memory")
    if memory is not None:
        memory.reset_default_backend()
