# ruff: noqa: E501 - a request in one line is easier to compare with its neighbours
"""Random requests by kind that write and read documents: writes, attachments, partitions and users, with odd values."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Callable
from random import Random
from typing import Any, TypeAlias
from urllib.parse import quote

from random_functions import MAPS, some

Source: TypeAlias = dict[str, Any]

IDS = ("a", "b", "é", "a/b", "c d")
ODD_IDS = ("", "_x", "_local/x", "_design/d", "_design", "_design/", "_local/", 1, None, [], {}, True, "\u0000", "a" * 300, "+", "%")  # fmt: skip
ODD: tuple[Any, ...] = (None, True, False, 0, 1, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, "1-a", ["1-a"], 2**70)
HASHES = tuple(digit * 32 for digit in "0af")
ODD_REVS = ("1-abc", "2-z", "0-1", "0-" + "a" * 32, "x", "", "1-", "-1", "1", "3-" + "A" * 32, "-a", "1-" + "a" * 33, 1, None, [], {}, True, "2-é", "999999999999999999999-" + "a" * 32)  # fmt: skip
MEMBERS = ("_attachments", "_conflicts", "_deleted", "_deleted_conflicts", "_id", "_local_seq", "_rev", "_revisions", "_revs_info", "_x", "_")  # fmt: skip
MARKS = ("true", "false", "", "x", "1", "TRUE", "null")


def _path(doc_id: object) -> str:
    text = str(doc_id)
    if text.startswith(("_design/", "_local/")):
        kind, _, rest = text.partition("/")
        return f"/{kind}/{quote(rest, safe='')}"
    return "/" + quote(text, safe="")


def _id(r: Random, odd: float = 0.04) -> Any:
    return r.choice(ODD_IDS) if r.random() < odd else r.choice(IDS)


def _rev(world: Any, r: Random, doc_id: object, odd: float = 0.08) -> Any:
    if r.random() < odd:
        return r.choice(ODD_REVS)
    known = world.revs.get(str(doc_id), [])
    if known and r.random() < 0.9:
        return known[-1] if r.random() < 0.7 else r.choice(known)
    return f"{r.randint(1, 3)}-{r.choice(HASHES)}"


def _revisions(r: Random) -> Any:
    if r.random() < 0.15:
        return r.choice((1, None, [], {}, {"start": 1}, {"ids": []}, {"start": "1", "ids": ["a"]}, {"start": 1, "ids": 1},
                         {"start": 1, "ids": []}, {"start": 1, "ids": [1]}, {"start": 0, "ids": []}, {"start": -1, "ids": ["a"]},
                         {"start": 1, "ids": ["a", "b"]}, {"start": 2, "ids": ["x", "é"]}, {"start": 1.5, "ids": ["a"]}))  # fmt: skip
    ids = r.sample(HASHES, k=r.randint(1, 3))
    return {"start": r.randint(len(ids), 4), "ids": ids}


def _members(world: Any, r: Random, doc_id: object, odd: float = 0.12) -> Source:
    body: Source = {r.choice(("n", "s", "é")): r.choice(ODD) for _ in range(r.randint(0, 2))}
    if r.random() < 0.15:
        body["_deleted"] = True
    if r.random() < 0.15:
        body["_attachments"] = {r.choice(("f", "g")): inline(r)}
    if r.random() < odd:
        body[r.choice(MEMBERS)] = r.choice(ODD)
    if r.random() < 0.65:
        body["_rev"] = _rev(world, r, doc_id)
    if r.random() < 0.1:
        body["_revisions"] = _revisions(r)
    return body


def put(world: Any, r: Random) -> Source:
    doc_id = _id(r)
    request: Source = {"method": "PUT", "path": _path(doc_id), "body": _members(world, r, doc_id)}
    request["query"] = some(
        r,
        {"new_edits": lambda: r.choice(MARKS), "rev": lambda: str(_rev(world, r, doc_id)), "batch": lambda: r.choice(("x", "")), "w": lambda: r.choice(("1", "3", "x", "-1", ""))},
        1,
    )  # fmt: skip
    if r.random() < 0.1:
        rev = str(_rev(world, r, doc_id)).encode("ascii", "ignore").decode()
        request["headers"] = {"If-Match": r.choice((rev, f'"{rev}"', "*", '""'))}
    if r.random() < 0.05:
        request["body"] = r.choice(ODD)
    return {"request": request}


def post(world: Any, r: Random) -> Source:
    doc_id = _id(r, 0.1)
    body = {"_id": doc_id, **_members(world, r, doc_id if isinstance(doc_id, str) else "")}
    return {"request": {"method": "POST", "path": "/", "body": body, "query": some(r, {"batch": lambda: r.choice(("", "x")), "rev": lambda: "1-a", "new_edits": lambda: r.choice(MARKS)}, 1)}}  # fmt: skip


def bulk(world: Any, r: Random) -> Source:
    documents: list[Any] = []
    for _ in range(r.randint(0, 4)):
        doc_id = _id(r)
        documents.append({"_id": doc_id, **_members(world, r, doc_id if isinstance(doc_id, str) else "")})
    if r.random() < 0.08:
        documents.insert(r.randint(0, len(documents)), r.choice([one for one in ODD if not isinstance(one, dict)]))
    body: Source = {"docs": documents}
    kind = r.random()
    if kind < 0.45:
        body["new_edits"] = False
    elif kind < 0.55:
        body["new_edits"] = r.choice(ODD)
    elif kind < 0.6:
        body[r.choice(("all_or_nothing", "docs", "x"))] = r.choice(ODD)
    request: Source = {"method": "POST", "path": "/_bulk_docs", "body": body}
    if r.random() < 0.1:
        request["query"] = {r.choice(("new_edits", "batch", "w")): r.choice(MARKS)}
    if r.random() < 0.03:
        request["headers"] = {"X-Couch-Full-Commit": r.choice(MARKS)}
    return {"request": request}


def copy(world: Any, r: Random) -> Source:
    doc_id, other = _id(r), _id(r)
    to = _path(other)[1:]
    if r.random() < 0.5:
        to += "?rev=" + quote(str(_rev(world, r, other)))
    if r.random() < 0.1:
        to = r.choice(("", "/", "/x", "http://127.0.0.1/x", "a?rev=", "a?x=1", "a?rev=1-a&rev=2-a", "a b", "%zz", "?rev=1-a", "x?", "a%2Fb", "_x", "_local/y", "_design/y"))  # fmt: skip
    query = {"rev": str(_rev(world, r, doc_id))} if r.random() < 0.3 else {}
    headers = {"Destination": to} if r.random() < 0.97 else {}
    return {"request": {"method": "COPY", "path": _path(doc_id), "query": query, "headers": headers}}


def delete(world: Any, r: Random) -> Source:
    doc_id = _id(r)
    query = {"rev": str(_rev(world, r, doc_id))} if r.random() < 0.9 else {}
    return {"request": {"method": "DELETE", "path": _path(doc_id), "query": query}}


def read(world: Any, r: Random) -> Source:
    doc_id = _id(r)
    query = some(
        r,
        {
            "rev": lambda: str(_rev(world, r, doc_id)),
            "open_revs": lambda: r.choice(("all", [_rev(world, r, doc_id) for _ in range(r.randint(0, 3))], "x", "", [1], {}, 1)),
            "atts_since": lambda: r.choice(([_rev(world, r, doc_id)], [], "x", 1, ["x"], [1])),
            **dict.fromkeys(("revs", "revs_info", "conflicts", "deleted_conflicts", "local_seq", "meta", "attachments", "latest", "att_encoding_info"), lambda: r.choice(MARKS) if r.random() < 0.15 else True),
        },
        4,
    )  # fmt: skip
    headers = {"If-None-Match": f'"{r.choice(world.revs.get(str(doc_id)) or HASHES)}"'} if r.random() < 0.08 else {}
    return {"request": {"method": r.choice(("GET", "GET", "GET", "HEAD")), "path": _path(doc_id), "query": query, "headers": headers}}  # fmt: skip


def many(world: Any, r: Random) -> Source:
    """Read several documents, or ask which revisions are missing."""
    if r.random() < 0.5:
        asked: Any = {
            str(_id(r)): [_rev(world, r, "a") for _ in range(r.randint(0, 3))] for _ in range(r.randint(0, 3))
        }
        if r.random() < 0.15:
            asked = r.choice((*ODD, {"a": 1}, {"a": ["x"]}, {"a": [1]}, {"a": {}}, {"a": None}))
        return {"request": {"method": "POST", "path": r.choice(("/_revs_diff", "/_missing_revs")), "body": asked}}
    wanted: list[Any] = []
    for _ in range(r.randint(0, 3)):
        doc_id = _id(r, 0.1)
        one: Source = {"id": doc_id}
        if r.random() < 0.6:
            one["rev"] = _rev(world, r, doc_id if isinstance(doc_id, str) else "")
        if r.random() < 0.2:
            one["atts_since"] = r.choice(([_rev(world, r, "a")], *ODD))
        wanted.append(one if r.random() < 0.95 else r.choice(ODD))
    body: Source = {"docs": wanted} if r.random() < 0.95 else r.choice(({}, {"docs": 1}, {"docs": None}, [], 1))
    query = some(r, dict.fromkeys(("revs", "attachments", "latest"), lambda: r.choice(MARKS)), 2)
    return {"request": {"method": "POST", "path": "/_bulk_get", "body": body, "query": query}}


# --- attachments --------------------------------------------------------------------------------------------------

TEXTS = (b"", b"hello", b"hello world " * 20, bytes(range(256)))
TYPES = ("text/plain", "image/png", "application/json", "text/plain; charset=utf-8", "x", "", "TEXT/HTML", "application/xml")  # fmt: skip
ATTACHMENTS = ("f", "g.txt", "h/i é", "_x")
DIGESTS = ("md5-XUFAKrxLKna5cZ2REBfFkg==", "md5-x", "x", "", "sha1-a", 1, None)


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def inline(r: Random) -> Any:
    """Return the description of an attachment in a document: its data, or a stub, or an odd value."""
    kind = r.random()
    if kind < 0.06:
        return r.choice((*ODD, {"data": 1}, {"data": "?"}, {"data": "eA"}, {"data": "eA="}, {"data": "e A=="}, {"data": None}, {"follows": True}, {"stub": False}, {"stub": "x"}))  # fmt: skip
    if kind < 0.4:
        return {"stub": True} | some(
            r,
            {
                "revpos": lambda: r.choice((0, 1, 2, 9, "1", None)),
                "digest": lambda: r.choice(DIGESTS),
                "length": lambda: r.choice((0, 5, 240, -1, "x")),
                "content_type": lambda: r.choice(TYPES),
                "encoding": lambda: "gzip",
                "x": lambda: 1,
            },
            2,
        )
    data = r.choice(TEXTS)
    found: Source = {"data": _base64(data)}
    if r.random() < 0.15:
        found = {"data": _base64(gzip.compress(data, mtime=0)), "encoding": "gzip"}
    elif r.random() < 0.08:
        found["encoding"] = r.choice(("gzip", "identity", "nosuch", 1, None, ""))
    return found | some(
        r,
        {
            "content_type": lambda: r.choice(TYPES) if r.random() < 0.9 else r.choice((1, None, {})),
            "length": lambda: r.choice((len(data), 1, -1, "x", None)),
            "encoded_length": lambda: r.choice((len(data), 1)),
            "revpos": lambda: r.choice((0, 1, 2, 9, "1")),
            "digest": lambda: r.choice(DIGESTS),
            "stub": lambda: r.choice((True, False)),
            "follows": lambda: r.choice((True, False)),
        },
        2,
    )


def with_attachments(world: Any, r: Random) -> Source:
    doc_id = r.choice(IDS[:3])
    body: Source = {"_attachments": {name: inline(r) for name in r.sample(ATTACHMENTS[:3], k=r.randint(0, 3))}}
    if r.random() < 0.03:
        body["_attachments"] = r.choice((*ODD, {"_x": inline(r)}, {"": inline(r)}))
    if r.random() < 0.08:
        body["_deleted"] = True
    if world.revs.get(doc_id) and r.random() < 0.9:
        body["_rev"] = _rev(world, r, doc_id, odd=0.02)
    if r.random() < 0.25:
        edits = {"new_edits": False} if r.random() < 0.5 else {}
        if edits and r.random() < 0.7:
            body["_revisions"] = _revisions(r)
        return {"request": {"method": "POST", "path": "/_bulk_docs", "body": {"docs": [{"_id": doc_id, **body}], **edits}}}  # fmt: skip
    return {"request": {"method": "PUT", "path": _path(doc_id), "body": body}}


def put_attachment(world: Any, r: Random) -> Source:
    doc_id = r.choice(IDS[:3]) if r.random() < 0.97 else r.choice(("_local/x", "_design/d", "none"))
    path = f"{_path(doc_id)}/{quote(r.choice(ATTACHMENTS))}"
    query: Source = (
        {"rev": str(_rev(world, r, doc_id, odd=0.03))} if world.revs.get(doc_id) and r.random() < 0.9 else {}
    )
    query |= (
        some(r, {"new_edits": lambda: r.choice(MARKS), "w": lambda: "3", "batch": lambda: "x"}, 1)
        if r.random() < 0.1
        else {}
    )
    headers: Source = {"Content-Type": r.choice((*TYPES[:5], *TYPES[6:], None))}
    if r.random() < 0.1:
        headers["Content-Encoding"] = r.choice(("gzip", "identity", "x", ""))
    if r.random() < 0.1:
        headers["Content-MD5"] = r.choice(("XUFAKrxLKna5cZ2REBfFkg==", "x", "", "XUFAKrxLKna5cZ2REBfFkg"))
    if r.random() < 0.15:
        return {"request": {"method": "DELETE", "path": path, "query": query}}
    return {"request": {"method": "PUT", "path": path, "query": query, "headers": headers, "raw": r.choice(("", "hello", "hello world " * 20, "é" * 9))}}  # fmt: skip


_SHOWN = ["accept-ranges", "content-encoding", "content-md5", "content-range", "content-disposition"]
RANGES = ("bytes=0-1", "bytes=2-", "bytes=-2", "bytes=9-3", "x", "bytes=0-0", "bytes=0-999", "bytes=999-", "bytes=-0", "bytes=-999",
          "bytes=0-1,3-4", "bytes= 1-2", "bytes=a-b", "lines=0-1", "bytes=", "bytes=-", "bytes=0-1, 2-3", "bytes=4-4")  # fmt: skip


def get_attachment(world: Any, r: Random) -> Source:
    doc_id = r.choice(IDS[:3])
    headers = some(
        r,
        {
            "Range": lambda: r.choice(RANGES),
            "Accept-Encoding": lambda: r.choice(("gzip", "gzip, deflate", "*", "gzip;q=0", "identity;q=0", "x", "", "identity, gzip;q=0.5")),
            "If-None-Match": lambda: r.choice(('"XUFAKrxLKna5cZ2REBfFkg=="', "*", "x", '"x"')),
            "Accept": lambda: r.choice(("*/*", "text/plain", "application/json", "x")),
        },
        2,
    )  # fmt: skip
    query = {"rev": str(_rev(world, r, doc_id))} if r.random() < 0.3 else {}
    return {
        "request": {"method": r.choice(("GET", "GET", "GET", "HEAD")), "path": f"{_path(doc_id)}/{quote(r.choice(ATTACHMENTS[:3]))}", "query": query, "headers": headers},
        "also": _SHOWN,
    }  # fmt: skip


def multipart(world: Any, r: Random) -> Source:
    """Write a document and its attachments as parts, some of which do not fit the description."""
    doc_id = r.choice(IDS[:3])
    data = r.choice(("", "hello", "hello world"))
    described: Source = {
        "follows": True,
        "content_type": "text/plain",
        "length": len(data) if r.random() < 0.85 else r.choice((1, 0, 99, -1, "x", None)),
    }
    if r.random() < 0.1:
        described |= some(
            r,
            {
                "encoding": lambda: r.choice(("gzip", "identity", "nosuch")),
                "digest": lambda: r.choice(DIGESTS),
                "encoded_length": lambda: r.choice((1, len(data))),
                "revpos": lambda: 1,
            },
            2,
        )
    body: Source = {"_id": doc_id, "_attachments": {"f": described}}
    if r.random() < 0.2:
        body["_attachments"]["g.txt"] = inline(r)
    if world.revs.get(doc_id) and r.random() < 0.9:
        body["_rev"] = _rev(world, r, doc_id, odd=0.02)
    line = "\r\n"
    part = f"--B{line}Content-Type: application/json{line}{line}{json.dumps(body)}{line}"
    file = f'--B{line}Content-Disposition: attachment; filename="{r.choice(("f", "f", "f", "g.txt", "none"))}"{line}{line}{data}{line}'
    end = r.choice(("--B--", "--B--", "--B--", "--B--\r\n", "--B", ""))
    raw = part + file * r.choice((1, 1, 1, 1, 0, 2)) + end
    kind = r.choice(('multipart/related; boundary="B"', "multipart/related;boundary=B", 'multipart/related; boundary="B"; type="application/json"', "multipart/related; boundary=C", "multipart/related", "multipart/mixed; boundary=B")) if r.random() < 0.15 else 'multipart/related; boundary="B"'  # fmt: skip
    return {"request": {"method": "PUT", "path": _path(doc_id), "headers": {"Content-Type": kind}, "raw": raw, "query": {"new_edits": "false"} if r.random() < 0.1 else {}}}  # fmt: skip


def read_attachments(world: Any, r: Random) -> Source:
    source = read(world, r) if r.random() < 0.7 else many(world, r)
    source["request"]["query"] = source["request"].get("query", {}) | some(
        r, dict.fromkeys(("attachments", "att_encoding_info"), lambda: True)
    )
    return source


# --- partitions ---------------------------------------------------------------------------------------------------

PARTITIONED = ("p:a", "p:b", "p:é", "q:a", "q:a:b", "P:a", "p:a/b")
ODD_PARTITIONED = ("a", ":a", "p:", "_p:a", "_design/d", "p", "", "p::", "é:a", "_local/p:a", " :a", "p:_x", ":")
PARTITIONS = ("p", "q", "P", "none", "_p", "", "p:a", "é", "p%2Fq", "_design", "a" * 300, "p%20", "*", "%00")


def partitioned_document(world: Any, r: Random) -> Source:
    doc_id = r.choice(PARTITIONED) if r.random() < 0.9 else r.choice(ODD_PARTITIONED)
    body: Source = {"n": r.choice(ODD), "s": r.choice(ODD)}
    if r.random() < 0.1:
        body["_deleted"] = True
    if world.revs.get(doc_id) and r.random() < 0.85:
        body["_rev"] = world.rev(r, doc_id, odd=0)
    how = r.random()
    if how < 0.2:
        return {"request": {"method": "POST", "path": "/_bulk_docs", "body": {"docs": [{"_id": doc_id, **body}, {"_id": r.choice(PARTITIONED), "n": 1}]}}}  # fmt: skip
    if how < 0.3:
        return {"request": {"method": "POST", "path": "/", "body": {"_id": doc_id, **body}}}
    return {"request": {"method": "PUT", "path": _path(doc_id), "body": body}}


def partitioned_design(world: Any, r: Random) -> Source:
    reduces = ("_count", "_sum", "_stats", "_approx_count_distinct", None, None, None)
    body: Source = {"views": {f"v{n}": {"map": r.choice(MAPS)} for n in range(2)}}
    reduce = r.choice(reduces)
    if reduce:
        body["views"]["v0"]["reduce"] = reduce
    if r.random() < 0.6:
        body["options"] = r.choice(({"partitioned": False}, {"partitioned": False}, {"partitioned": True}, {"partitioned": "x"}, {"partitioned": None}, {"include_design": True}, {"partitioned": True, "local_seq": True}, 1))  # fmt: skip
    if r.random() < 0.2:
        body |= {"filters": {"f": "function(doc) { return doc.n; }"}, "shows": {"s": "function(doc, req) { return toJSON([doc && doc._id, req.path]); }"},
                 "lists": {"l": "function(head, req) { var row; send(toJSON(head)); while (row = getRow()) send(toJSON(row.key)); }"}}  # fmt: skip
    if world.revs.get("_design/k"):
        body["_rev"] = world.rev(r, "_design/k", odd=0)
    return {"request": {"method": "PUT", "path": "/_design/k", "body": body}}


def partition(
    world: Any, r: Random, parameters: Callable[[Random], Source], as_query: Callable[[Source], Source]
) -> Source:
    """Read a partition, or ask for rows of a partition in another way."""
    name = r.choice(PARTITIONS[:3]) if r.random() < 0.85 else r.choice(PARTITIONS)
    base = f"/_partition/{quote(name, safe='%') if not name.isascii() else name}"
    kind = r.random()
    if kind < 0.1:
        return {
            "request": {
                "method": r.choice(("GET", "GET", "HEAD", "POST", "PUT")),
                "path": base + r.choice(("", "", "/", "/x")),
            }
        }
    if kind < 0.3:
        body: Any = {
            "selector": r.choice(
                ({}, {"n": 1}, {"n": {"$gt": None}}, {"_id": {"$gt": "p:a"}}, {"_id": {"$lt": "q"}}, {"_id": "q:a"})
            )
        }
        body |= some(r, {"partition": lambda: r.choice(("p", "q", "", 1, None)), "limit": lambda: r.choice((0, 1, -1)), "sort": lambda: r.choice(([], ["_id"], [{"_id": "desc"}], ["n"], [{"n": "desc"}])),
                         "fields": lambda: ["_id"], "use_index": lambda: r.choice(("k", "none", ["i", "n"])), "skip": lambda: 1, "bookmark": lambda: r.choice(("nil", "x"))}, 2)  # fmt: skip
        path = r.choice((base + "/_find",) * 3 + ("/_find", base + "/_explain", "/_explain"))
        return {"request": {"method": "POST", "path": path, "body": body}, "ignore": ["body.dbname", "body.partition"]}
    if kind < 0.35:
        index = {"index": {"fields": ["n"]}, "ddoc": "i", "name": "n"} | some(
            r, {"partitioned": lambda: r.choice((True, False, "x", None))}
        )
        return {"request": {"method": "POST", "path": r.choice(("/_index", base + "/_index")), "body": index}}
    listing = r.choice(
        (
            "/_all_docs",
            "/_all_docs",
            "/_design/k/_view/v0",
            "/_design/k/_view/v0",
            "/_design/k/_view/v1",
            "/_design/k/_view/none",
        )
    )
    path = (base if r.random() < 0.8 else "") + listing
    given = parameters(r)
    if r.random() < 0.1:
        given["partition"] = r.choice(("p", "q", "_x", "", 1, None))
    if r.random() < 0.6:
        return {"request": {"method": "GET", "path": path, "query": as_query(given)}}
    if r.random() < 0.6:
        return {"request": {"method": "POST", "path": path, "body": given}}
    return {"request": {"method": "POST", "path": f"{path}/queries", "body": {"queries": [parameters(r), given]}}}


# --- users --------------------------------------------------------------------------------------------------------

# The database's name makes the names of users differ between runs.
USERS = ("{db}1", "{db}2", "{db}é")
PASSWORDS = ("s", "t")
ODD_MEMBERS: dict[str, tuple[Any, ...]] = {
    "name": ("x", "", 1, None, "{db}2"),
    "type": ("user", "x", None, 1),
    "roles": ([], ["r"], ["_admin"], ["_x"], "r", None, [1], ["r", "q"], {}),
    "password": ("s", "", 1, None, "é"),
    "password_scheme": ("pbkdf2", "simple", "x", None),
    "derived_key": ("a", None),
    "salt": ("a", None, 1),
    "iterations": (10, "x"),
    "password_sha": ("a",),
    "x": (1,),
    "_attachments": ({"f": {"data": ""}},),
    "_deleted": (True, False),
}


def _auth(r: Random) -> Source:
    return r.choice(({}, {"auth": None}, {"auth": {"user": r.choice(USERS), "password": r.choice(PASSWORDS)}}, {"auth": {"user": r.choice(USERS), "password": r.choice(PASSWORDS)}}))  # fmt: skip


def _user_path(name: str) -> str:
    return "/_users/org.couchdb.user:" + name.replace("é", "%C3%A9")


_SECRET = ["body.derived_key", "body.salt", "body.iterations", "body.password_scheme", "body.pbkdf2_prf"]


def user_document(world: Any, r: Random) -> Source:
    """Read or write the document of a user. Servers give it different revisions, because salts are random."""
    number = r.randrange(len(USERS))
    name, rev = USERS[number], f"${{u{number}}}"
    known = vars(world).setdefault("users", set())
    kind = r.random()
    if kind < 0.25:
        query = some(r, {"conflicts": lambda: True, "local_seq": lambda: True, "attachments": lambda: True}, 1)
        return {"request": {"method": r.choice(("GET", "GET", "HEAD")), "path": _user_path(name), "scope": "server", "query": query, **_auth(r)}, "ignore": [*_SECRET, "body._rev"]}  # fmt: skip
    if kind < 0.32:
        return {"request": {"method": "DELETE", "path": _user_path(name), "scope": "server", "query": {"rev": rev}, **_auth(r)}, "save": {f"u{number}": "rev"}, "ignore": ["body.rev", "body.*.rev"]}  # fmt: skip
    body: Source = {"name": name, "type": "user", "roles": r.choice(([], ["r"])), "password": r.choice(PASSWORDS)}
    for member in r.sample(sorted(ODD_MEMBERS), k=r.choice((0, 0, 0, 1, 1, 2))):
        body[member] = r.choice(ODD_MEMBERS[member])
        if r.random() < 0.3:
            del body[member]
    if number in known and r.random() < 0.9:
        body["_rev"] = rev
    known.add(number)
    request: Source = {"method": "PUT", "path": _user_path(name), "scope": "server", "body": body, **_auth(r)}
    if kind < 0.45:
        request |= {"method": "POST", "path": "/_users/_bulk_docs", "body": {"docs": [{"_id": f"org.couchdb.user:{name}", **body}]}}  # fmt: skip
    place = "0.rev" if request["method"] == "POST" else "rev"
    return {"request": request, "save": {f"u{number}": place}, "ignore": ["body.rev", "body.*.rev"]}


def session(world: Any, r: Random) -> Source:
    kind = r.random()
    if kind < 0.5:
        return {"request": {"method": "GET", "path": "/_session", "scope": "server", **_auth(r)}}
    name, password = r.choice((*USERS, "x", "")), r.choice((*PASSWORDS, "", "x"))
    if kind < 0.75:
        body: Any = {"name": name, "password": password}
        if r.random() < 0.2:
            body = r.choice(
                (
                    {"name": name},
                    {"password": "s"},
                    {},
                    [],
                    1,
                    {"name": 1, "password": "s"},
                    {"name": name, "password": 1},
                    {"name": None, "password": None},
                )
            )
        return {"request": {"method": "POST", "path": "/_session", "scope": "server", "body": body, "auth": None, "query": some(r, {"next": lambda: r.choice(("/x", "", "http://x/"))}) if r.random() < 0.2 else {}}}  # fmt: skip
    raw = f"name={quote(name, safe='{}')}&password={password}"
    kind_of = r.choice(
        ("application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=x", "text/plain", None)
    )
    return {"request": {"method": r.choice(("POST", "POST", "DELETE", "PUT")), "path": "/_session", "scope": "server", "raw": raw, "headers": {"Content-Type": kind_of}, "auth": None}}  # fmt: skip


def security(world: Any, r: Random) -> Source:
    names: tuple[Any, ...] = ([], [USERS[0]], [USERS[1], "x"], "x", None, [1], {})
    roles: tuple[Any, ...] = ([], ["r"], ["_admin"], "r", None, [1])
    if r.random() < 0.3:
        return {"request": {"method": "GET", "path": "/_security", **_auth(r)}}
    body: Any = {
        who: some(r, {"names": lambda: r.choice(names), "roles": lambda: r.choice(roles), "x": lambda: 1})
        for who in r.sample(("admins", "members", "readers"), k=r.randint(0, 2))
    }
    if r.random() < 0.15:
        body = r.choice(
            (*ODD, {"admins": 1}, {"members": []}, {"admins": None, "members": {}}, {"cloudant": {}}, {"x": 1.5})
        )
    return {"request": {"method": "PUT", "path": "/_security", "body": body, **(_auth(r) if r.random() < 0.4 else {})}}


def as_user(world: Any, r: Random) -> Source:
    """Ask for something that depends on the rights of a user."""
    method, path = r.choice((("GET", "/"), ("GET", "/a"), ("PUT", "/a"), ("PUT", "/_design/d"), ("GET", "/_all_docs"), ("GET", "/_changes"), ("POST", "/_bulk_docs"),
                             ("PUT", "/_revs_limit"), ("POST", "/_compact"), ("GET", "/_local/x"), ("PUT", "/_local/x"), ("DELETE", "/_design/d"), ("POST", "/_find"),
                             ("POST", "/_index"), ("POST", "/_purge"), ("POST", "/_view_cleanup"), ("GET", "/_purged_infos_limit"), ("COPY", "/a")))  # fmt: skip
    request: Source = {"method": method, "path": path, **_auth(r)}
    bodies: dict[str, Any] = {"/a": {}, "/_design/d": {}, "/_bulk_docs": {"docs": [{"_id": "b"}, {"_id": "_design/e"}]}, "/_revs_limit": 1000, "/_local/x": {}, "/_find": {"selector": {}}, "/_index": {"index": {"fields": ["n"]}, "ddoc": "i", "name": "n"}, "/_purge": {}}  # fmt: skip
    if method in ("PUT", "POST"):
        request["body"] = bodies.get(path, {})
        if method == "PUT" and world.revs.get(path[1:]):
            request["body"] = {**request["body"], "_rev": world.revs[path[1:]][-1]}
    if method == "COPY":
        request["headers"] = {"Destination": "c"}
    if method == "DELETE":
        request["query"] = {"rev": (world.revs.get("_design/d") or ["1-a"])[-1]}
    return {"request": request}


def list_users(world: Any, r: Random) -> Source:
    """Read ``_users`` as somebody who may not: administrators would see documents of others."""
    path = r.choice(
        (
            "/_users",
            "/_users/_all_docs",
            "/_users/_changes",
            "/_users/_security",
            "/_users/_design/_auth",
            "/_users/_find",
        )
    )
    request: Source = {
        "method": "POST" if path.endswith("_find") else "GET",
        "path": path,
        "scope": "server",
        **r.choice(({"auth": None}, {"auth": {"user": r.choice(USERS), "password": r.choice(PASSWORDS)}})),
    }
    if path.endswith("_find"):
        request["body"] = {"selector": {}}
    return {"request": request}
