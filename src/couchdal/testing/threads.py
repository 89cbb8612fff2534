"""Threads that outlive their test: a warning names each one that writes afterwards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import pytest

if TYPE_CHECKING:
    from couchdal.backends.base import AsyncBackend, BaseBackend
    from couchdal.http.messages import Request
    from couchdal.middleware.chain import Steps


class OutlivingThreads:
    """Notes the threads that tests leave running, and their writes."""

    def __init__(self) -> None:
        self._known: list[threading.Thread] = threading.enumerate()
        # The ids of the tests that left threads.
        self._tests: WeakKeyDictionary[threading.Thread, str] = WeakKeyDictionary()
        self._written: dict[str, None] = {}
        self._remove: Callable[[], None] | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, request: pytest.FixtureRequest) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            if not isinstance(request.node, pytest.Item):
                # The threads of a fixture with a wide scope may keep running.
                self._known = threading.enumerate()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._end_test(item)

    def pytest_unconfigure(self) -> None:
        self._close()

    def _end_test(self, item: pytest.Item) -> None:
        """Look for new threads at the end of a test, and warn of writes by older ones meanwhile."""
        now = threading.enumerate()
        if now != self._known:
            for thread in now:
                if thread not in self._known and _runs_code_of_tests(thread):
                    self._tests[thread] = item.nodeid
            self._known = now
        if self._written:
            for text in self._written:
                item.warn(pytest.PytestWarning(text))
            self._written = {}
        if self._tests and self._remove is None:
            from couchdal.middleware.chain import install  # most tests leave no threads

            self._remove = install(self._note)
        elif self._remove is not None and not any(thread.is_alive() for thread in self._tests):
            self._close()

    def _close(self) -> None:
        if self._remove is not None:
            self._remove()
            self._remove = None

    def _note(self, backend: BaseBackend | AsyncBackend, request: Request) -> Steps:
        from couchdal.http.headers import effective_method  # most tests leave no threads
        from couchdal.testing.protection import is_write

        thread = threading.current_thread()
        test = self._tests.get(thread)
        method = effective_method(request.method, request.headers)
        if test is not None and is_write(request, method):
            self._written[
                f"the thread {thread.name!r} of {test} goes on after its test, and now wrote: {method} {request.path};"
                " join it at the end of its test"
            ] = None
        return (yield request)


def _runs_code_of_tests(thread: threading.Thread) -> bool:
    """Return whether a thread is within code that is not a library's. The idle threads of a pool are not."""
    if isinstance(thread, threading.Timer):
        return True
    from couchdal.testing.frames import own_frame  # most tests leave no threads

    return own_frame(sys._current_frames().get(thread.ident or 0)) is not None
