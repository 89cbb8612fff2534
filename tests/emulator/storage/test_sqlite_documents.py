"""Documents in a data file: counts by blocks, states that do not change, and files of the earlier format."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from stored_kept import FileStorage, Kept

from couchdal.emulator.storage import sqlite_connection, sqlite_counts, sqlite_documents
from couchdal.emulator.storage.base import Storage
from couchdal.emulator.storage.memory import MemoryStorage
from couchdal.emulator.storage.overlay import OverlayStorage, flattened
from couchdal.emulator.storage.sqlite import DataFile


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data.db")


@pytest.fixture
def file(path: str) -> Iterator[DataFile]:
    with closing(DataFile(path, synchronous="OFF")) as opened:
        yield opened


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_counts, "ID_BLOCKS", [4, 30])
    monkeypatch.setattr(sqlite_documents, "_FIRST_BATCH", 3)


def write_at_random(choice: random.Random, *storages: Storage[Kept], seq: int, batches: int) -> int:
    """Write the same to several storages. Return the last update sequence."""
    for _ in range(batches):
        writes: list[tuple[Kept | None, Kept | None]] = []
        for doc_id in sorted(choice.sample(range(400), 20)):
            old = storages[0].get(f"{doc_id:03}")
            removed = old is not None and choice.random() < 0.1
            seq += 1
            new = None if removed else Kept(f"{doc_id:03}", seq, deleted=choice.random() < 0.3)
            writes.append((old, new))
        for storage in storages:
            if isinstance(storage, FileStorage):
                storage.write_all(writes)
            else:
                for old, new in writes:
                    storage.write(old, new)
    return seq


def seen(storage: Storage[Kept], seq: int) -> dict[str, object]:
    """Return what readers see of a storage."""
    places = range(-1, 402, 7)
    return {
        "changes": list(storage.changes()),
        "descending": list(storage.changes(descending=True)),
        "part": list(storage.changes(seq // 3, seq // 2)),
        "live": list(storage.live()),
        "live descending": list(storage.live(descending=True)),
        "live part": list(storage.live("100", "200", inclusive_end=False)),
        "after": [storage.changes_after(since) for since in range(0, seq + 2, 13)],
        "before": [storage.live_before(f"{place:03}", inclusive=bool(place % 2)) for place in places],
        "get": [storage.get(f"{place:03}") for place in places],
    }


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(3))
def test_random_writes_are_seen_as_in_memory(file: DataFile, seed: int) -> None:
    choice = random.Random(seed)
    memory, stored = MemoryStorage[Kept](), FileStorage(file)
    other = FileStorage(file, db=2)
    other.write(None, Kept("other", 1))
    seq = write_at_random(choice, stored, memory, seq=0, batches=30)
    assert stored.check() == memory.check() == []
    before = seen(memory, seq)
    assert seen(stored, seq) == before
    # An overlay above a state, and one above that.
    above: OverlayStorage[Kept] = OverlayStorage(stored.steady())
    seq = write_at_random(choice, above, memory, seq=seq, batches=10)
    above = OverlayStorage(above)
    seq = write_at_random(choice, above, memory, seq=seq, batches=10)
    assert seen(above, seq) == seen(flattened(above), seq) == seen(memory, seq)
    assert list(other.live()) == [Kept("other", 1)]


@pytest.mark.usefixtures("small_blocks")
def test_a_state_stays_as_it_is_while_others_write(file: DataFile) -> None:
    choice = random.Random(7)
    stored = FileStorage(file)
    seq = write_at_random(choice, stored, seq=0, batches=20)
    states = []
    for _ in range(3):
        states.append((stored.steady(), seq, seen(stored, seq)))
        seq = write_at_random(choice, stored, seq=seq, batches=3)
    for state, then, found in states:
        assert seen(state, then) == found
        assert state.resumed() is stored


def test_a_state_that_nobody_needs_holds_no_connection(file: DataFile, path: str) -> None:
    stored = FileStorage(file)
    state = stored.steady()
    stored.write(None, Kept("a", 1))
    assert state.get("a") is None
    del state
    file.close()
    # SQLite removes its log when it closes the last connection.
    assert [one.name for one in Path(path).parent.iterdir()] == ["data.db"]


def test_the_log_shrinks_when_nobody_reads_an_earlier_state(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_connection, "_LOG_BYTES", 100_000)
    with closing(DataFile(path, synchronous="OFF")) as file:
        stored = FileStorage(file)
        state = stored.steady()
        for batch in range(5):
            stored.write_all([(None, Kept("x" * 2000 + f"{n}", n)) for n in range(batch * 300 + 1, batch * 300 + 301)])
        assert state.get("a") is None
        assert os.path.getsize(path + "-wal") > 5_000_000
        del state
        for seq in (2000, 2001):
            stored.write(None, Kept(f"{seq}", seq))
        assert os.path.getsize(path + "-wal") <= 100_000


def test_a_large_listing_reads_few_rows_at_once(file: DataFile) -> None:
    stored = FileStorage(file)
    stored.write_all([(None, Kept(f"{n:05}", n + 1)) for n in range(3000)])
    listing = stored.live()
    assert next(listing).doc_id == "00000"
    assert len([1 for _ in listing]) == 2999
    assert stored.live_before("02500") == 2500
    ((blocks,),) = file.rows("SELECT count(*) FROM id_counts")
    assert blocks > 1


def test_a_file_of_the_format_before_gets_counts(file: DataFile, path: str) -> None:
    stored = FileStorage(file)
    stored.write_all([(None, Kept(f"{n:04}", n, deleted=n % 3 == 0)) for n in range(1, 4000)])
    seq = write_at_random(random.Random(1), stored, seq=4000, batches=2)
    before = seen(stored, seq)
    file.close()
    with closing(sqlite3.connect(path)) as old:
        old.executescript(
            "DROP TABLE seq_counts; DROP TABLE id_counts; DROP TABLE leftovers; DROP TABLE indexes;"
            "DROP TABLE index_blocks; PRAGMA user_version = 1"
        )
        for name in ("external", "trees", "old", "checksum"):
            old.execute(f"ALTER TABLE databases DROP COLUMN {name}")
    with closing(DataFile(path)) as again:
        found = FileStorage(again)
        assert seen(found, seq) == before
        assert found.check() == []
