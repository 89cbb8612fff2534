"""Requests that a served emulator gives up and starts again are counted once."""

from __future__ import annotations

import httpx2

from couchdal import MemoryBackend
from couchdal.transcripts.scenario import RECORDED_ADMIN


def test_request_that_starts_again_is_counted_once(served_emulator: MemoryBackend, served_address: str) -> None:
    counts = served_emulator.server.journal.counts
    with httpx2.Client(base_url=served_address, auth=RECORDED_ADMIN) as client:
        client.put("/counted").raise_for_status()
        docs = [{"_id": f"d{number:04}", "n": number} for number in range(3000)]
        for name, path, body, times in (
            ("httpd/bulk_requests", "/counted/_bulk_docs", {"docs": docs}, 1),
            # A thread reads what takes longer than the event loop may.
            ("database_reads", "/counted/_all_docs?include_docs=true", {"keys": [doc["_id"] for doc in docs]}, 3000),
            ("httpd/bulk_requests", "/counted/_bulk_get", {"docs": [{"id": doc["_id"]} for doc in docs]}, 1),
        ):
            before = counts[f"couchdb/{name}"]
            assert client.post(path, json=body).status_code < 300
            assert counts[f"couchdb/{name}"] - before == times, path
        client.delete("/counted").raise_for_status()
