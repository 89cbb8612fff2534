"""The command ``couchdal``: a table of subcommands.

What a subcommand needs is imported when it runs: ``couchdal --version`` needs neither a web server nor an HTTP client.
"""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from couchdal.config import environment
from couchdal.errors import BackendError
from couchdal.server.options import OPTIONS, Option, Setting, read_options, shown

Arguments: TypeAlias = argparse.Namespace

# How many collections of what is young there are to a full one; the interpreter's own setting is 10.
_FULL_COLLECTION = 100


@dataclass(frozen=True, slots=True)
class Subcommand:
    """One row: what it is for, its arguments, and what runs it and gives the exit status."""

    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="a TOML file of these options, such as max_feeds = 100")
    for option in OPTIONS:
        purpose = option.purpose if option.default in (None, (), False) else f"{option.purpose} (default: %(const)s)"
        how: dict[str, Any] = {"help": purpose.replace("%(const)s", str(option.default)), "default": None}
        if isinstance(option.default, bool):
            how["action"] = argparse.BooleanOptionalAction
        else:
            how |= {"metavar": option.metavar or option.key.upper(), "action": "append" if option.several else "store"}
            how["type"] = partial(_checked, option)
        parser.add_argument(f"--{option.name}", **how)


def _checked(option: Option, text: str) -> str:
    try:
        option.read(text)
    except ValueError as error:
        # The text is not repeated: it may hold a password.
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _settings(arguments: Arguments) -> dict[str, Setting]:
    environ = environment()
    return read_options(vars(arguments), environ, arguments.config or environ.get("COUCHDAL_CONFIG") or None)


def _serve(arguments: Arguments) -> int:
    try:
        from couchdal.server.listener import address_of, listen, serve
        from couchdal.server.protocol import Sockets
    except ImportError as lack:
        return _fail("serve", f"{lack.name} is missing: pip install 'couchdal[server]'")
    from couchdal.server.assembly import build_application

    try:
        settings = _settings(arguments)
        application = build_application(settings)
    except BackendError as error:
        return _fail("serve", str(error))
    host, port = settings["host"].value, settings["port"].value
    try:
        listener = listen(host, port)
    except OSError as error:
        return _fail("serve", f"cannot listen on {host} port {port}: {error.strerror or error}")
    sockets = Sockets(*(settings[key].value for key in ("max_header_size", "header_timeout", "shutdown_timeout")))

    def announce() -> None:
        print(f"listening at {address_of(listener)} for {application.backend.name}", flush=True)

    if not application.backend.streams:
        # A full collection goes through every document: at the interpreter's rate, a fifth of the time of bulk writes.
        gc.set_threshold(*gc.get_threshold()[:2], _FULL_COLLECTION)
    # Ctrl-C is how it is meant to end.
    with suppress(KeyboardInterrupt):
        serve(application, listener, announce, sockets)
    return 0


def _show_config(arguments: Arguments) -> int:
    try:
        settings = _settings(arguments)
    except BackendError as error:
        return _fail("config", str(error))
    print("\n".join(shown(settings)))
    return 0


def _add_record_arguments(parser: argparse.ArgumentParser) -> None:
    from couchdal.transcripts.record import add_arguments

    add_arguments(parser)


def _record(arguments: Arguments) -> int:
    from couchdal.transcripts.record import run

    return run(arguments)


def _no_arguments(_: argparse.ArgumentParser) -> None:
    pass


def _print_openapi(_: Arguments) -> int:
    from couchdal.api.openapi import describe
    from couchdal.http.json_text import encode_json

    sys.stdout.buffer.write(encode_json(describe()) + b"\n")
    return 0


SUBCOMMANDS = {
    "serve": Subcommand("serve an embedded CouchDB, or stand before a real one", _add_serve_arguments, _serve),
    "config": Subcommand("show the options of serve, and where each is from", _add_serve_arguments, _show_config),
    "openapi": Subcommand("print the description of the API", _no_arguments, _print_openapi),
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

        from couchdal.emulator.engine.collation.collation import collator_name

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
