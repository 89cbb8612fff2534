"""The seam of requests: answers a plain request where its adapter would open a connection.

The adapter itself handles all other requests (streams, uploads, retries, failures), over the socket of ``http_client``.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from email.message import Message
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from couchdal.http.messages import Request, is_feed
from couchdal.interception.answers import Answer, split_target
from couchdal.interception.http_client import delivering
from couchdal.interception.intercept import explain, interception_for
from couchdal.server.framing import Headers

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session
    from requests.adapters import HTTPAdapter

    from couchdal.interception.patches import Replace


def replacements(module: ModuleType) -> list[Replace]:
    """Return the replacements in a module of requests."""
    if module.__name__ == "requests.sessions":
        return [
            (module.Session, "merge_environment_settings", _merge),
            (module, "to_key_val_list", _pairs),
            (module, "get_netrc_auth", _netrc),
        ]
    if module.__name__ == "requests.models":
        return [(module, "to_key_val_list", _pairs)]
    return [(module.HTTPAdapter, "send", _Seam(module).replace)]


class _Server(NamedTuple):
    """The server that a URL names: its address, and the header ``host``."""

    address: tuple[str, str, int | None]
    host: str


def _split(url: str) -> tuple[_Server, str]:
    """Return the server and the target of a URL."""
    scheme, _, rest = url.partition("://")
    authority, slash, target = rest.partition("/")
    if "?" in authority or "#" in authority:
        parts = urlsplit(url)
        authority, slash, target = parts.netloc, "/", f"?{parts.query}"
    return _server(scheme, authority), slash + target


# Clients use few servers, and splitting an address takes as long as answering the request.
@lru_cache(maxsize=64)
def _server(scheme: str, authority: str) -> _Server:
    parts = urlsplit(f"{scheme}://{authority}")
    return _Server((parts.scheme, parts.hostname or "", parts.port), authority.rpartition("@")[2])


def _merge(original: Callable[..., object]) -> Callable[..., object]:
    def merge_environment_settings(
        self: Session, url: str, proxies: object, stream: bool | None, verify: object, cert: object
    ) -> object:
        """Skip the environment's proxies and certificates: an answer needs none, and reading them takes longer."""
        if interception_for(*_split(url)[0].address) is None:
            return original(self, url, proxies, stream, verify, cert)
        return {"proxies": {}, "stream": self.stream if stream is None else stream, "verify": True, "cert": None}

    return merge_environment_settings


def _pairs(original: Callable[..., object]) -> Callable[..., object]:
    def to_key_val_list(value: object) -> object:
        """Convert a dictionary at once. The original first checks for a protocol, which is slow."""
        return list(value.items()) if isinstance(value, dict) else original(value)

    return to_key_val_list


def _netrc(original: Callable[..., object]) -> Callable[..., object]:
    """Read the file with passwords once for each server. The original looks for it before each request."""
    known = lru_cache(maxsize=64)(lambda scheme, authority: original(f"{scheme}://{authority}"))

    def get_netrc_auth(url: str | bytes, raise_errors: bool = False) -> object:
        text = url.decode("latin-1") if isinstance(url, bytes) else url
        scheme, _, rest = text.partition("://")
        authority = rest.partition("/")[0]
        if raise_errors or interception_for(*_server(scheme, authority).address) is None:
            return original(url, raise_errors)
        return known(scheme, authority)

    return get_netrc_auth


