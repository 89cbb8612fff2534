"""``--dal-backend=sqlite``: the memory server of a test run has its data in a file. Each worker has its own file.

Tests are isolated as on memory. Their writes stay in memory above the file, so each test begins with the file's data.
"""

from __future__ import annotations

import os
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from couchdal.backends.memory import set_default_backend
from couchdal.backends.sqlite import SqliteBackend
from couchdal.emulator.storage.sqlite import copy_file
from couchdal.errors import NotConfigured


def use_file(config: pytest.Config) -> None:
    """Let the memory server use a new file, or a copy of ``COUCHDAL_DATA``. Raise ``pytest.UsageError``."""
    folder = mkdtemp(prefix="couchdal-")
    config.add_cleanup(lambda: rmtree(folder, ignore_errors=True))
    path = os.path.join(folder, "tests.db")
    source = os.environ.get("COUCHDAL_DATA")
    try:
        if source:
            copy_file(source, path)
        backend = SqliteBackend(path)
    except NotConfigured as error:
        raise pytest.UsageError(str(error)) from None
    config.add_cleanup(backend.close)
    set_default_backend(backend)
