"""``_db_updates`` of a live server, with only the databases that tests may see."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import urlencode

from couchdal.http.answers import laid_out
from couchdal.http.json_lines import lay_out_changes
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.urls import parse_query
from couchdal.middleware.chain import Delay, Steps
from couchdal.testing.copying import member, objects
from couchdal.testing.rewriting import LastLine, rewritten

_STREAMED = ("continuous", "eventsource")
_POLL_S = 0.1
# CouchDB's own time-out for a feed that names none.
_TIMEOUT_S = 60.0


def read_updates(request: Request, is_visible: Callable[[str], bool]) -> Steps:
    """Send a request for the feed of databases, and return its answer without the databases of others.

    CouchDB's limit would count those databases too, so it is applied here. ``longpoll`` waits by polling: CouchDB would
    end it with a change of another database.
    """
    given = dict(parse_query(request.query))
    # Without a limit, or with a limit of 0, the number of rows does not change.
    limit = int(given["limit"]) if _is_number(given.get("limit")) else 0
    if limit:
        del given["limit"]
    feed = given.get("feed", "normal")
    if feed in _STREAMED:
        response = yield _with(request, given)
        if response.stream is not None:
            response.stream = rewritten(response.stream, _Lines(is_visible, limit, feed == "eventsource").rewrite)
        return response
    if feed == "longpoll":
        given["feed"] = "normal"
    timeout_s = int(given["timeout"]) / 1000 if _is_number(given.get("timeout")) else _TIMEOUT_S
    deadline = None if "heartbeat" in given else time.monotonic() + timeout_s
    while True:
        response = yield _with(request, given)
        found = response.value()
        if response.status != 200 or not isinstance(found, dict):
            return response
        rows = [row for row in objects(found.get("results")) if is_visible(str(row.get("db_name")))]
        if rows or feed != "longpoll" or (deadline is not None and time.monotonic() >= deadline):
            break
        given["since"] = str(found.get("last_seq"))
        yield Delay(_POLL_S)
    last: JSON = found.get("last_seq")
    if 0 < limit < len(rows):
        rows = rows[:limit]
        last = rows[-1].get("seq")
    headers = {name: value for name, value in response.headers.items() if name not in ("content-length", "etag")}
    return laid_out({**found, "results": rows, "last_seq": last}, lay_out_changes, headers)


def _with(request: Request, parameters: dict[str, str]) -> Request:
    headers = {name: value for name, value in request.headers.items() if name != "if-none-match"}
    return request.with_head(request.method, request.path, urlencode(parameters), headers)


def _is_number(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdigit()


class _Lines:
    """The lines of a feed that stays open."""

    def __init__(self, is_visible: Callable[[str], bool], limit: int, is_event_source: bool) -> None:
        self._is_visible = is_visible
        self._left = limit
        self._is_event_source = is_event_source
        self._hides = False
        self._last: JSON = None

    def rewrite(self, line: bytes) -> bytes:
        return self._event(line) if self._is_event_source else self._row(line)

    def _row(self, line: bytes) -> bytes:
        row = _parsed(line)
        name = member(row, "db_name")
        if not isinstance(name, str):
            return line
        if not self._is_visible(name):
            return b""
        self._count(line, b'{"last_seq":%s}\n\n', row)
        return line

    def _event(self, line: bytes) -> bytes:
        """Return a line of an event: its data, its id, or the empty line at its end."""
        if line.startswith(b"data: "):
            row = _parsed(line.removeprefix(b"data: "))
            # Such as "created:tasks".
            name = member(row, "db_name") or str(member(row, "id")).partition(":")[2]
            self._hides = isinstance(row, dict) and not self._is_visible(str(name))
            self._last = row
        if self._hides:
            self._hides = line.strip() != b""
            return b""
        if not line.strip() and isinstance(self._last, dict):
            row, self._last = self._last, None
            self._count(line, b"\n", row)
        return line

    def _count(self, line: bytes, ending: bytes, row: JSON) -> None:
        """Count a row, and end the feed with it if it is the last one."""
        self._left -= 1
        if self._left == 0:
            raise LastLine(line + ending.replace(b"%s", json.dumps(member(row, "seq")).encode()))


def _parsed(line: bytes) -> JSON:
    try:
        value: JSON = json.loads(line)
    except ValueError:
        return None
    return value
