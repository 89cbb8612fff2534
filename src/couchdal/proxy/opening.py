"""Build the proxy that the options of ``couchdal serve`` describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from couchdal.backends.async_couch import AsyncCouchBackend
from couchdal.backends.authentication import Anonymous
from couchdal.backends.couch_server import Connections
from couchdal.errors import NotConfigured
from couchdal.http.headers import CREDENTIALS
from couchdal.proxy.allow_list import AllowList
from couchdal.proxy.breaker import Breaker
from couchdal.proxy.identity import Identity, OfClient, OfProxy, Vouched
from couchdal.proxy.nodes import Node, Nodes
from couchdal.proxy.outgoing import is_dropped
from couchdal.proxy.proxy import Proxy
from couchdal.proxy.retries import Retries


def open_proxy(options: Mapping[str, Any]) -> Proxy:
    """Return the proxy for the values of ``server.options``. Raise ``NotConfigured``."""
    if not options["upstream"]:
        raise NotConfigured("no CouchDB is configured; set COUCHDB_URL or pass --upstream")
    auth = options["auth"] or ("basic" if _has_account(options) else "client")
    nodes = Nodes(
        [
            Node(
                _open_node(url, auth, options),
                Breaker(options["breaker_failures"], options["breaker_pause"]),
                # Health checks have their own connection, so clients cannot delay them. They need no session.
                _open_node(url, "basic" if auth == "cookie" else auth, options),
            )
            for url in options["upstream"]
        ],
        Retries(options["retries"]),
        options["health_interval"],
    )
    allow_list = AllowList(
        options["allow"],
        read_only=options["read_only"],
        databases=options["databases"],
        sessions=auth == "client",
    )
    return Proxy(nodes, allow_list, _identity(auth, options))


def _has_account(options: Mapping[str, Any]) -> bool:
    return bool(options["user"]) or any("@" in url for url in options["upstream"])


def _open_node(url: str, auth: str, options: Mapping[str, Any]) -> AsyncCouchBackend:
    own = auth in ("basic", "cookie")
    if own and not _has_account(options):
        raise NotConfigured(f"--auth {auth} needs an account; set COUCHDB_USER and COUCHDB_PASSWORD")
    connections = Connections(
        limit=options["max_connections"],
        connect_timeout_s=options["connect_timeout"],
        ca=options["upstream_ca"],
        streams=True,
    )
    return AsyncCouchBackend(
        url,
        user=options["user"],
        password=options["password"],
        timeout=options["timeout"],
        auth=auth if own else Anonymous(),  # type: ignore[arg-type]
        connections=connections,
    )


def _identity(auth: str, options: Mapping[str, Any]) -> Identity:
    if auth == "client":
        return OfClient()
    if auth != "proxy":
        return OfProxy()
    if options["proxy_secret"] is None:
        raise NotConfigured("--auth proxy needs CouchDB's secret; set COUCHDAL_PROXY_SECRET")
    if options["proxy_user"] is None and options["proxy_user_header"] is None:
        raise NotConfigured("--auth proxy needs --proxy-user or --proxy-user-header")
    header = options["proxy_user_header"]
    if header is not None and options["proxy_user"] is not None:
        raise NotConfigured("--proxy-user and --proxy-user-header exclude each other: remove one")
    if header is not None and (header.lower() in CREDENTIALS or is_dropped(header.lower())):
        raise NotConfigured(f"--proxy-user-header cannot be {header}: the proxy drops that header; choose another name")
    return Vouched(options["proxy_secret"], options["proxy_user"], options["proxy_roles"], options["proxy_user_header"])
