"""The docstrings of public names: each client method has an example, and every example runs."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import doctest
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

import couchdal
from couchdal import (
    AsyncChangeFeed,
    AsyncChangesFollower,
    AsyncCouchDAL,
    ChangeFeed,
    ChangesFollower,
    CouchDAL,
    MemoryBackend,
)
from couchdal.base_client import BaseClient

CLIENTS = (CouchDAL, AsyncCouchDAL, ChangeFeed, AsyncChangeFeed, ChangesFollower, AsyncChangesFollower)


def documented() -> Iterator[tuple[str, str]]:
    """Yield the public names and their members, with their docstrings. Shared members count for ``CouchDAL`` only."""
    for name in couchdal.__all__:
        value = getattr(couchdal, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            yield name, inspect.getdoc(value) or ""
        if inspect.isclass(value) and value.__module__.startswith("couchdal."):
            for member_name in dir(value):
                member = inspect.getattr_static(value, member_name)
                if member_name.startswith("_") or (name == "AsyncCouchDAL" and member_name in vars(BaseClient)):
                    continue
                if inspect.isfunction(member) or isinstance(member, property):
                    yield f"{name}.{member_name}", inspect.getdoc(member) or ""


DOCSTRINGS = dict(documented())


@pytest.mark.parametrize("name", [name for name, text in DOCSTRINGS.items() if ">>>" in text])
def test_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = (AsyncCouchDAL if name.startswith("Async") else CouchDAL)(MemoryBackend())
    names: dict[str, Any] = {**{name: getattr(couchdal, name) for name in couchdal.__all__}, "db": made}
    with asyncio.Runner() as runner:
        for example in doctest.DocTestParser().get_examples(DOCSTRINGS[name]):
            code = compile(example.source, name, "single", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            assert run(code, names, runner) == example.want, example.source


def run(code: CodeType, names: dict[str, Any], runner: asyncio.Runner) -> str:
    """Return what a statement prints. It may await, as in ``python -m asyncio``."""
    printed = io.StringIO()

    async def in_loop() -> None:
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result

    with contextlib.redirect_stdout(printed):
        runner.run(in_loop())
    return printed.getvalue()


def test_public_names_have_a_docstring() -> None:
    assert not [name for name, text in DOCSTRINGS.items() if not text]


def test_client_methods_have_an_example() -> None:
    clients = {client.__name__ for client in CLIENTS}
    methods = [name for name in DOCSTRINGS if name.partition(".")[0] in clients and not name.endswith(".name")]
    assert methods
    assert not [name for name in methods if ">>>" not in DOCSTRINGS[name]]
