"""``load`` reads files in several formats; ``dump`` writes documents with conflicts, histories and attachments."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from couchdal import AsyncCouchDAL, CouchDAL, CouchError, MemoryBackend

DOCUMENTS = [{"_id": "a", "n": 1}, {"_id": "b", "n": 2, "_attachments": {"f": {"data": "aGk="}}}]
ROWS = [{"id": document["_id"], "key": document["_id"], "value": {}, "doc": document} for document in DOCUMENTS]
FORMATS = {
    "an array": json.dumps(DOCUMENTS, indent=1),
    "one a line": "\n".join(map(json.dumps, DOCUMENTS)) + "\n\n",
    "a body of _bulk_docs": json.dumps({"docs": DOCUMENTS}),
    "an answer of _all_docs": json.dumps({"total_rows": 2, "offset": 0, "rows": [*ROWS, {"key": "c", "error": "x"}]}),
    "a backup": "\n".join(json.dumps([document]) for document in DOCUMENTS),
    "a backup with a header": '{"name":"@cloudant/couchbackup","mode":"full"}\n' + json.dumps(DOCUMENTS),
    "a file that begins with a byte order mark": "\ufeff" + json.dumps(DOCUMENTS),
}


@pytest.fixture
def dal() -> CouchDAL:
    return CouchDAL(MemoryBackend(database="db"))


@pytest.mark.parametrize("text", FORMATS.values(), ids=FORMATS)
def test_load_reads(text: str, dal: CouchDAL, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text(text, "utf-8")
    assert dal.load(file) == 2
    assert [row["doc"]["n"] for row in dal.all_docs(include_docs=True)["rows"]] == [1, 2]
    assert dal.request("GET", "/b/f").content() == b"hi"


def test_dump_and_load_keep_conflicts_histories_deletions_and_attachments(dal: CouchDAL, tmp_path: Path) -> None:
    dal.bulk_docs(DOCUMENTS)
    dal.put_document("a", {"n": 3}, rev=dal.get_document("a")["_rev"])
    dal.bulk_docs([{"_id": "a", "_rev": "2-abc", "n": 4}], new_edits=False)
    dal.post_document({"_id": "gone"})
    dal.delete_document("gone", rev=dal.get_document("gone")["_rev"])
    assert dal.dump(tmp_path / "all.ndjson") == 4
    other = CouchDAL(MemoryBackend(database="db"))
    assert other.load(tmp_path / "all.ndjson") == 4
    for path in ("/a?revs=true&conflicts=true", "/b?attachments=true", "/_changes?style=all_docs"):
        mine, theirs = dal.get(path), other.get(path)
        if "results" in mine:
            mine, theirs = (
                [(row["id"], row["changes"]) for row in sorted(one["results"], key=lambda row: row["id"])]
                for one in (mine, theirs)
            )
        assert mine == theirs
    assert [file.name for file in tmp_path.iterdir()] == ["all.ndjson"]


@pytest.mark.parametrize(
    ("text", "line"), [('[{"_id": "a"}]\n{"_id": ', 2), ('[{"_id": "a"}, 1]', 1), ('{"n": NaN}', 1), ("\n\nx", 3)]
)
def test_load_of_a_malformed_file_names_the_line_and_writes_nothing(
    text: str, line: int, dal: CouchDAL, tmp_path: Path
) -> None:
    file = tmp_path / "seed.json"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=f"seed.json, line {line}: "):
        dal.load(file)
    assert dal.info()["doc_count"] == 0


def test_load_raises_the_error_of_a_refused_document(dal: CouchDAL, tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text('[{"_id": "a"}]', "utf-8")
    dal.load(file)
    with pytest.raises(CouchError) as refused:
        dal.load(file)
    assert (refused.value.status, refused.value.error) == (409, "conflict")
    assert refused.value.reason == "a: Document update conflict."


def test_load_and_dump_on_an_event_loop(tmp_path: Path) -> None:
    file = tmp_path / "seed.json"
    file.write_text(FORMATS["an array"], "utf-8")

    async def run() -> tuple[int, int]:
        dal = AsyncCouchDAL(MemoryBackend(database="db"))
        return await dal.load(file), await dal.dump(tmp_path / "out")

    assert asyncio.run(run()) == (2, 2)
