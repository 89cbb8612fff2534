"""Test runs in new processes that have pytest and other packages imported already. They take half the time.

Couchdal itself is not among the packages: each run imports it with its own settings.
"""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from _pytest.config import default_plugins

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(
    ["pytest", *(f"_pytest.{name}" for name in default_plugins), "execnet", "httpx2", "quickjs", "regex"]
)


def run_pytest(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str], timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m pytest`` in a folder. Raise ``TimeoutExpired`` if it takes longer than ``timeout_s``."""
    with TemporaryDirectory() as streams:
        # Files, because processes that outlive a run would keep a pipe open.
        printed = [Path(streams, "stdout"), Path(streams, "stderr")]
        for stream in printed:
            stream.touch()
        path = [str(folder), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep)), *_path()]
        run = _processes.Process(target=_run, args=(list(arguments), folder, path, dict(environment), printed))
        run.start()
        run.join(timeout_s)
        if run.exitcode is None:
            run.kill()
            run.join()
            raise subprocess.TimeoutExpired(list(arguments), timeout_s)
        return subprocess.CompletedProcess(arguments, run.exitcode, *(stream.read_text("utf-8") for stream in printed))


@cache
def _path() -> list[str]:
    """Return the path of modules of a new interpreter. Pytest has changed that of this one."""
    command = [sys.executable, "-c", "import json, sys; print(json.dumps(sys.path[1:]))"]
    path: list[str] = json.loads(subprocess.check_output(command, env={**os.environ, "PYTHONPATH": ""}))
    return path


def _run(arguments: list[str], folder: Path, path: list[str], environment: dict[str, str], streams: list[Path]) -> None:
    for number, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_APPEND), number)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path
    sys.argv = ["pytest", *arguments]
    status = pytest.console_main()
    atexit._run_exitfuncs()
    sys.exit(status)
