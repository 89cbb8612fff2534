"""``typed``: documents as pydantic models, msgspec structs and dataclasses, on both clients."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest

from couchdal import AsyncCouchDAL, Conflict, CouchDAL, InvalidDocument, NotFound

msgspec = pytest.importorskip("msgspec")
pytest.importorskip("pydantic")

from pydantic import BaseModel, Field  # noqa: E402
from pydantic.dataclasses import dataclass as pydantic_dataclass  # noqa: E402


@dataclasses.dataclass
class Plain:
    title: str
    n: int = 0
    _id: str = ""
    _rev: str = ""


@dataclasses.dataclass(frozen=True)
class Frozen:
    title: str
    n: int = 0
    id: str | None = None
    rev: str | None = None


class Model(BaseModel):
    title: str
    n: int = 0
    id: str | None = Field(default=None, alias="_id")
    rev: str | None = Field(default=None, alias="_rev")


class Struct(msgspec.Struct):  # type: ignore[misc, name-defined]
    title: str
    n: int = 0
    id: str | None = msgspec.field(default=None, name="_id")
    rev: str | None = msgspec.field(default=None, name="_rev")


class FrozenStruct(msgspec.Struct, frozen=True):  # type: ignore[misc, name-defined, call-arg]
    title: str
    n: int = 0
    id: str | None = None
    rev: str | None = None


@pydantic_dataclass
class Validated:
    title: str
    n: int = 0
    id: str | None = None
    rev: str | None = None


CLASSES = [Plain, Frozen, Model, Struct, FrozenStruct, Validated]
each_class = pytest.mark.parametrize("cls", CLASSES)


class Tasks:
    """The methods of either kind of typed documents; an iterator is read to its end."""

    def __init__(self, dal: CouchDAL, cls: type, way: str) -> None:
        self._dal, self._cls, self._way = dal, cls, way

    def __getattr__(self, method: str) -> Callable[..., Any]:
        iterates = method.startswith("iter_")

        def blocking(*args: Any, **kwargs: Any) -> Any:
            found = getattr(self._dal.typed(self._cls), method)(*args, **kwargs)
            return list(found) if iterates else found

        async def in_loop(*args: Any, **kwargs: Any) -> Any:
            async with AsyncCouchDAL(self._dal.backend) as handle:
                found = getattr(handle.typed(self._cls), method)(*args, **kwargs)
                return [item async for item in found] if iterates else await found

        return blocking if self._way == "blocking" else lambda *a, **k: asyncio.run(in_loop(*a, **k))


@pytest.fixture(params=["blocking", "async"])
def typed(request: pytest.FixtureRequest, dal: CouchDAL) -> Callable[[type], Any]:
    return lambda cls: Tasks(dal, cls, request.param)


def identity(value: Any) -> tuple[str, str]:
    names = ("_id", "_rev") if isinstance(value, Plain) else ("id", "rev")
    return getattr(value, names[0]), getattr(value, names[1])


def made(cls: Any, doc_id: str, title: str, n: int = 0) -> Any:
    names = {Plain: "_id", Model: "_id"}
    return cls(title=title, n=n, **{names.get(cls, "id"): doc_id})


@each_class
def test_object_is_written_read_updated_and_deleted(dal: CouchDAL, typed: Callable[..., Any], cls: Any) -> None:
    tasks = typed(cls)
    first = made(cls, "a", "write")
    stored = tasks.put(first)
    assert dal.get_document("a") == {"_id": "a", "_rev": identity(stored)[1], "title": "write", "n": 0}
    assert tasks.get("a") == stored
    assert isinstance(tasks.get("a"), cls)
    if cls not in (Frozen, FrozenStruct):
        assert stored is first
        stored.n = 5
        assert tasks.put(stored).n == 5
        assert identity(stored)[1].startswith("2-")
    with pytest.raises(Conflict):
        tasks.put(made(cls, "a", "again"))
    tasks.delete(tasks.get("a"))
    with pytest.raises(NotFound):
        tasks.get("a")


@each_class
def test_server_generates_an_id(typed: Callable[..., Any], cls: Any) -> None:
    stored = typed(cls).put(cls(title="x"))
    assert len(identity(stored)[0]) == 32
    assert typed(cls).get(identity(stored)[0]) == stored


@each_class
def test_many_objects_are_written_found_and_read(dal: CouchDAL, typed: Callable[..., Any], cls: Any) -> None:
    tasks = typed(cls)
    rows = tasks.bulk(made(cls, f"d{n:02}", "task", n) for n in range(30))
    assert all(row["ok"] for row in rows)
    dal.put_document("_design/d", {})
    assert [task.n for task in tasks.find({"n": {"$gt": 20}}, limit=3)] == [21, 22, 23]
    assert [task.n for task in tasks.iter_find({"n": {"$gte": 0}}, page_size=7)] == list(range(30))
    assert [task.n for task in tasks.iter_all(page_size=7)] == list(range(30))
    assert tasks.bulk([made(cls, "d00", "again")])[0]["error"] == "conflict"


@each_class
def test_update_changes_an_object(dal: CouchDAL, typed: Callable[..., Any], cls: Any) -> None:
    dal.put_document("a", {"title": "x", "n": 1, "unknown": True})
    dal.put_attachment("a", "note.txt", b"hello", rev=dal.get_document("a")["_rev"])

    def count(task: Any) -> Any:
        if cls is Frozen:
            return dataclasses.replace(task, n=task.n + 1)
        if cls is FrozenStruct:
            return msgspec.structs.replace(task, n=task.n + 1)
        task.n += 1
        return None

    assert typed(cls).update("a", count).n == 2
    doc = dal.get_document("a")
    # What the class does not know is kept, and so are attachments.
    assert (doc["n"], doc["unknown"], list(doc["_attachments"])) == (2, True, ["note.txt"])
    assert typed(cls).update("b", count, default=cls(title="new")).n == 1
    with pytest.raises(NotFound):
        typed(cls).update("c", count)


@each_class
def test_document_that_does_not_fit_is_a_clear_error(dal: CouchDAL, typed: Callable[..., Any], cls: Any) -> None:
    dal.bulk_docs([{"_id": "a", "n": 1}, {"_id": "b", "title": "x", "n": "many"}])
    with pytest.raises(InvalidDocument, match=rf"the document 'a' is not a {cls.__name__}: .*title") as caught:
        typed(cls).get("a")
    assert (caught.value.doc_id, caught.value.kind) == ("a", cls.__name__)
    assert caught.value.__cause__ is not None
    with pytest.raises(InvalidDocument, match=rf"the document 'b' is not a {cls.__name__}: .*n"):
        typed(cls).iter_all(startkey="b")


def test_class_without_a_place_for_the_id_is_refused(dal: CouchDAL) -> None:
    @dataclasses.dataclass
    class Without:
        title: str

    class OnlyId(BaseModel):
        id: str = Field(alias="_id")

    for cls in (Without, OnlyId):
        with pytest.raises(TypeError, match=f"{cls.__name__} has no fields for _id and _rev"):
            dal.typed(cls)
    for wrong in (dict, str, 5):
        with pytest.raises(TypeError, match="is not a pydantic model, a msgspec struct or a dataclass"):
            dal.typed(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="expected a Plain, not Frozen"):
        dal.typed(Plain).put(Frozen("x"))  # type: ignore[arg-type]


class State(Enum):
    OPEN = "open"
    DONE = "done"


@dataclasses.dataclass
class Step:
    name: str
    minutes: float = 0.0


@dataclasses.dataclass
class Nested:
    steps: list[Step]
    by_name: dict[str, Step]
    state: State
    first: Step | None = None
    pair: tuple[int, str] = (0, "")
    tags: set[str] = dataclasses.field(default_factory=set)
    kind: Literal["a", "b"] = "a"
    anything: Any = None
    id: str | None = None
    rev: str | None = None


def test_dataclasses_nest(dal: CouchDAL) -> None:
    tasks = dal.typed(Nested)
    whole = Nested(
        [Step("x", 1)], {"y": Step("y")}, State.DONE, Step("z"), (1, "b"), {"t"}, "b", {"free": [1]}, id="nested"
    )
    assert tasks.put(whole) == tasks.get("nested")
    assert dal.get_document("nested")["steps"] == [{"name": "x", "minutes": 1}]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"steps": [{"name": 5}]}, "steps[0].name: expected a string, not 5"),
        ({"steps": {}}, "steps: expected a list, not {}"),
        ({"by_name": {"a": {}}}, "by_name.a.name: is missing"),
        ({"state": "lost"}, "'lost' is not a valid State"),
        ({"pair": [1]}, "pair: expected 2 items, not 1"),
        ({"kind": "c"}, "kind: expected one of 'a', 'b', not 'c'"),
        ({"first": 1}, "first: expected an object, not 1 or first: expected null, not 1"),
        ({"steps": [{"name": "a", "minutes": True}]}, "steps[0].minutes: expected a number, not True"),
    ],
)
def test_error_of_a_dataclass_names_the_place(dal: CouchDAL, change: dict[str, Any], reason: str) -> None:
    dal.put_document("a", {"steps": [], "by_name": {}, "state": "open", **change})
    with pytest.raises(InvalidDocument) as caught:
        dal.typed(Nested).get("a")
    assert caught.value.reason == reason


def test_type_checkers_know_the_class(tmp_path: Path) -> None:
    program = """
from dataclasses import dataclass
from couchdal import AsyncCouchDAL, CouchDAL

@dataclass
class Task:
    title: str
    id: str = ""
    rev: str = ""

tasks = CouchDAL("memory").typed(Task)
reveal_type(tasks.get("a"))
reveal_type(tasks.find({}))
for task in tasks.iter_all():
    reveal_type(task)
tasks.update("a", lambda task: Task(task.title + "!"))
tasks.put(5)

async def run() -> None:
    others = AsyncCouchDAL("memory").typed(Task)
    reveal_type(await others.get("a"))
    async for task in others.iter_find({}):
        reveal_type(task)
"""
    (tmp_path / "program.py").write_text(program, "utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "program.py"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    found = [line.partition(": ")[2] for line in ended.stdout.splitlines()]
    task = 'note: Revealed type is "program.Task"'
    assert [line for line in found if "program.Task" in line and "list" not in line] == [task] * 4
    assert 'note: Revealed type is "list[program.Task]"' in [line.replace("builtins.", "") for line in found]
    assert [line for line in found if line.startswith("error")] == [
        'error: Argument 1 to "put" of "TypedDocuments" has incompatible type "int"; expected "Task"  [arg-type]'
    ]
