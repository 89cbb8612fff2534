"""The request that failed, and the base class of the exceptions with its name.

This module does not know backends or rules of CouchDB.
"""

from __future__ import annotations

from typing import NamedTuple

_LONGEST_TARGET = 500


class FailedRequest(NamedTuple):
    """The request behind an error, without credentials.

    ``path`` is the whole path on the server and ``query`` its query string. The value of a parameter that may be a
    secret is ``***``. ``database`` is ``None`` if the path names no database. ``hint`` says what to try instead; most
    errors have none.
    """

    method: str
    path: str
    query: str = ""
    database: str | None = None
    hint: str = ""

    def __str__(self) -> str:
        target = f"{self.path}?{self.query}" if self.query else self.path
        if len(target) > _LONGEST_TARGET:
            target = target[:_LONGEST_TARGET] + "..."
        database = "" if self.database is None else f", database {self.database!r}"
        return f"{self.method} {target}{database}"


class Failure:
    """Base class, beside ``Exception``, of errors that name their ``request``. It is ``None`` if none was sent."""

    request: FailedRequest | None = None

    @property
    def message(self) -> str:
        """The text without the request."""
        return super().__str__()

    def __str__(self) -> str:
        request = self.request
        if request is None:
            return self.message
        hint = f"; {request.hint}" if request.hint else ""
        return f"{self.message}{hint} ({request})"

    @property
    def _state(self) -> dict[str, object]:
        # What a copy or a pickle takes over beside the arguments.
        return {} if self.request is None else {"request": self.request}
