"""Compile and call the functions of a design document, in one JavaScript engine per design document.

This module does not know documents, rows or requests: JSON values go in and out. The script ``javascript.js`` runs in
the engine. It defines the API for functions, and translates what they throw. Source: ``share/server`` and
``couch_query_servers``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from threading import RLock, get_ident
from typing import Any, cast

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.erlang.term_text import pretty_term, print_reason
from couchdal.emulator.engine.views.view_definition import JAVASCRIPT
from couchdal.errors import BadRequest, Conflict, CouchError, NotFound, NotSupported, ServerError, thrown
from couchdal.http.json_text import encode_json
from couchdal.pace import begin_long

# The errors of functions that do not become 500: status and error word. Source: chttpd:error_info.
_STATUSES = {
    "bad_request": (400, "bad_request"),
    "doc_validation": (400, "doc_validation"),
    "illegal_docid": (400, "illegal_docid"),
    "illegal_partition": (400, "illegal_partition"),
    "query_parse_error": (400, "query_parse_error"),
    "unauthorized": (401, "unauthorized"),
    "forbidden": (403, "forbidden"),
    "not_found": (404, "not_found"),
    "filter_fetch_error": (404, "not_found"),
    "method_not_allowed": (405, "method_not_allowed"),
    "not_acceptable": (406, "not_acceptable"),
    "gone": (410, "gone"),
    "missing_stub": (412, "missing_stub"),
    "request_entity_too_large": (413, "document_too_large"),
    "bad_ctype": (415, "bad_content_type"),
    "expectation_failed": (417, "expectation_failed"),
    "service_unavailable": (503, "service unavailable"),
    "insufficient_storage": (507, "insufficent_storage"),
}
# CouchDB's limits for a query server.
_MEMORY_LIMIT = 64 * 1024 * 1024
_TIME_LIMIT_S = 5.0


class QueryServer:
    """One JavaScript engine with one design document. Functions of different design documents share nothing.

    Raises ``ServerError`` for a design document in another language, and ``NotSupported`` if no engine is installed.
    """

    def __init__(self, design: Mapping[str, object]) -> None:
        language = design.get("language", JAVASCRIPT)
        if language != JAVASCRIPT:
            raise thrown("unknown_query_language", str(language))
        self._design = design
        self._lock = RLock()
        self._start()

    def _start(self) -> None:
        # An engine works only in the thread that made it.
        self._thread = get_ident()
        self._context = _engine().Context()
        self._context.set_memory_limit(_MEMORY_LIMIT)
        self._context.set_time_limit(_TIME_LIMIT_S)
        self._command = self._context.eval(_runtime())
        self._ask("load", self._design)

    def compile(self, source: str) -> None:
        """Raise ``BadRequest`` (``compilation_error``) or ``NotFound`` if the source does not define a function."""
        try:
            self._ask("compile", source)
        except ServerError as error:
            if error.error != "compilation_error":
                raise
            raise BadRequest(error.reason, error=error.error) from None

    def map(self, sources: Sequence[str], document: Mapping[str, object]) -> list[list[tuple[object, object]]]:
        """Return the keys and values that each map function emits. A function that throws emits nothing."""
        return cast("list[list[tuple[object, object]]]", self._ask("map", sources, document))

    def reduce(self, source: str, keys: object, values: Sequence[object], *, again: bool) -> object:
        """Return the result of a reduce function, or None if it throws."""
        return self._ask("reduce", source, keys, values, again)

    def call(self, path: Sequence[str], *args: object) -> object:
        """Call the function at a path of the design document, and return its result. Raise what it throws as an error.

        The first name of the path selects the calling convention: ``filters``, ``views`` (as a filter),
        ``validate_doc_update``, ``shows``, ``lists`` or ``updates``. The result of a list function has these members:
        ``heads``, of which the last one applies, and ``text``. If the function threw, it also has the ``error`` and
        the ``turn`` (``head``, ``row`` or ``end``) in which it did.
        """
        return self._ask("call", path, *args)

    def _ask(self, *command: object) -> object:
        begin_long()
        with self._lock:
            if self._thread != get_ident():
                self._start()
            return self._answer(command)

    def _answer(self, command: Sequence[object]) -> object:
        try:
            answer = self._command(encode_json(command).decode())
        except _engine().JSException as error:
            # An engine that was stopped in the middle of a call is in an unknown state.
            self._start()
            text = str(error)
            reason = "OS process timed out." if "interrupted" in text else text.partition("\n")[0]
            raise ServerError(reason, error="os_process_error") from None
        done, result = json.loads(_well_formed(answer))
        if done:
            return result
        failure = error_of(result)
        if command[0] in ("map", "reduce"):
            # In CouchDB, this error ends the process that builds the index.
            failure.is_traced = True
        raise failure


def find_function(record: DocumentRecord, *path: str) -> None:
    """Raise ``NotFound`` if the design document does not have a function at this path."""
    value: object = record.body
    for name in path:
        if not isinstance(value, dict):
            raise NotFound("json_mismatch")
        if name not in value:
            raise NotFound(f"missing json key: {name}")
        value = value[name]


def error_of(described: Sequence[object]) -> CouchError:
    """Return CouchDB's error for an error of its query server. That is usually an error word and a reason."""
    if len(described) != 2:
        return ServerError("error" + "".join(map(str, described)), error="badmatch")
    word, reason = str(described[0]), described[1]
    if reason is None:
        return thrown("unknown_error", word)
    if word == "conflict":
        return Conflict()
    if word in _STATUSES:
        status, shown = _STATUSES[word]
        return CouchError.of_value(print_reason(reason), status=status, error=shown)
    return thrown(word, reason if isinstance(reason, str) else pretty_term(reason))


def _well_formed(text: str) -> str:
    """Return JSON text in which a replacement character replaces each unpaired surrogate."""
    if "\\ud" not in text:
        return text
    whole: str = json.dumps(json.loads(text), ensure_ascii=False)
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@cache
def _runtime() -> str:
    return resources.files("couchdal.emulator.engine.javascript").joinpath("javascript.js").read_text("utf-8")


def _engine() -> Any:
    try:
        import quickjs  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotSupported("functions of design documents need JavaScript: pip install 'couchdal[views]'") from None
    return quickjs


def is_installed() -> bool:
    """Return True if a JavaScript engine is installed."""
    try:
        _engine()
    except NotSupported:
        return False
    return True
