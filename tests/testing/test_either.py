"""The backend of handles that are made at import: it delegates to the one of the current test."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from couchdal import AsyncCouchDAL
from couchdal.testing.either import EitherBackend


def test_cancelling_a_request_ends_at_once_while_the_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """CouchDB sends nothing of a feed before its first change or heartbeat."""

    async def cancel(dal: AsyncCouchDAL) -> float:
        task = asyncio.create_task(dal.info())
        await asyncio.sleep(0.1)
        before = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return before

    def seconds_to_cancel(dal: AsyncCouchDAL) -> float:
        # Until the loop has ended, which waits for threads.
        before = asyncio.run(cancel(dal))
        return time.monotonic() - before

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("DAL_BACKEND", "couch")
        monkeypatch.setenv("COUCHDB_TIMEOUT", "2")
        monkeypatch.setenv("COUCHDB_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        dal = AsyncCouchDAL(EitherBackend(), database="tasks")
        # The fastest, because the machine may be busy.
        assert min(seconds_to_cancel(dal) for _ in range(3)) < 0.1
