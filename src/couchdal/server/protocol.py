"""HTTP on one connection, by ``uvicorn``'s protocol: what it says to what is no HTTP, and answers that need no task.

A request goes to the ASGI application, as everywhere. But where its body has come with it and the application answers
without waiting, as the emulator does, its answer is written at once: a task, a cycle of messages and another turn of
the event loop would take longer than the answer.
"""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Any, NamedTuple, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from couchdal.http.json_text import encode_json
from couchdal.http.messages import Response
from couchdal.server.application import Application
from couchdal.server.exchange import (
    ABORT_EXTENSION,
    ANSWER_EXTENSION,
    CLOSE_EXTENSION,
    COME_EXTENSION,
    PART,
    READY_EXTENSION,
    RESPONSE_EXTENSION,
)
from couchdal.server.framing import Headers, length_of, read_head

# By these, a client offers to go on in another protocol.
_OFFER = (b"http2-settings", b"upgrade")
# How many requests of one connection may wait for the answer to another.
_PIPELINED = 16


class Sockets(NamedTuple):
    """How connections are treated: the largest head of a request in bytes, and how long things may take in seconds."""

    max_header_size: int = 65536
    header_timeout_s: float = 30.0
    shutdown_timeout_s: float = 10.0


class HttpProtocol(HttpToolsProtocol):
    """Answers what is not HTTP in CouchDB's manner, and speaks HTTP/1.0 with those who do.

    A request's head must be there in time, from its first byte on, and no larger than it may be. Subclasses name the
    ``application``.
    """

    application: Application
    sockets = Sockets()
    _head_size: int | None = None
    _head_is_due: asyncio.TimerHandle | None = None
    # Whether no request has begun yet in what is being read.
    _is_first = False
    # Whether a request has ended in what is being read.
    _has_ended = False
    # What has come of the body of a request that may be answered at once.
    _body: bytes | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._extensions = {
            CLOSE_EXTENSION: transport.close,
            ABORT_EXTENSION: transport.abort,
            ANSWER_EXTENSION: self._answer,
            READY_EXTENSION: lambda: not self.flow.write_paused,
            # Where other requests have followed this one, its body has come.
            COME_EXTENSION: lambda: self.cycle.message_event.is_set(),
        }

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_no_head()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._head_size
        self._is_first, self._has_ended = True, False
        self._feed(data)
        if self._body is not None and not self.transport.is_closing():
            # The rest of it is to be waited for.
            self._begin(self._body)
        if self._head_size is None or self.transport.is_closing():
            self._expect_no_head()
            return
        # Behind the end of another request, nobody knows where the head began.
        self._head_size = 0 if self._has_ended else len(data) + (before or 0)
        if self._head_size > self.sockets.max_header_size:
            self.send_400_response("The head of the request is too large.")
        elif self._head_is_due is None:
            self._head_is_due = self.loop.call_later(self.sockets.header_timeout_s, self.transport.close)

    def _feed(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while data:
            try:
                self.parser.feed_data(data)
                data = b""
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_offer(data[upgrade.args[0] :]) if self._offers_protocol() else b""
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
                data = b""

    def _offers_protocol(self) -> bool:
        """Whether the request that is being read asks to go on in another protocol, as ``curl --http2`` does."""
        return self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT"

    def _without_offer(self, rest: bytes) -> bytes:
        """Return a request that has to be read again without its offer: the parser has passed over its body."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        headers = []
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() not in _OFFER)
            if value and name not in _OFFER:
                headers.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"".join((b"%b %b HTTP/%b\r\n" % (method, self.url, version), *headers, b"\r\n", rest))

    def _expect_no_head(self) -> None:
        if self._head_is_due is not None:
            self._head_is_due.cancel()
            self._head_is_due = None

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_size = 0

    def on_headers_complete(self) -> None:
        self._head_size = None
        if self._offers_protocol():
            return
        if self._may_answer_at_once():
            self._body = b""
        else:
            self._begin()

    def _may_answer_at_once(self) -> bool:
        """Whether no other answer is on its way; of requests that come together, all but the first take turns."""
        is_first, self._is_first = self._is_first, False
        if not is_first or self.flow.write_paused or self.application.backend.streams:
            return False
        return self.cycle is None or self.cycle.response_complete

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, None
        self._has_ended = True
        if self._offers_protocol():
            return
        if body is None:
            super().on_message_complete()
        else:
            self._respond(body)

    def _respond(self, body: bytes) -> None:
        """Answer a request at once, or leave it to a task."""
        begun = perf_counter()
        application, parser = self.application, self.parser
        target = httptools.parse_url(self.url)
        request = read_head(
            parser.get_method().decode("ascii"),
            target.path.decode("ascii"),
            (target.query or b"").decode("latin-1"),
            self.headers,
            self.client[0] if self.client else "",
            body,
        )
        response = application.respond_at_once(request)
        if response is None or response.stream is not None or len(content := response.content()) > PART:
            self._begin(body, response)
            super().on_message_complete()
            return
        length = length_of(response, content, request.method)
        if request.method == "HEAD":
            content = b""
        keep_alive = parser.get_http_version() != "1.0" and parser.should_keep_alive()
        self._write(response.status, application.headers_of(request, response, length), content, keep_alive)
        self.on_response_complete()
        application.log(request, response, len(body), len(content), begun)

    def _begin(self, body: bytes = b"", response: Response | None = None) -> None:
        """Start a task that answers, or that sends the answer in parts."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue, self._body = url, expects, None
        self.headers += headers
        extensions = self._extensions if response is None else {**self._extensions, RESPONSE_EXTENSION: response}
        cast("dict[str, object]", self.scope)["extensions"] = extensions
        super().on_headers_complete()
        if self.scope["http_version"] == "1.0":
            self.cycle.send = _Unframed(self.cycle).send  # type: ignore[method-assign]
        if len(self.pipeline) < _PIPELINED:
            # Reading stops where requests are waiting; but only who reads is told of a client's departure.
            self.flow.resume_reading()
        if body:
            super().on_body(body)

    def _answer(self, status: int, headers: Headers, content: bytes) -> bool:
        """Write a task's answer in one piece, where nothing is to be waited for; returns whether it did."""
        cycle = self.cycle
        if self.pipeline or self.flow.write_paused or cycle.disconnected or cycle.scope["method"] == "HEAD":
            # Of several requests, the answer may be to one that came before this cycle's.
            return False
        self._write(status, headers, content, cycle.keep_alive)
        cycle.response_started = cycle.response_complete = True
        cycle.message_event.set()
        cycle.on_response()
        return True

    def _write(self, status: int, headers: Headers, content: bytes, keep_alive: bool) -> None:
        parts = [STATUS_LINE[status]]
        parts += [b"%b: %b\r\n" % pair for pair in (*self.server_state.default_headers, *headers)]
        if (b"connection", b"close") in headers:
            keep_alive = False
        elif not keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != len(parts):
            raise ValueError("a header is more than one line")
        self.transport.write(head + content)
        if not keep_alive:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        cycle = self.cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started):
            body = encode_json({"error": "bad_request", "reason": msg}) + b"\n"
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode("ascii") + body)
        # Else an answer is already on its way, and what follows it cannot be told apart from it.
        self.transport.close()


class _Unframed:
    """Sends answers whose length nobody knows to clients that know no chunks: they end with the connection."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._framed = cycle.send
        self._ends_with_connection = False

    async def send(self, message: Any) -> None:
        cycle = self._cycle
        if message["type"] == "http.response.start":
            lengths = [value for name, value in message["headers"] if name == b"content-length"]
            self._ends_with_connection = not lengths and cycle.scope["method"] != "HEAD"
            if self._ends_with_connection:
                # The web server would take it upon itself to send chunks.
                cycle.chunked_encoding = False
        if message["type"] == "http.response.start" or not self._ends_with_connection:
            await self._framed(message)
            return
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        if cycle.disconnected:
            return
        cycle.transport.write(message.get("body", b""))
        if not message.get("more_body", False):
            cycle.response_complete = True
            cycle.message_event.set()
            cycle.transport.close()
            cycle.on_response()
