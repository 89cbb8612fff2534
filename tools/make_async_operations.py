"""Make the asynchronous client's methods from the blocking client's.

    python tools/make_async_operations.py

Each module of ``src/couchdal/operations`` that defines methods gets a twin, ``async_NAME.py``. Edit the blocking module
and run this again; a test fails while a twin is out of date.

In a twin, methods are coroutines, and generators are asynchronous generators. Calls of the methods are awaited, and
loops over the generators are ``async for``. A method without requests is left as it is: ``UNCHANGED`` lists these.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "src/couchdal/operations"
NAMES = ("bulk", "databases", "documents", "pages", "queries", "typed", "updates")
UNCHANGED = frozenset(("__init__", "__repr__"))


def async_module(name: str) -> str:
    """Return the text of a module's twin."""
    text = (FOLDER / f"{name}.py").read_text("utf-8")
    origin = f"Generated from ``{name}.py`` by ``tools/make_async_operations.py``: edit that module instead."
    text = text.replace("\n", f"\n\n{origin}\n", 1)
    text = re.sub(r"\b(\w*Operations|TypedDocuments|CouchDAL)\b", r"Async\1", text)
    text = re.sub(rf"(couchdal\.operations\.)({'|'.join(NAMES)}) import", r"\1async_\2 import", text)
    text = re.sub(rf"^    def (?!(?:{'|'.join(UNCHANGED)})\()", "    async def ", text, flags=re.MULTILINE)
    text = re.sub(r"\bIterator\b", "AsyncIterator", text)
    # An asynchronous generator has no ``yield from``.
    text = re.sub(r"^( +)yield from (.*)$", r"\1for item in \2:\n\1    yield item", text, flags=re.MULTILINE)
    text = re.sub(r"\bfor (\w+) in (self\.(?:\w+\.)?(\w+)\()", async_loop, text)
    text = re.sub(r"(?<!async for )(self\.(?:\w+\.)?(\w+)\()", awaited_call, text)
    text = re.sub(r"^( +>>> )(.*)$", lambda line: line[1] + async_example(line[2]), text, flags=re.MULTILINE)
    return tidy(text)


@cache
def methods() -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the methods that become coroutines, and of those that become asynchronous generators."""
    plain, generators = {"_run", "_pause"}, set()
    for name in NAMES:
        for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name not in UNCHANGED:
                        yields = method.returns is not None and ast.unparse(method.returns).startswith("Iterator[")
                        (generators if yields else plain).add(method.name)
    return frozenset(plain), frozenset(generators)


def async_loop(found: re.Match[str]) -> str:
    return f"{'async ' if found[3] in methods()[1] else ''}for {found[1]} in {found[2]}"


def awaited_call(found: re.Match[str]) -> str:
    return f"await {found[1]}" if found[2] in methods()[0] else found[1]


def async_example(source: str) -> str:
    """Return one line of an example, in which each call of ``db`` or ``tasks`` is awaited."""
    tree = ast.parse(source)
    subscripted = {node.value for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Subscript))}
    for call in sorted(calls_of_db(tree), key=lambda call: call.col_offset, reverse=True):
        start, end = call.col_offset, call.end_col_offset
        name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
        if name in methods()[1]:
            # Only a comprehension reads a generator in an example: ``[... for row in db.iter_all_docs()]``.
            loop = source.rindex(" for ", 0, start)
            source = f"{source[:loop]} async{source[loop:]}"
            continue
        if name not in methods()[0]:
            continue
        awaited = f"await {source[start:end]}"
        source = source[:start] + (f"({awaited})" if call in subscripted else awaited) + source[end:]
    return source


def calls_of_db(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("db.", "tasks.")):
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
