"""The fixtures: handles on the backend that tests run on, and a server of it for clients of any kind."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from dal.async_client import AsyncCouchDAL
    from dal.client import CouchDAL


@pytest.fixture
def dal_backend(request: pytest.FixtureRequest) -> str:
    """The backend of this test: ``memory`` or ``couch``."""
    from dal.config import choose_backend

    return choose_backend()


class BothBackends:
    """Has each test run on memory and on CouchDB, where it is registered."""

    @pytest.fixture(autouse=True)
    def _on_both(self, dal_backend: str) -> None:
        pass

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        metafunc.parametrize("dal_backend", ["memory", "couch"], indirect=True)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        callspec: Any = getattr(item, "callspec", None)
        named: str | None = callspec.params.get("dal_backend") if callspec is not None else None
        if named is None:
            return (yield)
        item.user_properties.append(("dal_backend", named))
        before, os.environ["DAL_BACKEND"] = os.environ["DAL_BACKEND"], named
        try:
            return (yield)
        finally:
            os.environ["DAL_BACKEND"] = before


@pytest.fixture
def dal(dal_backend: str) -> Iterator[CouchDAL]:
    """``CouchDAL()``: on the memory server, else on a database of this test's own."""
    from dal.client import CouchDAL

    with CouchDAL() as handle:
        yield handle


@pytest.fixture
def async_dal(dal_backend: str) -> AsyncCouchDAL:
    """``AsyncCouchDAL()``, likewise."""
    from dal.async_client import AsyncCouchDAL

    return AsyncCouchDAL()


@pytest.fixture
def make_dal(dal_backend: str) -> Iterator[Callable[..., CouchDAL]]:
    """A function that creates a database, with a name of its choice or yours, and returns a handle on it."""
    from dal.client import CouchDAL

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
    """The address of a server thread before the memory server; it ends with the process."""
    try:
        from dal.serve import address_of, listen, serve
    except ImportError as lack:
        raise pytest.UsageError(f"couch_server needs {lack.name}: pip install 'couchdal[server]'") from None
    from dal.asgi import Application
    from dal.backends.memory import default_backend

    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    application = Application(default_backend())
    threading.Thread(target=serve, args=(application, listener, ready.set), daemon=True).start()
    ready.wait(10)
    return address_of(listener)


@pytest.fixture
def couch_server(dal_backend: str, request: pytest.FixtureRequest) -> str:
    """The address of a CouchDB: of the memory server over a socket, else of the one that ``COUCHDB_URL`` names."""
    if dal_backend == "couch":
        return os.environ["COUCHDB_URL"]
    address: str = request.getfixturevalue("_served_memory")
    return address
