"""What the blocking and the asynchronous CouchDB share: where the server is, and how requests are put to it.

It holds none of CouchDB's rules: requests go out as they are given, and answers come back whatever their status is.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2

from couchdal.backends.address import Address
from couchdal.backends.authentication import Anonymous, Authentication, Exchange, has_credentials
from couchdal.config import is_reachable
from couchdal.errors import HostRefused, NotConfigured, NotConnected, TimedOut, Unavailable, Unreachable
from couchdal.http.headers import HOP_BY_HOP, mask_sessions
from couchdal.http.messages import Request, is_feed


class _WithoutSessions(logging.Filter):
    """Takes the cookies of CouchDB's sessions out of what the HTTP client logs, which is all headers that come."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = mask_sessions(str(record.msg))
        return True


for _name in ("httpcore2.http11", "httpcore2.http2"):
    logging.getLogger(_name).addFilter(_WithoutSessions())


_KEPT = 10


@dataclass(frozen=True, slots=True)
class Connections:
    """How connections are made and kept: ``limit`` of those in use at once, beside which each feed has one of its own.

    ``ca`` is a file of certificates to trust in place of the system's; ``streams`` gives out long answers as they come.
    """

    limit: int | None = None
    connect_timeout_s: float | None = None
    ca: str | None = None
    streams: bool = False

    def verify(self, origin: str) -> ssl.SSLContext | bool:
        """Return what the HTTP client is told of certificates; raises ``NotConfigured`` for a file that has none."""
        if self.ca is None:
            # Loading certificates takes longer than a hundred requests, and plain HTTP needs none.
            return origin.startswith("https:")
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise NotConfigured(f"no certificates can be read from {self.ca}: {error}") from None

    def limits(self, *, feeds: bool) -> httpx2.Limits:
        # Idle connections are kept for the next requests; but each request has the client look at all of them, twice.
        kept = _KEPT if self.limit is None else min(self.limit, _KEPT)
        return httpx2.Limits(
            max_connections=None if feeds else self.limit, max_keepalive_connections=kept, keepalive_expiry=60.0
        )


PLAIN = Connections()


class CouchServer:
    """Where a CouchDB is and how requests are put to it; shared by every backend object that talks to it."""

    def __init__(self, address: Address, connections: Connections = PLAIN) -> None:
        self.name = address.name
        self.prefix = address.prefix
        self.url = httpx2.URL(address.origin)
        self.timeout_s = address.timeout_s
        self.authentication = address.authentication
        self.connections = connections
        self.verify = connections.verify(address.origin)

    def exchange(self, request: Request) -> Exchange:
        """Return what has to be sent for a request; one that brings its own credentials goes as it is."""
        if not is_reachable(self.url.host):
            raise HostRefused(
                f"tests may not reach {self.name} unless that is allowed: --dal-allow-host={self.url.host},"
                " dal_allowed_hosts in pytest's settings, or DAL_ALLOWED_HOSTS",
                self.name,
            )
        authentication: Authentication = Anonymous() if has_credentials(request) else self.authentication
        return authentication.exchange(request)

    def outgoing(self, request: Request) -> httpx2.Request:
        """Return the HTTP client's request, its path exactly as given: no part of it is decoded or tidied up."""
        query = f"?{request.query}" if request.query else ""
        # Compressed bodies are for callers who asked for them and will see the header.
        headers = {"accept-encoding": "identity", "user-agent": "couchdal", **request.headers}
        timeout: dict[str, float | None] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_s)
        if self.connections.connect_timeout_s is not None:
            timeout["connect"] = timeout["pool"] = self.connections.connect_timeout_s
        sent = [(name, value) for name, value in headers.items() if name not in HOP_BY_HOP]
        if is_feed(request):
            timeout["read"] = None
        if is_feed(request) or request.path.endswith("/queries"):
            # CouchDB 3.5 ends an event source twice, and a failed list of queries: the second end would be read as
            # the answer to the next request.
            sent.append(("connection", "close"))
        content: bytes | AsyncIterable[bytes] | None = request.content() or None
        if request.stream is not None:
            content = request.stream
            if "content-length" in headers:
                sent.append(("content-length", headers["content-length"]))
        made = httpx2.Request(
            request.method,
            self.url,
            headers=[(name.encode("latin-1"), value.encode("latin-1")) for name, value in sent],
            content=content,
            extensions={"target": f"{self.prefix}{request.path}{query}".encode("ascii"), "timeout": timeout},
        )
        if not request.announces_body:
            # The client announces an empty body by itself where the method usually has one.
            made.headers.pop("content-length", None)
        return made

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the HTTP client's exceptions into ours."""
        try:
            yield
        except httpx2.PoolTimeout:
            raise Unavailable(f"{self.name} cannot be asked: all connections are in use", self.name) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = str(error) or "no connection in time"
            raise NotConnected(f"{self.name} cannot be reached: {reason}", self.name) from None
        except httpx2.TimeoutException:
            raise TimedOut(f"{self.name} did not answer within {self.timeout_s:g} s", self.name) from None
        except httpx2.LocalProtocolError as error:
            raise ValueError(f"the request cannot be sent: {error}") from None
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self.name} cannot be reached: {reason}", self.name) from None


def headers_of(answer: httpx2.Response, request: Request) -> dict[str, str]:
    """Return the headers that are passed on: those that are not about one connection only."""
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
    if request.method == "HEAD" and "content-length" in answer.headers:
        # The one thing that tells how long the body would have been.
        kept["content-length"] = answer.headers["content-length"]
    return kept
