"""The changes feed: its request, and the lines of a continuous feed.

A feed arrives in chunks that the network cuts anywhere. Both of CouchDB's formats are parsed: one JSON object per line,
and server-sent events. Heartbeats are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Literal, TypeAlias, cast

from couchdal.errors import BackendError, CouchError, NotJSON, from_answer
from couchdal.failure import Failure
from couchdal.operations.operation import Operation, as_list, query

if TYPE_CHECKING:
    from couchdal.types import Change, ChangesResult, Selector

Feed: TypeAlias = Literal["normal", "longpoll", "continuous", "eventsource"]


def changes(
    feed: Feed = "normal",
    *,
    since: str | int | None = None,
    limit: int | None = None,
    descending: bool | None = None,
    style: Literal["main_only", "all_docs"] | None = None,
    include_docs: bool | None = None,
    conflicts: bool | None = None,
    attachments: bool | None = None,
    doc_ids: Iterable[str] | None = None,
    selector: Selector | None = None,
    filter: str | None = None,
    timeout: int | None = None,
    heartbeat: int | Literal[True] | None = None,
    seq_interval: int | None = None,
) -> Operation[ChangesResult]:
    """Return the call of ``_changes`` for these options (``couchdal.types.ChangesOptions``)."""
    payload: dict[str, object] = {}
    if doc_ids is not None:
        filter, payload = filter or "_doc_ids", {"doc_ids": as_list(doc_ids)}
    elif selector is not None:
        filter, payload = filter or "_selector", {"selector": selector}
    path = "/_changes" + query(
        feed=None if feed == "normal" else feed,
        since=since,
        limit=limit,
        descending=descending,
        style=style,
        include_docs=include_docs,
        conflicts=conflicts,
        attachments=attachments,
        filter=filter,
        timeout=timeout,
        heartbeat=heartbeat,
        seq_interval=seq_interval,
    )
    return Operation("POST", path, payload) if payload else Operation("GET", path)


class ChangeLines:
    """Turns the chunks of a feed into changes. Drops a line that the end of the feed cuts short.

    ``name_error`` says in an error which request the feed answers.
    """

    def __init__(self, name_error: Callable[[Failure], None] | None = None) -> None:
        self._name_error = name_error
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Change]:
        """Return the changes that this chunk completes. Raise ``CouchError`` if the feed reports an error."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        try:
            return [change for line in lines if (change := _parse_line(line.strip())) is not None]
        except (BackendError, CouchError) as error:
            if self._name_error is not None:
                self._name_error(error)
            raise


def _parse_line(line: bytes) -> Change | None:
    if line.startswith(b"data:"):
        line = line[5:].strip()
    if not line.startswith(b"{"):
        # A heartbeat, or another field of an event. The event's id repeats the sequence.
        return None
    try:
        value = json.loads(line)
    except ValueError:
        raise NotJSON(f"the changes feed sent a line that is not JSON: {line[:80]!r}") from None
    if "error" in value and "id" not in value:
        raise from_answer(500, value)
    # The last line of a continuous feed is not a change: it says where the feed ended.
    return cast("Change", value) if "id" in value else None
