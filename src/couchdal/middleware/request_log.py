"""The log of a server's requests, and expectations about them that fail with a readable list.

Logging starts at the first access, so a program without it pays nothing. The log contains no secrets.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response
from couchdal.http.redaction import HIDDEN, is_secret, redacted_addresses, redacted_query
from couchdal.middleware.chain import Steps, identity, install

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend

_KEPT = 1000


class LoggedRequest(NamedTuple):
    """One request. ``status`` is ``None`` if no answer came, ``docs_examined`` if the answer has no count."""

    method: str
    path: str
    query: str
    body: JSON
    status: int | None
    docs_examined: int | None
    duration_s: float

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        examined = "" if self.docs_examined is None else f", {self.docs_examined} documents examined"
        return f"{self.method} {target} -> {self.status or 'no answer'}{examined}"


class RequestLog:
    """The last thousand requests to one server, from any handle, the oldest first.

    >>> log = db.requests
    >>> rows = db.all_docs()["rows"]
    >>> log[-1].path
    '/default/_all_docs'
    """

    def __init__(self) -> None:
        self._requests: deque[LoggedRequest] = deque(maxlen=_KEPT)
        # One list for each active block: the deque drops its oldest requests, but a block must keep all.
        self._blocks: list[list[LoggedRequest]] = []

    def __iter__(self) -> Iterator[LoggedRequest]:
        return iter(list(self._requests))

    def __len__(self) -> int:
        return len(self._requests)

    def __getitem__(self, index: int) -> LoggedRequest:
        return self._requests[index]

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "no requests"

    def clear(self) -> None:
        """Empty the log."""
        self._requests.clear()

    @contextmanager
    def block(self) -> Iterator[list[LoggedRequest]]:
        """Collect every request of a ``with`` block in a list, however many there are."""
        made: list[LoggedRequest] = []
        self._blocks.append(made)
        try:
            yield made
        finally:
            # Compare by identity: two blocks may hold equal lists.
            self._blocks[:] = [block for block in self._blocks if block is not made]

    def record(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        """Log a request and forward it: the middleware of the log."""
        start = time.perf_counter()
        counted, added = _counting(request)
        # The emulator may change the value of a request while it answers.
        body = redacted_body(request)
        status = examined = None
        try:
            response = yield counted
            status = response.status
            examined = _examined(response, added)
        finally:
            spent = time.perf_counter() - start
            self._keep(
                LoggedRequest(
                    request.method,
                    request.path,
                    redacted_query(request.query),
                    body,
                    status,
                    examined,
                    spent,
                )
            )
        return response

    def _keep(self, made: LoggedRequest) -> None:
        self._requests.append(made)
        for block in self._blocks:
            block.append(made)


_logs: WeakKeyDictionary[object, RequestLog] = WeakKeyDictionary()


def log_of(server: object) -> RequestLog:
    """Return the log of a server (``Backend.server_key``). The first call starts it."""
    key = identity(server)
    log = _logs.get(key)
    if log is None:
        log = _logs[key] = RequestLog()
        # Outermost, so that the log has what callers see, faults included.
        install(log.record, server, outermost=True)
    return log


@contextmanager
def expecting(
    server: object,
    requests: int | None = None,
    requests_max: int | None = None,
    docs_examined_max: int | None = None,
    statuses: Collection[int] | None = None,
) -> Iterator[RequestLog]:
    """Raise ``AssertionError`` with the list of requests if those of a ``with`` block are not as expected."""
    log = log_of(server)
    with log.block() as made:
        yield log
    examined = sum(request.docs_examined or 0 for request in made)
    complaints = []
    if requests is not None and len(made) != requests:
        complaints.append(f"expected {requests} requests, got {len(made)}")
    if requests_max is not None and len(made) > requests_max:
        complaints.append(f"expected at most {requests_max} requests, got {len(made)}")
    if docs_examined_max is not None and examined > docs_examined_max:
        complaints.append(f"expected at most {docs_examined_max} examined documents, got {examined}")
    others = {str(request.status) for request in made if statuses is not None and request.status not in statuses}
    if others:
        wanted = ", ".join(map(str, statuses or ()))
        complaints.append(f"expected only the statuses {wanted}, got {', '.join(sorted(others))}")
    if complaints:
        listed = "\n".join(f"  {number}. {request}" for number, request in enumerate(made, 1)) or "  no requests"
        raise AssertionError("; ".join(complaints) + ":\n" + listed)


def _counting(request: Request) -> tuple[Request, bool]:
    """Return the request with ``execution_stats`` if it is a query, and whether that was added to it."""
    if request.method != "POST" or not request.path.rstrip("/").endswith("/_find"):
        return request, False
    body = request.value()
    if not isinstance(body, dict) or body.get("execution_stats"):
        return request, False
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    wanted = {**body, "execution_stats": True}
    return Request(request.method, request.path, request.query, headers, json=wanted, peer=request.peer), True


def _examined(response: Response, added: bool) -> int | None:
    """Return how many documents a query examined. Remove the count from the answer if it was ``added``."""
    if response.stream is not None or response.status != 200:
        return None
    value = response.value()
    stats = value.get("execution_stats") if isinstance(value, dict) and "docs" in value else None
    if not isinstance(stats, dict) or not isinstance(value, dict):
        return None
    if added:
        value.pop("execution_stats")
        response.json, response.body = value, b""
    examined = stats.get("total_docs_examined")
    quorum = stats.get("total_quorum_docs_examined")
    return (examined if isinstance(examined, int) else 0) + (quorum if isinstance(quorum, int) else 0)


def redacted_body(request: Request) -> JSON:
    # An administrator's password is the value of a setting: the body is only that value.
    return HIDDEN if "/_config/" in request.path else _redacted(request.value())


def _redacted(value: JSON) -> JSON:
    if isinstance(value, dict):
        return {name: HIDDEN if is_secret(name) else _redacted(member) for name, member in value.items()}
    if isinstance(value, str):
        return redacted_addresses(value)
    return [_redacted(item) for item in value] if isinstance(value, list) else value
