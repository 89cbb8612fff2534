"""Fixtures with handles on every backend: the emulator, the emulator over HTTP, and the server of ``COUCHDB_URL``."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from couchdal import BaseBackend, CouchBackend, CouchDAL, MemoryBackend
from couchdal.transcripts.scenario import RECORDED_ADMIN

LIVE = os.environ.get("COUCHDB_URL")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the shell's settings: they must not decide which server the tests use."""
    for name in ("DAL_BACKEND", *(f"COUCHDB_{part}" for part in ("URL", "USER", "PASSWORD", "DATABASE", "TIMEOUT"))):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def couch(served_address: str) -> Iterator[Callable[..., CouchBackend]]:
    """A function that makes HTTP backends of the served emulator, with its admin's credentials.

    The fixture closes them: a socket that is left open would warn during some later test.
    """
    with ExitStack() as opened:

        def make(**options: object) -> CouchBackend:
            user, password = RECORDED_ADMIN
            given = {"user": user, "password": password, **options}
            return opened.enter_context(closing(CouchBackend(served_address, **given)))  # type: ignore[arg-type]

        yield make


@pytest.fixture(params=["memory", "http", *(["live"] if LIVE else [])])
def backend(request: pytest.FixtureRequest, couch: Callable[..., CouchBackend]) -> Iterator[BaseBackend]:
    found: BaseBackend = MemoryBackend() if request.param == "memory" else couch()
    if request.param == "live":
        found = CouchBackend(LIVE)
    yield found
    found.close()


@pytest.fixture
def dal(backend: BaseBackend) -> Iterator[CouchDAL]:
    """A handle on a new, empty database."""
    handle = CouchDAL(backend, database=f"client{uuid.uuid4().hex[:12]}")
    handle.create_database()
    yield handle
    handle.delete_database()
