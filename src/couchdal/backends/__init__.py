"""Backends: the emulator in this process, and a real CouchDB over HTTP.

Each backend is imported on first use, so that a program pays only for the one it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from couchdal.backends.base import Backend, BaseBackend
from couchdal.config import choose_backend, data_file, read_settings

B = TypeVar("B", bound=Backend)


def _open_memory() -> BaseBackend:
    from couchdal.backends.memory import default_backend

    return default_backend()


def _open_couch() -> BaseBackend:
    from couchdal.backends.couch import CouchBackend

    return CouchBackend()


def _open_sqlite() -> BaseBackend:
    from couchdal.backends.sqlite import open_file

    return open_file(data_file())


_FACTORIES: dict[str, Callable[[], BaseBackend]] = {
    "memory": _open_memory,
    "sqlite": _open_sqlite,
    "couch": _open_couch,
}


def register(name: str, factory: Callable[[], BaseBackend]) -> Callable[[], None]:
    """Make a backend available by a name, as ``DAL_BACKEND`` gives it. Return the function that removes it.

    The empty name stands for the backend of handles that name none, in place of the choice by the environment.
    """
    _FACTORIES[name] = factory

    def remove() -> None:
        _FACTORIES.pop(name, None)

    return remove


def open_backend(name: str | None = None) -> BaseBackend:
    """Return the backend with a name, or the one that ``choose_backend`` chooses.

    ``memory`` is this process's shared emulator, ``sqlite`` the emulator with its data in ``COUCHDAL_DATA``, and
    ``couch`` the configured CouchDB. ``sqlite:///tasks.db`` names the file itself. Raise ``ValueError`` for an unknown
    name, and ``NotConfigured`` for a file that cannot be used.
    """
    if name is not None and name.startswith("sqlite:"):
        from couchdal.backends.sqlite import open_url

        return open_url(name)
    unnamed = _FACTORIES.get("") if name is None else None
    return unnamed() if unnamed is not None else _FACTORIES[choose_backend(name, known=_FACTORIES)]()


def with_database(backend: B, database: str | None) -> B:
    """Return the backend with its paths relative to ``database``, else to its own, else to ``COUCHDB_DATABASE``."""
    configured = read_settings().database if backend.database is None else None
    named = database or backend.database or configured
    if named is None or (named == backend.database and configured is None):
        return backend
    return backend.bind(named, default=configured)
