"""Where JavaScript runs: the interface of engines, and the engine in this process.

Commands and answers are JSON texts. The script ``javascript.js`` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from importlib import resources
from importlib.util import find_spec
from os import cpu_count, getpid
from threading import Lock, RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from couchdal.errors import NotSupported

if TYPE_CHECKING:
    pass

#: CouchDB's limits for a query server: ``os_process_timeout`` and couchjs's memory.
TIME_LIMIT_S = 5.0
MEMORY_LIMIT = 64 * 1024 * 1024
#: CouchDB's reason for a function that took longer.
TIMED_OUT = "OS process timed out."
# Starting takes milliseconds, but a thread may have to wait for a busy machine.
_STARTING_S = 30.0
# After this many commands, an engine runs single commands in the caller's thread. In its own thread, each costs some
# 20 microseconds more.
_TRUSTED = 100
# If the engine itself stops a list function, its output so far is known. After an abandoned call it is not.
_LIST = '["call",["lists",'
_GRACE_S = 0.5
# CouchDB's reason if a query server ends by itself.
_FAILED = "{exit_status,1}"
_TELL_TURN = "tellTurn"
# QuickJS refuses deeper calls with an exception that functions can catch.
_STACK_LIMIT = 256 * 1024


class Stopped(Exception):
    """An engine was stopped in the middle of a command. ``args[0]`` is CouchDB's reason.

    ``turns`` has the output of a list function until then, as JSON texts.
    """

    def __init__(self, reason: str, turns: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.turns = turns


class Engine(Protocol):
    """A JavaScript engine with one design document. After it was stopped, it starts again."""

    def ask(self, commands: Sequence[str]) -> list[str]:
        """Return the answer to each command. Raise ``Stopped``."""
        ...


class Run(Protocol):
    """Runs one command, and stops it after ``time_limit_s`` seconds of processor time."""

    def __call__(self, text: str, time_limit_s: float | None = None) -> str: ...


class Runtime(Protocol):
    """Starts engines."""

    def start(self, load: str) -> Engine:
        """Return an engine that has run the command ``load``. Raise ``NotSupported`` if JavaScript is not installed."""
        ...

    def close(self) -> None:
        """Release the resources of all engines. Starting another engine afterwards is allowed."""
        ...


class InProcess:
    """Engines in this process. A call that takes too long is abandoned together with the thread that it runs in.

    An engine that has answered many commands in time runs single ones in the caller's thread, which is faster. Then the
    limit is processor time, and a native call, such as ``slice`` of an array with four billion items, is not stopped.
    """

    def start(self, load: str) -> Engine:
        return _Here(load)

    def close(self) -> None:
        """Do nothing: an engine is freed with the last reference to it."""


class _Here:
    def __init__(self, load: str) -> None:
        self._load = load
        # Commands run one after the other.
        self._lock = RLock()
        self._start()

    def _start(self) -> None:
        self._thread = _EngineThread(self._load)
        self._thread.answers(_STARTING_S)
        self._answered = 0
        # A forked process has no other threads.
        self._pid = getpid()

    def ask(self, commands: Sequence[str]) -> list[str]:
        with self._lock:
            if self._pid != getpid():
                self._start()
            is_done = False
            try:
                if len(commands) == 1 and self._answered > _TRUSTED:
                    answers = [self._thread.run(commands[0], TIME_LIMIT_S)]
                else:
                    self._thread.ask(commands)
                    answers = self._thread.answers(TIME_LIMIT_S)
                self._answered += len(commands)
                is_done = True
                return answers
            finally:
                if not is_done:
                    # An engine that was stopped in the middle of a call is in an unknown state.
                    self._thread.end()
                    self._start()

    def __del__(self) -> None:
        with suppress(AttributeError):
            self._thread.end()


class _EngineThread:
    """A thread with one JavaScript context. JavaScript runs without Python's interpreter lock."""

    def __init__(self, load: str) -> None:
        #: Runs one command. Only the thread does so between ``ask`` and the answers.
        self.run: Run
        self._commands: Sequence[str] | None = ()
        self._outcome: list[str] | Exception = Stopped(_FAILED)
        self._begun = monotonic()
        self._grace_s = 0.0
        # Each lock is released when its side has something to do.
        self._asked, self._answered = Lock(), Lock()
        self._asked.acquire()
        self._answered.acquire()
        Thread(target=self._run, args=(load,), name="couchdal JavaScript", daemon=True).start()

    def ask(self, commands: Sequence[str]) -> None:
        """Begin to run commands."""
        self._begun = monotonic()
        self._grace_s = _GRACE_S if commands[0].startswith(_LIST) else 0.0
        self._commands, self._outcome = commands, Stopped(_FAILED)
        self._asked.release()

    def answers(self, limit_s: float) -> list[str]:
        """Wait for the answers. Raise ``Stopped`` if one of them takes longer than the limit."""
        left_s = limit_s
        while not self._answered.acquire(timeout=left_s):
            left_s = self._begun + limit_s + self._grace_s - monotonic()
            if left_s <= 0:
                raise Stopped(TIMED_OUT)
        if isinstance(self._outcome, Exception):
            raise self._outcome
        return self._outcome

    def end(self) -> None:
        """End the thread when it has nothing more to do."""
        self._commands = None
        with suppress(RuntimeError):
            # The thread may not have begun the last commands.
            self._asked.release()

    def _run(self, load: str) -> None:
        try:
            self._work(load)
        except (Stopped, NotSupported) as error:
            self._outcome = error
        finally:
            # After any failure, the caller gets an answer. If the call was abandoned, nobody waits for one.
            with suppress(RuntimeError):
                self._answered.release()

    def _work(self, load: str) -> None:
        self.run = new_context(load)
        self._outcome = []
        while True:
            self._answered.release()
            self._asked.acquire()
            commands = self._commands
            if commands is None:
                return
            # Processor time cannot grow faster than this, so this limit stops only commands that were abandoned.
            longest_s = TIME_LIMIT_S * (cpu_count() or 1)
            answers: list[str] = []
            for text in commands:
                self._begun = monotonic()
                answers.append(self.run(text, TIME_LIMIT_S if text.startswith(_LIST) else longest_s))
            self._outcome = answers


