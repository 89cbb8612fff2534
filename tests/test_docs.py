"""README and docs: examples run, links work, commands are described, and generated parts are current."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from plugin_runs import clean_environment, live_environment
from warm_pytest import run_pytest

import couchdal
from couchdal.cli import SUBCOMMANDS
from couchdal.config import BACKENDS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
README = (ROOT / "README.md").read_text("utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
INTERNALS = (ROOT / "INTERNALS.md").read_text("utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
CONNECTING = (ROOT / "docs/connecting.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
LINKS = re.findall(r"\]\(([^)]+)\)", README)


@pytest.mark.parametrize("backend", ["memory", "both"])
def test_examples_of_the_readme_pass(tmp_path: Path, served_address: str, backend: str) -> None:
    assert EXAMPLES
    for number, example in enumerate(EXAMPLES):
        (tmp_path / f"test_{number}.py").write_text(example, "utf-8")
    live = {**clean_environment(), **live_environment(served_address)}
    ended = run_pytest(["-q", "-p", "no:cacheprovider", f"--dal-backend={backend}"], tmp_path, live)
    assert ended.returncode == 0, ended.stdout
    assert ("2 passed" if backend == "memory" else "2 tests agree, 0 differ") in ended.stdout


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 130


def test_links_of_the_readme_lead_somewhere() -> None:
    assert LINKS
    assert not [link for link in LINKS if not link.startswith("https://") and not (ROOT / link).is_file()]


def test_readme_of_a_package_index_has_no_relative_links() -> None:
    text = ProjectMetadata(str(ROOT), PluginManager()).core.readme
    assert "`docs/first-test.md`" in text
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("https://")]


@pytest.mark.parametrize("command", SUBCOMMANDS)
def test_command_is_documented(command: str) -> None:
    assert f"`couchdal {command} " in README


@pytest.mark.parametrize("option", [f"`{name}`" for name in BACKENDS])
def test_backend_is_documented(option: str) -> None:
    assert option in README


def test_settings_are_documented() -> None:
    read = set(re.findall(r'"((?:COUCHDB|DAL)_\w+)"', (ROOT / "src/couchdal/config.py").read_text("utf-8")))
    assert read
    assert not {name for name in read if f"`{name}`" not in CONNECTING}


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
    for text in (README, ARCHITECTURE, INTERNALS, CONTRIBUTING):
        named = re.findall(r"`((?:src|tests|bench|requirements|docs)/[\w./-]*)`", text)
        assert not [name for name in named if not (ROOT / name).exists()]


def test_generated_parts_are_current() -> None:
    for path, text in load_tool("make_docs").generated().items():
        assert path.read_text("utf-8") == text, f"{path.name} is out of date: run python tools/make_docs.py"


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        (
            "# Views\n\nMap and reduce. " + "many words " * 500 + "\n\nMore.\n",
            "must end in a full stop, not in .*words'",
        ),
        ("# Views\n\n", "must end in a full stop"),
        ("Views.\n\nMap and reduce.\n", "must begin with a title"),
        ("# Views\nMap and reduce.\n\nMore.\n", "must begin with a title"),
    ],
)
def test_summary_refuses_a_page_without_title_or_sentence(
    text: str, refusal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is that of reading the page once, however long its first paragraph is."""
    tool = load_tool("make_docs")
    monkeypatch.setattr(tool, "DOCS", tmp_path)
    (tmp_path / "page.md").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=rf"page\.md {refusal}"):
        tool.title_and_purpose("page.md")


def load_tool(name: str) -> Any:
    """Import a module of ``tools/``, which is not a package."""
    found = spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert found
    assert found.loader
    module = module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_every_public_name_is_in_the_reference() -> None:
    described = "\n".join(page.read_text("utf-8") for page in (DOCS / "reference").glob("*.md"))
    named = set()
    for path in re.findall(r"^::: (\S+)$", described, re.MULTILINE):
        found = resolve_name(path)
        # A module's page shows all that is defined in it.
        named |= {path.rpartition(".")[2]} if not isinstance(found, ModuleType) else set(vars(found))
    assert not set(couchdal.__all__) - named - {"__version__"}


def test_index_links_every_page() -> None:
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (DOCS / "index.md").read_text("utf-8")))
    assert linked == {page.relative_to(DOCS).as_posix() for page in PAGES} - {"index.md"}


def test_every_page_is_in_the_contents() -> None:
    listed = set(re.findall(r"(\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert listed == {page.relative_to(DOCS).as_posix() for page in PAGES}
