"""Rules for test files: their folders, and the names under which Python imports them."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src/couchdal"
# These folders test the program as a whole. All others mirror the source.
WHOLE = {"entry", "foreign_clients", "fuzz", "packaging", "parity", "properties", "simulation", "support"}
FILES = [path for path in sorted(TESTS.rglob("*.py")) if "node_modules" not in path.parts]


def test_folders_mirror_the_source() -> None:
    for folder in {file.parent.relative_to(TESTS) for file in FILES}:
        if folder.parts and folder.parts[0] not in WHOLE:
            assert (SOURCE / folder).is_dir() or (SOURCE / folder).with_suffix(".py").is_file(), folder


def test_shared_code_is_imported_from_support() -> None:
    # Pytest imports a test module and a conftest.py by its path. An import statement would load a second copy.
    for file in FILES:
        imported = set()
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"a relative import in {file}"
                imported.add(node.module or "")
        tops = {name.partition(".")[0] for name in imported}
        wrong = {name for name in tops if name in ("tests", "conftest", "support") or name.startswith("test_")}
        assert not wrong, file


def test_each_file_is_imported_once() -> None:
    names: dict[Path, list[str]] = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(TESTS) and name != "__main__":
            names.setdefault(Path(file), []).append(name)
    assert Path(__file__) in names
    assert {file: found for file, found in names.items() if len(found) > 1} == {}


def test_names_of_shared_modules_are_unique() -> None:
    # They are top-level modules in one process: ``pythonpath`` in pyproject.toml has their folders.
    shared = [path.stem for folder in (TESTS / "support", TESTS.parent / "bench") for path in folder.glob("*.py")]
    shared = [name for name in shared if name != "conftest"]
    assert len(shared) == len(set(shared))
    assert not set(shared) & sys.stdlib_module_names
