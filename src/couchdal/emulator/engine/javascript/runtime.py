"""Where JavaScript runs: the interface of engines, and the engine in this process.

Commands and answers are JSON texts. The script ``javascript.js`` runs them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from importlib.util import find_spec
from threading import RLock, get_ident
from typing import TYPE_CHECKING, Protocol

from couchdal.errors import NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

#: CouchDB's limits for a query server: ``os_process_timeout`` and couchjs's memory.
TIME_LIMIT_S = 5.0
MEMORY_LIMIT = 64 * 1024 * 1024
# QuickJS refuses deeper calls with an exception that functions can catch.
_STACK_LIMIT = 256 * 1024


class Stopped(Exception):
    """An engine was stopped in the middle of a command. ``args[0]`` is CouchDB's reason."""


class Engine(Protocol):
    """A JavaScript engine with one design document. After it was stopped, it starts again."""

    def ask(self, commands: Sequence[str]) -> list[str]:
        """Return the answer to each command. Raise ``Stopped``."""
        ...


class Runtime(Protocol):
    """Starts engines."""

    def start(self, load: str) -> Engine:
        """Return an engine that has run the command ``load``. Raise ``NotSupported`` if JavaScript is not installed."""
        ...

    def close(self) -> None:
        """Release what the engines hold. Starting another engine afterwards is allowed."""
        ...


class InProcess:
    """Engines in this process. Their time limit counts the processor time of the process.

    A native call, such as ``slice`` of an array with four billion items, cannot be stopped here.
    """

    def start(self, load: str) -> Engine:
        return _Here(load)

    def close(self) -> None:
        """Do nothing: engines go with their last user."""


class _Here:
    def __init__(self, load: str) -> None:
        self._load = load
        # One engine does not run in two threads at a time.
        self._lock = RLock()
        self._start()

    def _start(self) -> None:
        # An engine works only in the thread that made it.
        self._thread = get_ident()
        self._command = new_context(self._load, TIME_LIMIT_S)

    def ask(self, commands: Sequence[str]) -> list[str]:
        with self._lock:
            if self._thread != get_ident():
                self._start()
            try:
                return [self._command(command) for command in commands]
            except Stopped:
                # An engine that was stopped in the middle of a call is in an unknown state.
                self._start()
                raise


def new_context(load: str, time_limit_s: float | None) -> Callable[[str], str]:
    """Return the function that runs commands in a new JavaScript context. It raises ``Stopped``."""
    try:
        import quickjs  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotSupported("functions of design documents need JavaScript: pip install 'couchdal[views]'") from None

    context = quickjs.Context()
    context.set_memory_limit(MEMORY_LIMIT)
    context.set_max_stack_size(_STACK_LIMIT)
    if time_limit_s is not None:
        context.set_time_limit(time_limit_s)
    command = context.eval(_script())

    def run(text: str) -> str:
        try:
            answer: str = command(text)
        except quickjs.JSException as error:
            shown = str(error)
            raise Stopped("OS process timed out." if "interrupted" in shown else shown.partition("\n")[0]) from None
        return answer

    run(load)
    return run


@cache
def _script() -> str:
    package = resources.files("couchdal.emulator.engine.javascript")
    main, mime = (package.joinpath(name).read_text("utf-8") for name in ("javascript.js", "mime.js"))
    return f"{main}({mime})"


def is_installed() -> bool:
    """Return True if a JavaScript engine is installed."""
    try:
        return find_spec("quickjs") is not None
    except ValueError:
        # The module is blocked in ``sys.modules``.
        return False
