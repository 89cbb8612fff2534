"""The number of couchdal's Python functions that one served request calls, and how often it is encoded."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path
from types import FrameType

import pytest
from raw_http import Served, Wire

import couchdal
from couchdal import MemoryBackend

pytestmark = pytest.mark.usefixtures("no_middleware")

SOURCE = str(Path(couchdal.__file__).parent)
MOST = 50
CODECS = ("encode_json", "decode_json", "decode_request", "copy_json")


def calls_of(head: str, body: bytes = b"") -> list[str]:
    """Return the functions that one request on a kept-alive connection calls in the server's thread, in order."""
    calls: list[str] = []
    recording = False

    def record(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if recording and event == "call" and code.co_filename.startswith(SOURCE):
            calls.append(f"{code.co_filename[len(SOURCE) + 1 :]}: {code.co_qualname}")

    threading.setprofile(record)
    try:
        served = Served(MemoryBackend())
    finally:
        threading.setprofile(None)
    with closing(Wire(served.port)) as wire:
        wire.ask("PUT /db HTTP/1.1")
        wire.ask("PUT /db/a HTTP/1.1", b'{"x":1}')
        for _ in range(3):
            wire.ask(head, body)
        recording = True
        answer = wire.ask(head, body)
        # A second request marks the end of the first one's calls: it starts when the server has finished.
        wire.ask("HEAD / HTTP/1.1")
        recording = False
    assert answer.status < 300
    starts = [index for index, call in enumerate(calls) if call.endswith("HttpProtocol.data_received")]
    return calls[: starts[1]]


def test_served_read_calls_few_functions() -> None:
    calls = calls_of("GET /db/a HTTP/1.1")
    assert len(calls) <= MOST, "\n".join(calls)


def test_served_read_encodes_once_and_decodes_nothing() -> None:
    codecs = [
        name for call in calls_of("GET /db/a HTTP/1.1") if (name := call.rpartition(".")[2].split()[-1]) in CODECS
    ]
    assert codecs == ["encode_json"]
