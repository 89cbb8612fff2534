"""couchdal is a data-access layer for CouchDB with a built-in emulator.

This module lists the public names. Each is imported on first use, so nobody pays for the backend, the HTTP client
or the event loop that they do not use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

#: The version of the package. ``pyproject.toml`` reads it from here.
__version__ = "0.1.0"

# Each name is listed twice: for type checkers and for Python. ``tests/test_public_api.py`` compares both lists.
if TYPE_CHECKING:
    from couchdal.async_client import AsyncChangeFeed as AsyncChangeFeed, AsyncCouchDAL as AsyncCouchDAL
    from couchdal.backends.async_couch import AsyncCouchBackend as AsyncCouchBackend
    from couchdal.backends.base import AsyncBackend as AsyncBackend, BaseBackend as BaseBackend, Emulator as Emulator
    from couchdal.backends.couch import CouchBackend as CouchBackend
    from couchdal.backends.memory import MemoryBackend as MemoryBackend
    from couchdal.backends.sqlite import SqliteBackend as SqliteBackend
    from couchdal.client import ChangeFeed as ChangeFeed, CouchDAL as CouchDAL
    from couchdal.emulator.engine.server.server import ServerClock as ServerClock
    from couchdal.emulator.engine.server.snapshot import Snapshot as Snapshot
    from couchdal.errors import (
        BackendError as BackendError,
        BadContentType as BadContentType,
        BadRequest as BadRequest,
        BrokenOff as BrokenOff,
        Conflict as Conflict,
        ConnectionRefused as ConnectionRefused,
        ConnectionReset as ConnectionReset,
        CouchError as CouchError,
        DocValidation as DocValidation,
        FileExists as FileExists,
        Forbidden as Forbidden,
        Gone as Gone,
        HostRefused as HostRefused,
        IllegalDatabaseName as IllegalDatabaseName,
        IllegalDocId as IllegalDocId,
        IllegalPartition as IllegalPartition,
        MemoryOnly as MemoryOnly,
        MethodNotAllowed as MethodNotAllowed,
        MissingStub as MissingStub,
        NotConfigured as NotConfigured,
        NotConnected as NotConnected,
        NotFound as NotFound,
        NotJSON as NotJSON,
        NotSupported as NotSupported,
        PreconditionFailed as PreconditionFailed,
        QueryParseError as QueryParseError,
        ResetRefused as ResetRefused,
        ServerError as ServerError,
        TimedOut as TimedOut,
        TooLarge as TooLarge,
        Unauthorized as Unauthorized,
        Unavailable as Unavailable,
        Unreachable as Unreachable,
    )
    from couchdal.failure import FailedRequest as FailedRequest
    from couchdal.http.cors import Cors as Cors
    from couchdal.http.json_text import JSON as JSON
    from couchdal.http.messages import Request as Request, Response as Response
    from couchdal.interception.intercept import Interception as Interception, intercept as intercept
    from couchdal.middleware.events import RequestEvent as RequestEvent, observe as observe
    from couchdal.middleware.faults import Faults as Faults
    from couchdal.middleware.index_watch import SuggestedIndex as SuggestedIndex
    from couchdal.middleware.request_log import LoggedRequest as LoggedRequest, RequestLog as RequestLog
    from couchdal.operations.async_follower import AsyncChangesFollower as AsyncChangesFollower
    from couchdal.operations.async_typed import AsyncTypedDocuments as AsyncTypedDocuments
    from couchdal.operations.codecs import InvalidDocument as InvalidDocument
    from couchdal.operations.follower import ChangesFollower as ChangesFollower
    from couchdal.operations.typed import TypedDocuments as TypedDocuments
    from couchdal.server.application import Application as Application
    from couchdal.server.framing import Limits as Limits
    from couchdal.types import (
        AllDocsResult as AllDocsResult,
        Attachment as Attachment,
        BulkGetDoc as BulkGetDoc,
        BulkGetError as BulkGetError,
        BulkGetItem as BulkGetItem,
        BulkGetResult as BulkGetResult,
        BulkRow as BulkRow,
        Change as Change,
        ChangedRevision as ChangedRevision,
        ChangesOptions as ChangesOptions,
        ChangesResult as ChangesResult,
        CreatedIndex as CreatedIndex,
        DatabaseInfo as DatabaseInfo,
        DatabaseSizes as DatabaseSizes,
        Document as Document,
        ExecutionStats as ExecutionStats,
        Explanation as Explanation,
        FindResult as FindResult,
        FollowOptions as FollowOptions,
        Index as Index,
        IndexFields as IndexFields,
        IndexList as IndexList,
        MissingRevisions as MissingRevisions,
        Ok as Ok,
        OpenRevision as OpenRevision,
        PurgeResult as PurgeResult,
        Revisions as Revisions,
        Row as Row,
        RowValue as RowValue,
        Security as Security,
        SecurityMembers as SecurityMembers,
        Selector as Selector,
        SessionInfo as SessionInfo,
        Sort as Sort,
        UserContext as UserContext,
        Uuids as Uuids,
        ViewResult as ViewResult,
        ViewRow as ViewRow,
        WriteResult as WriteResult,
    )
else:
    _PUBLIC = {
        "couchdal.async_client": ("AsyncChangeFeed", "AsyncCouchDAL"),
        "couchdal.backends.async_couch": ("AsyncCouchBackend",),
        "couchdal.backends.base": (
            "AsyncBackend",
            "BaseBackend",
            "Emulator",
        ),
        "couchdal.backends.couch": ("CouchBackend",),
        "couchdal.backends.memory": ("MemoryBackend",),
        "couchdal.backends.sqlite": ("SqliteBackend",),
        "couchdal.client": (
            "ChangeFeed",
            "CouchDAL",
        ),
        "couchdal.emulator.engine.server.server": ("ServerClock",),
        "couchdal.emulator.engine.server.snapshot": ("Snapshot",),
        "couchdal.errors": (
            "BackendError",
            "BadContentType",
            "BadRequest",
            "BrokenOff",
            "ConnectionRefused",
            "ConnectionReset",
            "Conflict",
            "CouchError",
            "DocValidation",
            "FileExists",
            "Forbidden",
            "Gone",
            "HostRefused",
            "IllegalDatabaseName",
            "IllegalDocId",
            "IllegalPartition",
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
            "ResetRefused",
            "ServerError",
            "TimedOut",
            "TooLarge",
            "Unauthorized",
            "Unavailable",
            "Unreachable",
        ),
        "couchdal.failure": ("FailedRequest",),
        "couchdal.http.json_text": ("JSON",),
        "couchdal.http.messages": (
            "Request",
            "Response",
        ),
        "couchdal.interception.intercept": (
            "Interception",
            "intercept",
        ),
        "couchdal.middleware.events": (
            "RequestEvent",
            "observe",
        ),
        "couchdal.middleware.faults": ("Faults",),
        "couchdal.middleware.index_watch": ("SuggestedIndex",),
        "couchdal.middleware.request_log": (
            "LoggedRequest",
            "RequestLog",
        ),
        "couchdal.server.application": ("Application",),
        "couchdal.http.cors": ("Cors",),
        "couchdal.server.framing": ("Limits",),
        "couchdal.operations.async_follower": ("AsyncChangesFollower",),
        "couchdal.operations.async_typed": ("AsyncTypedDocuments",),
        "couchdal.operations.typed": ("TypedDocuments",),
        "couchdal.operations.codecs": ("InvalidDocument",),
        "couchdal.operations.follower": ("ChangesFollower",),
        "couchdal.types": (
            "AllDocsResult",
            "Attachment",
            "BulkGetDoc",
            "BulkGetError",
            "BulkGetItem",
            "BulkGetResult",
            "BulkRow",
            "Change",
            "ChangedRevision",
            "ChangesOptions",
            "ChangesResult",
            "CreatedIndex",
            "DatabaseInfo",
            "DatabaseSizes",
            "Document",
            "ExecutionStats",
            "Explanation",
            "FindResult",
            "FollowOptions",
            "Index",
            "IndexFields",
            "IndexList",
            "MissingRevisions",
            "Ok",
            "OpenRevision",
            "PurgeResult",
            "Revisions",
            "Row",
            "RowValue",
            "Security",
            "SecurityMembers",
            "Selector",
            "SessionInfo",
            "Sort",
            "UserContext",
            "Uuids",
            "ViewResult",
            "ViewRow",
            "WriteResult",
        ),
    }
    _MODULES = {name: module for module, names in _PUBLIC.items() for name in names}

    __all__ = ["__version__", *sorted(_MODULES)]

    def __dir__() -> list[str]:
        return __all__.copy()

    def __getattr__(name: str) -> object:
        if name not in _MODULES:
            raise AttributeError(f"module 'couchdal' has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value
        return value
