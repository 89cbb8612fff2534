"""Pages: which request comes next, and which of its results are new. Nothing is sent here.

Documents of ``_find`` continue at the bookmark of the page before. Rows continue at the key and the id of the last row.
The next page begins with that row again, unless it is gone, so a row that disappears meanwhile hides no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from couchdal.types import Document

R = TypeVar("R", bound=Mapping[str, object])


class Budget:
    """How many results are still wanted, and how many of them one page may have."""

    def __init__(self, limit: int | None, page_size: int) -> None:
        if page_size < 1:
            raise ValueError(f"page_size must be at least 1, not {page_size}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must not be negative, not {limit}")
        self.page_size = page_size
        self._left = limit

    @property
    def is_spent(self) -> bool:
        """Whether no more results are wanted."""
        return self._left == 0

    def page(self) -> int:
        """Return the size of the next page."""
        return self.page_size if self._left is None else min(self.page_size, self._left)

    def take(self, results: Sequence[R]) -> Sequence[R]:
        """Return the results that are still wanted, and count them."""
        if self._left is not None:
            results = results[: self._left]
            self._left -= len(results)
        return results


class FindPages:
    """The pages of a query. ``payload`` is the body of its requests, without limit and bookmark."""

    def __init__(self, payload: Mapping[str, object], limit: int | None, page_size: int) -> None:
        self._payload = dict(payload)
        self._budget = Budget(limit, page_size)
        self._ended = False
        self._held: list[Document] = []

    def next_payload(self) -> dict[str, object] | None:
        """Return the body of the next request, or ``None`` after the last page."""
        if self._ended or self._budget.is_spent:
            return None
        return {**self._payload, "limit": self._budget.page()}

    def new_documents(self, docs: list[Document], bookmark: str) -> list[Document]:
        """Return the documents to yield before the next request.

        The last document of a page is yielded with the next page. The bookmark points to this document, and CouchDB
        skips one row there. If the caller had deleted the document already, CouchDB would skip another one.
        """
        self._ended = len(docs) < self._budget.page()
        self._budget.take(docs)
        self._payload["bookmark"] = bookmark
        # The bookmark comes after the skipped documents.
        self._payload.pop("skip", None)
        docs = self._held + docs
        self._held = docs[-1:] if self.next_payload() is not None else []
        return docs[: len(docs) - len(self._held)]


class RowPages(Generic[R]):
    """The pages of a view or of ``_all_docs``. ``parameters`` are those of its first request, without skip and limit.

    The rows of a view may repeat a key, even for one document. The rows of ``_all_docs`` and of groups have
    ``unique_keys``.
    """

    def __init__(
        self,
        parameters: Mapping[str, object],
        skip: int | None,
        limit: int | None,
        page_size: int,
        *,
        unique_keys: bool = False,
    ) -> None:
        self._parameters = {name: value for name, value in parameters.items() if value is not None}
        self._unique_keys = unique_keys
        self._skip = skip or 0
        self._budget = Budget(limit, page_size)
        self._ended = False
        # The last rows that belong to one document, by key and id. The next page begins with some of them.
        self._run: list[tuple[str, object]] = []
        self._overlap = 0

    def next_parameters(self) -> dict[str, object] | None:
        """Return the parameters of the next request, or ``None`` after the last page."""
        if self._ended or self._budget.is_spent:
            return None
        return {**self._parameters, "skip": self._skip or None, "limit": self._budget.page() + self._overlap}

    def new_rows(self, rows: Sequence[R], *, reduced: bool = False) -> Sequence[R]:
        """Return the rows that no earlier page had. A ``reduced`` result that is not grouped has one page."""
        self._ended = len(rows) < self._budget.page() + self._overlap or (reduced and not self._unique_keys)
        known = self._count_known(rows)
        new = rows[known:]
        if new:
            self._continue_after(new)
        elif rows:
            # A document emitted more keys that sort alike, such as "a" and "a\u0001", than a page has rows.
            self._overlap += self._budget.page_size
        return self._budget.take(new)

    def _count_known(self, rows: Sequence[R]) -> int:
        """Return how many of the first rows are the last ones of the page before."""
        places = [_place(row) for row in rows[: len(self._run)]]
        return next((n for n in range(len(places), 0, -1) if self._run[-n:] == places[:n]), 0)

    def _continue_after(self, rows: Sequence[R]) -> None:
        last = _place(rows[-1])
        run = [last]
        if not self._unique_keys:
            run = list(takewhile(lambda place: place[1] == last[1], map(_place, reversed(rows))))
            if len(run) == len(rows):
                run += takewhile(lambda place: place[1] == last[1], reversed(self._run))
            if self._skip and len(run) == len(rows):
                # Some of the skipped rows may belong to this document too, so its first row is not known.
                self._skip += len(rows)
                return
            self._parameters["startkey_docid"] = last[1]
        self._skip = 0
        self._overlap = len(list(takewhile(lambda place: place == last, run)))
        self._run = run[::-1]
        if "key" in self._parameters:
            self._parameters["endkey"] = self._parameters.pop("key")
        self._parameters["startkey"] = last[0]


class KeyPages(Generic[R]):
    """The pages of a request with ``keys``. A page that was too long is requested again with fewer keys."""

    def __init__(
        self, keys: Sequence[object], skip: int | None, limit: int | None, page_size: int, *, descending: bool | None
    ) -> None:
        # CouchDB reverses the order of the keys, too.
        self._keys = list(reversed(keys)) if descending else list(keys)
        self._descending = descending
        self._skip = skip or 0
        self._budget = Budget(limit, page_size)
        self._count = page_size

    def next_keys(self) -> list[object]:
        """Return the keys of the next request. The list is empty after the last page."""
        keys = [] if self._budget.is_spent else self._keys[: self._count]
        return keys[::-1] if self._descending else keys

    def fits(self, rows: Sequence[R]) -> bool:
        """Return whether a page is complete. If not, and it has several keys, the next one will have fewer."""
        if len(rows) <= self._budget.page_size:
            return True
        self._count = max(1, self._count // 2)
        return False

    def new_rows(self, rows: Sequence[R]) -> Sequence[R]:
        """Return the rows that ``skip`` and ``limit`` leave."""
        skipped = min(self._skip, len(rows))
        self._skip -= skipped
        return self._budget.take(rows[skipped:])

    def advance(self) -> None:
        """Go on to the keys after those of the last request."""
        del self._keys[: self._count]
        self._count = min(self._budget.page_size, self._count * 2)


def _place(row: Mapping[str, object]) -> tuple[str, object]:
    # As text, because true equals 1 in Python.
    return json.dumps(row["key"]), row.get("id")
