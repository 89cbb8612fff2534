"""Middleware between callers and backends: one mechanism (``chain``) and the tools that use it."""

from __future__ import annotations

from typing import TypeVar

from couchdal.backends.base import Backend

B = TypeVar("B", bound=Backend)


def watched(backend: B, mode: str | None) -> B:
    """Return the backend with an index watch of a mode (``watch`` or ``require``), or as it is without a mode."""
    if mode is None:
        return backend
    from couchdal.middleware.index_watch import watch_indexes  # most programs watch no indexes

    return watch_indexes(backend, require=mode == "require")


def creating(backend: B, create: bool) -> B:
    """Return the backend as one that creates its database before the first request to it, or as it is."""
    database = backend.database or backend.default_database
    if not create or database is None:
        return backend
    # Most handles create nothing.
    from couchdal.middleware.chain import with_middleware
    from couchdal.middleware.creation import Creation

    return with_middleware(backend, Creation(database).create)
