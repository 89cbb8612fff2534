"""One call as a value: the request to send, how to read the answer, and the paths that name documents.

Nothing is sent here. Paths are relative to a database.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Generic, NamedTuple, TypeVar, cast

from couchdal.backends.base import AsyncBackend, Backend, BaseBackend, collect
from couchdal.errors import BackendError, CouchError, IllegalDocId
from couchdal.http.messages import ABSENT, Request, Response
from couchdal.http.redaction import name_request
from couchdal.http.urls import quote

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Item = TypeVar("Item")


class Operation(NamedTuple, Generic[T_co]):
    """One call. ``database`` is ``None`` for the caller's own; ``read`` reads an answer that is not JSON."""

    method: str
    path: str
    payload: object = ABSENT
    body: bytes = b""
    headers: Mapping[str, str] | None = None
    read: Callable[[Response], T_co] | None = None
    database: str | None = None

    def request(self, backend: Backend) -> Request:
        """Return the request, with the database's name in its path."""
        target = backend if self.database is None else backend.bind(self.database)
        return target.relative_request(self.method, self.path, self.payload, self.headers, self.body)

    def result(self, backend: Backend, response: Response) -> T_co:
        """Return the result. Raise the answer's ``CouchError``, or ``BackendError`` if it is not CouchDB's."""
        if self.read is not None and response.status < 400:
            return self.read(response)
        # The caller's annotation names the shape of the answer; CouchDB promises it.
        return cast(T_co, backend.result(response))


class Operations:
    """Base class of the blocking client's methods: sends an operation and waits for the answer."""

    backend: BaseBackend

    def _run(self, operation: Operation[T]) -> T:
        request = operation.request(self.backend)
        try:
            return operation.result(self.backend, self.backend.exchange(request))
        except (CouchError, BackendError) as error:
            name_request(error, request)
            raise

    def _pause(self, seconds: float) -> None:
        time.sleep(seconds)


class AsyncOperations:
    """Base class of the asynchronous client's methods: sends an operation and awaits the answer."""

    backend: AsyncBackend

    async def _run(self, operation: Operation[T]) -> T:
        request = operation.request(self.backend)
        try:
            return operation.result(self.backend, await collect(await self.backend.exchange(request)))
        except (CouchError, BackendError) as error:
            name_request(error, request)
            raise

    async def _pause(self, seconds: float) -> None:
        from couchdal.backends.event_libraries import pause  # blocking programs do not import asyncio

        await pause(seconds)


def open_feed(backend: BaseBackend, operation: Operation[T]) -> Response:
    """Return the answer that a feed begins with. Raise its ``CouchError`` if CouchDB refuses the feed."""
    request = operation.request(backend)
    try:
        response = backend.exchange(request)
        if response.status >= 400:
            backend.result(response)
    except (CouchError, BackendError) as error:
        name_request(error, request)
        raise
    response.name_error = partial(name_request, request=request)
    return response


async def open_async_feed(backend: AsyncBackend, operation: Operation[T]) -> Response:
    """Return the answer that a feed begins with, as ``open_feed`` does."""
    request = operation.request(backend)
    try:
        response = await backend.exchange(request)
        if response.status >= 400:
            backend.result(await collect(response))
    except (CouchError, BackendError) as error:
        name_request(error, request)
        raise
    response.name_error = partial(name_request, request=request)
    return response


def document_path(doc_id: str) -> str:
    """Return the path of a document. The id is percent-encoded, so the path cannot name another document.

    Raise ``IllegalDocId`` for an id that CouchDB does not allow: its path would name something else.
    """
    if not isinstance(doc_id, str):
        raise TypeError(f"a document id must be a str, not {type(doc_id).__name__}")
    if not doc_id:
        raise IllegalDocId("Document id must not be empty")
    if doc_id[0] != "_":
        return "/" + quote(doc_id)
    for prefix in ("_design/", "_local/"):
        if doc_id.startswith(prefix) and doc_id != prefix:
            return f"/{prefix}{quote(doc_id[len(prefix) :])}"
    raise IllegalDocId("Only reserved document ids may start with underscore.")


def local_path(doc_id: str) -> str:
    """Return the path of a local document. The prefix ``_local/`` of its id is optional."""
    return document_path("_local/" + doc_id.removeprefix("_local/"))


def attachment_path(doc_id: str, name: str) -> str:
    """Return the path of an attachment. Its name may contain slashes."""
    if not name:
        raise ValueError("an attachment must have a name")
    return f"{document_path(doc_id)}/{quote(name)}"


def query(**parameters: object) -> str:
    """Return ``?name=value&...``, or an empty string. Skip parameters that are ``None``.

    Text is sent as it is, any other value as JSON. Everything is percent-encoded.
    """
    parts = []
    for name, value in parameters.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, allow_nan=False, separators=(",", ":"))
            parts.append(f"{quote(name)}={quote(text)}")
    return "?" + "&".join(parts) if parts else ""


def add_query(path: str, parameters: Mapping[str, object] | None) -> str:
    """Return the path with more parameters in its query string."""
    added = query(**parameters) if parameters else ""
    return path + (added.replace("?", "&", 1) if "?" in path else added)


def key_text(key: object) -> str | None:
    """Return a key as the JSON text that a query string carries, or ``None`` for ``ABSENT``."""
    return None if key is ABSENT else json.dumps(key, allow_nan=False)


def id_text(doc_id: str | None) -> str | None:
    """Return a document id as the JSON text that a query string carries."""
    return None if doc_id is None else json.dumps(doc_id)


def index_name(use_index: str | Iterable[str] | None) -> object:
    """Return the value of ``use_index``: a design document, or the list of a design document and a name."""
    return use_index if use_index is None or isinstance(use_index, str) else list(use_index)


def as_list(values: Iterable[Item]) -> list[Item]:
    """Return the values as a list. Raise ``TypeError`` for a single string, which would become a list of letters."""
    if isinstance(values, str):
        raise TypeError(f"expected a list of values, not the string {values!r}")
    return list(values)


def without_none(**members: object) -> dict[str, object]:
    """Return the members that are not ``None``."""
    return {name: value for name, value in members.items() if value is not None}
