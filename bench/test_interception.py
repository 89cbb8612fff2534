"""The speed of other HTTP clients: intercepted, beside the same requests to the served emulator of ``couch_server``."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import httpx
import pytest
import requests
from test_speed import compare

import couchdal

ADDRESS = "http://couchdb.example:5984"
COUNT = 5_000


@pytest.mark.parametrize("client", ["requests", "httpx"])
@pytest.mark.parametrize("role", ["couchdal", "yardstick"])
def test_get(benchmark: Any, role: str, client: str, couch_server: str) -> None:
    benchmark.group = f"GET by {client}, intercepted / through couch_server"
    with requests.Session() if client == "requests" else httpx.Client() as session:
        session.put(f"{couch_server}/bench")
        docs = [{"_id": f"document-{n}", "title": "a document", "n": n} for n in range(COUNT)]
        session.post(f"{couch_server}/bench/_bulk_docs", json={"docs": docs})
        # Every request has another address, so that no cache of addresses helps.
        numbers = cycle(range(COUNT))

        def served() -> Any:
            return session.get(f"{couch_server}/bench/document-{next(numbers)}").json()

        def intercepted() -> Any:
            return session.get(f"{ADDRESS}/bench/document-{next(numbers)}").json()

        with couchdal.intercept(ADDRESS):
            assert [intercepted()["n"], served()["n"]] == [0, 1]
            compare(benchmark, role, 0.25, {"couchdal": intercepted, "yardstick": served})
