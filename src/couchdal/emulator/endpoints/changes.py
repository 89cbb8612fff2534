"""``/{db}/_changes``: the changes since a sequence, once or as a feed.

Sources: ``chttpd_db:handle_changes_req``, ``chttpd_db:parse_changes_query``, ``couch_changes:configure_filter``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import md5
from typing import TypeVar, cast

from couchdal.api.versions import NEWEST
from couchdal.emulator.engine.changes.changes import (
    EVERYTHING,
    NO_LIMIT,
    ChangesQuery,
    Cursor,
    Filter,
    FilterError,
    parse_since,
    read_changes,
    read_late,
    shown_pending,
    start_cursor,
)
from couchdal.emulator.engine.changes.changes_feed import FRAMINGS, MAX_WAIT_MS, ChangesFeed, sent_before_failure
from couchdal.emulator.engine.documents.document_read import Shown, open_winner
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import Atom, pretty_term
from couchdal.emulator.engine.mango.field_path import compile_projection
from couchdal.emulator.engine.mango.find_query import parse_fields
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.emulator.engine.mango.selector_match import compile_selector
from couchdal.emulator.http.call import MANY_ROWS, Call
from couchdal.errors import BadRequest, CouchError, NotSupported, ServerError
from couchdal.http.answers import JSON_TYPE, laid_out
from couchdal.http.json_lines import changes_in_pieces, lay_out_changes
from couchdal.http.json_text import decode_request
from couchdal.http.messages import Response
from couchdal.http.urls import unquote

T = TypeVar("T")

_FEEDS = ("normal", *FRAMINGS)
# Existing Erlang atoms. CouchDB accepts them as a style and fails only when it applies the style to a document.
_ATOMS = frozenset(("", "all", "main", "docs", "leaf", "conflicts", "revs", "latest", "default", "full", "normal"))


class ChangesParameters:
    """The query parameters of a changes request. CouchDB parses them in order."""

    __slots__ = ("descending", "feed", "filter", "flags", "heartbeat", "limit", "seq_interval", "since", "style",
                 "timeout")  # fmt: skip

    def __init__(self, call: Call) -> None:
        self.feed: str = "normal"
        self.descending: bool = False
        self.since: str = "0"
        self.limit: int = NO_LIMIT
        self.style: str = "main_only"
        self.heartbeat: int | bool = False
        self.timeout: int | None = None
        self.filter: str = ""
        self.seq_interval: int | None = None
        self.flags: set[str] = set()
        for name, value in call.params:
            self._take(name.lower(), value)
        if self.feed == "eventsource":
            self.since = call.header("last-event-id") or self.since

    def _take(self, name: str, value: str) -> None:
        if name == "feed":
            self.feed = "continuous" if value == "live" else value
        elif name in ("since", "last-event-id"):
            self.since = value
        elif name == "limit":
            self.limit = _integer(value)
        elif name == "timeout":
            self.timeout = _integer(value)
        elif name == "style":
            if value not in ("main_only", "all_docs") and value not in _ATOMS:
                raise ServerError("badarg")
            self.style = value
        elif name == "heartbeat":
            self.heartbeat = value == "true" or _positive(
                value,
                "Invalid heartbeat value. Expecting a positive integer value (in milliseconds).",
                "The heartbeat value should be a positive integer (in milliseconds).",
            )
        elif name == "seq_interval":
            self.seq_interval = _positive(value, "invalid_seq_interval", "invalid_seq_interval")
        elif name == "filter":
            self.filter = value
        elif name == "descending":
            self.descending = self.descending or value == "true"
        elif name in ("include_docs", "conflicts", "attachments", "att_encoding_info") and value == "true":
            self.flags.add(name)

    def query(self, chosen: Filter) -> ChangesQuery:
        flags = self.flags
        conflicts = "conflicts" in flags
        shown = Shown(
            conflicts=conflicts, attachments="attachments" in flags, encoding_info="att_encoding_info" in flags
        )
        return ChangesQuery(
            descending=self.descending,
            limit=self.limit,
            style=self.style,
            conflicts=conflicts,
            shown=shown if "include_docs" in flags else None,
            filter=chosen,
            seq_interval=self.seq_interval,
        )


def _integer(text: str) -> int:
    number = parse_integer(text)
    if number is None:
        raise ServerError("badarg")
    return number


def _positive(text: str, malformed: str, too_small: str) -> int:
    number = parse_integer(text)
    if number is None:
        raise BadRequest(malformed)
    if number <= 0:
        raise BadRequest(too_small)
    return number


def read(call: Call) -> Response:
    """GET, HEAD and POST: the changes so far, or a feed."""
    db = call.db
    if call.method == "POST":
        call.require_json_type()
        if not call.has_empty_body():
            call.json_object()
    parameters = ChangesParameters(call)
    chosen = _filter(call, parameters.filter)
    if parameters.feed not in _FEEDS:
        raise BadRequest("Supported `feed` types: normal, continuous, live, longpoll, eventsource")
    headers: dict[str, str] = {}
    if parameters.feed == "normal":
        tag = md5(f"{db.seq(db.update_seq)}/{db.purge_seq}".encode(), usedforsecurity=False).hexdigest().upper()
        headers["etag"] = f'"{tag}"'
        if call.has_etag(headers["etag"]):
            return Response(304, headers)
    since = 0 if parameters.descending else parse_since(db, parameters.since)
    query = parameters.query(chosen)
    return _normal(call, query, since, headers) if headers else _feed(call, parameters, query, since)


def refuse(call: Call) -> Response:
    """Any other method on a path below ``_changes``, on which CouchDB crashes."""
    raise ServerError("function_clause")


def _normal(call: Call, query: ChangesQuery, since: int, headers: dict[str, str]) -> Response:
    cursor = start_cursor(call.db, query, since)
    if call.may_send_late and query.filter is EVERYTHING and min(cursor.ahead, query.limit) > MANY_ROWS:
        return Response(200, {"content-type": JSON_TYPE, **headers}, stream=_sent_late(call, query, cursor))
    rows, _ = read_changes(call.db, query, cursor)
    if query.shown is not None and query.filter.matches is None:
        call.db.count("couchdb/database_reads", len(rows))
    if cursor.failure is not None:
        return _broken_off(rows, cursor.failure, headers)
    pending = shown_pending(call.db, query, cursor, call.server.version)
    answer = {"results": rows, "last_seq": call.db.seq(cursor.seq), "pending": pending}
    return laid_out(answer, lay_out_changes, headers)


def _sent_late(call: Call, query: ChangesQuery, cursor: Cursor) -> Iterator[bytes]:
    """Return the text of the changes so far, which are read from the present state while they are sent."""
    version = call.server.version
    db, rows = read_late(call.db, query, cursor)

    def end() -> dict[str, object]:
        return {"last_seq": db.seq(cursor.seq), "pending": shown_pending(db, query, cursor, version)}

    return changes_in_pieces(rows, end)


def _broken_off(rows: list[dict[str, object]], failure: CouchError, headers: dict[str, str]) -> Response:
    """Return the answer for a filter that failed after some rows. Raise the failure if CouchDB has sent none yet."""
    from couchdal.emulator.http.function_answers import cut_off  # few filters fail

    framing = FRAMINGS["longpoll"]
    sent = sent_before_failure(framing, rows)
    if not sent:
        raise failure
    text = framing.start + b"".join(framing.row(row, place == 0) for place, row in enumerate(sent))
    return Response(200, {"content-type": JSON_TYPE, **headers}, stream=cut_off(text, str(failure)))


def _feed(call: Call, parameters: ChangesParameters, query: ChangesQuery, since: int) -> Response:
    wait_ms, beats = MAX_WAIT_MS, parameters.heartbeat is not False
    if type(parameters.heartbeat) is int:
        wait_ms = parameters.heartbeat
    elif not beats and parameters.timeout is not None:
        wait_ms = max(parameters.timeout, 0)
    kind = ChangesFeed
    if call.db.name == "_global_changes":
        from couchdal.emulator.engine.server.global_changes import EventsFeed  # few servers have this database

        kind = EventsFeed
    feed = kind(call.server, call.db, query, since, FRAMINGS[parameters.feed], wait_ms=wait_ms, heartbeats=beats)
    headers = {"content-type": JSON_TYPE}
    if parameters.feed == "eventsource":
        headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    return Response(200, headers, stream=feed)


def _filter(call: Call, name: str) -> Filter:
    """Return the filter with a name. Raise ``BadRequest`` or ``NotFound``."""
    if name == "_doc_ids":
        return Filter(doc_ids=_doc_ids(call))
    if name == "_selector":
        return _selector(call)
    if name == "_design":
        return Filter(design=True)
    if name == "_view":
        view = call.param("view")
        if not view:
            raise BadRequest("`view` filter parameter is not provided.")
        parts = _parts(view)
        if not parts:
            raise BadRequest("`view` must be of the form `designname/viewname`")
        if len(parts) != 2:
            raise ServerError("".join(parts), error="case_clause")
        return _function(call, "views", *parts)
    if name.startswith("_"):
        raise BadRequest("unknown builtin filter name")
    parts = _parts(name)
    if not parts:
        return EVERYTHING
    if len(parts) != 2:
        raise BadRequest("`filter` must be of the form `designname/filtername`")
    return _function(call, "filters", *parts)


def _parts(name: str) -> list[str]:
    return [unquote(part) for part in name.split("/") if part]


def _function(call: Call, kind: str, design_name: str, name: str) -> Filter:
    """Return the filter of a filter function or a view's map function. Raise ``NotFound``."""
    from couchdal.emulator.engine.javascript.javascript import find_function
    from couchdal.emulator.http.request_object import request_object  # few filters are functions

    record, _ = open_winner(call.db, f"_design/{design_name}")
    find_function(record, kind, name)
    path, args = ((kind, name), [request_object(call)]) if kind == "filters" else ((kind, name, "map"), [])
    asked = "ddoc_filter" if kind == "filters" else "ddoc_other"
    if args and call.method == "POST" and not call.has_empty_body():
        args[0]["body"] = call.json()

    def matches(document: dict[str, object]) -> bool:
        call.db.count("couchdb/database_reads")
        call.db.count_prompts(**{asked: 1})
        try:
            return cast("list[bool]", call.db.indexes.query_server(record).call(path, [document], *args))[0]
        except NotSupported:
            raise
        except CouchError as error:
            raise FilterError(error, _as_term(error)) from None

    return Filter(matches=matches, is_function=True)


