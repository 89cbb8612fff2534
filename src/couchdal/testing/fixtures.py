"""The fixtures: handles on the backend of the test run, and a server for other clients."""

# Each fixture imports what it uses when a test asks for it: pytest loads this module in every run.

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from couchdal.async_client import AsyncCouchDAL
    from couchdal.backends.base import AsyncBackend, BaseBackend
    from couchdal.client import CouchDAL


@pytest.fixture(scope="session")
def dal_backend(request: pytest.FixtureRequest) -> str:
    """The backend of the current test: ``memory`` or ``couch``.

    With ``--dal-backend=both`` it has both values, one after the other, and wider fixtures are set up for each. With
    ``--dal-backend=compare`` it is ``couch``. A test that chooses a backend by its mark gets that one.
    """
    from couchdal.testing.either import current_backend

    return current_backend()


@pytest.fixture
def dal(dal_backend: str) -> Iterator[CouchDAL]:
    """A ``CouchDAL()`` on the memory server or, with ``--dal-backend=couch``, on the live server."""
    from couchdal.client import CouchDAL

    with CouchDAL(dal_backend) as handle:
        yield handle


@pytest.fixture
def async_dal(dal_backend: str) -> AsyncCouchDAL:
    """An ``AsyncCouchDAL()``, as ``dal``."""
    from couchdal.async_client import AsyncCouchDAL

    return AsyncCouchDAL(dal_backend)


@pytest.fixture
def make_dal(dal_backend: str) -> Iterator[Callable[..., CouchDAL]]:
    """A function that creates a database, with a generated name or yours, and returns a handle for it."""
    from couchdal.client import CouchDAL

    made: list[CouchDAL] = []

    def make(name: str | None = None, *, partitioned: bool | None = None, indexes: str | None = None) -> CouchDAL:
        handle = CouchDAL(dal_backend, database=name or f"test-{len(made) + 1}", indexes=indexes)
        handle.create_database(partitioned=partitioned)
        made.append(handle)
        return handle

    yield make
    for handle in made:
        handle.close()


def _served(backend: BaseBackend | AsyncBackend) -> str:
    """Return the address of a thread that serves a backend. It ends with the process."""
    try:
        from couchdal.server.listener import address_of, listen, serve
    except ImportError as lack:
        raise pytest.UsageError(f"couch_server needs {lack.name}: pip install 'couchdal[server]'") from None
    from couchdal.server.application import Application

    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    threading.Thread(target=serve, args=(Application(backend), listener, ready.set), daemon=True).start()
    ready.wait(10)
    return address_of(listener)


@pytest.fixture(scope="session")
def couch_server(dal_backend: str, pytestconfig: pytest.Config) -> str:
    """The address of a CouchDB server for other clients: the memory server, or a proxy of the live one.

    The address stays the same, so fixtures of every scope can use it. What a test writes is undone after the test.
    """
    if dal_backend == "memory":
        from couchdal.backends.memory import default_backend

        return _served(default_backend())
    from couchdal.backends.async_couch import AsyncCouchBackend
    from couchdal.testing.mapping import MAPPING

    backend = AsyncCouchBackend()
    # Other clients name a database in each path.
    backend.database = None
    address = _served(backend)
    # Its databases have private names.
    pytestconfig.stash[MAPPING].serves_at(address)
    return address


@pytest.fixture
def couch_intercept(request: pytest.FixtureRequest, dal_backend: str) -> Iterator[str]:
    """The address of a CouchDB for other clients in this process: their requests are answered without a socket.

    The mark ``dal_intercept``, or the setting, names other addresses than that of ``COUCHDB_URL`` or
    ``http://localhost:5984``. In a live run the requests go to the live server. The test's writes are undone.
    """
    from couchdal.testing.intercepting import address_of, prepare

    marks = request.node.iter_markers("dal_intercept")
    wanted = [origin for mark in marks for origin in mark.args] or request.config.getini("dal_intercept")
    with prepare(wanted, f"{request.node.nodeid}: dal_intercept") as interception:
        yield address_of(interception.origins[0])
