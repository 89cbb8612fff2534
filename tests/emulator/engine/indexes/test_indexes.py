"""The object that keeps a database's indexes: it follows design documents, rollbacks and forks."""

from __future__ import annotations

import pytest

from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.documents.document_update import update_documents
from couchdal.emulator.engine.mango.index_definition import ALL_DOCS, IndexDefinition
from couchdal.emulator.engine.server.database import Database
from couchdal.emulator.engine.server.server import Server
from couchdal.emulator.engine.server.state import fork_database, keep_database, restore_database


@pytest.fixture
def db() -> Database:
    return Server().create("db")


def define(db: Database, name: str, *fields: str) -> None:
    """Write a design document with one Mango index."""
    view = {"map": {"fields": dict.fromkeys(fields, "asc")}, "options": {"def": {}}}
    record = db.get(f"_design/{name}")
    position, ids = (record.winner.position, (record.winner.id,)) if record else (0, ())
    body: dict[str, object] = {"language": "query", "views": {"i": view}}
    update_documents(db, [Document(f"_design/{name}", body, position=position, ids=ids)])


def names(db: Database) -> list[str | None]:
    return [definition.ddoc for definition in db.indexes.definitions(db)]


def only(db: Database) -> IndexDefinition:
    _, definition = db.indexes.definitions(db)
    return definition


def test_new_database_has_the_special_index() -> None:
    db = Server().create("db")
    assert db.indexes.definitions(db) == (ALL_DOCS,)


def test_definitions_follow_design_documents(db: Database) -> None:
    define(db, "a", "n")
    assert names(db) == [None, "_design/a"]
    assert db.indexes.definitions(db) is db.indexes.definitions(db)
    define(db, "b", "m")
    assert names(db) == [None, "_design/a", "_design/b"]


def test_index_is_kept_until_its_definition_changes(db: Database) -> None:
    define(db, "a", "n")
    index = db.indexes.json_index(db, only(db))
    update_documents(db, [Document("x", {"n": 1})])
    assert db.indexes.json_index(db, only(db)) is index
    assert [row.doc_id for row in index.rows(([None], ""), [9])] == ["x"]
    define(db, "a", "m")
    assert db.indexes.json_index(db, only(db)) is not index


def test_rollback_brings_definitions_and_rows_back(db: Database) -> None:
    define(db, "a", "n")
    index = db.indexes.json_index(db, only(db))
    state = keep_database(db)
    update_documents(db, [Document("x", {"n": 1})])
    define(db, "b", "m")
    db.indexes.json_index(db, db.indexes.definitions(db)[1])
    restore_database(db, state)
    assert names(db) == [None, "_design/a"]
    assert db.indexes.json_index(db, only(db)) is index
    assert not list(index.rows(([None], ""), [9]))


def test_design_document_after_a_rollback_is_noticed(db: Database) -> None:
    """The version of the design documents is then the same as before the rollback."""
    define(db, "a", "n")
    state = keep_database(db)
    define(db, "b", "n")
    assert names(db) == [None, "_design/a", "_design/b"]
    restore_database(db, state)
    define(db, "c", "n")
    assert names(db) == [None, "_design/a", "_design/c"]


def test_fork_shares_rows_until_one_side_changes(db: Database) -> None:
    define(db, "a", "n")
    db.indexes.json_index(db, only(db))
    other = fork_database(db)
    update_documents(other, [Document("x", {"n": 1})])
    index = other.indexes.json_index(other, only(other))
    assert [row.doc_id for row in index.rows(([None], ""), [9])] == ["x"]
    assert not list(db.indexes.json_index(db, only(db)).rows(([None], ""), [9]))


def test_validators_are_the_design_documents_with_a_function(db: Database) -> None:
    assert db.indexes.validators(db) == ()
    update_documents(db, [Document("_design/v", {"validate_doc_update": "function() {}"})])
    assert [design.doc_id for design in db.indexes.validators(db)] == ["_design/v"]
