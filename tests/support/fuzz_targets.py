"""The parsers that are fuzzed: a function of bytes for each, which raises for any input that shows a fault.

Where something else knows the answer, both are compared: the standard library, the inverse of the parser, or the same
input in other pieces.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import struct
import urllib.parse
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from functools import cache
from math import inf
from typing import Any
from unittest.mock import patch

import h11
import orjson
from simulated_network import Network, VirtualLoop

from couchdal import MemoryBackend
from couchdal.backends import served
from couchdal.emulator.engine.documents.attachment import Attachment, Parts
from couchdal.emulator.engine.erlang.external_term import encode_term
from couchdal.emulator.engine.erlang.term_text import pretty_term, print_float, print_term
from couchdal.emulator.engine.mango.bookmark import _json, _Reader, pack_bookmark, unpack_bookmark
from couchdal.emulator.engine.mango.regex import compile_regex
from couchdal.emulator.engine.mango.selector import normalize_selector
from couchdal.emulator.engine.mango.selector_match import compile_selector
from couchdal.emulator.http.multipart import parse_related, write_related
from couchdal.errors import BadRequest, CouchError
from couchdal.http.json_text import copy_json, decode_json, decode_request, encode_json, is_deep
from couchdal.http.messages import ABSENT, Request, Response, is_feed
from couchdal.http.urls import parse_query, quote, split_path, unquote, unquote_form
from couchdal.server.application import Application

Target = Callable[[bytes], None]
_REFUSED = object()
_MALFORMED = (ValueError, struct.error, RecursionError)


def fuzz_json(data: bytes) -> None:
    """JSON text: as the standard library and orjson parse it, and back."""
    ours = _or_refused(decode_json, data)
    try:
        text = data.decode()
        # CouchDB refuses a lone surrogate also in a value that another one of the same key replaces.
        every = json.loads(text, parse_constant=_refuse, object_pairs_hook=list)
        plain = json.loads(text, parse_constant=_refuse)
        expected = _REFUSED if _holds_surrogate(every) or _is_infinite(plain) else plain
    except (ValueError, RecursionError):
        expected = _REFUSED
    assert (ours is _REFUSED) == (expected is _REFUSED), (ours, expected)
    if ours is _REFUSED:
        return
    assert _same(ours, expected), (ours, expected)
    with contextlib.suppress(orjson.JSONDecodeError):
        # Integers beyond 64 bits become doubles there.
        assert _like_doubles(orjson.loads(data)) == _like_doubles(ours)
    assert _same(decode_json(encode_json(ours)), ours)
    deep = is_deep(ours)
    assert (_or_refused(decode_request, data) is _REFUSED) == deep
    if not deep:
        assert _same(copy_json(ours), ours)


def fuzz_terms(data: bytes) -> None:
    """Erlang terms: JSON values to terms and back, their texts, and terms of any bytes."""
    with contextlib.suppress(*_MALFORMED):
        _Reader(data).read()
    value = _or_refused(decode_request, data)
    if value is _REFUSED:
        return
    try:
        term = encode_term(value)
    except OverflowError:
        return
    assert _same(_json(_Reader(term).read()), value), value
    assert "\n" not in print_term(value)
    pretty_term(value)
    for number in _numbers(value):
        assert float(print_float(number)) == number


def fuzz_bookmark(data: bytes) -> None:
    """Bookmarks: any text is refused or means a row, whose own bookmark means the same row."""
    text = data.decode("utf-8", "replace")
    for bookmark in (text, _as_bookmark(data)):
        found = _or_refused(unpack_bookmark, bookmark)
        if found is _REFUSED:
            continue
        doc_id, key = found
        copy_json(key)
        with contextlib.suppress(OverflowError):
            again = unpack_bookmark(pack_bookmark(doc_id, key))
            assert again[0] == doc_id
            assert _same(again[1], key)


def fuzz_multipart(data: bytes) -> None:
    """Multipart bodies: parsed, written and parsed again, and as the body of a PUT."""
    head, _, body = data.partition(b"\n")
    content_type = f"multipart/related; {head.decode('latin-1')}"
    with contextlib.suppress(CouchError):
        document, parts = parse_related(content_type, body)
        assert all(part in body for part in (document, *parts.data))
    boundary = head.decode("latin-1").partition("boundary=")[2].strip().strip('"')
    if boundary.isalnum() and boundary.isascii() and boundary.encode() not in body:
        attachment = Attachment("x", "text/plain", body, 1, len(body))
        stored = {"_id": "a", "_attachments": {"x": {"follows": True}}}
        written_type, written = write_related(boundary, stored, [attachment])
        assert parse_related(written_type, written) == (encode_json(stored), Parts([body], True))
    backend = _small_backend()
    with backend.rollback():
        headers = {"content-type": content_type.translate({10: 32, 13: 32}), "content-length": str(len(body))}
        response = backend.send(Request("PUT", "/db/fuzzed", "", headers, body))
        assert response.status in _KNOWN, response.status
        if response.status == 201:
            _read_back(backend, "/db/fuzzed")
        assert backend.check() == []


def fuzz_selector(data: bytes) -> None:
    """Selectors: normal once and for all, the same with two negations, and with an index as without."""
    selector = _or_refused(decode_request, data)
    if not isinstance(selector, dict):
        if isinstance(selector, str) and len(selector) < 200:
            search = compile_regex(selector)
            if search is not None:
                _or_refused(search, "aab\u00e9\n")
        return
    normal = _or_refused(normalize_selector, selector)
    if normal is _REFUSED:
        return
    assert _or_refused(normalize_selector, normal) == normal, normal
    matches = compile_selector(normal)
    answers = [_or_refused(matches, doc) for doc in DOCUMENTS]
    twice = _or_refused(normalize_selector, {"$not": {"$not": selector}})
    if twice is not _REFUSED and selector:
        again = compile_selector(twice)
        assert [_or_refused(again, doc) for doc in DOCUMENTS] == answers
    backend = _filled_backend()
    body = {"selector": selector, "limit": 100, "fields": ["_id"]}
    indexed, scanned = (_found(backend, name, body) for name in ("indexed", "db"))
    if indexed is not _REFUSED and scanned is not _REFUSED:
        assert indexed == scanned, selector


def fuzz_url(data: bytes) -> None:
    """Paths and queries: decoded as the standard library does, and equal after they are written again."""
    text = data.decode("latin-1")
    path, _, query = text.partition("?")
    assert unquote_form(text, "replace") == urllib.parse.unquote_plus(text, "utf-8", "replace")
    segments = _or_refused(split_path, path)
    if segments is not _REFUSED:
        assert "" not in segments
        quoted = "/" + "/".join(quote(segment, "surrogateescape") for segment in segments)
        assert split_path(quoted) == segments
    pairs = _or_refused(parse_query, query)
    if pairs is not _REFUSED:
        assert parse_query("&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)) == pairs
    if segments is not _REFUSED and pairs is not _REFUSED:
        rewritten = "&".join(f"{_escaped(name)}={_escaped(value)}" for name, value in pairs)
        before = is_feed(Request("GET", path, query))
        assert before == is_feed(Request("GET", "/" + "/".join(map(_escaped, segments)), rewritten))
    with contextlib.suppress(BadRequest):
        assert unquote(_escaped(text)) == text


def fuzz_http(data: bytes) -> None:
    """HTTP: the same bytes in other pieces get the same answers, and what h11 parses means the same here."""
    if len(data) < 2:
        return
    size, content = data[0], data[1:]
    whole = _answers([content])
    if size:
        pieces = [content[start : start + size] for start in range(0, len(content), size)]
        parted = _answers(pieces[:400])
        if len(pieces) <= 400:
            assert _statuses(parted) == _statuses(whole), (whole, parted)
    if b"HEAD" not in content and b"CONNECT" not in content:
        # Answers to HEAD have a length, but no body.
        _check_framing(whole)


TARGETS: dict[str, Target] = {
    "json": fuzz_json,
    "terms": fuzz_terms,
    "bookmark": fuzz_bookmark,
    "multipart": fuzz_multipart,
    "selector": fuzz_selector,
    "url": fuzz_url,
    "http": fuzz_http,
}

DOCUMENTS: list[dict[str, Any]] = [
    {"_id": "a", "n": 0, "s": "a"},
    {"_id": "b", "n": 1, "s": "b", "l": [1, 2, "x"]},
    {"_id": "c", "n": 1.5, "s": "\u00e9", "o": {"x": 1, "y": {"z": None}}},
    {"_id": "d", "n": -1, "l": [], "o": {}},
    {"_id": "e", "n": None, "s": "", "l": [{"x": 1}, {"x": "a"}]},
    {"_id": "f", "n": True, "s": "aab", "l": [[1]], "o": {"x": [1]}},
    {"_id": "g", "s": ["a"], "n": "1"},
    {"_id": "h", "n": {"x": 2**60}, "$x": 1, "a.b": 2, "": 3},
]
# The answers that CouchDB gives to bodies, good and bad.
_KNOWN = frozenset((201, 202, 400, 401, 404, 409, 412, 413, 415, 500))


@cache
def _filled_backend() -> MemoryBackend:
    """Return a server with the same documents in two databases, one of which has indexes."""
    backend = MemoryBackend()
    for name in ("db", "indexed"):
        _ask(backend, "PUT", f"/{name}")
        _ask(backend, "POST", f"/{name}/_bulk_docs", {"docs": DOCUMENTS})
    for fields in (["n"], ["s", "n"], ["o.x"]):
        _ask(backend, "POST", "/indexed/_index", {"index": {"fields": fields}, "ddoc": "-".join(fields)})
    return backend


@cache
def _small_backend() -> MemoryBackend:
    backend = MemoryBackend()
    _ask(backend, "PUT", "/db")
    _ask(backend, "PUT", "/db/a", {"n": 1})
    return backend


def _ask(backend: MemoryBackend, method: str, path: str, payload: object = ABSENT) -> Response:
    body = b"" if payload is ABSENT else encode_json(payload)
    return backend.send(Request(method, path, "", {"content-type": "application/json"}, body))


def _found(backend: MemoryBackend, name: str, body: object) -> object:
    response = _ask(backend, "POST", f"/{name}/_find", body)
    if response.status != 200:
        assert response.status in _KNOWN
        return _REFUSED
    found: Any = response.result()
    return sorted(doc["_id"] for doc in found["docs"] if not doc["_id"].startswith("_design/"))


def _read_back(backend: MemoryBackend, path: str) -> None:
    whole = backend.send(Request("GET", path, "attachments=true", {"accept": "application/json"}))
    json.loads(whole.content())
    parts = backend.send(Request("GET", path, "attachments=true", {"accept": "multipart/related"}))
    content_type = parts.headers["content-type"]
    if content_type.startswith("multipart"):
        document, attachments = parse_related(content_type, parts.content())
        assert len(json.loads(document)["_attachments"]) == len(attachments.data)


@contextlib.contextmanager
def _quiet() -> Iterator[list[logging.LogRecord]]:
    records: list[logging.LogRecord] = []
    keep = logging.Handler(logging.ERROR)
    keep.emit = records.append  # type: ignore[method-assign]
    logger = logging.getLogger()
    logger.addHandler(keep)
    try:
        yield records
    finally:
        logger.removeHandler(keep)


def _answers(pieces: list[bytes]) -> bytes:
    """Return what a served emulator writes when these pieces arrive. Each gets its own turn of the event loop."""
    loop = VirtualLoop()
    backend = _small_backend()
    written: list[bytes] = []
    # On a busy machine, a request would go to a thread, which needs real time.
    with backend.rollback(), _quiet() as records, patch.object(served, "_AT_ONCE_S", inf):
        network = Network(loop, chance=None)  # type: ignore[arg-type]
        network.serve("server", Application(backend))
        asyncio.set_event_loop(loop)
        try:
            protocol = network.listeners["server"]()
            transport = _Recording(written)
            protocol.connection_made(transport)
            for piece in pieces:
                if transport.closing:
                    break
                protocol.data_received(piece)
                loop.run_until_complete(_turns(2))
            loop.run_until_complete(_turns(30))
            transport.closing = True
            protocol.connection_lost(None)
            loop.run_until_complete(_turns(10))
            assert loop.errors == []
            assert [record.getMessage() for record in records] == []
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(_turns(3))
            asyncio.set_event_loop(None)
            loop.close()
    return b"".join(written)


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class _Recording(asyncio.Transport):
    def __init__(self, written: list[bytes]) -> None:
        super().__init__()
        self.closing = False
        self._written = written

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closing:
            self._written.append(bytes(data))

    def close(self) -> None:
        self.closing = True

    abort = close

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def _statuses(answers: bytes) -> list[bytes]:
    return [line for line in answers.split(b"\r\n") if line.startswith(b"HTTP/1.1 ") and b" 100 " not in line]


def _check_framing(answers: bytes) -> None:
    """Parse answers as a client does. The last one may be a feed, which has no end yet."""
    while answers:
        client = h11.Connection(h11.CLIENT)
        client.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        client.send(h11.EndOfMessage())
        client.receive_data(answers)
        event: object = None
        while not isinstance(event, h11.EndOfMessage):
            event = client.next_event()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return
        answers = client.trailing_data[0]
        assert not answers or client.their_state is h11.DONE, answers


def _or_refused(call: Callable[[Any], Any], argument: Any) -> Any:
    try:
        return call(argument)
    except CouchError:
        return _REFUSED


def _refuse(name: str) -> object:
    raise ValueError(name)


def _holds_surrogate(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_holds_surrogate, value))
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_infinite(value: object) -> bool:
    if isinstance(value, dict):
        return any(map(_is_infinite, value.values()))
    if isinstance(value, list):
        return any(map(_is_infinite, value))
    return value in (float("inf"), float("-inf"))


def _same(one: object, other: object) -> bool:
    """Return whether two JSON values are equal, with their types: 1, 1.0 and true differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(member, other[name]) for name, member in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


def _like_doubles(value: object) -> object:
    if isinstance(value, dict):
        return {name: _like_doubles(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_like_doubles(member) for member in value]
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            return float("inf")
    return value


def _numbers(value: object) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, (dict, list)):
        for member in value.values() if isinstance(value, dict) else value:
            yield from _numbers(member)


def _escaped(text: str) -> str:
    return quote(text, "surrogateescape")


def _as_bookmark(data: bytes) -> str:
    return urlsafe_b64encode(b"\x83" + data).decode().rstrip("=")
