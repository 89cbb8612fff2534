"""The command ``couchdal`` and its subcommands.

Each subcommand imports what it needs when it runs. `--help` and `--version` then load neither an HTTP client nor a
web server.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from couchdal import __version__
from couchdal.config import environment, take_variables
from couchdal.errors import BackendError

if TYPE_CHECKING:
    from couchdal.server.options import Option, Setting
    from couchdal.server.systemd import Notifier

Arguments: TypeAlias = argparse.Namespace

# What a shell reports for a command that SIGPIPE ended: 128 + 13.
_BROKEN_PIPE = 141
_SERVE_EPILOG = (
    "Every option can also be set in the file (max_feeds = 100) or in the environment (COUCHDAL_MAX_FEEDS=100). "
    "The command line overrides the environment, which overrides the file."
)


class Subcommand(NamedTuple):
    """A subcommand: its help text, its arguments, and the function that runs it and returns the exit status."""

    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Arguments], int]


class _Parser(argparse.ArgumentParser):
    """A parser that takes no abbreviated options and suggests the right name for a wrong one.

    ``add_arguments`` runs when the parser is first used, so that one subcommand does not pay for the others.
    """

    def __init__(
        self, *, add_arguments: Callable[[argparse.ArgumentParser], None] | None = None, **options: Any
    ) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._add_arguments = add_arguments

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._add_arguments is not None:
            self._add_arguments(self)
            self._add_arguments = None
        args = sys.argv[1:] if args is None else args
        # Argparse would first report missing arguments.
        for text in args:
            if text == "--" or (self._subparsers and not text.startswith("-")):
                break
            self._check_name(text.partition("=")[0])
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Do not repeat the text: it may be a password.
            self.error("unexpected argument; the names of options begin with --")
        return found, unknown

    def _check_name(self, name: str) -> None:
        if name.startswith("--") and name not in self._option_string_actions:
            from difflib import get_close_matches  # only for a mistake

            close = get_close_matches(name, self._option_string_actions, 1)
            self.error(f"unknown option {name}" + (f"; did you mean {close[0]}?" if close else ""))


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    from couchdal.server.options import OPTIONS

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
    # Argparse would print all options before each error.
    parser.usage = "%(prog)s [OPTIONS]"
    parser.epilog = _SERVE_EPILOG


def _checked(option: Option, text: str) -> str:
    try:
        option.parse(text)
    except ValueError as error:
        # Do not repeat the text: it may be a password.
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _settings(arguments: Arguments) -> Mapping[str, Setting]:
    from couchdal.server.options import read_options

    environ = environment()
    return read_options(vars(arguments), environ, arguments.config or environ.get("COUCHDAL_CONFIG") or None)


def _serve(arguments: Arguments) -> int:
    try:
        from couchdal.server.listener import address_of, listen, serve
    except ImportError as error:
        return _fail("serve", f"{error.name} is not installed; run: pip install 'couchdal[server]'")
    import errno
    import logging

    from couchdal.server.assembly import build_application, keeping
    from couchdal.server.stderr import StandardError

    stderr = StandardError()
    try:
        settings = _settings(arguments)
        application = build_application(settings, stderr.write)
    except BackendError as error:
        return _fail("serve", str(error))
    host, port = settings["host"].value, settings["port"].value
    try:
        listener = listen(host, port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "choose another with --port (PORT=... for make run)"
            return _fail("serve", f"port {port} on {host} is in use; {hint}")
        return _fail("serve", f"cannot listen on {host} port {port}: {error.strerror or error}")

    def announce() -> None:
        address = address_of(listener)
        print(f"listening at {address} for {application.backend.name}{keeping(application, address)}", flush=True)

    # Ctrl-C is the normal way to stop the server.
    logging.basicConfig(stream=stderr)
    with suppress(KeyboardInterrupt):
        serve(application, listener, announce, stderr.close, alone=True, notifier=_notifier())
    return 0


def _notifier() -> Notifier | None:
    """Return the notifier of systemd; None if systemd did not start this process."""
    variables = take_variables(("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
    if "NOTIFY_SOCKET" not in variables:
        return None
    from couchdal.server.systemd import Notifier

    return Notifier(variables)


def _show_config(arguments: Arguments) -> int:
    from couchdal.server.options import format_options

    try:
        settings = _settings(arguments)
    except BackendError as error:
        return _fail("config", str(error))
    print("\n".join(format_options(settings)))
    return 0


def _add_record_arguments(parser: argparse.ArgumentParser) -> None:
    from couchdal.transcripts.record import add_arguments

    add_arguments(parser)


def _record(arguments: Arguments) -> int:
    from couchdal.transcripts.record import run

    return run(arguments)


def _add_certify_arguments(parser: argparse.ArgumentParser) -> None:
    from couchdal.transcripts.certify import add_arguments

    add_arguments(parser)


def _certify(arguments: Arguments) -> int:
    from couchdal.transcripts.certify import run

    return run(arguments, __version__)


def _add_file_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a data file, such as tasks.db")


def _on_data_file(command: str, arguments: Arguments) -> int:
    from couchdal.data_files import COMMANDS

    return COMMANDS[command](arguments.file)


def _no_arguments(_: argparse.ArgumentParser) -> None:
    pass


def _print_openapi(_: Arguments) -> int:
    from couchdal.api.openapi import describe
    from couchdal.http.json_text import encode_json

    sys.stdout.buffer.write(encode_json(describe()) + b"\n")
    return 0


SUBCOMMANDS = {
    "serve": Subcommand("serve an emulated CouchDB, or proxy a real one", _add_serve_arguments, _serve),
    "config": Subcommand(
        "print the options of serve as a TOML file, and where each value comes from", _add_serve_arguments, _show_config
    ),
    "openapi": Subcommand("print the OpenAPI description of the API", _no_arguments, _print_openapi),
    "record": Subcommand("record the answers of a live server to scenarios", _add_record_arguments, _record),
    "certify": Subcommand(
        "compare a CouchDB with the emulator by the requests of a test suite", _add_certify_arguments, _certify
    ),
    "info": Subcommand("print the databases of a data file", _add_file_argument, partial(_on_data_file, "info")),
    "check": Subcommand("print what is wrong with a data file", _add_file_argument, partial(_on_data_file, "check")),
    "dump": Subcommand(
        "print the data of a data file as JSON lines", _add_file_argument, partial(_on_data_file, "dump")
    ),
    "load": Subcommand(
        "create a data file from a dump on standard input", _add_file_argument, partial(_on_data_file, "load")
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(prog="couchdal", description="A data-access layer for CouchDB with a built-in emulator.")
    parser.add_argument("--version", action=_ShowVersion, nargs=0, help="print the version and the collation, and exit")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, subcommand in SUBCOMMANDS.items():
        added = subparsers.add_parser(
            name, help=subcommand.purpose, description=subcommand.purpose, add_arguments=subcommand.add_arguments
        )
        added.set_defaults(run=subcommand.run)
    return parser


class _ShowVersion(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from couchdal.emulator.engine.collation.collation import collator_name

        print(f"couchdal {__version__} (strings are sorted by {collator_name()})")
        parser.exit()


def _fail(command: str, reason: str) -> int:
    print(f"couchdal {command}: {reason}", file=sys.stderr)
    return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    try:
        try:
            arguments = build_parser().parse_args(argv)
            run: Callable[[Arguments], int] = arguments.run
            return run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `couchdal config | head` does. Python flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
