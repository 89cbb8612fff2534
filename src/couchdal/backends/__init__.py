"""The two interchangeable servers behind the data-access layer.

Each is imported when it is asked for: neither pays for the other's imports.
"""

from __future__ import annotations

from typing import TypeVar

from couchdal.backends.base import Backend, BaseBackend
from couchdal.config import BOTH, read_settings

AnyBackend = TypeVar("AnyBackend", bound=Backend)


def open_backend(name: str) -> BaseBackend:
    """Return the backend of a name: this process's shared emulator, or the configured CouchDB."""
    if name == "memory":
        from couchdal.backends.memory import default_backend

        return default_backend()
    if name == BOTH:
        from couchdal.backends.either import EitherBackend

        return EitherBackend()
    from couchdal.backends.couch import CouchBackend

    return CouchBackend()


def watched(backend: AnyBackend, mode: str | None) -> AnyBackend:
    """Return the backend, watched for queries that lack an index if ``mode`` is given."""
    if mode is None:
        return backend
    from couchdal.middleware.index_watch import watch_indexes

    return watch_indexes(backend, require=mode == "require")


def with_database(backend: AnyBackend, database: str | None) -> AnyBackend:
    """Return the backend with its paths relative to ``database``, else to its own, else to ``COUCHDB_DATABASE``."""
    named = database or backend.database or read_settings().database
    return backend if named is None or named == backend.database else backend.bind(named, provide=True)
