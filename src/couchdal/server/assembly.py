"""From the options of ``couchdal serve`` to the application that is served."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from couchdal.backends import open_backend
from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.errors import NotConfigured
from couchdal.http.json_text import JSON
from couchdal.middleware import watched
from couchdal.proxy.nodes import Nodes
from couchdal.server.application import Application
from couchdal.server.cors import HEADERS, METHODS, Cors
from couchdal.server.framing import Limits
from couchdal.server.operational import Service
from couchdal.server.options import Setting


def build_application(settings: Mapping[str, Setting]) -> Application:
    """Return the application; raises ``NotConfigured``."""
    options = {key: setting.value for key, setting in settings.items()}
    backend: BaseBackend | AsyncBackend
    nodes: Nodes | None = None
    if options["backend"] == "memory":
        backend = _embedded(options["admin"])
    else:
        if options["admin"] is not None:
            raise NotConfigured("--admin is for the embedded CouchDB; a real one has its own admins")
        from couchdal.proxy.opening import open_proxy  # the embedded server needs no HTTP client

        backend = proxy = open_proxy(options)
        nodes = proxy.nodes
    application = Application(
        watched(backend, options["indexes"]),
        limits=Limits(
            max_http_request_size=options["max_http_request_size"],
            max_header_size=options["max_header_size"],
            header_timeout_s=options["header_timeout"],
            body_timeout_s=options["body_timeout"],
            send_timeout_s=options["send_timeout"],
            shutdown_timeout_s=options["shutdown_timeout"],
            requests=options["max_requests"],
            feeds=options["max_feeds"],
        ),
        access_log=_access_log() if options["access_log"] else None,
        cors=_cors(options),
    )
    metrics = _metrics(application, nodes) if options["metrics"] else None
    application.service = Service(lambda: _health(application, nodes), metrics)
    return application


def _embedded(admin: tuple[str, str] | None) -> BaseBackend:
    if admin is None:
        return open_backend("memory")
    # Where credentials count, cookies have to expire, and their secret must not be known to whoever read this.
    from secrets import randbits
    from time import monotonic, time

    from couchdal.backends.memory import MemoryBackend
    from couchdal.emulator.engine.server.server import Clock, Ids, Server

    server = Server(clock=Clock(monotonic=monotonic, date=time), ids=Ids(randbits(128)))
    return MemoryBackend(admin=admin, server=server)


def _cors(options: Mapping[str, Any]) -> Cors | None:
    if not options["cors_origins"]:
        return None
    return Cors(
        origins=options["cors_origins"],
        credentials=options["cors_credentials"],
        headers=options["cors_headers"] or HEADERS,
        methods=options["cors_methods"] or METHODS,
        max_age=options["cors_max_age"],
    )


def _access_log() -> Any:
    from couchdal.server.access_log import AccessLog

    def write(line: str) -> None:
        sys.stderr.write(line)
        sys.stderr.flush()

    return AccessLog(write)


def _health(application: Application, nodes: Nodes | None) -> tuple[bool, Mapping[str, JSON]]:
    # Neither the health check itself nor what it is asked by is the server's work.
    state: dict[str, JSON] = {"requests": application.requests - 1, "feeds": application.feeds}
    if nodes is None:
        return True, state
    up = nodes.count_up()
    return up > 0, {**state, "nodes": len(nodes.nodes), "nodes_up": up}


def _metrics(application: Application, nodes: Nodes | None) -> Callable[[], tuple[bytes, str]]:
    try:
        from couchdal.metrics.prometheus import Exposition
    except ImportError as lack:
        raise NotConfigured(f"{lack.name} is missing: pip install 'couchdal[prometheus]'") from None
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "couchdal_open_requests": ("Requests that are being answered", lambda: application.requests),
        "couchdal_open_feeds": ("Feeds that are open", lambda: application.feeds),
    }
    if nodes is not None:
        gauges["couchdal_nodes_up"] = ("Nodes of CouchDB that answer", nodes.count_up)
        gauges["couchdal_repeated_requests"] = ("Requests that were sent again", lambda: nodes.repeated)
    return Exposition(application.backend.server_key, gauges)
