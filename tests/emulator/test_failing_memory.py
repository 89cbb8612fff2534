"""A write happens wholly or not at all when memory or the stack runs out, wherever that is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from processes import environment

SCRIPT = Path(__file__).parents[1] / "support/failing_memory.py"
SOAK = bool(os.environ.get("SOAK"))


@pytest.mark.random
@pytest.mark.parametrize(
    ("way", "step"),
    [
        pytest.param(
            "allocations",
            1 if SOAK else 7,
            marks=[
                pytest.mark.skipif(find_spec("_testcapi") is None, reason="this Python has no _testcapi"),
                pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python's own JSON encoder crashes then"),
            ],
        ),
        ("stack", 1),
    ],
)
def test_write_that_runs_out_of_memory_or_stack_leaves_consistent_data(
    way: str, step: int, figure: Callable[[str, int], None]
) -> None:
    command = [sys.executable, SCRIPT, way, str(step)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert {kind: wrong for kind, (_, wrong) in found.items() if wrong} == {}
    tried = {kind: count for kind, (count, _) in found.items()}
    assert min(tried.values()) >= 5
    what = "allocations" if way == "allocations" else "depths of the stack"
    figure(f"{what} at which a write failed", sum(tried.values()))
