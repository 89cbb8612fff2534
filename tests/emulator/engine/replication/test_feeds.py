"""Continuous replications of a server: they wait for the changes of a source on another server."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

import pytest
from raw_http import Served, stopping_servers

from couchdal import CouchBackend, CouchDAL, MemoryBackend
from couchdal.http.json_text import JSON


@pytest.fixture
def servers() -> Iterator[tuple[Served, Served]]:
    """The server of a source, and one that replicates."""
    with stopping_servers():
        yield Served(MemoryBackend()), Served(MemoryBackend())


def begin(servers: tuple[Served, Served], **options: JSON) -> tuple[CouchDAL, CouchDAL, str]:
    """Begin a replication. Return the source, the target, and the id."""
    source, target = (CouchDAL(CouchBackend(f"http://127.0.0.1:{one.port}"), database="db") for one in servers)
    for handle in (source, target):
        handle.create_database()
    body = {"source": f"http://127.0.0.1:{servers[0].port}/db", "target": "db", "continuous": True, **options}
    begun = target.get("/_replicate", "POST", body)
    servers[0].wait_for_followers(1)
    return source, target, begun["_local_id"]


def wait_for(target: CouchDAL, count: int) -> None:
    end = monotonic() + 10
    while target.info()["doc_count"] < count:
        assert monotonic() < end
        sleep(0.005)


@pytest.mark.parametrize("options", [{}, {"doc_ids": ["0", "1", "2"]}, {"selector": {"n": {"$gte": 0}}}])
def test_change_arrives_at_once(servers, options):
    source, target, job_id = begin(servers, **options)
    waits = []
    for number in range(3):
        begun = monotonic()
        source.put_document(str(number), {"n": number})
        wait_for(target, number + 1)
        waits.append(monotonic() - begun)
        servers[0].wait_for_followers(1)
    # A replication that asked once a second would take a second for each change.
    assert min(waits) < 0.5
    # The request of the feed ends with the replication.
    target.get("/_replicate", "POST", {"cancel": True, "id": job_id})
    servers[0].wait_for_followers(0)


def test_source_that_goes_away_is_awaited(servers):
    sides = {"source": f"http://127.0.0.1:{servers[0].port}/db", "target": f"http://127.0.0.1:{servers[1].port}/copy"}
    source, target, _ = begin(servers)
    job = {**sides, "continuous": True, "retries_per_request": 0}
    CouchDAL(target.backend, database="copy").create_database()
    target.get("/_replicator/job", "PUT", job)
    servers[0].wait_for_followers(2)
    source.delete_database()
    end = monotonic() + 10
    while (doc := target.get("/_scheduler/docs")["docs"][0])["state"] != "crashing":
        assert monotonic() < end
        sleep(0.02)
    # CouchDB 3.5.0 gives this reason.
    assert doc["info"]["error"] == "{changes_req_failed,404,#Fun<couch_replicator_httpc.0.11803075>}"
