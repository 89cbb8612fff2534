"""The fixtures: handles on the backend of the test run, and a server for other clients.

Each fixture imports what it uses when a test asks for it: pytest loads this module in every run.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from couchdal.async_client import AsyncCouchDAL
    from couchdal.client import CouchDAL


@pytest.fixture(scope="session")
def dal_backend(request: pytest.FixtureRequest) -> str:
    """The backend of the current test: ``memory`` or ``couch``."""
    from couchdal.config import choose_backend

    return choose_backend()


@pytest.fixture
def dal(dal_backend: str) -> Iterator[CouchDAL]:
    """A ``CouchDAL()`` on the memory server or, with ``--dal-backend=couch``, on a private database."""
    from couchdal.client import CouchDAL

    with CouchDAL() as handle:
        yield handle


@pytest.fixture
def async_dal(dal_backend: str) -> AsyncCouchDAL:
    """An ``AsyncCouchDAL()``, as ``dal``."""
    from couchdal.async_client import AsyncCouchDAL

    return AsyncCouchDAL()


@pytest.fixture
def make_dal(dal_backend: str) -> Iterator[Callable[..., CouchDAL]]:
    """A function that creates a database, with a generated name or yours, and returns a handle for it."""
    from couchdal.client import CouchDAL

    made: list[CouchDAL] = []

    def make(name: str | None = None, *, partitioned: bool | None = None, indexes: str | None = None) -> CouchDAL:
        base = os.environ.get("COUCHDB_DATABASE", "test")
        handle = CouchDAL(database=name or f"{base}-{len(made) + 1}", indexes=indexes)
        handle.create_database(partitioned=partitioned)
        made.append(handle)
        return handle

    yield make
    for handle in made:
        handle.close()


@pytest.fixture(scope="session")
def _served_memory() -> str:
    """The address of a thread that serves the memory server. It ends with the process."""
    try:
        from couchdal.server.listener import address_of, listen, serve
    except ImportError as lack:
        raise pytest.UsageError(f"couch_server needs {lack.name}: pip install 'couchdal[server]'") from None
    from couchdal.backends.memory import default_backend
    from couchdal.server.application import Application

    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    application = Application(default_backend())
    threading.Thread(target=serve, args=(application, listener, ready.set), daemon=True).start()
    ready.wait(10)
    return address_of(listener)


@pytest.fixture
def couch_server(dal_backend: str, request: pytest.FixtureRequest) -> str:
    """The address of a CouchDB server: the memory server behind a socket, or ``COUCHDB_URL`` in live runs."""
    if dal_backend == "couch":
        if not os.environ.get("COUCHDB_URL"):
            raise pytest.UsageError("couch_server needs the address of the CouchDB server: set COUCHDB_URL")
        return os.environ["COUCHDB_URL"]
    address: str = request.getfixturevalue("_served_memory")
    return address