def _as_term(error: CouchError) -> str:
    """Return what a function threw, without the braces. The stack trace in Erlang, which CouchDB adds, is empty."""
    if error.error != "unknown_error":
        return f"{error.error},{error.reason}"
    # The function threw no message.
    word = Atom(error.reason) if error.reason == "internal_error" else error.reason
    return f"{pretty_term(word)},null,[]"


def _doc_ids(call: Call) -> tuple[str, ...]:
    if call.method == "POST":
        value = call.json_object().get("doc_ids")
    else:
        value = decode_request((call.param("doc_ids") or "null").encode("utf-8", "surrogateescape"))
    if type(value) is not list or not all(type(item) is str for item in value):
        raise BadRequest("`doc_ids` filter parameter is not a list of doc ids.")
    return tuple(str(item) for item in value)


def _selector(call: Call) -> Filter:
    if call.method != "POST":
        raise BadRequest("Selector must be specified in POST payload")
    body = call.json_object()
    selector, fields = body.get("selector"), body.get("fields", [])
    if type(selector) is not dict:
        raise BadRequest("Selector error: expected a JSON object")
    try:
        normal = normalize_selector(selector)
        if call.server.version is not NEWEST:
            from couchdal.emulator.http.older_versions import check_selector  # few servers are older

            check_selector(call.server.version, selector)
        if type(fields) is not list:
            raise BadRequest("Selector error: fields must be JSON array")
        names = parse_fields(fields)
    except CouchError as error:
        # CouchDB answers every error of a selector here as a bad request.
        raise BadRequest(error.reason) from None
    projected = None if names is None else _failing_late(compile_projection(names))
    matching = _failing_late(compile_selector(normal))

    def matches(document: dict[str, object]) -> bool:
        call.db.count("couchdb/database_reads")
        call.db.count("mango/evaluate_selector")
        return matching(document)

    return Filter(matches=matches, project=projected)


def _failing_late(function: Callable[[dict[str, object]], T]) -> Callable[[dict[str, object]], T]:
    """Return a function that raises ``FilterError`` in place of other errors."""

    def guarded(document: dict[str, object]) -> T:
        try:
            return function(document)
        except CouchError as error:
            raise FilterError(error, f"mango_error,{error.error},{error.reason}") from None

    return guarded
