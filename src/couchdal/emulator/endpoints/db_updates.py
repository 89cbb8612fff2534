"""``_db_updates``: the events of databases, once or as a feed. Source: ``global_changes_httpd``."""

from __future__ import annotations

from hashlib import md5

from couchdal.emulator.engine.changes.changes import NO_LIMIT, ChangesQuery, parse_since, read_changes, start_cursor
from couchdal.emulator.engine.changes.changes_feed import MAX_WAIT_MS
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.server.events import GLOBAL_CHANGES
from couchdal.emulator.engine.server.global_changes import UPDATES, UpdatesFeed, described, record_events
from couchdal.emulator.http.call import Call
from couchdal.errors import BadRequest
from couchdal.http.answers import JSON_TYPE, laid_out
from couchdal.http.json_lines import lay_out_changes
from couchdal.http.messages import Response


def read(call: Call) -> Response:
    """GET: the events so far, or a feed. They are documents of ``_global_changes``, which must exist."""
    options = _options(call)
    feed = call.param("feed") or "normal"
    call.require_server_admin()
    if feed != "normal" and feed not in UPDATES:
        raise BadRequest("Supported `feed` types: normal, continuous, longpoll, eventsource")
    server = call.server
    db = server.database(GLOBAL_CHANGES)
    record_events(server)
    headers = {}
    if feed == "normal":
        tag = md5(f"{db.seq(db.update_seq)}/{db.purge_seq}".encode(), usedforsecurity=False).hexdigest().upper()
        headers["etag"] = f'"{tag}"'
        if call.has_etag(headers["etag"]):
            return Response(304, headers)
    descending = options.get("descending") == "true"
    since = 0 if descending else parse_since(db, options.get("since", "0"))
    query = ChangesQuery(descending=descending, limit=_number(options, "limit", NO_LIMIT))
    if feed == "normal":
        cursor = start_cursor(db, query, since)
        rows, _ = read_changes(db, query, cursor)
        return laid_out({"results": described(rows), "last_seq": db.seq(cursor.seq)}, lay_out_changes, headers)
    beats = options.get("heartbeat", "false") != "false"
    wait_ms = _number(options, "timeout", MAX_WAIT_MS)
    if beats:
        wait_ms = MAX_WAIT_MS if options["heartbeat"] == "true" else _number(options, "heartbeat", MAX_WAIT_MS)
    headers["content-type"] = JSON_TYPE
    if feed == "eventsource":
        headers = {"content-type": "text/event-stream", "cache-control": "no-cache"}
    events = UpdatesFeed(server, db, query, since, UPDATES[feed], wait_ms=wait_ms, heartbeats=beats)
    return Response(200, headers, stream=events)


def _options(call: Call) -> dict[str, str]:
    """Return the parameters. The last of a repeated one counts. Raise ``BadRequest`` for one that is not a number."""
    options = {}
    for name, value in call.params:
        counts = name in ("limit", "timeout") or (name == "heartbeat" and value not in ("true", "false"))
        number = parse_integer(value) if counts else 0
        if number is None or number < 0:
            raise BadRequest("invalid_integer")
        if (name, value) != ("heartbeat", "false") and (name != "descending" or value == "true"):
            options[name] = value
    return options


def _number(options: dict[str, str], name: str, default: int) -> int:
    number = parse_integer(options.get(name, ""))
    return default if number is None else number
