"""``CouchServer``: one CouchDB, as ``CouchBackend`` and ``AsyncCouchBackend`` both reach it.

Requests are sent unchanged, and an answer is returned for every status.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import ClassVar, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import httpx2

from couchdal.backends.address import Address
from couchdal.backends.authentication import Anonymous, Authentication, AuthFlow, has_credentials
from couchdal.config import is_reachable
from couchdal.errors import HostRefused, NotConfigured, NotConnected, TimedOut, Unavailable, Unreachable
from couchdal.http.headers import HOP_BY_HOP, mask_sessions
from couchdal.http.messages import Request, is_feed
from couchdal.http.origins import ANSWERED
from couchdal.http.urls import parse_query
from couchdal.pace import caller_timeout_s


class _WithoutSessions(logging.Filter):
    """Masks CouchDB's session cookies in the HTTP client's log, which contains every header it receives."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = mask_sessions(str(record.msg))
        return True


for _name in ("httpcore2.http11", "httpcore2.http2"):
    logging.getLogger(_name).addFilter(_WithoutSessions())


_KEPT = 10


@dataclass(frozen=True, slots=True)
class Connections:
    """How connections are made and kept.

    At most ``limit`` connections are in use at once, not counting those of feeds. A backend that streams has the same
    number again for long bodies. ``ca`` is a file of certificates to trust instead of the system's. With ``streams``,
    long answers are passed on as they arrive. ``proxy`` is the address of an HTTP proxy.
    """

    limit: int | None = None
    connect_timeout_s: float | None = None
    ca: str | None = None
    streams: bool = False
    proxy: str | None = field(default=None, repr=False)

    def verify(self, origin: str) -> ssl.SSLContext | bool:
        """Return the HTTP client's option ``verify``. Raise ``NotConfigured`` for a file without certificates."""
        if self.ca is None:
            # Loading certificates takes longer than a hundred requests, and plain HTTP needs none.
            return origin.startswith("https:")
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise NotConfigured(f"cannot read certificates from {self.ca}: {error}") from None

    def limits(self, *, feeds: bool) -> httpx2.Limits:
        # Idle connections serve the next requests. But the client checks all of them twice for each request.
        kept = _KEPT if self.limit is None else min(self.limit, _KEPT)
        return httpx2.Limits(
            max_connections=None if feeds else self.limit, max_keepalive_connections=kept, keepalive_expiry=60.0
        )


PLAIN = Connections()


class Identity:
    """The identity of a server: all backends that have its address share it, whatever credentials they use."""

    __slots__ = ("__weakref__",)


_identities: WeakValueDictionary[tuple[str, str], Identity] = WeakValueDictionary()
_identities_lock = Lock()


