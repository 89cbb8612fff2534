"""Build the application that the options of ``couchdal serve`` describe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from couchdal.backends.base import AsyncBackend, BaseBackend
from couchdal.errors import CouchError, NotConfigured
from couchdal.http.cors import HEADERS, METHODS, Cors
from couchdal.http.json_text import JSON
from couchdal.middleware import watched
from couchdal.proxy.nodes import Nodes
from couchdal.server.access_log import AccessLog
from couchdal.server.application import Application
from couchdal.server.framing import Limits
from couchdal.server.interface import Interface
from couchdal.server.operational import Service
from couchdal.server.options import Setting, check_backend

if TYPE_CHECKING:
    from couchdal.backends.memory import MemoryBackend
    from couchdal.emulator.engine.server.server import Server


def build_application(settings: Mapping[str, Setting], write_log: Callable[[str], object] | None = None) -> Application:
    """Return the application. ``write_log`` gets the lines of the access log; by default, standard error does.

    Raise ``NotConfigured``.
    """
    check_backend(settings)
    options = {key: setting.value for key, setting in settings.items()}
    backend: BaseBackend | AsyncBackend
    nodes: Nodes | None = None
    server: Server | None = None
    if options["backend"] != "couch":
        # A backend that is named explicitly may ignore the variables of the others.
        is_kept = options["backend"] == "sqlite" or settings["backend"].origin == "default"
        backend = embedded = _embedded(
            options["admin"], options["data"] if is_kept else None, options["couchdb_version"]
        )
        _configure(embedded, options["set"])
        server = embedded.server
    else:
        from couchdal.proxy.opening import open_proxy  # the emulator needs no HTTP client

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
            request_timeout_s=options["request_timeout"],
            requests=options["max_requests"],
            feeds=options["max_feeds"],
            client_requests=options["max_client_requests"],
            client_feeds=options["max_client_feeds"],
        ),
        access_log=AccessLog(write_log or sys.stderr.write) if options["access_log"] else None,
        cors=_cors(options),
        interface=_interface(options["utils"], server),
    )
    metrics = _metrics(application, nodes) if options["metrics"] else None
    application.service = Service(lambda: _health(application, nodes), metrics)
    return application


def _embedded(admin: tuple[str, str] | None, data: str | None, version: str | None) -> MemoryBackend:
    from time import monotonic, time  # a proxy needs no emulator

    from couchdal.backends.memory import MemoryBackend
    from couchdal.emulator.engine.server.clock import Clock
    from couchdal.emulator.engine.server.ids import Ids
    from couchdal.emulator.engine.server.server import Server

    javascript = None
    if os.name == "posix":
        from couchdal.server.javascript_workers import Workers  # a proxy runs no functions

        javascript = Workers()
    if data is not None:
        from couchdal.backends.sqlite import SqliteBackend  # others need no SQLite

        return SqliteBackend(data, admin=admin, version=version, javascript=javascript)
    if admin is None:
        return MemoryBackend(server=Server(clock=Clock(monotonic=monotonic), javascript=javascript), version=version)
    # With an administrator, cookies must expire, and the secret that signs them must not be predictable.
    from secrets import randbits

    server = Server(clock=Clock(monotonic=monotonic, date=time), ids=Ids(randbits(128)), javascript=javascript)
    return MemoryBackend(admin=admin, server=server, version=version)


def keeping(application: Application, address: str) -> str:
    """Return the part of the first line that says where data is kept. Publish the address of a data file's owner."""
    memory = sys.modules.get("couchdal.backends.memory")
    backend = getattr(application.backend, "wrapped", None)
    if memory is None or not isinstance(backend, memory.MemoryBackend):
        return ""
    sqlite = sys.modules.get("couchdal.backends.sqlite")
    if sqlite is None or not isinstance(backend, sqlite.SqliteBackend):
        return "; its data ends with this process (--data FILE keeps it)"
    backend.announce(address)
    return f"; its data is kept in {backend.path}"


def _configure(backend: MemoryBackend, settings: Iterable[str]) -> None:
    for setting in settings:
        path, _, value = setting.partition("=")
        try:
            backend.config[path] = value
        except CouchError as error:
            raise NotConfigured(f"--set {path}: {error.reason}") from None


def _cors(options: Mapping[str, Any]) -> Cors | None:
    if not options["cors_origins"]:
        return None
    if options["cors_credentials"] and "*" in options["cors_origins"]:
        raise NotConfigured(
            "--cors-credentials needs the names of its origins: with --cors-origins '*', every web page could use the"
            " sessions and passwords of its visitors; list the origins that you trust"
        )
    return Cors(
        origins=options["cors_origins"],
        credentials=options["cors_credentials"],
        headers=options["cors_headers"] or HEADERS,
        methods=options["cors_methods"] or METHODS,
        max_age=options["cors_max_age"],
    )


def _interface(folder: str | None, server: Server | None) -> Interface | None:
    if folder is None:
        return None
    try:
        if server is None:
            return Interface(folder)
        from couchdal.emulator.http.answering import configured_answer  # the emulator is loaded by now

        return Interface(
            folder,
            lambda: server.settings,
            lambda request, response: configured_answer(server.settings, request, response),
        )
    except OSError as error:
        raise NotConfigured(f"--utils {folder}: not a folder ({error})") from None


def _health(application: Application, nodes: Nodes | None) -> tuple[str, Mapping[str, JSON]]:
    # Do not count the request for the health itself.
    figures: dict[str, JSON] = {"requests": application.requests - 1, "feeds": application.feeds}
    if nodes is None:
        return "ok", figures
    up = nodes.count_up()
    word = "ok" if up else "starting" if nodes.is_starting else "failing"
    return word, {**figures, "nodes": len(nodes.nodes), "nodes_up": up}


def _metrics(application: Application, nodes: Nodes | None) -> Callable[[], tuple[bytes, str]]:
    try:
        from couchdal.metrics.prometheus import Exposition  # an extra
    except ImportError as error:
        raise NotConfigured(f"{error.name} is not installed; run: pip install 'couchdal[prometheus]'") from None
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "couchdal_open_requests": ("Open requests", lambda: application.requests),
        "couchdal_open_feeds": ("Open feeds", lambda: application.feeds),
    }
    if nodes is not None:
        gauges["couchdal_nodes_up"] = ("CouchDB nodes that answer", nodes.count_up)
        gauges["couchdal_repeated_requests"] = ("Requests that were sent to CouchDB again", lambda: nodes.repeated)
    return Exposition(application.backend.server_key, gauges)
