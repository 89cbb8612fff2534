"""The public names, and what importing them costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import typing
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

import couchdal
import dal

SOURCE = Path(couchdal.__file__).parents[1]
# Slow imports that only programs with a server need.
UNWANTED = ("httpx2", "httpcore2", "h11", "uvicorn", "starlette", "anyio", "asyncio", "ssl", "sqlite3", "urllib.parse")


def python(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    return ended.stdout


PUBLIC = """
    __version__ JSON

    CouchDAL AsyncCouchDAL ChangeFeed AsyncChangeFeed ChangesFollower AsyncChangesFollower FollowOptions
    TypedDocuments AsyncTypedDocuments InvalidDocument
    BaseBackend AsyncBackend CouchBackend AsyncCouchBackend MemoryBackend SqliteBackend Request Response

    AllDocsResult Attachment BulkGetDoc BulkGetError BulkGetItem BulkGetResult BulkRow Change ChangedRevision
    ChangesOptions ChangesResult CreatedIndex DatabaseInfo DatabaseSizes Document ExecutionStats Explanation
    FindResult Index IndexFields IndexList MissingRevisions Ok OpenRevision PurgeResult Revisions Row RowValue
    Security SecurityMembers Selector SessionInfo Sort UserContext Uuids ViewResult ViewRow WriteResult

    CouchError BadContentType BadRequest Conflict DocValidation FileExists Forbidden Gone IllegalDatabaseName
    IllegalDocId IllegalPartition MethodNotAllowed MissingStub NotFound NotSupported PreconditionFailed QueryParseError
    ServerError TooLarge Unauthorized
    BackendError BrokenOff ConnectionRefused ConnectionReset HostRefused MemoryOnly NotConfigured NotConnected NotJSON
    ResetRefused TimedOut Unavailable Unreachable FailedRequest

    Emulator Faults Interception LoggedRequest RequestEvent RequestLog ServerClock Snapshot SuggestedIndex intercept
    observe
    Application Cors Limits
"""


def test_public_names_are_these() -> None:
    assert couchdal.__all__ == sorted(PUBLIC.split(), key=lambda name: (name != "__version__", name))


@pytest.mark.parametrize("name", couchdal.__all__)
def test_public_name_is_the_same_object_in_both_packages(name: str) -> None:
    assert getattr(couchdal, name) is getattr(dal, name) is not None


@pytest.mark.parametrize("package", [couchdal, dal])
def test_dir_lists_the_public_names(package: ModuleType) -> None:
    assert dir(package) == sorted(couchdal.__all__)


@pytest.mark.parametrize("package", ["couchdal", "dal"])
def test_star_import_gives_the_public_names(package: str) -> None:
    names: dict[str, object] = {}
    exec(f"from {package} import *", names)
    assert {name: names[name] for name in couchdal.__all__} == {
        name: getattr(couchdal, name) for name in couchdal.__all__
    }


def test_type_checkers_see_the_names_that_python_sees() -> None:
    """The imports for type checkers and the table of lazy imports agree, name by name."""
    tree = ast.parse(Path(couchdal.__file__).read_text("utf-8"))
    (branch,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.asname: node.module for node in branch.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert imported == vars(couchdal)["_MODULES"]


def test_version_is_that_of_the_distribution() -> None:
    assert metadata.version("couchdal") == couchdal.__version__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'nothing'"):
        couchdal.nothing  # noqa: B018
    with pytest.raises(ImportError):
        exec("from couchdal import nothing")


def test_every_exception_of_the_package_is_public() -> None:
    from couchdal import errors

    raised = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert raised <= set(couchdal.__all__)


def test_package_is_typed() -> None:
    assert Path(couchdal.__file__).with_name("py.typed").exists()
    assert typing.get_type_hints(couchdal.BaseBackend.send)["return"] is couchdal.Response


def test_memory_path_imports_neither_http_nor_an_event_loop() -> None:
    used = "from couchdal import CouchDAL; CouchDAL('memory').get('/_bulk_docs', 'POST', {'docs': [{'x': 1}]})"
    loaded = python(f"{used}; import sys; print(*sys.modules)").split()
    assert "couchdal.backends.memory" in loaded
    assert not [
        name
        for name in loaded
        if name in UNWANTED or name in ("couchdal.backends.couch", "couchdal.backends.event_loop")
    ]


def test_start_of_the_memory_backend_does_not_import_dataclasses() -> None:
    loaded = python("from couchdal import CouchDAL; CouchDAL('memory'); import sys; print(*sys.modules)").split()
    assert "couchdal.emulator.dispatch" in loaded
    assert "dataclasses" not in loaded


def test_writing_imports_nothing_of_views_or_collation() -> None:
    used = "from couchdal import CouchDAL; CouchDAL('memory').put_document('a', {'x': 1})"
    loaded = python(f"{used}; import sys; print(*sys.modules)").split()
    assert "couchdal.emulator.engine.documents.document_update" in loaded
    assert not {
        f"couchdal.emulator.engine.{name}" for name in ("collation", "reduction", "javascript", "view_index")
    } & {*loaded}


def test_couch_path_does_not_import_the_emulator() -> None:
    used = "from couchdal import CouchDAL, CouchBackend; CouchDAL(CouchBackend('http://localhost'))"
    loaded = python(f"{used}; import sys; print(*sys.modules)").split()
    assert not [
        name
        for name in loaded
        if name.startswith(("couchdal.emulator.engine", "couchdal.emulator.endpoints", "couchdal.emulator.storage"))
    ]


def test_import_alone_loads_no_module_of_the_package() -> None:
    loaded = python("import couchdal, sys; print(*sys.modules)").split()
    assert [name for name in loaded if name.startswith(("couchdal", "dal"))] == ["couchdal"]
