"""Make the asynchronous client's methods from the blocking client's.

    python tools/make_async_operations.py

Each module of ``src/couchdal/operations`` that defines methods gets a twin, ``async_NAME.py``. Edit the blocking module
and run this again; a test fails while a twin is out of date.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "src/couchdal/operations"
NAMES = ("bulk", "databases", "documents", "queries")


def async_module(name: str) -> str:
    """Return the text of a module's twin."""
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    origin = f"Generated from ``{name}.py`` by ``tools/make_async_operations.py``: edit that module instead."
    text = text.replace("\n", f"\n\n{origin}\n", 1)
    text = re.sub(r"\b(\w*Operations)\b", r"Async\1", text)
    text = re.sub(r"^    def ", "    async def ", text, flags=re.MULTILINE)
    text = re.sub(r"self\.(_run|bulk_docs|bulk_get)\(", r"await self.\1(", text)
    text = re.sub(r"^( +>>> )(.*)$", lambda line: line[1] + async_example(line[2]), text, flags=re.MULTILINE)
    return tidy(text)


def async_example(source: str) -> str:
    """Return one line of an example, in which each call of the handle ``db`` is awaited."""
    tree = ast.parse(source)
    subscripted = {node.value for node in ast.walk(tree) if isinstance(node, ast.Subscript)}
    for call in sorted(calls_of_db(tree), key=lambda call: call.col_offset, reverse=True):
        start, end = call.col_offset, call.end_col_offset
        awaited = f"await {source[start:end]}"
        source = source[:start] + (f"({awaited})" if call in subscripted else awaited) + source[end:]
    return source


def calls_of_db(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("db."):
            yield node


def tidy(text: str) -> str:
    """Return a module's text with its imports sorted and its lines wrapped."""
    ruff = str(Path(sys.executable).with_name("ruff"))
    for command in (["check", "--select=I", "--fix", "--quiet"], ["format", "--quiet"]):
        given = [ruff, *command, "--stdin-filename", str(FOLDER / "async.py"), "-"]
        text = subprocess.run(given, input=text, capture_output=True, text=True, check=True).stdout
    return text


if __name__ == "__main__":
    for name in NAMES:
        (FOLDER / f"async_{name}.py").write_text(async_module(name), "utf-8")
