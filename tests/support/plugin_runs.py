"""Test runs with the pytest plugin, in another process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def run(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, timeout_s: int = 60, **files: str
) -> str:
    """Run pytest with the plugin over the files, in another process. Return its output."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("COUCHDB_", "DAL_", "PYTEST"))}
    plugin = [] if installed() else ["-p", "couchdal.pytest_plugin"]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, *arguments, "."],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(SOURCE), **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    return ended.stdout + ended.stderr


def unindented(text: str) -> str:
    return textwrap.dedent(text)


def installed() -> bool:
    """Return whether the plugin's entry point is installed. Otherwise the plugin is named on the command line."""
    from importlib.metadata import entry_points

    return any(found.value == "couchdal.pytest_plugin" for found in entry_points(group="pytest11"))
