"""`make run` for a newcomer, and the lock files that the Makefile installs from."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from processes import ask, environment

ROOT = Path(__file__).parents[2]
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)

needs_make = pytest.mark.skipif(shutil.which("make") is None or os.name == "nt", reason="make is not installed")


def make(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start make in its own process group, as a terminal does."""
    env = {name: value for name, value in environment().items() if not name.startswith("MAKE")}
    return subprocess.Popen(
        ["make", *arguments], cwd=folder, env=env, text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout in which nothing is installed."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements", "src"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.fixture
def installed(checkout: Path) -> Path:
    """A checkout in which this Python, with its packages, is the virtual environment."""
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    (checkout / ".venv/.run-ready").touch()
    return checkout


@needs_make
def test_run_prints_examples_for_the_address_that_it_listens_at(installed: Path) -> None:
    with make(installed, "run", "PORT=0") as process:
        try:
            assert process.stdout
            printed = ""
            while "Ctrl-C" not in printed:
                line = process.stdout.readline()
                assert line, printed
                printed += line
            found = re.match(r"listening at (http://127\.0\.0\.1:\d+) ", printed)
            assert found, printed
            assert set(re.findall(r"http://[\w.:]+", printed)) == {found[1]}
            assert printed.count("curl") == 4
            assert ask(found[1])[1]["couchdb"] == "Welcome"
        finally:
            os.killpg(process.pid, signal.SIGINT)
        assert process.stdout.read() == ""
        process.wait(10)


@needs_make
def test_run_names_port_when_the_port_is_in_use(installed: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        process = make(installed, "run", f"PORT={taken.getsockname()[1]}")
        printed = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert "make run PORT=" in printed
    # They would go to the server that has the port.
    assert "curl" not in printed


@needs_make
@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("there-is-no-such-python", "couchdal needs Python 3.11 or later, and there is no there-is-no-such-python"),
        ("./old-python", "couchdal needs Python 3.11 or later; ./old-python is Python 3.8.1"),
        ("./bare-python", "./bare-python cannot make a virtual environment; on Debian and Ubuntu: apt-get install"),
    ],
)
def test_run_says_what_is_missing(python: str, said: str, checkout: Path) -> None:
    for name, failing in (("old-python", "sys.version_info"), ("bare-python", "ensurepip")):
        script = f"#!/bin/sh\ncase \"$*\" in *{failing}*) exit 1;; *--version*) echo 'Python 3.8.1';; esac\n"
        (checkout / name).write_text(script)
        (checkout / name).chmod(0o755)
    process = make(checkout, "run", f"PYTHON={python}")
    printed = process.communicate(timeout=30)[0]
    assert process.returncode != 0
    assert printed.startswith(said)
    assert not (checkout / ".venv").exists()


def test_run_installs_few_packages_and_the_same_versions_as_test() -> None:
    use, dev = (dict(PINNED.findall((ROOT / f"requirements/{name}.txt").read_text("utf-8"))) for name in ("use", "dev"))
    assert len(use) <= 16
    assert use.items() <= dev.items()


def test_lowest_claimed_python_is_the_required_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    claimed = [name.rpartition(" :: ")[2] for name in project["classifiers"] if re.search(r":: 3\.\d+$", name)]
    # `make versions` reads this list and tests each.
    assert claimed == ["3.11", "3.12", "3.13"]
    assert project["requires-python"] == f">={claimed[0]}"
