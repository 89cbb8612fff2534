"""The command ``couchdal``: a table of subcommands, and the arguments of ``serve``.

What a subcommand needs is imported when it runs: ``couchdal --version`` needs neither a web server nor an HTTP client.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from dal.backends import open_backend, watched
from dal.backends.base import BaseBackend
from dal.config import BACKENDS, INDEX_MODES
from dal.errors import BackendError

Arguments: TypeAlias = argparse.Namespace


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One row: what it is for, its arguments, and what runs it and gives the exit status."""

    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="memory",
        help="memory: an embedded CouchDB, empty at the start; couch: stand before the server that COUCHDB_URL names,"
        " with the credentials set for it wherever a request brings none (default: memory)",
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=_port, default=5984, help="the port; 0 takes a free one (default: 5984)")
    parser.add_argument(
        "--admin",
        metavar="USER:PASSWORD",
        type=_credentials,
        help="an admin of the embedded CouchDB; without one, everybody is the admin",
    )
    parser.add_argument(
        "--indexes",
        choices=INDEX_MODES,
        help="require: a query that no index serves is refused, with the index that it needs",
    )
    parser.add_argument(
        "--max-http-request-size",
        metavar="BYTES",
        type=int,
        help="the largest body that is taken (default: CouchDB's, 4 GiB)",
    )


def _serve(arguments: Arguments) -> int:
    if arguments.admin is not None and arguments.backend != "memory":
        return _fail("serve", "--admin is for the embedded CouchDB; a real one has its own admins")
    try:
        from dal.serve import address_of, listen, serve
    except ImportError as lack:
        return _fail("serve", f"{lack.name} is missing: pip install 'couchdal[server]'")
    from dal.asgi import MAX_HTTP_REQUEST_SIZE, Application

    try:
        backend = _served_backend(arguments)
    except BackendError as error:
        return _fail("serve", str(error))
    try:
        listener = listen(arguments.host, arguments.port)
    except OSError as error:
        return _fail("serve", f"cannot listen on {arguments.host} port {arguments.port}: {error.strerror or error}")
    limit = arguments.max_http_request_size or MAX_HTTP_REQUEST_SIZE
    application = Application(watched(backend, arguments.indexes), max_http_request_size=limit)
    # Ctrl-C is how it is meant to end.
    with suppress(KeyboardInterrupt):
        serve(
            application, listener, lambda: print(f"listening at {address_of(listener)} for {backend.name}", flush=True)
        )
    return 0


def _served_backend(arguments: Arguments) -> BaseBackend:
    if arguments.admin is None:
        return open_backend(arguments.backend)
    # Where credentials count, cookies have to expire, and their secret must not be known to whoever read this.
    from secrets import randbits
    from time import monotonic, time

    from dal.backends.memory import MemoryBackend
    from dal.engine.server import Clock, Ids, Server

    server = Server(clock=Clock(monotonic=monotonic, date=time), ids=Ids(randbits(128)))
    return MemoryBackend(admin=arguments.admin, server=server)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{port} is no port: 0 to 65535")
    return port


def _credentials(text: str) -> tuple[str, str]:
    user, colon, password = text.partition(":")
    if not (user and colon and password):
        # The text is not repeated: it may hold the password.
        raise argparse.ArgumentTypeError("must be user:password")
    return user, password


def _add_record_arguments(parser: argparse.ArgumentParser) -> None:
    from dal.record import add_arguments

    add_arguments(parser)


def _record(arguments: Arguments) -> int:
    from dal.record import run

    return run(arguments)


SUBCOMMANDS = {
    "serve": Subcommand("serve an embedded CouchDB, or stand before a real one", _add_serve_arguments, _serve),
    "record": Subcommand("write down what a live server answers to scenarios", _add_record_arguments, _record),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = argparse.ArgumentParser(prog="couchdal", description="CouchDB, real or emulated, behind one set of calls.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="show the version and the collation, and end")
    rows = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, subcommand in SUBCOMMANDS.items():
        row = rows.add_parser(name, help=subcommand.purpose, description=subcommand.purpose)
        subcommand.add_arguments(row)
        row.set_defaults(run=subcommand.run)
    return parser


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        from dal.engine.collation import collator_name

        print(f"couchdal {version('couchdal')} (strings in the order of {collator_name()})")
        parser.exit()


def _fail(command: str, reason: str) -> int:
    print(f"couchdal {command}: {reason}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    arguments = build_parser().parse_args(argv)
    run: Callable[[Arguments], int] = arguments.run
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
