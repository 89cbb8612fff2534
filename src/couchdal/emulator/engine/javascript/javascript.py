"""Compile and call the functions of a design document, in one JavaScript engine per design document.

This module does not know documents, rows or requests: JSON values go in and out. The script ``javascript.js`` runs in
the engine. It defines the API for functions, and translates what they throw. ``runtime.py`` says where the engine runs.
Source: ``share/server`` and ``couch_query_servers``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from couchdal.emulator.engine.documents.document import DocumentRecord
from couchdal.emulator.engine.erlang.term_text import pretty_term, print_reason
from couchdal.emulator.engine.javascript.runtime import InProcess, Runtime, Stopped
from couchdal.emulator.engine.views.view_definition import JAVASCRIPT, is_javascript
from couchdal.errors import BadRequest, Conflict, CouchError, NotFound, ServerError, thrown
from couchdal.http.json_text import encode_json, parse_float
from couchdal.pace import begin_long, waiting

#: The keys and values that a map function emits for a document.
Emitted: TypeAlias = "list[tuple[object, object]]"

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
# One call passes on at most this many messages, because the functions of an index may throw for each document.
_MOST_MESSAGES = 100
# The most commands, and the most characters of JSON, that go to an engine at once.
_BATCH, _BATCH_LENGTH = 100, 256 * 1024


class Message(NamedTuple):
    """A text that a function logged (``is_thrown`` is false) or threw. ``doc_id`` and ``line`` are None if unknown.

    ``function`` is the path of the function in its design document, as in ``views/by_name/map``.
    """

    text: str
    is_thrown: bool
    function: str
    doc_id: str | None
    line: int | None


class _StoppedFunction(ServerError):
    """A function was stopped. ``turns`` has the output of a list function until then, as JSON texts."""

    def __init__(self, reason: str, turns: Sequence[str], *, is_traced: bool) -> None:
        super().__init__(reason, error="os_process_error")
        self.turns = turns
        self.is_traced = is_traced


class QueryServer:
    """One JavaScript engine with one design document. Functions of different design documents share nothing.

    ``runtime`` decides where the engine runs; without it, the engine runs in this process. ``tell`` receives the
    messages that functions log and throw, and ``names`` has the paths of the functions that are called by their source.
    Raise ``ServerError`` for a design document in another language, and ``NotSupported`` if no engine is installed.
    """

    def __init__(
        self,
        design: Mapping[str, object],
        runtime: Runtime | None = None,
        tell: Callable[[Message], None] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        language = design.get("language", JAVASCRIPT)
        if not is_javascript(language):
            raise thrown("unknown_query_language", str(language))
        begin_long()
        #: How often a reduce function was called, until somebody counts it.
        self.reductions: int = 0
        self._tell = tell
        self._names = names or {}
        self._engine = (runtime or InProcess()).start(_text("load", design))

    def compile(self, source: str) -> None:
        """Raise ``BadRequest`` (``compilation_error``) or ``NotFound`` if the source does not define a function."""
        try:
            self._ask("compile", source)
        except ServerError as error:
            if error.error != "compilation_error":
                raise
            raise BadRequest(error.reason, error=error.error) from None

    def map(self, sources: Sequence[str], documents: Iterable[Mapping[str, object]]) -> Iterator[list[Emitted]]:
        """Yield the keys and values that each map function emits for each document.

        A function that throws emits nothing.
        """
        told = 0
        for texts in _batches(_text("map", sources, document) for document in documents):
            for answer in self._answers(texts, is_traced=True):
                done, result, *messages = _parsed(answer)
                if messages and told <= _MOST_MESSAGES:
                    told += self._pass_on(messages[0], "", _MOST_MESSAGES - told)
                yield cast("list[Emitted]", _checked(done, result, is_traced=True))

    def reduce(self, source: str, keys: object, values: Sequence[object], *, again: bool) -> object:
        """Return the result of a reduce function, or None if it throws."""
        self.reductions += 1
        return self._ask("reduce", source, keys, values, again)

    def call(self, path: Sequence[str], *args: object) -> object:
        """Call the function at a path of the design document, and return its result. Raise what it throws as an error.

        The first name of the path selects the calling convention: ``filters``, ``views`` (as a filter),
        ``validate_doc_update``, ``shows``, ``lists`` or ``updates``. The result of a list function has these members:
        ``heads``, of which the last one applies, and ``text``. If the function threw, it also has the ``error`` and
        the ``turn`` (``head``, ``row`` or ``end``) in which it did.
        """
        try:
            return self._ask("call", path, *args)
        except _StoppedFunction as stopped:
            if not stopped.turns:
                raise
            turns = [_parsed(turn) for turn in stopped.turns]
            # The function gets a row, or the end, for each turn.
            has_row = len(turns) <= len(cast("Sequence[object]", args[-1]))
            return {"turns": turns, "turn": "row" if has_row else "end", "error": [stopped.error, stopped.reason]}

    def _ask(self, *command: object) -> object:
        (answer,) = self._answers([_text(*command)], is_traced=command[0] == "reduce")
        done, result, *messages = _parsed(answer)
        if messages and command[0] != "compile":
            path = command[1] if command[0] == "call" else ()
            self._pass_on(messages[0], "/".join(cast("Sequence[str]", path)), _MOST_MESSAGES)
        # In CouchDB, the error of a reduce function ends the process that builds the index.
        return _checked(done, result, is_traced=command[0] == "reduce")

    def _answers(self, texts: Sequence[str], *, is_traced: bool) -> list[str]:
        begin_long()
        try:
            with waiting():
                return self._engine.ask(texts)
        except Stopped as stopped:
            raise _StoppedFunction(str(stopped), stopped.turns, is_traced=is_traced) from None

    def _pass_on(self, messages: Sequence[Sequence[object]], path: str, most: int) -> int:
        """Pass on the messages of functions. Return their number, with the message about dropped ones."""
        if self._tell is None:
            return 0
        for level, text, line, doc_id, source in messages[:most]:
            name = path or self._names.get(str(source), "a function of a view")
            known = doc_id if isinstance(doc_id, str) else None
            at = line if isinstance(line, int) else None
            self._tell(Message(str(text), level == "thrown", name, known, at))
        if len(messages) > most:
            self._tell(Message("further messages are dropped", False, path or "views", None, None))
        return len(messages)


def _checked(done: object, result: Sequence[object], *, is_traced: bool) -> object:
    """Return the result of a command, or raise the error that it describes."""
    if done:
        return result
    failure = error_of(result)
    failure.is_traced = is_traced
    raise failure


def _text(*command: object) -> str:
    return encode_json(command).decode()


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    length = 0
    for text in texts:
        batch.append(text)
        length += len(text)
        if len(batch) == _BATCH or length >= _BATCH_LENGTH:
            yield batch
            batch, length = [], 0
    if batch:
        yield batch


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


def _parsed(text: str) -> Any:
    whole = _well_formed(text)
    # Of all numbers that JavaScript writes, Python and CouchDB read only this one differently.
    return json.loads(whole, parse_float=parse_float) if "5e-324" in whole else json.loads(whole)


def _well_formed(text: str) -> str:
    """Return JSON text in which a replacement character replaces each unpaired surrogate."""
    if "\\ud" not in text:
        return text
    whole: str = json.dumps(json.loads(text), ensure_ascii=False)
    return whole.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
