"""The walk of a request: how many Python calls of ours ``get("/a")`` takes on the emulator."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType

import pytest

import couchdal
from couchdal import CouchDAL, MemoryBackend

pytestmark = pytest.mark.usefixtures("no_middleware")

SOURCE = str(Path(couchdal.__file__).parent)
MOST_CALLS = 35


def calls_of_get(db: CouchDAL) -> list[str]:
    """Return the functions of the package that one ``get`` calls, in order. Comprehensions count as calls."""
    calls: list[str] = []

    def record(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE):
            calls.append(f"{code.co_filename.removeprefix(SOURCE)[1:]}: {code.co_qualname}")

    sys.setprofile(record)
    try:
        db.get("/a")
    finally:
        sys.setprofile(None)
    return calls


def test_get_of_a_document_takes_few_calls() -> None:
    db = CouchDAL(MemoryBackend())
    db.put_document("a", {"n": 1})
    db.get("/a")
    calls = calls_of_get(db)
    assert len(calls) <= MOST_CALLS, "\n".join([f"{len(calls)} calls:", *calls])


def test_get_neither_encodes_nor_decodes_json() -> None:
    """The document travels as a value between the client and the emulator, never as text."""
    db = CouchDAL(MemoryBackend())
    db.put_document("a", {"n": 1})
    converters = ("decode_json", "decode_request", "encode_json", "Response.content", "Request.content")
    assert not [call for call in calls_of_get(db) if call.endswith(converters)]