class _Seam:
    """The seam of ``requests.adapters``."""

    def __init__(self, module: ModuleType) -> None:
        from requests.structures import CaseInsensitiveDict  # the client has imported both
        from urllib3 import HTTPResponse

        self._build: Callable[..., Response] = vars(module.HTTPAdapter)["build_response"]
        self._response: type[Response] = module.Response
        self._encoding: Callable[..., str | None] = module.get_encoding_from_headers
        self._headers = CaseInsensitiveDict

        class Unread(HTTPResponse):
            """The raw response of an answer whose body is read already. It is created on first use."""

            def __init__(self, answer: Answer, method: str) -> None:
                self._make: Callable[[], dict[str, Any]] | None = lambda: _raw_options(answer, b"", method)
                self._original_response = None

            def __getattr__(self, name: str) -> Any:
                make = self.__dict__.get("_make")
                if make is None:
                    raise AttributeError(name)
                self._make = None
                super().__init__(**make())
                return getattr(self, name)

            @property
            def closed(self) -> bool:
                return self._make is not None or super().closed

            def close(self) -> None:
                if self._make is None:
                    super().close()

        self._unread = Unread
        self._raw = HTTPResponse

    def replace(self, original: Callable[..., Response]) -> Callable[..., object]:
        seam = self

        def send(
            self: HTTPAdapter,
            request: PreparedRequest,
            stream: bool = False,
            timeout: Any = None,
            *others: object,
            **named: object,
        ) -> Response:
            server, target = _split(request.url or "")
            interception = interception_for(*server.address)
            if interception is None:
                try:
                    return original(self, request, stream, timeout, *others, **named)
                except OSError as error:
                    explain(error, *server.address)
                    raise
            made = _plain_request(request, server.host, target)
            # The other arguments, certificates and proxies, concern only real servers.
            if made is None:
                return original(self, request, stream, timeout)
            outcome = interception.outcome(made, _seconds(timeout))
            if isinstance(outcome, Answer) and not outcome.streams and not outcome.cut:
                headers = dict(outcome.headers)
                if not self.max_retries.is_retry(made.method, outcome.status, b"retry-after" in headers):
                    return seam.response(self, request, outcome, whole=not stream)
            with delivering(outcome):
                return original(self, request, stream, timeout)

        return send

    def response(self, adapter: HTTPAdapter, request: PreparedRequest, answer: Answer, *, whole: bool) -> Response:
        """Return the client's response. If the client will read the ``whole`` body next, it is read already."""
        method = request.method or "GET"
        names = [name for name, _ in answer.headers]
        if not whole or b"content-encoding" in names or b"set-cookie" in names or _overrides(adapter, self._build):
            return adapter.build_response(request, self._raw(**_raw_options(answer, answer.body, method)))
        response = self._response()
        response.status_code = answer.status
        response.headers = self._headers(_decoded(answer.headers))
        response.encoding = self._encoding(response.headers)
        response.raw = self._unread(answer, method)
        response.reason = answer.reason
        response.url = request.url or ""
        response.request = request
        response.connection = adapter
        response._content = answer.body
        return response


def _overrides(adapter: HTTPAdapter, build: object) -> bool:
    return getattr(type(adapter), "build_response", None) is not build


def _decoded(headers: Headers) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _plain_request(request: PreparedRequest, host: str, target: str) -> Request | None:
    """Return the request, or ``None`` if the request or its answer has several parts."""
    body = request.body
    if isinstance(body, str):
        body = body.encode()
    if body is not None and not isinstance(body, bytes):
        return None
    path, query = split_target(target)
    headers = {"host": host}
    for name, value in request.headers.items():
        headers[_text(name).lower()] = _text(value)
    if "expect" in headers:
        return None
    made = Request(
        request.method or "GET",
        path,
        query,
        headers,
        body or b"",
        announces_body="content-length" in headers,
    )
    return None if is_feed(made) else made


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _seconds(timeout: Any) -> float | None:
    """Return the read time-out: requests takes a number, a pair, or urllib3's own object."""
    if isinstance(timeout, tuple):
        timeout = timeout[1]
    elif timeout is not None and hasattr(timeout, "read_timeout"):
        timeout = timeout.read_timeout
    return timeout if isinstance(timeout, (int, float)) else None


class _Head:
    """The head of an answer, from which requests reads cookies."""

    def __init__(self, answer: Answer) -> None:
        self.msg = Message()
        for name, value in answer.headers:
            self.msg[name.decode("latin-1")] = value.decode("latin-1")

    def isclosed(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _raw_options(answer: Answer, body: bytes, method: str) -> dict[str, Any]:
    """Return the arguments of urllib3's response."""
    from urllib3 import HTTPHeaderDict  # the client has imported it

    headers = HTTPHeaderDict(_decoded(answer.headers))
    return {
        "body": io.BytesIO(body),
        "headers": headers,
        "status": answer.status,
        "version": 11,
        "version_string": "HTTP/1.1",
        "reason": answer.reason,
        "preload_content": False,
        "decode_content": False,
        "original_response": _Head(answer) if "set-cookie" in headers else None,
        "request_method": method,
    }
