"""The speed of other HTTP clients: intercepted, beside the same requests to the served emulator of ``couch_server``."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import requests
from test_speed import compare

import couchdal

ADDRESS = "http://couchdb.example:5984"


@pytest.mark.parametrize("client", ["requests", "httpx"])
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_get(benchmark: Any, role: str, client: str, couch_server: str) -> None:
    benchmark.group = f"GET by {client}, intercepted / through couch_server"
    with requests.Session() if client == "requests" else httpx.Client() as session:
        session.put(f"{couch_server}/bench")
        session.put(f"{couch_server}/bench/a", json={"title": "a document", "n": 1})

        def served() -> object:
            return session.get(f"{couch_server}/bench/a").json()

        def intercepted() -> object:
            return session.get(f"{ADDRESS}/bench/a").json()

        with couchdal.intercept(ADDRESS):
            assert intercepted() == served()
            compare(benchmark, role, 0.25, {"couchdal": intercepted, "yardstick": served})
