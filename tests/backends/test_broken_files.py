"""Files that are cut, damaged, locked or of another kind: the error names them, and none is overwritten."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import gettempdir

import pytest
from disk_workload import WRITES, ask, state_of
from effort import examples
from plugin_runs import run
from processes import forked

from couchdal import CouchDAL, CouchError, NotConfigured, SqliteBackend
from couchdal.cli import main

Figure = Callable[[str, int], None]
_SAMPLE = [pytest.param("sample"), pytest.param("all", marks=pytest.mark.soak)]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something of everything. Tests copy it."""
    path = tmp_path_factory.mktemp("sound") / "a.db"
    backend = SqliteBackend(path)
    ask(backend, "PUT", "/tasks")
    for turn, kind in enumerate(
        ("put", "update", "conflict", "attachment", "bulk", "delete", "purge", "local", "user")
    ):
        backend.send(WRITES[kind](backend, turn)).result()
    backend.close()
    return path


@pytest.fixture(scope="module")
def sound_state(sound: Path) -> dict[str, object]:
    return opened_state(sound)


def opened_state(path: Path, *, read_only: bool = False) -> dict[str, object]:
    """Return the state of a file, and what ``check`` finds."""
    with closing(SqliteBackend(path, read_only=read_only)) as backend:
        found = backend.check()
        return {**state_of(backend), **({"wrong": found} if found else {})}


