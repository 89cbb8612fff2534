"""Test runs with the pytest plugin, in another process."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from urllib.parse import urlsplit

from warm_pytest import run_pytest

from couchdal.transcripts.scenario import RECORDED_ADMIN

SOURCE = Path(__file__).parents[2] / "src"


def run(
    folder: Path, *arguments: str, environment: dict[str, str] | None = None, timeout_s: int = 60, **files: str
) -> str:
    """Run pytest with the plugin over the files, in another process. Return its output."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    variables = {**clean_environment(), "PYTHONPATH": str(SOURCE), **(environment or {})}
    ended = run_pytest(["-q", "-p", "no:cacheprovider", *arguments, "."], folder, variables, timeout_s)
    return ended.stdout + ended.stderr


def unindented(text: str) -> str:
    return textwrap.dedent(text)


def live_environment(served_address: str) -> dict[str, str]:
    """Return the settings for a live run: the server that ``COUCHDB_URL`` names, or the emulator at an address."""
    address, (user, password) = served_address, RECORDED_ADMIN
    if named := os.environ.get("COUCHDB_URL"):
        parts = urlsplit(named)
        address = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        user = os.environ.get("COUCHDB_USER") or parts.username or ""
        password = os.environ.get("COUCHDB_PASSWORD") or parts.password or ""
    return {"COUCHDB_URL": address, "COUCHDB_USER": user, "COUCHDB_PASSWORD": password}


def clean_environment(*plugins: str) -> dict[str, str]:
    """Return the environment without this run's settings. Pytest loads the plugins of couchdal and xdist.

    ``plugins`` are modules that it loads too. Loading all that are installed takes longer than a short run itself.
    """
    # On a CI machine pytest prints more: each failure in full once more in its summary.
    ours = ("COUCHDB_", "DAL_", "PYTEST", "CI", "BUILD_NUMBER")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    loaded = ",".join(("couchdal.pytest_plugin", "xdist.plugin", *plugins))
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": loaded}
