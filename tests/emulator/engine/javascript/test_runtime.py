"""JavaScript in this process: time limits are real time, for every kind of function."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from processes import forked

from couchdal.emulator.engine.javascript import runtime
from couchdal.emulator.engine.javascript.javascript import QueryServer
from couchdal.errors import ServerError

pytest.importorskip("quickjs")

LIMIT_S = 0.2
# These run for seconds. A thread that was abandoned ends when its call does.
SLOW = {
    "loop": "while (true) {}",
    "caught": "for (;;) { try { while (true) {} } catch (error) {} }",
    "native slice": "var a = []; a.length = 50000000; for (;;) a.slice();",
    "native join": "var a = []; a.length = 50000000; a.reverse(); a.indexOf(1); a.slice(); a.sort();",
    "regular expression": "/(a|aa)+$/.test('a'.repeat(100) + 'b');",
}


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(runtime, "TIME_LIMIT_S", LIMIT_S)
    yield
    monkeypatch.undo()


def shows(body: str) -> QueryServer:
    return QueryServer({"shows": {"slow": f"function () {{ {body} }}", "quick": "function () { return 'x'; }"}})


def show(server: QueryServer, name: str) -> object:
    return server.call(("shows", name), None, {"path": []})


@pytest.mark.parametrize("body", SLOW.values(), ids=SLOW)
def test_function_is_stopped_after_the_limit_on_the_wall(body: str) -> None:
    server = shows(body)
    begun = time.monotonic()
    with pytest.raises(ServerError, match="OS process timed out") as stopped:
        show(server, "slow")
    took = time.monotonic() - begun
    assert stopped.value.error == "os_process_error"
    # Loaded machines wake a thread late.
    assert LIMIT_S <= took < LIMIT_S + 1.5
    assert show(server, "quick") == {"body": "x"}


def test_busy_threads_do_not_shorten_the_limit() -> None:
    """The engine's own limit is processor time of the whole process."""

    def work(server: QueryServer) -> None:
        with pytest.raises(ServerError):
            show(server, "slow")

    threads = [threading.Thread(target=work, args=[shows("while (true) {}")]) for _ in range(2)]
    slow = "function (doc) { var until = Date.now() + 150; while (Date.now() < until); emit(doc.n); }"
    for thread in threads:
        thread.start()
    try:
        emitted = list(QueryServer({}).map([slow], [{"_id": "a", "n": 1}] * 3))
    finally:
        for thread in threads:
            thread.join()
    assert emitted == [[[[1, None]]]] * 3


def test_limit_is_for_each_document() -> None:
    slow = "function (doc) { var until = Date.now() + 60; while (Date.now() < until); emit(doc.n); }"
    assert len(list(QueryServer({}).map([slow], [{"_id": "a", "n": 1}] * 8))) == 8


def test_engine_that_is_in_use_answers_in_any_thread() -> None:
    server = shows("return 'slow';")
    answers: list[object] = []

    def work() -> None:
        answers.extend(show(server, "quick") for _ in range(60))

    for _ in range(2):
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [{"body": "x"}] * 360


def test_engine_in_use_is_stopped_in_an_endless_loop() -> None:
    server = shows("while (true) {}")
    for _ in range(150):
        show(server, "quick")
    with pytest.raises(ServerError, match="OS process timed out"):
        show(server, "slow")
    assert show(server, "quick") == {"body": "x"}


def engine_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "couchdal JavaScript"}


def test_threads_end_with_their_engines() -> None:
    before = engine_threads()
    servers = [shows("return 'x';") for _ in range(5)]
    started = engine_threads() - before
    assert len(started) == 5
    servers.clear()
    for thread in started:
        thread.join(5)
    assert not started & engine_threads()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_engine_works_in_a_forked_process() -> None:
    server = shows("return 'slow';")
    show(server, "quick")
    assert forked(lambda: 0 if show(server, "quick") == {"body": "x"} else 1) == 0
    assert show(server, "quick") == {"body": "x"}
