"""Replications on a live server: the databases that they name are private, as all others."""

from __future__ import annotations

import json
from urllib.parse import SplitResult, urlsplit

from couchdal.backends.authentication import BasicAuthentication, CookieAuthentication
from couchdal.backends.couch_server import CouchServer
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.urls import quote, split_path, unquote
from couchdal.testing.copying import objects
from couchdal.testing.live import LiveDatabases
from couchdal.testing.names import is_legal

_SIDES = ("source", "target")


class Replications:
    """Replaces the databases in replications, and puts back the addresses that tests wrote."""

    def __init__(self, databases: LiveDatabases, server: CouchServer) -> None:
        self._databases = databases
        self._server = server
        #: The hosts that mean the server: its own, and that of ``couch_server``.
        self.addresses: set[str] = {server.url.netloc.decode("ascii")}
        # The addresses that tests wrote, by those that CouchDB got.
        self._written: dict[str, str] = {}

    def of_request(self, request: Request) -> Request:
        """Return a request to ``_replicate`` with private names. The end of the scope cancels a continuous one."""
        body = request.value()
        if not isinstance(body, dict):
            return request
        changed = self._with_private(body)
        if changed.get("continuous") is True and changed.get("cancel") is not True:
            self._databases.current.replications.append(dict(changed))
        return request.with_body(json=changed)

    def in_documents(self, request: Request) -> Request:
        """Return a request that writes documents of a ``_replicator`` database, with private names."""
        body = request.value() or _parsed(request)
        if request.method not in ("PUT", "POST") or not isinstance(body, dict):
            return request
        if split_path(request.path)[-1] != "_bulk_docs":
            return request.with_body(json=self._with_private(body)) if _is_replication(body) else request
        docs = body.get("docs")
        if not isinstance(docs, list):
            return request
        changed = [self._with_private(doc) if isinstance(doc, dict) and _is_replication(doc) else doc for doc in docs]
        return request.with_body(json={**body, "docs": changed})

    def original(self, data: bytes) -> bytes:
        """Return an answer with the addresses that tests wrote."""
        for sent, written in self._written.items():
            data = data.replace(json.dumps(sent).encode(), json.dumps(written).encode())
        return data

    def _with_private(self, body: dict[str, JSON]) -> dict[str, JSON]:
        creates = body.get("create_target") is True
        changed = dict(body)
        for side in _SIDES:
            value = body.get(side)
            if isinstance(value, str):
                changed[side] = self._endpoint(value, creates=creates and side == "target")
            elif isinstance(value, dict) and isinstance(url := value.get("url"), str):
                known = "auth" in value or bool({"authorization", "Authorization"} & set(_keys(value.get("headers"))))
                sent = self._endpoint(url, creates=creates and side == "target", authenticated=known)
                changed[side] = {**value, "url": sent}
        return changed

    def _endpoint(self, written: str, *, creates: bool, authenticated: bool = False) -> str:
        if "://" not in written:
            return self._private(written, creates=creates) if is_legal(written) else written
        parts = urlsplit(written)
        if parts.netloc.rpartition("@")[2] not in self.addresses:
            return written
        path = parts.path.removeprefix(self._server.prefix).strip("/")
        name = unquote(path)
        if not is_legal(name) or name in self._databases.untouched:
            return written
        private = quote(self._private(name, creates=creates))
        origin = urlsplit(str(self._server.url))
        userinfo = parts.netloc.rpartition("@")[0] or ("" if authenticated else self._userinfo())
        netloc = f"{userinfo}@{origin.netloc}" if userinfo else origin.netloc
        slash = "/" if parts.path.endswith("/") else ""
        sent = SplitResult(origin.scheme, netloc, f"{self._server.prefix}/{private}{slash}", parts.query, "").geturl()
        self._written[sent] = written
        return sent

    def _private(self, name: str, *, creates: bool) -> str:
        if creates:
            private = self._databases.will_create(name)
            self._databases.created(name)
            return private
        # The replicator writes its checkpoints to both sides.
        return self._databases.private(name, writes=True)

    def _userinfo(self) -> str:
        account = self._server.authentication
        if isinstance(account, (BasicAuthentication, CookieAuthentication)):
            return f"{quote(account.user)}:{quote(account.password)}"
        return ""


def _is_replication(document: dict[str, JSON]) -> bool:
    return any(side in document for side in _SIDES)


def _keys(value: JSON) -> list[str]:
    return list(value) if isinstance(value, dict) else []


def _parsed(request: Request) -> JSON:
    """Return a body whatever its content type: CouchDB takes documents with any."""
    try:
        value: JSON = json.loads(request.body) if request.body else None
    except ValueError:
        return None
    return value if isinstance(value, dict) or objects(value) else None
