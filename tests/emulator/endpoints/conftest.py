"""An emulated CouchDB with an administrator, and requests to it as different users."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Protocol

import pytest

from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.server.server import Clock, Server
from couchdal.http.json_text import encode_json
from couchdal.http.messages import ABSENT, Request, Response

ADMIN = ("admin", "secret")


class Send(Protocol):
    """Send one request, as the administrator unless another user is given."""

    def __call__(
        self,
        method: str,
        path: str,
        payload: object = ABSENT,
        *,
        user: tuple[str, str] | None = ADMIN,
        body: bytes = b"",
        **headers: str,
    ) -> Response: ...


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend(admin=ADMIN, server=Server(clock=Clock()))


@pytest.fixture
def send(backend: MemoryBackend) -> Send:
    def send(
        method: str,
        path: str,
        payload: object = ABSENT,
        *,
        user: tuple[str, str] | None = ADMIN,
        body: bytes = b"",
        **headers: str,
    ) -> Response:
        sent = {"accept": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if user is not None:
            sent["authorization"] = "Basic " + b64encode(":".join(user).encode()).decode()
        if payload is not ABSENT:
            body = encode_json(payload)
            sent.setdefault("content-type", "application/json")
        path, _, query = path.partition("?")
        return backend.send(Request(method, path, query, sent, body))

    return send


@pytest.fixture
def add_user(send: Send) -> Callable[..., tuple[str, str]]:
    """Create users: ``add_user("reader", roles=["dev"])`` returns the name and the password."""

    def add_user(name: str, roles: list[str] | None = None) -> tuple[str, str]:
        document = {"name": name, "password": "pw", "roles": roles or [], "type": "user"}
        assert send("PUT", f"/_users/org.couchdb.user:{name}", document).status == 201
        return name, "pw"

    return add_user
