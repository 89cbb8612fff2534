"""Replications on a live server: the databases that they name get private names, like all others."""

from __future__ import annotations

import json
import socket
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from couchdal.backends.authentication import BasicAuthentication, CookieAuthentication
from couchdal.backends.couch_server import CouchServer
from couchdal.errors import NotFound
from couchdal.http.answers import error_response
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request
from couchdal.http.origins import ANSWERED
from couchdal.http.urls import quote, split_path, unquote
from couchdal.middleware.chain import Steps
from couchdal.testing.copying import member, objects
from couchdal.testing.live import LiveDatabases
from couchdal.testing.names import is_legal
from couchdal.testing.protection import refuse
from couchdal.testing.system import SYSTEM_DATABASES

_SIDES = ("source", "target")
# The members of a request that can name a replication.
_IDS = ("replication_id", "_local_id", "id")


# CouchDB's own port, by which it may reach itself from within a container.
_PORT = 5984


class Replications:
    """Replaces the databases in replications, and restores the tests' addresses in answers."""

    def __init__(self, databases: LiveDatabases, server: CouchServer) -> None:
        self._databases = databases
        self._server = server
        #: The host and port of ``couch_server``.
        self.proxy: str | None = None
        # The addresses that tests wrote, by those that CouchDB got.
        self._written: dict[str, str] = {}

    def run(self, request: Request, method: str) -> Steps:
        """Send a request to ``_replicate`` with private names, unless it would change the data of others."""
        if self.is_refused(request):
            return refuse(request, method)
        body = request.value()
        job_id = next((body[name] for name in _IDS if name in body), None) if isinstance(body, dict) else None
        if isinstance(job_id, str) and member(body, "cancel") is True:
            job = yield request.with_head("GET", f"/_scheduler/jobs/{quote(job_id)}", "", request.headers).with_body()
            if job.status == 200 and self._databases.names.prefix not in json.dumps(job.value()):
                return error_response(NotFound(), request)
        return (yield self.of_request(request))

    def is_refused(self, request: Request) -> bool:
        """Return whether a request would replicate into one of CouchDB's own databases, or read a list of all."""
        body = request.value() or _parsed(request)
        docs = body.get("docs") if isinstance(body, dict) else None
        written = objects([body, *(docs if isinstance(docs, list) else ())])
        return any(self._system(doc.get("target")) or self._is_internal(doc.get("source")) for doc in written)

    def _system(self, side: JSON) -> bool:
        """Return whether a side of a replication is one of CouchDB's own databases."""
        name = self._name_of(side)
        return (name in SYSTEM_DATABASES and name not in self._databases.untouched) or self._is_internal(side)

    def _is_internal(self, side: JSON) -> bool:
        """Return whether a side is a database that CouchDB has for itself, such as the list of all databases."""
        name = self._name_of(side)
        return name.startswith("_") and name not in SYSTEM_DATABASES

    def _name_of(self, side: JSON) -> str:
        """Return the name of the database of this server that a side names; nothing if it is elsewhere."""
        address = side.get("url") if isinstance(side, dict) else side
        if not isinstance(address, str):
            return ""
        if "://" in address:
            return self._name_in(address) if self._is_server(address) else ""
        return address

    def _is_server(self, address: str) -> bool:
        parts = urlsplit(address)
        if _is_intercepted(parts) or parts.netloc.rpartition("@")[2] in (
            self.proxy,
            self._server.url.netloc.decode("ascii"),
        ):
            return True
        if port_of(address) not in (port_of(str(self._server.url)), _PORT):
            return False
        # CouchDB may run in a container, and use its name there.
        return any(is_same_host(parts.hostname or "", name) for name in (self._server.url.host, "localhost"))

    def _name_in(self, address: str) -> str:
        return unquote(urlsplit(address).path.removeprefix(self._server.prefix).strip("/"))

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
        if self._system(body.get("source")):
            # A checkpoint would stay in the source.
            changed["use_checkpoints"] = False
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
        name = self._name_in(written) if "://" in written else written
        if not is_legal(name) or name in self._databases.untouched:
            return written
        if name is written:
            return self._private(written, creates=creates)
        if not self._is_server(written):
            return written
        private = quote(self._private(name, creates=creates))
        parts = urlsplit(written)
        account, _, host = parts.netloc.rpartition("@")
        is_ours = host == self.proxy or _is_intercepted(parts)
        origin = urlsplit(str(self._server.url)) if is_ours else SplitResult(parts.scheme, host, "", "", "")
        userinfo = account or ("" if authenticated else self._userinfo())
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
    """Return a decoded body. Ignore its content type, as CouchDB does for documents."""
    try:
        value: JSON = json.loads(request.body) if request.body else None
    except ValueError:
        return None
    return value if isinstance(value, dict) or objects(value) else None


def port_of(address: str) -> int:
    """Return the port of a URL."""
    parts = urlsplit(address)
    return parts.port or (443 if parts.scheme == "https" else 80)


@lru_cache(maxsize=64)
def addresses_of(host: str) -> frozenset[str]:
    """Return the IP addresses of a host; the name itself if it has none."""
    try:
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None))
    except OSError:
        return frozenset((host,))


def is_same_host(one: str, other: str) -> bool:
    """Return whether two names are of one host, such as the names and addresses of this machine."""
    found = addresses_of(one), addresses_of(other)
    if found[0] & found[1]:
        return True
    own = addresses_of("localhost") | addresses_of(socket.gethostname())
    return all(own & each or any(address.startswith("127.") for address in each) for each in found)


def _is_intercepted(parts: SplitResult) -> bool:
    """Return whether requests to an address are intercepted and sent to the server of the test run."""
    return bool(ANSWERED) and ANSWERED.find(parts.scheme, parts.hostname or "", parts.port) is not None
