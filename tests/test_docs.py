"""The documents say what is so: their examples run, and what can be called is described."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from couchdal.cli import SUBCOMMANDS
from couchdal.config import BACKENDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_example_of_the_readme_runs(example: str) -> None:
    # In a process of its own: what pytest brings along must not be what makes it work.
    ended = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_readme_has_an_example() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_command_is_documented(command: str) -> None:
    assert f"`couchdal {command} " in README


@pytest.mark.parametrize("option", [f"`{name}`" for name in BACKENDS])
def test_backend_is_documented(option: str) -> None:
    assert option in README


def test_settings_are_documented() -> None:
    read = set(re.findall(r'"((?:COUCHDB|DAL)_\w+)"', (ROOT / "src/couchdal/config.py").read_text("utf-8")))
    assert read
    assert not {name for name in read if f"`{name}`" not in README}


def test_verbs_of_the_makefile_are_documented() -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)) - {"help"}
    assert {"setup", "run", "test", "check", "parity", "bench"} <= verbs
    assert not {verb for verb in verbs if f"`make {verb}`" not in CONTRIBUTING}


def test_every_module_has_its_place_in_the_architecture() -> None:
    source = ROOT / "src/couchdal"
    names = [
        path.name + ("/" if path.is_dir() else "")
        for path in source.iterdir()
        if not path.name.startswith(("_", "py."))
    ]
    assert not [name for name in names if f"`{name}`" not in ARCHITECTURE]


def test_documents_name_files_that_exist() -> None:
    for text in (README, ARCHITECTURE, CONTRIBUTING):
        named = re.findall(r"`((?:src|tests|bench|requirements|docs)/[\w./-]*)`", text)
        assert not [name for name in named if not (ROOT / name).exists()]
