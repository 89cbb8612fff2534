"""A data-access layer for CouchDB: the same calls over a real server and over an in-process emulator.

Every name is imported when it is first used: the pytest plugin costs nothing in runs that don't touch the package,
and nobody pays for the backend, the HTTP client or the event loop that they don't use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dal.async_client import AsyncCouchDAL
    from dal.backends.async_couch import AsyncCouchBackend
    from dal.backends.base import AsyncBackend, BaseBackend
    from dal.backends.couch import CouchBackend
    from dal.backends.memory import MemoryBackend
    from dal.client import CouchDAL
    from dal.errors import (
        BackendError,
        BadContentType,
        BadRequest,
        BrokenOff,
        Conflict,
        CouchError,
        DocValidation,
        FileExists,
        Forbidden,
        Gone,
        HostRefused,
        IllegalDatabaseName,
        IllegalDocId,
        IllegalPartition,
        MemoryOnly,
        MethodNotAllowed,
        MissingStub,
        NotConfigured,
        NotConnected,
        NotFound,
        NotJSON,
        NotSupported,
        PreconditionFailed,
        QueryParseError,
        ResetRefused,
        ServerError,
        TimedOut,
        TooLarge,
        Unauthorized,
        Unavailable,
        Unreachable,
    )
    from dal.events import RequestEvent, observe
    from dal.json_text import JSON
    from dal.wire import Request, Response

_MODULES = {
    "AsyncCouchDAL": "dal.async_client",
    "AsyncBackend": "dal.backends.base",
    "BaseBackend": "dal.backends.base",
    "AsyncCouchBackend": "dal.backends.async_couch",
    "CouchBackend": "dal.backends.couch",
    "MemoryBackend": "dal.backends.memory",
    "CouchDAL": "dal.client",
    "observe": "dal.events",
    "RequestEvent": "dal.events",
    "JSON": "dal.json_text",
    "Request": "dal.wire",
    "Response": "dal.wire",
}

__all__ = [
    "JSON",
    "AsyncBackend",
    "AsyncCouchBackend",
    "AsyncCouchDAL",
    "BackendError",
    "BadContentType",
    "BadRequest",
    "BaseBackend",
    "BrokenOff",
    "Conflict",
    "CouchBackend",
    "CouchDAL",
    "CouchError",
    "DocValidation",
    "FileExists",
    "Forbidden",
    "Gone",
    "HostRefused",
    "IllegalDatabaseName",
    "IllegalDocId",
    "IllegalPartition",
    "MemoryBackend",
    "MemoryOnly",
    "MethodNotAllowed",
    "MissingStub",
    "NotConfigured",
    "NotConnected",
    "NotFound",
    "NotJSON",
    "NotSupported",
    "PreconditionFailed",
    "QueryParseError",
    "Request",
    "RequestEvent",
    "ResetRefused",
    "Response",
    "ServerError",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "observe",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'dal' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_MODULES.get(name, "dal.errors")), name)
    globals()[name] = found
    return found
