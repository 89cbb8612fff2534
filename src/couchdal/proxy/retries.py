"""Decide which requests the proxy may repeat, and how long it waits before it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import random

from couchdal.api.routes import Route
from couchdal.http.messages import Request, Response
from couchdal.http.urls import parse_query
from couchdal.proxy.allow_list import only_reads

# Statuses which mean that the server did nothing.
REPEATED = frozenset((429, 503))
_DOCUMENTS = frozenset(("/{db}/{doc_id}", "/{db}/_design/{design}"))


@dataclass(frozen=True, slots=True)
class Retries:
    """Up to ``most`` repetitions. Each pause is random, between 0 and a limit that doubles (full jitter)."""

    most: int = 2
    first_s: float = 0.05
    longest_s: float = 2.0

    def pause_s(self, made: int, response: Response | None) -> float:
        """Return the seconds to wait after ``made`` requests: at least the answer's ``Retry-After``, within bounds."""
        asked = "" if response is None else response.headers.get("retry-after", "")
        least = float(asked) if asked.isdigit() else 0.0
        return min(self.longest_s, max(least, random() * self.first_s * 2.0**made))


def is_repeatable(request: Request, route: Route) -> bool:
    """Return whether a request that is sent twice has the effect and the answer of one that is sent once.

    Reads are repeatable, and so are writes of existing revisions (``new_edits: false``) where CouchDB obeys them: a
    PUT of a document, and ``_bulk_docs``. A streamed body can be sent only once.
    """
    if request.stream is not None:
        return False
    if only_reads(request.method, route):
        return True
    if request.method == "PUT" and route.pattern in _DOCUMENTS:
        return _puts_a_revision(request)
    return request.method == "POST" and route.pattern == "/{db}/_bulk_docs" and _stores_revisions(request)


def _puts_a_revision(request: Request) -> bool:
    """Return whether a PUT stores a revision that it names. Source: chttpd_db:parse_doc_query."""
    # CouchDB uses the last value of a repeated parameter, and knows this one only in lower case.
    parameters = dict(parse_query(request.query))
    if parameters.get("new_edits") != "false" or parameters.get("batch") == "ok":
        return False
    body = request.value()
    return isinstance(body, dict) and ("rev" in parameters or _names_a_revision(body))


def _stores_revisions(request: Request) -> bool:
    """Return whether every document in the body of ``_bulk_docs`` is a revision that the body names."""
    body = request.value()
    if not isinstance(body, dict) or body.get("new_edits") is not False:
        return False
    docs = body.get("docs")
    return isinstance(docs, list) and all(
        isinstance(doc, dict) and _is_replicated(doc.get("_id")) and _names_a_revision(doc) for doc in docs
    )


def _is_replicated(doc_id: object) -> bool:
    # Local documents have no revision tree, so a second write may overwrite another client's.
    return isinstance(doc_id, str) and not doc_id.startswith("_local/")


def _names_a_revision(doc: Mapping[str, object]) -> bool:
    return isinstance(doc.get("_rev"), str) or isinstance(doc.get("_revisions"), dict)
