"""The walk of a request from call to storage and back."""

from __future__ import annotations

import sys
from types import FrameType

from couchdal import CouchDAL, MemoryBackend


def test_get_takes_at_most_35_calls() -> None:
    dal = CouchDAL(MemoryBackend(), database="db")
    dal.put_document("a", {"n": 1})
    # The first request imports what it needs.
    dal.get("/a")
    calls: list[str] = []

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and "/couchdal/" in frame.f_code.co_filename:
            calls.append(frame.f_code.co_name)

    sys.setprofile(count)
    try:
        dal.get("/a")
    finally:
        sys.setprofile(None)
    assert 10 < len(calls) <= 35, calls
