"""Authentication flows: Basic credentials, or a session cookie that is renewed before it expires.

A flow is a generator: it yields the requests to send and receives their answers. It does no I/O, so blocking and
asynchronous clients share it.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from couchdal.http.headers import SESSION_COOKIE
from couchdal.http.json_text import encode_json
from couchdal.http.messages import Request, Response

AuthFlow: TypeAlias = Generator[Request, Response, Response]

# A cookie is renewed in the last fifth of its life, so that it does not expire on its way to the server.
_USED_LIFE = 0.8
# CouchDB's default, for a cookie without Max-Age.
_DEFAULT_LIFE_S = 600.0


class Authentication(Protocol):
    """Turns one request into the requests to send for it. The generator returns the answer."""

    def flow(self, request: Request) -> AuthFlow: ...


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials: requests are sent as they are."""

    def flow(self, request: Request) -> AuthFlow:
        return (yield request)


@dataclass(frozen=True, slots=True)
class BasicAuthentication:
    """A user name and a password with every request."""

    user: str
    password: str = field(repr=False)

    def flow(self, request: Request) -> AuthFlow:
        credentials = b64encode(f"{self.user}:{self.password}".encode()).decode("ascii")
        return (yield with_header(request, "authorization", f"Basic {credentials}"))


@dataclass(frozen=True, slots=True)
class _Cookie:
    text: str
    renew_at: float


@dataclass(slots=True)
class CookieAuthentication:
    """A session cookie. It is fetched with the first request, and again before it expires or when it is refused.

    Threads may share it. Two threads that find the cookie stale both log in, which is harmless.
    """

    user: str
    password: str = field(repr=False)
    monotonic: Callable[[], float] = field(default=time.monotonic, repr=False)
    _cookie: _Cookie | None = field(default=None, repr=False)

    def flow(self, request: Request) -> AuthFlow:
        cookie = self._cookie
        fresh = cookie is None or self.monotonic() >= cookie.renew_at
        if fresh:
            refusal = yield from self._log_in()
            if refusal is not None:
                return refusal
        response = yield self._signed(request)
        if response.status == 401 and not fresh and request.stream is None:
            # The server was restarted or its secret changed: fetch one new cookie, but try no third time.
            refusal = yield from self._log_in()
            if refusal is not None:
                return refusal
            response = yield self._signed(request)
        self._learn(response.headers)
        return response

    def _log_in(self) -> Generator[Request, Response, Response | None]:
        """Fetch a cookie. Return the server's answer if it refuses."""
        body = encode_json({"name": self.user, "password": self.password})
        headers = {"accept": "application/json", "content-type": "application/json"}
        answer = yield Request("POST", "/_session", headers=headers, body=body)
        if answer.status >= 400:
            return answer
        self._learn(answer.headers)
        return None

    def _signed(self, request: Request) -> Request:
        if self._cookie is None:
            return request
        return with_header(request, "cookie", f"{SESSION_COOKIE}={self._cookie.text}")

    def _learn(self, headers: Mapping[str, str]) -> None:
        """Keep the cookie of an answer. CouchDB renews a cookie by sending a new one with any answer."""
        first, *attributes = headers.get("set-cookie", "").split(";")
        name, _, text = first.strip().partition("=")
        if name != SESSION_COOKIE or not text:
            return
        life_s = _DEFAULT_LIFE_S
        for attribute in attributes:
            key, _, value = attribute.strip().partition("=")
            if key.lower() == "max-age" and value.isdigit():
                life_s = float(value)
        self._cookie = _Cookie(text, self.monotonic() + life_s * _USED_LIFE)


def with_header(request: Request, name: str, value: str) -> Request:
    """Return the request with one more header."""
    return request.with_headers({**request.headers, name: value})


def has_credentials(request: Request) -> bool:
    """Return whether a request already carries credentials, as forwarded requests may."""
    cookies = request.headers.get("cookie", "").lower()
    return "authorization" in request.headers or SESSION_COOKIE.lower() + "=" in cookies
