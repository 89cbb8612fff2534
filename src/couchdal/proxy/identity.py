"""Decide whose credentials CouchDB sees: the client's, the proxy's, or those of a user whom the proxy names.

No ``repr`` here shows a secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from couchdal.errors import Unauthorized
from couchdal.http.headers import CREDENTIALS, PROXY_ROLES, PROXY_TOKEN, PROXY_USER
from couchdal.http.messages import Request, Response


class Identity(Protocol):
    """Puts credentials into requests, and removes from answers what the client must not get.

    ``needed`` are the headers of the client that the identity depends on.
    """

    @property
    def needed(self) -> Collection[str]: ...

    def sign(self, request: Request) -> Request: ...

    def clear(self, response: Response) -> Response: ...


class OfClient:
    """Forwards the client's own credentials: Basic, a session cookie, a token."""

    needed = CREDENTIALS

    def sign(self, request: Request) -> Request:
        return request

    def clear(self, response: Response) -> Response:
        return response


class OfProxy:
    """Uses the proxy's own account. Removes the client's credentials, and the cookies that CouchDB gives the proxy."""

    @property
    def needed(self) -> Collection[str]:
        return ()

    def sign(self, request: Request) -> Request:
        return request.with_headers(_anonymous(request.headers))

    def clear(self, response: Response) -> Response:
        response.headers.pop("set-cookie", None)
        return response


@dataclass(frozen=True, slots=True)
class Vouched(OfProxy):
    """CouchDB's proxy authentication: the proxy names the user, and a token proves that it knows the secret.

    With ``user_header``, a gateway in front of the proxy names the user in that header, and a request without it is
    refused. Otherwise the user is ``user``. Source: couch_httpd_auth:proxy_auth_user.
    """

    secret: str = field(repr=False)
    user: str | None = None
    roles: tuple[str, ...] = ()
    user_header: str | None = None

    @property
    def needed(self) -> Collection[str]:
        return () if self.user_header is None else (self.user_header.lower(),)

    def sign(self, request: Request) -> Request:
        """Return the request of the named user. Raise ``Unauthorized`` if the gateway named nobody."""
        headers = _anonymous(request.headers)
        user = self.user
        if self.user_header is not None:
            user = headers.pop(self.user_header.lower(), None)
            # A header that was sent twice arrives as one, with a comma. A header of the client's own must not become a
            # part of the name.
            if not user or "," in user:
                raise Unauthorized("the gateway in front of the proxy must name one user, without a comma")
        if user:
            # Header values are Latin-1 in transit, and CouchDB uses their bytes.
            name = user.encode("latin-1", "replace")
            headers[PROXY_USER] = user
            headers[PROXY_ROLES] = ",".join(self.roles)
            headers[PROXY_TOKEN] = hmac.new(self.secret.encode(), name, "sha256").hexdigest()
        return request.with_headers(headers)


def _anonymous(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in CREDENTIALS}
