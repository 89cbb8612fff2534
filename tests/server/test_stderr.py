"""Standard error without a reader, and the access log on it."""

from __future__ import annotations

import json
import os
import threading

from processes import ask, couchdal_serve

from couchdal.server.stderr import StandardError


def test_writing_to_a_pipe_that_nobody_reads_does_not_block() -> None:
    reader, writer = os.pipe()
    stream = StandardError(writer, most=10)
    for number in range(1000):
        stream.write(f"{number:10}" + "x" * 10_000 + "\n")
    text = b""
    while b"dropped" not in text:
        text += os.read(reader, 65536)

    def finish() -> None:
        stream.close(timeout_s=30)
        os.close(writer)

    threading.Thread(target=finish).start()
    while more := os.read(reader, 65536):
        text += more
    os.close(reader)
    lines = text.decode().splitlines()
    written = [int(line[:10]) for line in lines if line.endswith("x")]
    dropped = [int(line.split()[1]) for line in lines if line.startswith("couchdal: ")]
    assert written == sorted(written)
    assert len(written) + sum(dropped) == 1000


def test_writing_to_a_closed_pipe_does_not_fail() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stream = StandardError(writer)
    stream.write("a\n")
    stream.write("b\n")
    stream.close()
    os.close(writer)
    assert not stream._thread.is_alive()


def test_server_answers_while_nobody_reads_its_log() -> None:
    with couchdal_serve("--access-log") as (url, process):
        for _ in range(60):
            assert ask(f"{url}/_up?x={'x' * 5000}")[0] == 200
        process.terminate()
        assert process.stderr
        lines = process.stderr.read().splitlines()
        assert process.wait(10) != 0
    assert len(lines) == 60
    assert {json.loads(line)["status"] for line in lines} == {200}