def new_context(load: str, tell_turn: Callable[[str], object] | None = None) -> Run:
    """Return the function that runs commands in a new JavaScript context. It raises ``Stopped``.

    ``tell_turn`` receives the output of a list function at each turn. With it, commands have no time limit.
    """
    try:
        import quickjs  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise NotSupported("functions of design documents need JavaScript: pip install 'couchdal[views]'") from None

    context = quickjs.Context()
    context.set_memory_limit(MEMORY_LIMIT)
    context.set_max_stack_size(_STACK_LIMIT)
    if tell_turn is not None:
        context.add_callable(_TELL_TURN, tell_turn)
    command = context.eval(_script(tell_turn is not None))

    def run(text: str, time_limit_s: float | None = None) -> str:
        if time_limit_s is not None:
            # Processor time of the whole process.
            context.set_time_limit(time_limit_s)
        try:
            answer: str = command(text)
        except quickjs.JSException as error:
            shown = str(error)
            if "interrupted" not in shown:
                raise Stopped(shown.partition("\n")[0]) from None
            turns = json.loads(command('["sent"]'))[1] if text.startswith(_LIST) else ()
            raise Stopped(TIMED_OUT, turns) from None
        return answer

    run(load)
    return run


@cache
def _script(tells_turns: bool) -> str:
    package = resources.files("couchdal.emulator.engine.javascript")
    main, mime = (package.joinpath(name).read_text("utf-8") for name in ("javascript.js", "mime.js"))
    if not tells_turns:
        return f"{main}({mime}, null)"
    # Delete the name, so that functions cannot call it.
    return f"(tell => delete globalThis.{_TELL_TURN} && {main}({mime}, tell))({_TELL_TURN})"


def is_installed() -> bool:
    """Return True if a JavaScript engine is installed."""
    try:
        return find_spec("quickjs") is not None
    except ValueError:
        # The module is blocked in ``sys.modules``.
        return False
