"""The server's end of a connection without I/O: a client's bytes become requests, and answers become bytes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import h11

from couchdal.errors import CouchError, Unreachable
from couchdal.http.messages import Request
from couchdal.interception.answers import Answer, split_target
from couchdal.server.framing import Limits, chunks_of, failure, headers_of, read_head

_LIMITS = Limits()
_GO_ON = h11.InformationalResponse(status_code=100, headers=[], reason=b"Continue")


class ServerSide:
    """One connection. It has one request at a time."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_LIMITS.max_header_size)
        self._head: h11.Request | None = None
        self._parts: list[bytes] = []
        #: Whether the server sends nothing more over this connection.
        self.is_over: bool = False

    def receive(self, data: bytes) -> tuple[bytes, Request | None]:
        """Return the bytes to send at once, and the request if all of it has arrived."""
        http = self._http
        try:
            http.receive_data(data)
            while True:
                event = http.next_event()
                if isinstance(event, h11.Request):
                    self._head = event
                elif isinstance(event, h11.Data):
                    self._parts.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    return b"", self._request()
                else:
                    break
            return (http.send(_GO_ON) or b"") if http.they_are_waiting_for_100_continue else b"", None
        except h11.RemoteProtocolError as error:
            self.is_over = True
            return self._refuse(str(error), error.error_status_hint), None

    def _request(self) -> Request:
        head, body = self._head, b"".join(self._parts)
        assert head is not None
        self._parts = []
        path, query = split_target(head.target.decode("latin-1"))
        return read_head(head.method.decode("ascii"), path, query, head.headers, peer="127.0.0.1", body=body)

    def _refuse(self, reason: str, status: int) -> bytes:
        response = failure(CouchError(reason, status=status, error="bad_request", headers={"connection": "close"}))
        request = Request("GET", "/")
        try:
            head = h11.Response(status_code=response.status, headers=headers_of(request, response, response.body, None))
            return b"".join(self._http.send(event) or b"" for event in (head, h11.Data(response.body)))
        except h11.LocalProtocolError:
            # An answer is being sent already.
            return b""

    def head(self, answer: Answer) -> bytes:
        """Return the status line and the headers of an answer."""
        head = h11.Response(status_code=answer.status, headers=answer.headers, reason=answer.reason.encode("ascii"))
        return self._http.send(head) or b""

    def part(self, content: bytes) -> bytes:
        """Return a part of the body, framed."""
        return b"".join(self._http.send(h11.Data(chunk)) or b"" for chunk in chunks_of(content) if chunk)

    def end(self) -> bytes:
        """Return the end of the body, and wait for the next request."""
        rest = self._http.send(h11.EndOfMessage()) or b""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        else:
            self.is_over = True
        return rest

    def stream(self, answer: Answer) -> Iterator[bytes]:
        """Yield the bytes of an answer. A ``cut`` one ends too early."""
        yield self.head(answer)
        try:
            for chunk in answer.chunks():
                if part := self.part(chunk):
                    yield part
        except Unreachable:
            # The client notices that the connection ends.
            self.is_over = True
            return
        yield self.end()

    async def astream(self, answer: Answer) -> AsyncIterator[bytes]:
        """Yield the bytes of an answer whose stream is an asynchronous one, as ``stream`` does."""
        yield self.head(answer)
        try:
            async for chunk in answer.achunks():
                if part := self.part(chunk):
                    yield part
        except Unreachable:
            self.is_over = True
            return
        yield self.end()