# --- cut files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("effort", _SAMPLE)
def test_file_cut_at_any_length_is_refused_and_stays_as_it_is(
    sound: Path, effort: str, tmp_path: Path, figure: Figure
) -> None:
    data = sound.read_bytes()
    step = 1 if effort == "all" else 16
    pages = [number * 4096 + more for number in range(0, len(data) // 4096, step) for more in (-1, 0, 1)]
    lengths = {*range(0, 120, step), *pages, len(data) - 1}
    path = tmp_path / "a.db"
    for length in sorted(one for one in lengths if 0 <= one < len(data)):
        path.write_bytes(data[:length])
        for read_only in (False, True):
            with pytest.raises(NotConfigured, match=f"{path} is"):
                SqliteBackend(path, read_only=read_only)
        assert path.read_bytes() == data[:length]
    figure("files cut short", len(lengths))


@pytest.mark.parametrize("effort", _SAMPLE)
def test_damaged_log_leaves_the_state_after_some_write(effort: str, tmp_path: Path, figure: Figure) -> None:
    """A log that was cut, or has a flipped bit, ends there. It cannot be told from a loss of power."""
    (tmp_path / "made").mkdir()
    made, path = tmp_path / "made" / "a.db", tmp_path / "a.db"
    backend = SqliteBackend(made)
    states = [state_of(backend)]
    ask(backend, "PUT", "/tasks")
    for turn in range(6):
        states.append(state_of(backend))
        ask(backend, "PUT", f"/tasks/{turn}", {"n": turn})
    states.append(state_of(backend))
    data, log = made.read_bytes(), (made.parent / "a.db-wal").read_bytes()
    backend.close()
    choose = Random(1)
    for _ in range(400 if effort == "all" else 20):
        path.write_bytes(data)
        place = choose.randrange(len(log))
        flipped = log[:place] + bytes([log[place] ^ 1 << choose.randrange(8)]) + log[place + 1 :]
        (tmp_path / "a.db-wal").write_bytes(choose.choice((log[:place], flipped)))
        assert opened_state(path) in states
    figure("damaged logs", 400 if effort == "all" else 20)


# --- flipped bits -----------------------------------------------------------------------------------------------------


@pytest.mark.random
def test_flipped_bit_is_found_or_changes_nothing(
    sound: Path, sound_state: dict[str, object], tmp_path: Path, figure: Figure
) -> None:
    data = sound.read_bytes()
    path = tmp_path / "a.db"
    found = 0
    turns = examples(40, 1500)
    for seed in range(turns):
        choose = Random(seed)
        place = choose.randrange(len(data))
        flipped = data[:place] + bytes([data[place] ^ 1 << choose.randrange(8)]) + data[place + 1 :]
        path.write_bytes(flipped)
        wrong = ""
        try:
            state = opened_state(path, read_only=bool(seed % 2))
        except (NotConfigured, CouchError) as error:
            wrong = str(error)
            assert str(path) in wrong, seed
        else:
            assert state == sound_state or "wrong" in state, (seed, place)
        found += bool(wrong) or "wrong" in state
    assert found
    figure("flipped bits", turns)
    figure("flipped bits that were found", found)


# Values that can still be read, and values of another type.
CHANGES = (
    "UPDATE databases SET settings = replace(settings, '1', '2')",
    "UPDATE meta SET value = replace(value, '1', '2') WHERE value LIKE '%1%'",
    "UPDATE meta SET value = '[' || value",
    "UPDATE purges SET revisions = replace(revisions, '1', '2')",
    "UPDATE databases SET update_seq = update_seq + 64",
    "UPDATE databases SET doc_count = doc_count + 1",
    "UPDATE databases SET purge_seq = purge_seq + 1, checksum = checksum + 1",
    "UPDATE databases SET external = external + 1",
    "UPDATE docs SET body = 5",
    "UPDATE docs SET id = x'ff'",
    "UPDATE locals SET body = 'text'",
)


@pytest.mark.parametrize("change", CHANGES)
def test_changed_value_is_found(change: str, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(change).rowcount > 0
        connection.commit()
    try:
        wrong = opened_state(path)["wrong"]
    except (NotConfigured, CouchError) as error:
        wrong = [str(error)]
    assert wrong
    assert all(str(path) in one for one in wrong)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE seq_counts SET n = n + 1 WHERE level = 1",
        "UPDATE id_counts SET live = live + 1 WHERE level = 0",
        "UPDATE id_counts SET first = x'62' WHERE first = x''",
    ],
)
def test_wrong_count_of_a_block_is_found(change: str, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute(change).rowcount > 0
        connection.commit()
    assert "differ from the documents" in str(opened_state(path)["wrong"])


# --- files of another kind --------------------------------------------------------------------------------------------


def _cut(path: Path, sound: Path) -> None:
    path.write_bytes(sound.read_bytes()[:20_000])


def _newer(path: Path, sound: Path) -> None:
    shutil.copy(sound, path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


def _empty(path: Path, sound: Path) -> None:
    path.touch()


def _other_sqlite(path: Path, sound: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 1")


def _text(path: Path, sound: Path) -> None:
    path.write_text("hello " * 1000)


def _foreign(path: Path, sound: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE t (x)")


def _folder(path: Path, sound: Path) -> None:
    path.mkdir()


def _in_missing_folder(path: Path, sound: Path) -> None:
    path.parent.rmdir()


def _in_a_file(path: Path, sound: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("not a folder")


BROKEN = {
    one.__name__[1:]: one
    for one in (_cut, _empty, _newer, _text, _foreign, _other_sqlite, _folder, _in_missing_folder, _in_a_file)
}


@pytest.fixture
def used_port() -> Iterator[str]:
    """A port that is in use. A server that should have refused its file ends there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def contents(path: Path) -> object:
    return path.read_bytes() if path.is_file() else sorted(os.listdir(path)) if path.is_dir() else None


@pytest.mark.parametrize("kind", BROKEN)
def test_every_way_to_open_a_broken_file_names_it(
    kind: str,
    sound: Path,
    tmp_path: Path,
    used_port: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "folder" / "a.db"
    path.parent.mkdir()
    BROKEN[kind](path, sound)
    before = contents(path)
    for command in (["serve", "--port", used_port, "--data"], ["info"], ["check"], ["dump"]):
        assert main([*command, str(path)]) != 0
        written = capsys.readouterr()
        assert written.out == ""
        assert str(path) in written.err
        assert written.err.count("\n") == 1
    for address in (f"sqlite:///{path}", f"sqlite:///{path}?mode=ro"):
        with pytest.raises(NotConfigured, match=str(path)):
            CouchDAL(address)
    monkeypatch.setenv("DAL_BACKEND", "sqlite")
    monkeypatch.setenv("COUCHDAL_DATA", str(path))
    with pytest.raises(NotConfigured, match=str(path)):
        CouchDAL()
    monkeypatch.setattr("sys.stdin", open(os.devnull))  # noqa: SIM115
    assert main(["load", str(path)]) != 0
    written = capsys.readouterr()
    assert str(path) in written.err or "no database" in written.err
    assert contents(path) == before
    assert not list(tmp_path.glob("**/*-owner"))


@pytest.mark.parametrize("kind", ["cut", "folder"])
def test_plugin_names_a_broken_file(kind: str, sound: Path, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "a.db"
    path.parent.mkdir()
    BROKEN[kind](path, sound)
    ended = run(
        tmp_path,
        "--dal-backend=sqlite",
        environment={"COUCHDAL_DATA": str(path)},
        test_file="def test_nothing(dal): pass\n",
    )
    assert str(path) in ended
    assert "Traceback" not in ended


# --- permissions ------------------------------------------------------------------------------------------------------

NOBODY = 65534


def as_nobody(act: Callable[[], int]) -> int:
    """Return the exit status of a process without rights that calls ``act``."""

    def without_rights() -> int:
        if os.geteuid() == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        return act()

    return forked(without_rights)


@pytest.fixture
def shared(sound: Path, tmp_path: Path) -> Path:
    """A copy of a file, in a folder that everybody reaches."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and Path(gettempdir()) in folder.parents:
            folder.chmod(0o755)
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    path = folder / "a.db"
    shutil.copy(sound, path)
    path.chmod(0o666)
    return path


def refused(path: Path, said: str, *, read_only: bool = False) -> Callable[[], int]:
    def act() -> int:
        try:
            SqliteBackend(path, read_only=read_only)
        except NotConfigured as error:
            return 0 if str(path) in str(error) and said in str(error) else 1
        return 2

    return act


def test_read_only_file_is_named_and_can_be_looked_at(shared: Path, sound_state: dict[str, object]) -> None:
    shared.chmod(0o444)
    assert as_nobody(refused(shared, "is read-only")) == 0
    assert as_nobody(lambda: int(opened_state(shared, read_only=True) != sound_state)) == 0


def test_file_without_permission_is_named(shared: Path) -> None:
    shared.chmod(0)
    for read_only in (False, True):
        assert as_nobody(refused(shared, "Permission denied", read_only=read_only)) == 0


def test_file_in_a_read_only_folder_is_named_and_can_be_looked_at(shared: Path, sound_state: dict[str, object]) -> None:
    shared.parent.chmod(0o555)
    assert as_nobody(refused(shared, "cannot be locked: Permission denied")) == 0
    assert as_nobody(lambda: int(opened_state(shared, read_only=True) != sound_state)) == 0


@pytest.mark.soak
def test_file_that_another_program_locks_is_named(shared: Path) -> None:
    """It takes as long as SQLite waits."""
    with closing(sqlite3.connect(shared, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        assert forked(refused(shared, "database is locked"), 60) == 0
