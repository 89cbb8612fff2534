"""The access log: one line of JSON for each answer, without bodies and credentials."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from couchdal.http.messages import Request, Response
from couchdal.http.redaction import redacted_query


class AccessLog:
    """Passes lines to ``write``, each with its newline. ``now`` returns the seconds since 1970."""

    def __init__(self, write: Callable[[str], object], now: Callable[[], float] = time.time) -> None:
        self._write = write
        self._now = now

    def write(self, request: Request, response: Response | None, *, received: int, sent: int, spent_s: float) -> None:
        """Log an answer. ``response`` is ``None`` if the client disconnected before it had one.

        ``received`` and ``sent`` count the bytes of the bodies.
        """
        entry = {
            "time": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds"),
            "client": request.peer,
            "method": request.method,
            "path": request.path,
            "query": redacted_query(request.query),
            "status": None if response is None else response.status,
            "bytes_in": received,
            "bytes_out": sent,
            "duration_ms": round(spent_s * 1000, 3),
        }
        self._write(json.dumps(entry) + "\n")
