"""The private names of databases in live test runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from couchdal.testing.names import MAX_AGE_S, PrivateNames, has_ended, is_legal, run_of


@pytest.mark.parametrize(
    "name", ["tasks", "a/b", "x$()+-_y", "n" * 238, "n" * 200, "a/_users", "m" * 230 + "/_replicator"]
)
def test_name_is_legal_short_enough_and_read_back(name: str) -> None:
    names = PrivateNames()
    private = names.private(name, 7)
    assert is_legal(private)
    assert private.startswith(names.prefix)
    assert max(map(len, private.split("/"))) <= 238
    assert names.public(f"Name: '{private}'. {private}") == f"Name: '{name}'. {name}"
    assert private != names.private(name, 8)
    assert run_of(private) == names.prefix
    if name.endswith(("/_users", "/_replicator")):
        assert private.rpartition("/")[2] == name.rpartition("/")[2]


def test_hashed_name_is_quoted_in_addresses() -> None:
    names = PrivateNames()
    long = "a+" * 110
    address = f"http://host/{names.private(long, 1)}/doc".encode()
    assert names.public_bytes(address, quoted=True) == b"http://host/" + b"a%2B" * 110 + b"/doc"


@pytest.mark.parametrize("name", ["_users", "_replicator", "_all_dbs", "9a", "Tasks", "", "a b", "a" * 239])
def test_names_that_are_not_mapped(name: str) -> None:
    assert not is_legal(name)


def test_names_of_others_are_left() -> None:
    assert run_of("tasks") is None
    assert run_of("dal-test-kept-0123456789abcdef0123456789abcdef") is None
    assert PrivateNames().public("dal-test-abc-123456-1-2-tasks") == "dal-test-abc-123456-1-2-tasks"


def test_run_has_ended_with_its_process_or_after_some_hours() -> None:
    own = PrivateNames().prefix
    assert not has_ended(own, time.time() + 10 * MAX_AGE_S)
    ended = subprocess.run(
        [sys.executable, "-c", "from couchdal.testing.names import PrivateNames; print(PrivateNames().prefix)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert has_ended(ended.stdout.strip())
    started, host, process = own.removeprefix("dal-test-").strip("-").split("-")
    elsewhere = f"dal-test-{started}-{'0' * 6 if host != '0' * 6 else '1' * 6}-{process}-"
    assert not has_ended(elsewhere)
    assert has_ended(elsewhere, time.time() + MAX_AGE_S + 1)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says that a process waits for its parent")
def test_killed_process_has_ended_before_its_parent_notices() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    names = PrivateNames()
    started, host, _ = names.prefix.removeprefix("dal-test-").strip("-").split("-")
    process = ""
    while child:
        child, digit = divmod(child, 36)
        process = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + process
    deadline = time.monotonic() + 5
    while not has_ended(f"dal-test-{started}-{host}-{process}-"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.wait()
