"""The table of clients names the versions that the tests run with."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_table_has_the_locked_versions() -> None:
    page = (ROOT / "docs" / "clients.md").read_text("utf-8")
    named = dict(re.findall(r"\| ([\w.]+) \| (\d[\d.]*) (?=\|)", page))
    clients = {"requests", "urllib3", "httpx", "httpx2", "aiohttp"}
    clients |= {"ibmcloudant", "pycouchdb", "couchdb3", "aiocouch", "couchdb"}
    assert named.keys() == clients
    locked = "\n" + (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    for name, tested in named.items():
        assert f"\n{name}=={tested} " in locked, f"{name}: list the locked version"
        assert version(name) == tested
