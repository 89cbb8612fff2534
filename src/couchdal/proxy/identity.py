"""Whose request it is that CouchDB sees: the client's own, the proxy's, or that of somebody for whom the proxy vouches.

No secret is shown by any ``repr`` here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from couchdal.http.headers import CREDENTIALS, PROXY_ROLES, PROXY_TOKEN, PROXY_USER
from couchdal.http.messages import Request, Response


class Identity(Protocol):
    """Has a request carry what it shall, and an answer only what is the client's."""

    def sign(self, request: Request) -> Request: ...

    def clear(self, response: Response) -> Response: ...


class OfClient:
    """The client's own credentials pass: Basic, a session's cookie, a token."""

    def sign(self, request: Request) -> Request:
        return request

    def clear(self, response: Response) -> Response:
        return response


class OfProxy:
    """The proxy's own account: no credentials of the client's pass, and no cookies that CouchDB gives the proxy."""

    def sign(self, request: Request) -> Request:
        return request.with_headers(_anonymous(request.headers))

    def clear(self, response: Response) -> Response:
        response.headers.pop("set-cookie", None)
        return response


@dataclass(frozen=True, slots=True)
class Vouched(OfProxy):
    """CouchDB's proxy authentication: the proxy names the user, and proves by a token that it knows the secret.

    The user is ``user`` or, where ``user_header`` is given, what a gateway before the proxy says in that header;
    without either a request stays anonymous. Source: couch_httpd_auth:proxy_auth_user.
    """

    secret: str = field(repr=False)
    user: str | None = None
    roles: tuple[str, ...] = ()
    user_header: str | None = None

    def sign(self, request: Request) -> Request:
        headers = _anonymous(request.headers)
        user = self.user
        if self.user_header is not None:
            user = headers.pop(self.user_header.lower(), None) or self.user
        if user:
            # Header values are Latin-1 in transit, and CouchDB takes their bytes.
            name = user.encode("latin-1", "replace")
            headers[PROXY_USER] = user
            headers[PROXY_ROLES] = ",".join(self.roles)
            headers[PROXY_TOKEN] = hmac.new(self.secret.encode(), name, "sha256").hexdigest()
        return request.with_headers(headers)


def _anonymous(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CREDENTIALS}
