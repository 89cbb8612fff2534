"""JavaScript in worker processes: the same answers as in this process, and no function that harms the server."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pytest
from processes import ask, couchdal_serve
from random_functions import FILTERS, LISTS, MAPS, REDUCES, SHOWS, UPDATES, VALIDATIONS

from couchdal.backends.memory import MemoryBackend
from couchdal.emulator.engine.javascript import runtime
from couchdal.emulator.engine.javascript.javascript import QueryServer
from couchdal.emulator.engine.javascript.runtime import InProcess
from couchdal.emulator.engine.server.server import Server
from couchdal.errors import BrokenOff, ServerError
from couchdal.http.json_text import encode_json
from couchdal.http.messages import Request
from couchdal.server.javascript_workers import Workers

Found = tuple[int, bytes]

TIMED_OUT = (500, "os_process_error", "OS process timed out.")
# Some of these end by themselves, and some only when their worker is killed.
ENDLESS = {
    "loop": "while (1);",
    "native call": "var a = []; a.length = 4294967295; a.slice();",
    "regular expression": "/(a|aa)+$/.test('a'.repeat(100) + 'b');",
    "native join": "var a = []; a.length = 4294967295; a.join('x');",
    "caught": "for (;;) { try { while (1); } catch (error) {} }",
}
GREEDY = {
    "memory": "var a = []; while (1) a.push('x'.repeat(1000) + a.length);",
    "string": "return 'x'.repeat(536870912);",
    "recursion": "function f() { return f() + 1; } return f();",
    "cycle": "var a = {}; a.a = a; return JSON.stringify(a);",
    "depth": "var a = []; for (var i = 0; i < 1e5; i++) a = [a]; return {json: a};",
}


@pytest.fixture
def workers() -> Iterator[Workers]:
    pool = Workers(most=3, time_limit_s=0.5)
    yield pool
    pool.close()


@pytest.fixture
def emulator(workers: Workers) -> MemoryBackend:
    backend = MemoryBackend(server=Server(javascript=workers))
    send(backend, "PUT", "/db")
    send(backend, "POST", "/db/_bulk_docs", {"docs": [{"_id": f"{n:03}", "n": n} for n in range(250)]})
    return backend


def send(backend: MemoryBackend, method: str, path: str, body: object = None, **query: str) -> Found:
    given = b"" if body is None else encode_json(body)
    response = backend.send(Request(method, path, urlencode(query), {"content-type": "application/json"}, body=given))
    return response.status, b"".join(response.chunks()) if response.stream is not None else response.content()


def error_of(found: Found) -> tuple[int, object, object]:
    body = json.loads(found[1])
    return found[0], body["error"], body["reason"]


@pytest.mark.parametrize("body", ENDLESS.values(), ids=ENDLESS)
def test_endless_function_costs_only_its_request(emulator: MemoryBackend, workers: Workers, body: str) -> None:
    functions = {
        "shows": {"endless": f"function () {{ {body} }}", "ends": "function () { return 'x'; }"},
        "updates": {"endless": f"function () {{ {body} }}"},
        "lists": {"endless": f"function () {{ {body} }}"},
        "filters": {"endless": f"function () {{ {body} }}"},
        "views": {
            "endless": {"map": f"function (doc) {{ if (doc.n == 120) {{ {body} }} emit(doc.n); }}"},
        },
    }
    assert send(emulator, "PUT", "/db/_design/d", functions)[0] == 201
    assert (
        send(emulator, "PUT", "/db/_design/v", {"views": {"ends": {"map": "function (doc) { emit(doc.n); }"}}})[0]
        == 201
    )
    assert error_of(send(emulator, "GET", "/db/_design/d/_show/endless")) == TIMED_OUT
    assert send(emulator, "GET", "/db/_design/d/_show/ends") == (200, b"x")
    assert error_of(send(emulator, "POST", "/db/_design/d/_update/endless")) == TIMED_OUT
    assert error_of(send(emulator, "GET", "/db/_design/d/_view/endless")) == TIMED_OUT
    assert error_of(send(emulator, "GET", "/db/_design/d/_list/endless/_all_docs"))[0] == 500
    filtered = error_of(send(emulator, "GET", "/db/_changes", filter="d/endless"))
    assert filtered == (500, "error", "{os_process_error,OS process timed out.}")
    assert b'"total_rows":250' in send(emulator, "GET", "/db/_design/v/_view/ends")[1]
    assert len(workers.pids) <= workers.most


def test_endless_reduce_and_validation_cost_only_their_requests(emulator: MemoryBackend) -> None:
    view = {"map": "function (doc) { emit(doc.n); }", "reduce": "function () { while (1); }"}
    assert send(emulator, "PUT", "/db/_design/r", {"views": {"v": view}})[0] == 201
    assert error_of(send(emulator, "GET", "/db/_design/r/_view/v")) == TIMED_OUT
    validation = "function (doc) { if (doc.bad) while (1); }"
    assert send(emulator, "PUT", "/db/_design/v", {"validate_doc_update": validation})[0] == 201
    docs = [{"_id": "x"}, {"_id": "y", "bad": True}, {"_id": "z"}]
    status, body = send(emulator, "POST", "/db/_bulk_docs", {"docs": docs})
    assert status == 201
    assert b'{"id":"y","error":"os_process_error","reason":"OS process timed out."}' in body
    assert [send(emulator, "GET", f"/db/{name}")[0] for name in "xyz"] == [200, 404, 200]
    assert error_of(send(emulator, "PUT", "/db/y", {"bad": 1})) == TIMED_OUT


def test_endless_source_is_refused_when_it_is_stored(emulator: MemoryBackend) -> None:
    view = {"map": "(function () { while (1); })()"}
    assert error_of(send(emulator, "PUT", "/db/_design/d", {"views": {"v": view}})) == TIMED_OUT


@pytest.mark.parametrize("where", ["worker", "in process"])
@pytest.mark.parametrize("body", GREEDY.values(), ids=GREEDY)
def test_greedy_function_gets_an_error_and_the_next_call_works(workers: Workers, body: str, where: str) -> None:
    workers.time_limit_s = 20
    server = QueryServer(
        {"shows": {"greedy": f"function () {{ {body} }}", "ends": "function () { return 'x'; }"}},
        workers if where == "worker" else InProcess(),
    )
    with pytest.raises(ServerError):
        server.call(("shows", "greedy"), None, {"path": []})
    assert server.call(("shows", "ends"), None, {"path": []}) == {"body": "x"}


ROWS_SENT = b'ab\n{"code":500,"error":"os_process_error","reason":"OS process timed out."}\n'
STOPPED_LISTS = {
    "before the first row": ("send('a'); while (1);", 500, None),
    "at a row": ("start({code: 203}); send('a'); getRow(); send('b'); getRow(); while (1);", 203, ROWS_SENT),
    "at a row, with nothing sent": ("getRow(); while (1);", 500, ROWS_SENT[2:]),
}


@pytest.mark.parametrize("where", ["worker", "in process"])
@pytest.mark.parametrize(("body", "status", "answer"), STOPPED_LISTS.values(), ids=STOPPED_LISTS)
def test_stopped_list_function_keeps_what_it_sent(
    workers: Workers,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    body: str,
    status: int,
    answer: bytes | None,
) -> None:
    monkeypatch.setattr(runtime, "TIME_LIMIT_S", 0.1)
    backend = MemoryBackend(server=Server(javascript=workers)) if where == "worker" else MemoryBackend()
    send(backend, "PUT", "/db")
    send(backend, "POST", "/db/_bulk_docs", {"docs": [{"_id": name} for name in "abc"]})
    assert send(backend, "PUT", "/db/_design/d", {"lists": {"l": f"function () {{ {body} }}"}})[0] == 201
    found = send(backend, "GET", "/db/_design/d/_list/l/_all_docs")
    assert found[0] == status
    if answer is None:
        assert error_of(found) == TIMED_OUT
    else:
        assert found[1] == answer


@pytest.mark.parametrize("where", ["worker", "in process"])
def test_list_function_that_is_stopped_after_its_last_row_breaks_its_answer_off(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(runtime, "TIME_LIMIT_S", 0.1)
    backend = MemoryBackend(server=Server(javascript=workers)) if where == "worker" else MemoryBackend()
    send(backend, "PUT", "/db")
    send(backend, "PUT", "/db/a", {})
    endless = "function () { send('a'); while (getRow()) send('b'); while (1); }"
    send(backend, "PUT", "/db/_design/d", {"lists": {"l": endless}})
    response = backend.send(Request("GET", "/db/_design/d/_list/l/_all_docs"))
    assert (response.status, response.stream is not None) == (200, True)
    received = []
    with pytest.raises(BrokenOff):
        received.extend(response.chunks())


def test_each_turn_of_a_list_function_has_the_whole_time(workers: Workers) -> None:
    slow = "function () { while (getRow()) { var until = Date.now() + 100; while (Date.now() < until); send('x'); } }"
    server = QueryServer({"lists": {"l": slow}}, workers)
    answer = server.call(("lists", "l"), {}, {"path": []}, [{}] * 10)
    assert isinstance(answer, dict)
    assert answer["error"] is None


def test_list_function_cannot_tell_turns_itself(workers: Workers) -> None:
    server = QueryServer({"shows": {"s": "function () { return String(typeof tellTurn); }"}}, workers)
    assert server.call(("shows", "s"), None, {"path": []}) == {"body": "undefined"}


def test_time_limit_is_for_each_document(workers: Workers) -> None:
    """A view of many slow documents takes longer than the limit, as on CouchDB."""
    slow = "function (doc) { var until = Date.now() + 60; while (Date.now() < until); emit(doc.n); }"
    began = time.monotonic()
    emitted = list(QueryServer({}, workers).map([slow], ({"_id": str(n), "n": n} for n in range(20))))
    assert emitted == [[[[n, None]]] for n in range(20)]
    assert time.monotonic() - began > workers.time_limit_s


def test_pool_is_bounded_and_reused(workers: Workers) -> None:
    workers.time_limit_s = 20
    assert workers.pids == []
    servers = [QueryServer({"shows": {"s": f"function () {{ return '{n}'; }}"}}, workers) for n in range(8)]
    assert workers.pids == []
    answers: list[object] = []
    for _ in range(3):
        threads = [
            threading.Thread(target=lambda s=s: answers.append(s.call(("shows", "s"), None, {}))) for s in servers
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(workers.pids) <= 3
    assert sorted(str(answer["body"]) for answer in answers if isinstance(answer, dict)) == sorted("01234567" * 3)
    pids = workers.pids
    servers[7].call(("shows", "s"), None, {})
    assert workers.pids == pids or set(workers.pids) == set(pids)
    workers.close()
    assert workers.pids == []
    # A pool that was closed starts again.
    assert servers[0].call(("shows", "s"), None, {}) == {"body": "0"}


def test_worker_that_dies_is_replaced(workers: Workers) -> None:
    workers.time_limit_s = 20
    server = QueryServer({"shows": {"s": "function () { return 'x'; }"}}, workers)
    assert server.call(("shows", "s"), None, {}) == {"body": "x"}
    (pid,) = workers.pids
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ServerError) as died:
        server.call(("shows", "s"), None, {})
    assert (died.value.error, died.value.reason) == ("os_process_error", "{exit_status,137}")
    assert server.call(("shows", "s"), None, {}) == {"body": "x"}


def test_worker_gets_no_secrets(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COUCHDB_PASSWORD", "secret")
    QueryServer({}, workers).compile("function () {}")
    (pid,) = workers.pids
    with open(f"/proc/{pid}/environ", "rb") as file:
        assert b"secret" not in file.read()


def test_random_functions_give_the_same_answers_as_in_process(workers: Workers) -> None:
    workers.time_limit_s = 20
    backends = [MemoryBackend(), MemoryBackend(server=Server(MemoryBackend().server.admins, javascript=workers))]
    r = Random(17)
    docs = [
        {
            "_id": f"{n}",
            "n": r.choice([0, 1, -1, 255, True, None, "a", [1], {"b": 1}]),
            "s": r.choice(["a", "", "é\U0001f600"]),
        }
        for n in range(130)
    ]
    view = {"v": {"map": MAPS[0]}, "lib": {"m": "exports.f = function (doc) { return doc.n; };"}}
    for backend in backends:
        send(backend, "PUT", "/db")
        send(backend, "POST", "/db/_bulk_docs", {"docs": docs})
        for kind, functions in (("filters", FILTERS), ("shows", SHOWS), ("updates", UPDATES), ("lists", LISTS)):
            members = {f"f{n}": source for n, source in enumerate(functions)}
            assert send(backend, "PUT", f"/db/_design/{kind}", {kind: members, "views": view})[0] == 201
    requests: list[tuple[str, str, object, dict[str, str]]] = []
    for n, source in enumerate(MAPS):
        for reduce in ({}, {"reduce": r.choice(REDUCES[:-3])}):
            views = {"v": {"map": source, **reduce}, "lib": view["lib"]}
            requests.append(("PUT", f"/db/_design/m{n}{len(reduce)}", {"views": views}, {}))
            requests.append(
                ("GET", f"/db/_design/m{n}{len(reduce)}/_view/v", None, {"limit": "200"} if not reduce else {})
            )
    requests += [("GET", "/db/_changes", None, {"filter": f"filters/f{n}"}) for n in range(len(FILTERS))]
    requests += [("GET", f"/db/_design/shows/_show/f{n}/{r.randrange(9)}", None, {}) for n in range(len(SHOWS))]
    requests += [("GET", f"/db/_design/lists/_list/f{n}/v", None, {}) for n in range(len(LISTS))]
    requests += [("PUT", f"/db/_design/updates/_update/f{n}/{r.randrange(9)}", {}, {}) for n in range(len(UPDATES))]
    for n, source in enumerate(VALIDATIONS):
        requests.append(("PUT", f"/db/_design/validate{n}", {"validate_doc_update": source}, {}))
        requests.append(
            ("POST", "/db/_bulk_docs", {"docs": [{"n": k, "_id": f"v{n}{k}"} for k in (0, 1, -1, 255)]}, {})
        )
    for method, path, body, query in requests:
        here, there = (send(backend, method, path, body, **query) for backend in backends)
        # The words of stack traces name other places.
        assert (here[0], here[1].partition(b"stack")[0]) == (there[0], there[1].partition(b"stack")[0]), (method, path)


def test_building_a_view_takes_about_as_long_as_in_process(workers: Workers) -> None:
    workers.time_limit_s = 20
    backends = [MemoryBackend(), MemoryBackend(server=Server(javascript=workers))]
    docs = [{"_id": f"{n:05}", "n": n, "s": "x" * 200} for n in range(3000)]
    for backend in backends:
        send(backend, "PUT", "/db")
        send(backend, "POST", "/db/_bulk_docs", {"docs": docs})
    took = [99.0, 99.0]
    for n in range(4):
        for place, backend in enumerate(backends):
            view = {"v": {"map": f"function (doc) {{ emit(doc.n, doc.s + {n}); }}"}}
            send(backend, "PUT", f"/db/_design/d{n}", {"views": view})
            began = time.perf_counter()
            assert b'"total_rows":3000' in send(backend, "GET", f"/db/_design/d{n}/_view/v", limit="1")[1]
            took[place] = min(took[place], time.perf_counter() - began)
    assert took[1] < 3 * took[0], f"{took[1] / took[0]:.2f} times as long as in process"


def is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid: int) -> list[int]:
    # A child belongs to the thread that started it.
    lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(child) for children in lists for child in children.split()]


def put(url: str, body: object) -> None:
    request = urllib.request.Request(url, encode_json(body), {"content-type": "application/json"}, method="PUT")
    urllib.request.urlopen(request).close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_the_server_even_in_an_endless_function(how: signal.Signals) -> None:
    with couchdal_serve("--shutdown-timeout", "1") as (address, process):
        put(f"{address}/db", None)
        put(
            f"{address}/db/_design/d",
            {"shows": {"s": "function () { return {json: 1}; }", "e": "function () { while (1); }"}},
        )
        assert children_of(process.pid) == []
        assert ask(f"{address}/db/_design/d/_show/s")[0] == 200
        assert children_of(process.pid) != []
        threading.Thread(target=lambda: _ignoring(f"{address}/db/_design/d/_show/e"), daemon=True).start()
        time.sleep(0.5)
        pids = children_of(process.pid)
        assert pids
        process.send_signal(how)
        process.wait(15)
        until = time.monotonic() + 10
        while any(map(is_running, pids)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(is_running, pids))


def _ignoring(url: str) -> None:
    with suppress(OSError, ValueError):
        ask(url)
