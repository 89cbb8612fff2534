"""The documentation's pages: every code block runs, also on the server of ``COUCHDB_URL``, and the site builds."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from plugin_runs import clean_environment, live_environment
from warm_pytest import run_pytest

from couchdal.cli import build_parser
from couchdal.middleware.known import read_known_differences
from couchdal.server.options import read_options

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# A code block, and the line above it that names its file.
BLOCK = re.compile(r"(?:^`(?P<name>[\w./-]+)`\n\n)?^```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
KINDS = ("python", "json", "ini", "sh", "toml")
# Plugins that run asynchronous tests, by their marks.
PLUGINS = {"@pytest.mark.anyio": "anyio.pytest_plugin", "@pytest.mark.asyncio": "pytest_asyncio.plugin"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(DOCS).as_posix())
def test_blocks_of_a_page_run(page: Path, tmp_path: Path, served_address: str) -> None:
    blocks = [match.groupdict() for match in BLOCK.finditer(page.read_text("utf-8"))]
    files = {block["name"]: block["text"] for block in blocks if block["name"]}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
        if name.endswith(".json"):
            json.loads(text)
    for block in blocks:
        # Longer lines leave the page at 1280 pixels.
        assert not [line for line in block["text"].splitlines() if len(line) > 80]
        assert block["kind"] in KINDS, block
        assert block["name"] or block["kind"] in ("ini", "sh"), f"a block without a name: {block['text'][:80]}"
        if block["kind"] == "toml" and "[[difference]]" in block["text"]:
            read_known_differences(tmp_path / block["name"])
        elif block["kind"] == "toml":
            read_options({}, {}, str(tmp_path / block["name"]))
        if block["kind"] == "ini":
            settings = tmp_path / f"{len(os.listdir(tmp_path))}.ini"
            settings.write_text(block["text"], "utf-8")
            run(["-c", settings.name, "--rootdir=.", "--collect-only"], tmp_path, served_address)
    commands = [line for block in blocks if block["kind"] == "sh" for line in block["text"].splitlines()]
    for command in commands:
        program = command.partition(" ")[0]
        assert program in ("pip", "pytest", "couchdal"), command
        if program == "couchdal":
            assert build_parser().parse_args(shlex.split(command)[1:])
        if program == "pytest":
            # A page may have a command and no tests.
            run(shlex.split(command)[1:], tmp_path, served_address, statuses=(0, 5))
    if any(name.startswith("test_") for name in files):
        assert re.search(r"\d+ passed", run([], tmp_path, served_address))
        assert "0 differ" in run(["--dal-backend=both"], tmp_path, served_address)


def test_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.findall(r'(?:src="|rel="stylesheet" href=")https?:', page.read_text("utf-8")), page
    linked = re.findall(r"\]\(([^)]+)\)", (tmp_path / "site/llms.txt").read_text("utf-8"))
    assert linked
    assert not [link for link in linked if not (tmp_path / "site" / link).is_file()]


def test_unit_for_systemd_starts_an_existing_command() -> None:
    unit = (ROOT / "deploy/couchdal.service").read_text("utf-8")
    command = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert command
    assert stop
    program, *arguments = command[1].split()
    assert program.endswith("/couchdal")
    parsed = build_parser().parse_args(arguments)
    assert Path(parsed.config).name == "couchdal.toml"
    settings = read_options({}, {}, str(ROOT / "deploy/couchdal.toml"))
    assert settings["backend"].value == "couch"
    assert settings["shutdown_timeout"].value < int(stop[1])


EXAMPLES = sorted(folder for folder in (ROOT / "examples").iterdir() if list(folder.glob("test_*.py")))


@pytest.mark.parametrize("backend", ["memory", "couch"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda folder: folder.name)
def test_example_passes_its_own_tests(example: Path, backend: str, served_address: str) -> None:
    assert re.search(r"\d+ passed", run([f"--dal-backend={backend}", f"--rootdir={example}"], example, served_address))


def run(arguments: list[str], folder: Path, served_address: str, statuses: tuple[int, ...] = (0,)) -> str:
    """Run pytest in a page's folder. Return what it printed."""
    texts = [file.read_text("utf-8") for file in folder.glob("**/*.py")]
    plugins = [plugin for mark, plugin in PLUGINS.items() if any(mark in text for text in texts)]
    environment = {**clean_environment(*plugins), **live_environment(served_address)}
    ended = run_pytest(["-q", "-p", "no:cacheprovider", *arguments], folder, environment, timeout_s=120)
    assert ended.returncode in statuses, ended.stdout + ended.stderr
    return ended.stdout
