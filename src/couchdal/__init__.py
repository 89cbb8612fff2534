"""A data-access layer for CouchDB: the same calls over a real server and over an in-process emulator.

Every name is imported when it is first used: the pytest plugin costs nothing in runs that don't touch the package,
and nobody pays for the backend, the HTTP client or the event loop that they don't use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from couchdal.async_client import AsyncCouchDAL
    from couchdal.backends.async_couch import AsyncCouchBackend
    from couchdal.backends.base import AsyncBackend, BaseBackend
    from couchdal.backends.couch import CouchBackend
    from couchdal.backends.memory import MemoryBackend
    from couchdal.client import CouchDAL
    from couchdal.errors import (
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
    from couchdal.http.json_text import JSON
    from couchdal.http.messages import Request, Response
    from couchdal.middleware.events import RequestEvent, observe

_MODULES = {
    "AsyncCouchDAL": "couchdal.async_client",
    "AsyncBackend": "couchdal.backends.base",
    "BaseBackend": "couchdal.backends.base",
    "AsyncCouchBackend": "couchdal.backends.async_couch",
    "CouchBackend": "couchdal.backends.couch",
    "MemoryBackend": "couchdal.backends.memory",
    "CouchDAL": "couchdal.client",
    "observe": "couchdal.middleware.events",
    "RequestEvent": "couchdal.middleware.events",
    "JSON": "couchdal.http.json_text",
    "Request": "couchdal.http.messages",
    "Response": "couchdal.http.messages",
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


__version__ = "0.1.0"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'couchdal' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(_MODULES.get(name, "couchdal.errors")), name)
    globals()[name] = found
    return found