class CouchServer:
    """One CouchDB and how to talk to it. All backend objects for that server share it."""

    #: The databases that handles created on first use, on any server: see ``Backend.provided``. Live test runs restore
    #: it.
    provided: ClassVar[set[object]] = set()

    def __init__(self, address: Address, connections: Connections = PLAIN) -> None:
        self.name: str = address.name
        self.prefix: str = address.prefix
        self.url: httpx2.URL = httpx2.URL(address.origin)
        self.timeout_s: float = address.timeout_s
        self.authentication: Authentication = address.authentication
        self.connections = connections
        self.verify: ssl.SSLContext | bool = connections.verify(address.origin)
        with _identities_lock:
            #: Middleware is installed for this object, so it sees every handle of the server.
            self.identity: Identity = _identities.setdefault((address.origin, address.prefix), Identity())

    def flow(self, request: Request) -> AuthFlow:
        """Return the authentication flow of a request. A request with its own credentials is sent as it is."""
        is_here = ANSWERED and ANSWERED.find(self.url.scheme, self.url.host, self.url.port)
        if not is_here and not is_reachable(self.url.host):
            raise HostRefused(
                f"tests may not reach {self.name} unless you allow it: use --dal-allow-host={self.url.host},"
                " dal_allowed_hosts in pytest's configuration, or DAL_ALLOWED_HOSTS",
                self.name,
            )
        authentication: Authentication = Anonymous() if has_credentials(request) else self.authentication
        return authentication.flow(request)

    def outgoing(self, request: Request) -> httpx2.Request:
        """Return the HTTP client's request. Its path is exactly as given: not decoded, not normalized."""
        query = f"?{request.query}" if request.query else ""
        # Compressed answers are only for callers who ask for them and then see the header.
        headers = {"accept-encoding": "identity", "user-agent": "couchdal", **request.headers}
        timeout: dict[str, float | None] = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_s)
        if self.connections.connect_timeout_s is not None:
            timeout["connect"] = timeout["pool"] = self.connections.connect_timeout_s
        sent = [(name, value) for name, value in headers.items() if name not in HOP_BY_HOP]
        if is_feed(request):
            timeout["read"] = self._feed_timeout_s(request)
        if (limit := caller_timeout_s.get()) is not None:
            timeout = {what: limit if seconds is None else min(limit, seconds) for what, seconds in timeout.items()}
        if is_feed(request) or request.path.endswith("/queries"):
            # CouchDB 3.5 ends an event source twice, and a failed list of queries too. The HTTP client would take the
            # second end for the answer to the next request.
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
            extensions={
                "target": f"{self.prefix}{request.path}{query}".encode("ascii"),
                "timeout": timeout,
                "couchdal": self.identity,
            },
        )
        if not request.announces_body:
            # If the method usually has a body, the client announces an empty one by itself.
            made.headers.pop("content-length", None)
        return made

    def _feed_timeout_s(self, request: Request) -> float | None:
        """Return how long a feed may be silent, or ``None`` if the client leaves that to CouchDB's configuration.

        Without this limit, a feed would wait forever if the server's machine or network fails silently.
        """
        # CouchDB ignores case in the names of these parameters.
        parameters = {name.lower(): value for name, value in parse_query(request.query)}
        asked = parameters.get("heartbeat") or parameters.get("timeout", "")
        return int(asked) / 1000 + self.timeout_s if asked.isascii() and asked.isdigit() else None

    @contextmanager
    def failures(self) -> Iterator[None]:
        """Turn the HTTP client's exceptions into ours."""
        try:
            yield
        except httpx2.PoolTimeout:
            raise Unavailable(f"all connections to {self.name} are in use", self.name) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            reason = str(error) or "connecting timed out"
            raise NotConnected(f"{self.name} cannot be reached: {reason}", self.name) from None
        except httpx2.TimeoutException:
            waited = min(self.timeout_s, caller_timeout_s.get() or self.timeout_s)
            raise TimedOut(f"{self.name} did not answer within {waited:g} s", self.name) from None
        except httpx2.LocalProtocolError as error:
            raise ValueError(f"the request cannot be sent: {error}") from None
        except httpx2.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unreachable(f"{self.name} cannot be reached: {reason}", self.name) from None


def headers_of(answer: httpx2.Response, request: Request) -> dict[str, str]:
    """Return the headers of an answer without those that concern only its connection."""
    kept = {name.lower(): value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
    if request.method == "HEAD" and "content-length" in answer.headers:
        # In an answer to HEAD, only this header gives the length of the body.
        kept["content-length"] = answer.headers["content-length"]
    return kept


@runtime_checkable
class _Http1State(Protocol):
    """The part of ``h11.Connection`` that is used here."""

    @property
    def trailing_data(self) -> tuple[bytes, bool]: ...

    def send_failed(self) -> None: ...


def end_answer(stream: object) -> None:
    """Make sure that the connection of an answer is closed if bytes follow the answer's end.

    The HTTP client would take them for the answer to the next request. Call this before the answer is closed.
    """
    state = _connection_state(stream)
    if state is not None and state.trailing_data[0]:
        # A connection that has failed is closed with its answer.
        state.send_failed()


def _connection_state(holder: object) -> _Http1State | None:
    """Return the state of the connection behind a stream. The HTTP client has no public way to it."""
    while holder is not None:
        state = getattr(holder, "_h11_state", None)
        if isinstance(state, _Http1State):
            return state
        inner = (getattr(holder, name, None) for name in ("_connection", "_httpcore_stream", "_stream"))
        holder = next((found for found in inner if found is not None), None)
    return None
