"""One HTTP connection, on top of ``uvicorn``'s protocol class.

The emulator answers within microseconds. A task, ASGI messages and another turn of the event loop would take longer
than the answer, so a request that arrives with its whole body is answered where it is parsed. All other requests go
through ASGI messages. uvicorn has no public interface for this: ``pyproject.toml`` bounds it to the tested versions.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from operator import itemgetter
from time import perf_counter_ns
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from couchdal.http.json_text import encode_json
from couchdal.http.messages import Request
from couchdal.server.application import Application, RequestCycle
from couchdal.server.framing import Headers, Receive, Scope, Send, headers_of, read_head

# Headers with which a client offers to change to another protocol.
_UPGRADE_HEADERS = (b"http2-settings", b"upgrade")
# Longer answers are sent by a task, which waits for the client to read them and counts what it has not read.
_AT_ONCE = 65536
# How many requests of one connection may wait for an earlier one's answer.
_PIPELINED = 16

_TOO_LARGE_HEAD = "The head of the request is too large."

# Functions of design documents may answer with any status. CouchDB sends one phrase for all that HTTP does not define.
STATUS_LINE.update({status: b"HTTP/1.1 %d Internal Server Error\r\n" % status for status in range(600, 1000)})

_log = logging.getLogger("couchdal.server")


class _TooLargeHead(Exception):
    """The target of a request, which is in memory already, is longer than the limit for heads."""


class HttpProtocol(HttpToolsProtocol):
    """One connection: limits request heads, refuses malformed HTTP in CouchDB's form, and supports HTTP/1.0."""

    # uvicorn's attributes, which it does not annotate.
    app: Callable[[Scope, Receive, Send], Awaitable[None]]
    expect_100_continue: bool
    headers: list[tuple[bytes, bytes]]
    parser: httptools.HttpRequestParser
    url: bytes

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config.app, Application)
        self.application: Application = config.app
        # How many bytes of a head have arrived; None between heads.
        self._head_size: int | None = None
        self._head_timeout: asyncio.TimerHandle | None = None
        # Whether the data being parsed holds no earlier request.
        self._is_first = False
        # Whether a request has ended in the data being parsed.
        self._has_ended = False
        # The body so far of a request that may be answered at once.
        self._body: bytes | None = None
        # The reason for refusing the rest of the data, once the requests before it are answered.
        self._refusal: str | None = None
        #: Orders the connections that were made in one turn of the event loop.
        self.made: int = perf_counter_ns()
        # Whether there are more connections than allowed, and no idle one to close in place of this one.
        self._crowded = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # uvicorn waits for the first request without a limit. CouchDB has the same limit for it as for the next ones.
        self.timeout_keep_alive_task: asyncio.TimerHandle | None = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )
        if len(self.connections) > self.application.most_connections:
            self._crowded = not self._make_room()

    def _make_room(self) -> bool:
        """Close the idle connection that would time out first, if there are too many. Return whether there is room.

        A connection that sends the head of a request counts as idle.
        """
        others = [other for other in self.connections if isinstance(other, HttpProtocol) and other is not self]
        live = [other for other in others if not other.transport.is_closing()]
        if len(live) < self.application.most_connections:
            return True
        idle = [(until, other.made, other) for other in live if (until := other.idle_until()) is not None]
        if idle:
            min(idle, key=itemgetter(0, 1))[2].transport.abort()
        return bool(idle)

    def idle_until(self) -> float | None:
        """Return when the time for the next head ends, or None while a request is open."""
        timer = self._head_timeout or self.timeout_keep_alive_task
        return None if timer is None else timer.when()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timeout()
        # uvicorn leaves this timer, and the connection with it, if the client resets the connection.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        before, received = self._head_size, len(data)
        self._is_first, self._has_ended = True, False
        while data:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade(data[upgrade.args[0] :])
                continue
            except httptools.HttpParserCallbackError as error:
                if isinstance(error.__context__, _TooLargeHead):
                    self.send_400_response(_TOO_LARGE_HEAD)
                else:
                    _log.exception("a request failed")
                    self.transport.close()
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            break
        if self._body is not None and not self.transport.is_closing():
            # The rest of the body is still to come.
            self._begin(RequestCycle(self._read_request(b""), crowded=self._crowded))
            super().on_body(self._body)
            self._body = None
        if self._head_size is None or self.transport.is_closing():
            if self._head_timeout is not None:
                self._cancel_head_timeout()
            return
        # After the end of another request, the start of this head is unknown.
        self._head_size = 0 if self._has_ended else received + (before or 0)
        limits = self.application.limits
        if self._head_size > limits.max_header_size:
            self.send_400_response(_TOO_LARGE_HEAD)
        elif self._head_timeout is None:
            self._head_timeout = self.loop.call_later(limits.header_timeout_s, self.transport.abort)

    def _cancel_head_timeout(self) -> None:
        if self._head_timeout is not None:
            self._head_timeout.cancel()
            self._head_timeout = None

    def _without_upgrade(self, rest: bytes) -> bytes:
        """Return a request without its offer of another protocol, as ``curl --http2`` makes one, to be parsed again.

        The parser has skipped the body. ``CONNECT`` is not parsed again: its connection has no more requests.
        """
        parser = self.parser
        if not parser.should_upgrade() or parser.get_method() == b"CONNECT":
            return b""
        headers = []
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(token for token in value.split(b",") if token.strip().lower() not in _UPGRADE_HEADERS)
            if value and name not in _UPGRADE_HEADERS:
                headers.append(b"%b: %b\r\n" % (name, value))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        version = parser.get_http_version().encode()
        return b"".join((b"%b %b HTTP/%b\r\n" % (parser.get_method(), self.url, version), *headers, b"\r\n", rest))

    def on_message_begin(self) -> None:
        # Stop the timer only now: empty lines between two requests do not begin a request.
        self._unset_keepalive_if_required()
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_size = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_size is None:
            # A trailer. It comes too late to be checked with the head, so it must not count as part of it.
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_size = None
        if len(self.url) > self.application.limits.max_header_size:
            raise _TooLargeHead
        is_first, self._is_first = self._is_first, False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            # ``feed_data`` raises ``HttpParserUpgrade`` next.
            return
        cycle = self.cycle
        # Answers keep the order of requests, so no earlier one may be open.
        is_turn = is_first and not self.flow.write_paused and (cycle is None or cycle.response_complete)
        if (is_turn and self.application.backend.answers_at_once) or self.transport.is_closing():
            # On a closing connection, the request is parsed and ignored.
            self._body = b""
        else:
            self._begin(RequestCycle(self._read_request(b""), crowded=self._crowded))

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, None
        self._has_ended = True
        if self.transport.is_closing():
            return
        if body is None:
            if not self.parser.should_upgrade() or self.parser.get_method() == b"CONNECT":
                super().on_message_complete()
            return
        application = self.application
        request_cycle = RequestCycle(self._read_request(body), complete=True, crowded=self._crowded)
        response = application.answer_at_once(request_cycle)
        if response is None or response.stream is not None or len(response.body) > _AT_ONCE:
            self._begin(request_cycle)
            super().on_message_complete()
            return
        try:
            headers = headers_of(request_cycle.request, response, response.body, application.cors)
            content = b"" if request_cycle.request.method == "HEAD" else response.body
            keep_alive = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
            self._write(response.status, headers, content, keep_alive)
            request_cycle.sent = len(content)
            super().on_response_complete()
        finally:
            application.end(request_cycle)

    def _read_request(self, body: bytes) -> Request:
        # Like CouchDB, this ignores the host in a URL, and so it need not be valid.
        path, _, query = self.url.partition(b"#")[0].decode("latin-1").partition("?")
        method, peer = self.parser.get_method().decode("ascii"), self.client[0] if self.client else ""
        return read_head(method, path, query, self.headers, peer=peer, body=body)

    def _begin(self, request_cycle: RequestCycle) -> None:
        """Start a task that answers a request, or put it into the pipeline."""
        headers, expects = self.headers, self.expect_100_continue
        super().on_message_begin()
        # uvicorn parses the target once more, and fails if the host or the port in it is not valid.
        self.url, self.expect_100_continue = b"/", expects
        self.headers += headers
        self.app = partial(self._answer, request_cycle)
        super().on_headers_complete()
        # The task holds the cycle now. A reference from here would keep its answer in memory as long as the connection.
        self.app = self.application
        if len(self.pipeline) < _PIPELINED:
            # uvicorn stops reading while requests wait, but only a reader learns that a client disconnects.
            self.flow.resume_reading()

    async def _answer(self, request_cycle: RequestCycle, scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)
        if scope["http_version"] == "1.0" and isinstance(cycle, RequestResponseCycle):
            send = _Unframed(cycle).send
        await self.application.answer(request_cycle, receive, send, self)
        if isinstance(cycle, RequestResponseCycle) and self.transport.is_closing():
            # Otherwise uvicorn logs an answer that is not complete.
            cycle.disconnected = True

    def close(self) -> None:
        self.transport.close()

    def is_closing(self) -> bool:
        return self.transport.is_closing()

    def abort(self) -> None:
        self.transport.abort()

    def _write(self, status: int, headers: Headers, content: bytes, keep_alive: bool) -> None:
        parts = [STATUS_LINE[status]]
        for name, value in (*self.server_state.default_headers, *headers):
            parts.append(b"%b: %b\r\n" % (name, value))
        if (b"connection", b"close") in headers:
            keep_alive = False
        elif not keep_alive:
            parts.append(b"connection: close\r\n")
        parts.append(b"\r\n")
        head = b"".join(parts)
        if head.count(b"\n") != len(parts):
            raise ValueError("a header has more than one line")
        self.transport.write(head + content)
        if not keep_alive:
            self.transport.close()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._refusal is not None:
            self.send_400_response(self._refusal)

    def send_400_response(self, msg: str) -> None:
        """Refuse what was received, after the answers to the requests before it, and close the connection."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        waits = bool(self.pipeline) and self.pipeline[0][0] is cycle
        if cycle is None or cycle.response_complete or (cycle.more_body and not cycle.response_started and not waits):
            body = encode_json({"error": "bad_request", "reason": msg}) + b"\n"
            head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            self.transport.write(f"{head}\r\nconnection: close\r\n\r\n".encode("ascii") + body)
        elif waits or not cycle.more_body:
            self._refusal = msg
            return
        # Otherwise an answer is being sent, and the client could not tell the two apart.
        self.transport.close()


class _Unframed:
    """Sends answers of unknown length to HTTP/1.0 clients: closing the connection ends them."""

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
                # Otherwise uvicorn sends chunks.
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
