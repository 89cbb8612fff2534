"""Listings and changes of many documents, which ``couchdal serve --data`` reads while it sends them."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from processes import couchdal_serve

from couchdal import CouchBackend, CouchDAL, SqliteBackend

COUNT = 5000


def made(path: Path, count: int) -> None:
    with closing(CouchDAL(SqliteBackend(path, synchronous="OFF"), database="big", create=True)) as db:
        for start in range(0, count, 1000):
            docs = [{"_id": f"{n:07}", "n": n, "text": "x" * 260} for n in range(start, start + 1000)]
            db.get("/_bulk_docs", "POST", {"docs": docs})
        db.delete_document("0000001", db.get("/0000001")["_rev"])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("late") / "a.db"
    made(path, COUNT)
    return path


PATHS = (
    "/big/_all_docs",
    "/big/_all_docs?include_docs=true&skip=7",
    "/big/_all_docs?descending=true&limit=3500&update_seq=true",
    '/big/_all_docs?start_key="0000100"&end_key="0004100"',
    "/big/_changes",
    "/big/_changes?include_docs=true&limit=4000",
    "/big/_changes?descending=true&seq_interval=10",
)


@pytest.fixture(scope="module")
def whole(path: Path) -> dict[str, bytes]:
    """The texts as a program gets them in its own process, where they are made as a whole."""
    with closing(CouchDAL(SqliteBackend(path))) as db:
        return {one: db.database("big").request("GET", one.removeprefix("/big")).content() for one in PATHS}


@pytest.fixture(scope="module")
def client(path: Path, whole: dict[str, bytes]) -> Iterator[http.client.HTTPConnection]:
    with couchdal_serve("--data", str(path)) as (address, _):
        client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        yield client
        client.close()


@pytest.mark.parametrize("target", PATHS)
def test_text_is_the_one_that_is_made_as_a_whole(
    target: str, client: http.client.HTTPConnection, whole: dict[str, bytes]
) -> None:
    client.request("GET", target)
    answer = client.getresponse()
    assert answer.getheader("transfer-encoding") == "chunked"
    assert answer.read() == whole[target]


def test_rows_are_those_at_the_time_of_the_request(client: http.client.HTTPConnection, whole: dict[str, bytes]) -> None:
    client.request("GET", PATHS[1])
    answer = client.getresponse()
    begin = answer.read(1000)
    backend = CouchBackend(f"http://{client.host}:{client.port}", database="big")
    with closing(CouchDAL(backend)) as db:
        db.put_document("0004999", {"_rev": db.get("/0004999")["_rev"], "n": -1})
        db.put_document("new", {})
        assert begin + answer.read() == whole[PATHS[1]]
        client.request("GET", "/big/_all_docs")
        assert b'"new"' in client.getresponse().read()


@pytest.fixture(scope="module", params=[20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def many(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A file, and how many documents it has."""
    path = tmp_path_factory.mktemp("many") / "a.db"
    made(path, request.param)
    return path, request.param


@pytest.mark.parametrize("target", ["/big/_all_docs?include_docs=true", "/big/_changes?include_docs=true"])
def test_memory_does_not_grow_with_the_rows(
    target: str, many: tuple[Path, int], figure: Callable[[str, float], None]
) -> None:
    path, count = many
    with couchdal_serve("--data", str(path)) as (address, process):
        client = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        client.request("GET", "/big/_all_docs?limit=1500&include_docs=true")
        client.getresponse().read()

        def peak_mib() -> float:
            status = Path(f"/proc/{process.pid}/status").read_text()
            return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))

        before = peak_mib()
        client.request("GET", target)
        answer, size = client.getresponse(), 0
        while data := answer.read(1 << 20):
            size += len(data)
        grown = peak_mib() - before
        client.close()
    assert size > count * 260
    figure(f"MiB of memory for {count:,} rows of {target.partition('?')[0][5:]}", round(grown))
    assert grown < 30
