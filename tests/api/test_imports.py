"""Code that only reads the API's tables does not load the emulator."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROXY = """
from couchdal.server.assembly import build_application
from couchdal.server.options import read_options
build_application(read_options({"backend": "couch", "upstream": ["http://127.0.0.1:1"]}, {}))
"""
PROGRAMS = {
    "observe": "import couchdal; couchdal.observe(lambda event: None)()",
    "faults": "import couchdal.middleware.faults",
    "request log": "import couchdal.middleware.request_log",
    "coverage": "import couchdal.coverage.collect, couchdal.coverage.html, couchdal.coverage.report",
    "proxy": PROXY,
    "OpenAPI description": "from couchdal.api.openapi import describe; describe()",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_neither_engine_nor_storage_is_loaded(program: str) -> None:
    check = "import sys; print(*sorted(name for name in sys.modules if name.startswith('couchdal.emulator.')))"
    printed = subprocess.run(
        [sys.executable, "-c", f"{program}\n{check}"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not printed
