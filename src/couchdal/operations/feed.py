"""The lines of a changes feed that goes on: changes taken out of its chunks, however the network cut them.

It reads both of CouchDB's notations, one JSON object a line and server-sent events, and skips heartbeats.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from couchdal.errors import NotJSON, from_answer

if TYPE_CHECKING:
    from couchdal.types import Change


class ChangeLines:
    """Chunks in, changes out. A line that is cut short by the end of the feed is never given."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[Change]:
        """Return the changes that the chunk completes; raises ``CouchError`` where the feed reports one."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [change for line in lines if (change := _read_line(line.strip())) is not None]


def _read_line(line: bytes) -> Change | None:
    if line.startswith(b"data:"):
        line = line[5:].strip()
    if not line.startswith(b"{"):
        # Heartbeats, and the other fields of an event: its id repeats the sequence.
        return None
    try:
        value = json.loads(line)
    except ValueError:
        raise NotJSON(f"the changes feed sent a line that is not JSON: {line[:80]!r}") from None
    if "error" in value and "id" not in value:
        raise from_answer(500, value)
    # The last line of a continuous feed is no change: it only says where the feed ended.
    return cast("Change", value) if "id" in value else None
