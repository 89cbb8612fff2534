"""The pytest plugin: every test starts with an empty memory server, whichever module made its ``CouchDAL()``.

It must not import the emulator: in a test run that has no use for it, it costs one dictionary look-up a test.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType


# First, so that fixtures already find the server empty and what they write is still there for the test.
@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    memory: ModuleType | None = sys.modules.get("dal.backends.memory")
    if memory is not None:
        memory.reset_default_backend()
