# ruff: noqa: E501 - a function in one line is easier to compare with its neighbours
"""Random requests by kind, with odd and bad values: validation, filters, lists, shows, updates, views, partitions.

Each kind keeps one design document, so most requests reach a function. ``KINDS`` has the families of each kind, and the
parameters that create its database.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, NamedTuple, TypeAlias

import random_writes as writes
from random_functions import FILTERS, KEYS, LISTS, MAPS, REDUCES, SHOWS, UPDATES, VALIDATIONS, some

Source: TypeAlias = dict[str, Any]
Family: TypeAlias = Callable[[Any, Random], Source]

IDS = ("a", "b", "c", "B", "é", "a/b")
NUMBERS: tuple[Any, ...] = (None, True, False, 0, 1, -1, 255, 256, 1.5, "", "a", "é", [], {}, [1], {"a": 1})
ODD_CODES = ("200", "'200'", "'201'", "'x'", "404", "599", "600", "700", "999", "1.5", "null",
             "true", "[50]", "{}", "304", "204")  # fmt: skip

VALIDATORS = (
    *VALIDATIONS,
    "function(doc) { throw({forbidden: toJSON(doc)}); }",
    "function(doc, old) { throw({forbidden: toJSON(old)}); }",
    "function(doc) { var a = doc._attachments; for (var n in a) throw({forbidden: n + typeof a[n].length + a[n].length}); }",
    "function(doc) { if (doc._revisions && doc._revisions.start > 1) throw({forbidden: toJSON(doc._revisions)}); }",
    "function(doc) { if (doc._attachments) throw({forbidden: toJSON(doc._attachments)}); }",
    "function(doc, old) { if (old && old._attachments) throw({forbidden: toJSON(old._attachments)}); }",
    "function(doc, old, user) { throw({unauthorized: toJSON(user)}); }",
    "function(doc, old, user, sec) { throw({forbidden: toJSON(sec)}); }",
    "function(doc) { throw(['error', 'not_found', 'x']); }",
    "function(doc) { throw({error: 'e', reason: 'r'}); }",
    "function(doc) { throw({name: 'n', stack: 's', message: 'm'}); }",
    "function(doc) { throw({name: 'n'}); }",
    "function(doc) { throw([]); }", "function(doc) { throw('x'); }", "function(doc) { throw(0); }",
    "function(doc) { throw(true); }", "function(doc) { throw(1); }", "function(doc) { throw({a: 1, b: 2}); }",
    "function(doc) { throw({forbidden: 'a', x: 1}); }", "function(doc) { throw({forbidden: undefined}); }",
    "function(doc) { doc.x = 1; if (doc.x) throw({forbidden: 'changed'}); }",
    "function(doc) { this.y = (this.y || 0) + 1; if (this.y > 3) throw({forbidden: 'y'}); }",
    "(doc) => { throw {unauthorized: 'x'}; }", "1", "", "function(doc) {", "function() { return require('lib/m'); }",
    "function(doc) { if (!doc._id) throw({forbidden: 'no id'}); if (!doc._rev) throw({forbidden: 'no rev'}); }",
    "function(doc) { throw({forbidden: Object.keys(doc).join()}); }",
    "function(doc, old) { if (old) throw({forbidden: Object.keys(old).join()}); }",
)  # fmt: skip
CHANGES_FILTERS = (
    *FILTERS,
    "function(doc, req) { return typeof req.body == 'object'; }",
    "function(doc, req) { throw({forbidden: toJSON(req.body)}); }",
    "function(doc, req) { if (doc._id == 'c') throw('x'); return true; }",
    "function(doc, req) { if (doc._id == 'b') throw({forbidden: 'b'}); return true; }",
    "function(doc, req) { if (doc._id > 'b') doc.x.y.z; return true; }",
    "function(doc, req) { throw({error: 'e', reason: toJSON(req.query)}); }",
    "function(doc, req) { throw({error: 'e', reason: toJSON([req.method, req.path, req.form, req.id])}); }",
    "function(doc, req) { throw({error: 'e', reason: Object.keys(doc).join() + Object.keys(req).join()}); }",
    "function(doc, req) { throw(['error', 'not_found', 'x']); }", "function(doc) { throw(1); }",
    "function(doc) { throw(null); }", "function(doc) { throw(undefined); }", "1", "",
    "function(doc) { throw({name: 'n', message: 'm'}); }", "function(doc) { throw({}); }",
    "function(doc, req) { return req.body && req.body.selector; }",
)  # fmt: skip
ODD_LISTS = (
    *LISTS,
    "function(head, req) { start({code: 404, headers: {'X-Y': 'z'}}); return ''; }",
    "function(head, req) { start({code: 404, headers: {'X-Y': 'z'}}); }",
    "function(head, req) { start({code: 201}); send(''); }",
    "function() { return null; }", "function() { return {}; }", "function() { return {a: 1}; }",
    "function() { return 65; }", "function() { return 300; }", "function() { return [65, 'b']; }",
    "function() { return true; }", "function() { return 1.5; }", "function() { return ['a', null]; }",
    "function() { send('a'); return null; }", "function() { send('a'); return 66; }", "function() { getRow(); return {}; }",
    "function() { send(null); }", "function() { send({}); send([1, 2]); send(1.5); }", "function() { throw('x'); }",
    "function() { while (getRow()) send('r'); throw('x'); }", "function() { while (getRow()); throw({error: 'e', reason: 'r'}); }",
    "function() { send('a'); throw(['fatal', 'a', 'b']); }", "function() { getRow(); getRow(); throw(['fatal', 'a', 'b']); }",
    "function() { start({code: 'x'}); return 'a'; }", "function() { start({stop: true}); return 'a'; }",
    "function() { start({foo: 1}); return 'a'; }", "function() { start({headers: 1}); return 'a'; }",
    "function() { start({headers: {a: 1, B: null}}); return 'a'; }", "function() { start('x'); return 'a'; }",
    "function() { start([1]); return 'a'; }", "function() { start(1); return 'a'; }",
    "function() { getRow(); start({code: 404, headers: {'X-Y': 'z'}}); getRow(); return 'a'; }",
    "function() { getRow(); start({foo: 1}); getRow(); return 'a'; }",
    "function() { getRow(); start({code: 201, headers: {'X-Y': 'z'}}); return ''; }",
    "function() { send('a'); getRow(); start({code: 404}); send('b'); getRow(); send('c'); }",
    "function(head, req) { return toJSON([req.method, req.query, req.body, req.path.slice(1), req.form]); }",
    "function(head, req) { provides('html', function() { return 'html'; }); provides('json', function() { return 'js'; }); }",
    "function() { provides('html', function() { var r, n = 0; while (r = getRow()) n++; send('n' + n); return 'end'; }); }",
    "function() { provides('text', function() { start({code: 202, headers: {'X-Y': 'a'}}); return 't'; }); }",
    "function() { registerType('foo', 'text/foo', 'x-foo'); provides('foo', function() { return 'foo'; }); }",
    "function() { provides('nothing', function() { return 'x'; }); }", "function() { provides('xml'); }",
    "function(h, r) { var x, o = []; while (x = getRow()) o.push(x.key); return toJSON([typeof h, o]); }",
)  # fmt: skip
ODD_SHOWS = (
    *SHOWS, *(f"function(doc) {{ return {{code: {code}, body: 'x'}}; }}" for code in ODD_CODES),
    "function() { return 1; }", "function() { return 0; }", "function() { return true; }", "function() { return null; }",
    "function(doc) { return [doc]; }", "function() { return ''; }", "function() { return {}; }",
    "function() { return {headers: {'Content-Type': 'a/b', 'content-type': 'c/d'}, body: 'x'}; }",
    "function() { return {headers: {'content-type': 'c/d'}, json: {a: 1}}; }", "function() { return {json: null}; }",
    "function() { return {headers: {ETag: 'x', Vary: 'y', 'X-Y': 'z'}, body: 'x'}; }",
    "function() { return {headers: {etag: 'x', vary: 'y', 'x-y': 'z'}, body: 'x'}; }",
    "function() { return {headers: null, body: 'x'}; }", "function() { return {headers: [], body: 'x'}; }",
    "function() { return {headers: {'Content-Security-Policy': 'none', 'Cache-Control': 'no-store'}, body: 'x'}; }",
    "function() { return {json: {a: 1}, body: 'x'}; }", "function() { return {body: 'x', json: {a: 1}}; }",
    "function() { return {body: null}; }", "function() { return {body: {}}; }", "function() { return {body: true}; }",
    "function() { return {body: 65}; }", "function() { return {body: [65]}; }", "function() { return {body: [256]}; }",
    "function() { return {base64: 1}; }", "function() { return {base64: ''}; }", "function() { return {base64: 'a b='}; }",
    "function() { return {base64: 'aGk'}; }", "function() { return {base64: 'aGk=='}; }",
    "function() { return {stop: false, body: 'x'}; }", "function() { return {'': 1, body: 'x'}; }",
    "function() { provides('html', function() { return 'h'; }); provides('json', function() { return {json: 1}; }); }",
    "function() { provides('text', function() { send('c'); return {headers: {'X-Y': 'z'}, body: 't'}; }); return 'r'; }",
    "function() { provides('html', function() { return 'h'; }); return {body: 'b', headers: {'X-Y': 'z'}}; }",
    "function() { registerType('foo', 'text/foo; x=y'); provides('foo', function() { return 'foo'; }); }",
    "function() { provides('nope', function() { return 'foo'; }); }", "function() { provides('xml'); }",
    "function() { provides('all', () => 'all'); provides('css', () => 'css'); provides('xml', () => 'xml'); }",
    "function() { start({code: 201, headers: {'X-Y': 'z'}}); send('a'); }", "function() { send('a'); send('b'); return 1; }",
    "function() { getRow(); return 'x'; }", "function() { return require('lib/m').n; }",
    "function() { return require('lib/sub/x').y; }",
    "function() { return require('lib/sub/up').m; }", "function() { return toJSON(require('lib/c1')); }",
    "function() { return require('lib/none'); }", "function() { return require('lib/sub'); }",
    "function() { return require('./m'); }",
    "function() { return require('lib/sub/deep/er').v; }", "function() { return require('lib/here').v; }",
    "function() { return require('lib//m'); }", "function() { return require('../x'); }",
    "function() { g1 = 5; return typeof g2 + typeof g1; }", "function() { g2 = 5; return typeof g2 + typeof g1; }",
    "function() { return Object.keys(this).sort().join(); }", "function() { return typeof this.shows.f0; }",
    "function() { emit(1, 2); return 'e'; }", "function() { return toJSON(sum([1, 'a'])); }", "x => 'arrow'",
    "function named() { return 'named'; }", "function named() { return 'named'; };", "(function() { return 'par'; })",
    "function() { return 'semi'; };", " \n function() { return 'space'; } \n", "// c\nfunction() { return 'comment'; }",
    "1", "", "null", "{}", "var f = function() { return 'var'; }; f", "'x'", "function() { throw 'x'; }", "function() { throw null; }",
    "function() { throw undefined; }", "function() { throw {}; }", "function() { throw 1; }", "function() { throw []; }",
    "function() { throw {name: 'n', message: 'm'}; }", "function() { throw {error: 'e'}; }", "function() { throw new Error('x'); }",
    "function(doc, req) { return toJSON(req.headers['X-Test']) + req.method + req.body; }",
    "function(doc, req) { return toJSON(doc && Object.keys(doc)); }", "function(doc, req) { return toJSON(req.query); }",
)  # fmt: skip
ODD_UPDATES = (
    *UPDATES, *(f"function(doc) {{ return [null, {{code: {code}, body: 'x'}}]; }}" for code in ODD_CODES),
    "function() { return null; }", "function() { return 1; }", "function() { return {}; }", "function() { return []; }",
    "function() { return [null]; }", "function() { return [null, null]; }", "function() { return [null, 1]; }",
    "function() { return [null, []]; }", "function() { return {0: null, 1: 'x'}; }", "function() { return 'ab'; }",
    "function() { return [undefined, 'x']; }", "function() { return [1, 'x']; }", "function() { return [[], 'x']; }",
    "function() { return [{}, 'x']; }", "function() { return [{_id: null}, 'x']; }", "function() { return [{_id: '_x'}, 'x']; }",
    "function() { return [{_id: 'u', _rev: 'x'}, 'x']; }", "function() { return [{_id: '_local/x'}, 'x']; }",
    "function() { return [{_id: 'u', _attachments: {a: {data: 'eA=='}}}, 'x']; }", "function() { return [{a: 1}, 'x']; }",
    "function() { return [{_id: 'u', _attachments: {a: {data: 1}}}, 'x']; }", "function() { return [{_id: 'é/x'}, 'é']; }",
    "function(doc, req) { return [{_id: 'u' + req.uuid.length}, {code: 202, body: 'x', headers: {'X-Couch-Id': 'y'}}]; }",
    "function(doc, req) { return [{_id: 'w'}, {headers: {'X-Couch-Update-NewRev': 'n', 'X-Y': 'z'}, json: [1]}]; }",
    "function(doc, req) { return [doc, toJSON([req.id, req.form, req.body])]; }", "function() { throw {}; }",
    "function(doc, req) { doc = doc || {_id: req.id}; doc.n = (doc.n || 0) + 1; return [doc, '' + doc.n]; }",
    "function(doc) { return [doc, {base64: 'aGk='}]; }", "function(doc) { return [doc, {headers: 'x', body: 'y'}]; }",
    "function(doc) { return [{_id: 'h'}, {headers: 'x', body: 'y'}]; }", "function() { return [{_id: 'i'}, {foo: 1}]; }",
    "function() { start({code: 201}); send('a'); return [null, 'b']; }", "function() { provides('html', x => 'h'); return [null, 'b']; }",
    "1", "", "function() { throw null; }", "function() { throw ['fatal', 'a', 'b']; }", "function() { throw 'x'; }",
)  # fmt: skip
LIBRARY = {
    "m": "exports.n = 1; exports.id = module.id;",
    "bad": "exports.x = ;",
    "throws": "throw new Error('x');",
    "here": "exports.v = require('./m').n + typeof require('./sub/x').y;",
    "c1": "exports.before = require('./c2').value; exports.done = true;",
    "c2": "exports.value = typeof require('./c1').done;",
    "num": 1,
    "sub": {
        "x": "exports.y = 'why' + module.id;",
        "up": "exports.m = require('../m').n + require('./x').y;",
        "deep": {"er": "exports.v = require('../../m').id + require('../x').y + require('./er2').w;", "er2": "exports.w = 2"},
    },
}  # fmt: skip
DESIGN = "_design/k"


def _design(world: Any, r: Random, body: Source) -> Source:
    if world.revs.get(DESIGN):
        body["_rev"] = world.rev(r, DESIGN, odd=0)
    return {"request": {"method": "PUT", "path": "/" + DESIGN, "body": body}}


def _named(r: Random, functions: tuple[str, ...], most: int = 4) -> dict[str, str]:
    return {f"f{n}": r.choice(functions) for n in range(r.randint(1, most))}


def _path(doc_id: str) -> str:
    return "/" + doc_id.replace("/", "%2F").replace("é", "%C3%A9").replace(":", "%3A")


def _body(r: Random) -> Source:
    return {r.choice(("n", "s", "t")): r.choice(NUMBERS) for _ in range(r.randint(0, 3))}


def document(world: Any, r: Random) -> Source:
    """Write a document, mostly with the right revision."""
    doc_id = r.choice(IDS)
    body = _body(r)
    if r.random() < 0.15:
        body["_deleted"] = True
    if r.random() < 0.2:
        body["_attachments"] = {r.choice(("f", "g")): {"data": r.choice(("", "aGVsbG8=")), "content_type": "a/b"}}
    if world.revs.get(doc_id) and r.random() < 0.9:
        body["_rev"] = world.rev(r, doc_id, odd=0)
    return {"request": {"method": "PUT", "path": _path(doc_id), "body": body}}


def several(world: Any, r: Random) -> Source:
    """Write several documents."""
    documents = []
    for doc_id in r.sample(IDS, k=r.randint(1, 4)):
        documents.append({"_id": doc_id, **_body(r)})
        if world.revs.get(doc_id) and r.random() < 0.9:
            documents[-1]["_rev"] = world.rev(r, doc_id, odd=0)
    return {"request": {"method": "POST", "path": "/_bulk_docs", "body": {"docs": documents}}}


def attachment(world: Any, r: Random) -> Source:
    """Write or delete one attachment."""
    doc_id = r.choice(IDS)
    query = {"rev": str(world.rev(r, doc_id, odd=0.02))} if world.revs.get(doc_id) and r.random() < 0.9 else {}
    method = r.choice(("PUT", "PUT", "PUT", "DELETE"))
    request: Source = {"method": method, "path": f"{_path(doc_id)}/{r.choice('fg')}", "query": query}
    if method == "PUT":
        request |= {"raw": r.choice(("", "x", "hello")), "headers": {"Content-Type": r.choice(("text/plain", "a/b"))}}
    return {"request": request}


def remove(world: Any, r: Random) -> Source:
    """Delete or copy a document."""
    doc_id = r.choice(IDS)
    query = {"rev": str(world.rev(r, doc_id, odd=0.02))}
    if r.random() < 0.6:
        return {"request": {"method": "DELETE", "path": _path(doc_id), "query": query}}
    destination = _path(r.choice(IDS))[1:]
    return {"request": {"method": "COPY", "path": _path(doc_id), "headers": {"Destination": destination}}}


def validator(world: Any, r: Random) -> Source:
    return _design(world, r, {"lib": LIBRARY, "validate_doc_update": r.choice(VALIDATORS)})


def filters(world: Any, r: Random) -> Source:
    views = {f"v{n}": {"map": r.choice((*MAPS, "function(doc) { throw 'x'; }", "function(doc) { doc.x.y; }"))} for n in range(2)}  # fmt: skip
    return _design(world, r, {"filters": _named(r, CHANGES_FILTERS), "views": views})


def filtered(world: Any, r: Random) -> Source:
    """Read the changes that a function accepts."""
    query: Source = r.choice(
        (
            {"filter": f"k/f{r.randint(0, 3)}"}, {"filter": f"k/f{r.randint(0, 2)}"}, {"filter": "_view", "view": f"k/v{r.randint(0, 2)}"},
            {"filter": r.choice(("k", "k/", "/f0", "k/f0/x", "none/f0", "_view", "_none", "_selector", "_doc_ids", "_design"))},
            {"filter": "_view", "view": r.choice(("", "k", "k/", "none/v0", "k/v0/x"))},
        )
    )  # fmt: skip
    query = query | some(
        r,
        {
            "x": lambda: "y",
            "style": lambda: r.choice(("all_docs", "main_only")),
            "limit": lambda: r.choice((0, 1, 2)),
            "feed": lambda: r.choice(("normal", "longpoll", "continuous")),
            **dict.fromkeys(
                ("include_docs", "conflicts", "descending", "attachments"), lambda: r.choice((True, False))
            ),
        },
    )
    if query.get("feed", "normal") != "normal":
        query["timeout"] = 300
    request: Source = {"method": "GET", "path": "/_changes", "query": query}
    if r.random() < 0.4:
        body = r.choice(
            ({}, {"a": 1}, {"doc_ids": ["a"]}, {"selector": {"n": 1}}, [], 1, None, {"doc_ids": 1}, {"selector": 1})
        )
        request |= {"method": "POST", "body": body}
    elif r.random() < 0.1:
        request |= {"method": "POST", "raw": r.choice(("", "{", "a=b")), "headers": {"Content-Type": "text/plain"}}
    return {"request": request}


def functions(world: Any, r: Random) -> Source:
    """Write a design document with shows, updates, lists and views."""
    body: Source = {"lib": LIBRARY, "views": {"lib": LIBRARY, "v0": {"map": r.choice(MAPS)}}}
    body["views"]["v1"] = {"map": r.choice(MAPS), "reduce": r.choice(REDUCES[:-3])}
    body |= {"shows": _named(r, ODD_SHOWS), "updates": _named(r, ODD_UPDATES), "lists": _named(r, ODD_LISTS)}
    if r.random() < 0.1:
        body[r.choice(("shows", "updates", "lists"))] = {"f0": r.choice((SHOWS[0], LISTS[0]))}
    return _design(world, r, body)


_ACCEPT = (None, "*/*", "text/html", "application/json", "text/plain;q=0.5, application/xml", "image/png", "x", "",
           "text/*;q=0.3,text/html;q=0.7", "text/foo", "text/html;level=1, */*;q=0.1")  # fmt: skip


def call_function(world: Any, r: Random, kind: str, paths: tuple[str, ...]) -> Source:
    name = (
        r.choice(("f0", "f0", "f1", "f2", "f3", "none", ""))
        if r.random() < 0.9
        else r.choice(("f0/", "%C3%A9", "f%2F0"))
    )
    method = r.choice(("GET", "GET", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "COPY"))
    request: Source = {"method": method, "path": f"/{DESIGN}/{kind}/{name}{r.choice(paths)}"}
    request["query"] = some(r, {"q": lambda: "z", "format": lambda: r.choice(("html", "json", "foo", "none", ""))}, 1)
    headers: Source = {"X-Test": "t"} if r.random() < 0.1 else {}
    if r.random() < 0.3:
        headers["Accept"] = r.choice(_ACCEPT)
    if method in ("POST", "PUT") and r.random() < 0.7:
        request["raw"] = r.choice(("", "text", "a=b&c=d", "a=%zz&b", '{"a":1}', "é=+"))
        headers["Content-Type"] = r.choice(
            ("text/plain", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded; charset=x", "application/json", None)
        )  # fmt: skip
    if method == "COPY":
        headers["Destination"] = "x"
    return {"request": request | {"headers": headers}}


def show(world: Any, r: Random) -> Source:
    return call_function(
        world, r, "_show", ("", "", "/a", "/b", "/none", "/a/b", "/_design/k", "/_local/x", "/", "/a/")
    )


def update(world: Any, r: Random) -> Source:
    return call_function(world, r, "_update", ("", "", "/a", "/b", "/none", "/a/b", "/u", "/_design/k", "/"))


def list_function(world: Any, r: Random) -> Source:
    source = call_function(
        world, r, "_list", ("/v0",) * 6 + ("/v1", "/k/v0", "/_all_docs", "/k/_all_docs", "/none/v0", "/none", "", "/", "/k/v0/x")
    )  # fmt: skip
    request = source["request"]
    if r.random() < 0.5:
        request["query"] |= as_query(parameters(r))
    if request["method"] == "POST" and r.random() < 0.85:
        request.pop("raw", None)
        request["body"] = r.choice(({}, {}, parameters(r), parameters(r), [], 1, {"queries": []}, {"keys": 1}))
        request["headers"]["Content-Type"] = "application/json" if r.random() < 0.9 else None
    return source


def views(world: Any, r: Random) -> Source:
    """Write a design document with views."""
    body: Source = {"views": {}}
    for n in range(r.randint(1, 3)):
        view: Source = {"map": r.choice(MAPS) if r.random() < 0.97 else r.choice(("", "1", "function(doc) {", " "))}
        if r.random() < 0.6:
            view["reduce"] = (
                r.choice(REDUCES[:-3]) if r.random() < 0.96 else r.choice((*REDUCES, "", "1", "_sum ", "_counts"))
            )
        body["views"][f"v{n}"] = view
    if r.random() < 0.2:
        body["options"] = r.choice(({"local_seq": True}, {"include_design": True}, {"collation": "raw"}))
    return _design(world, r, body)


def parameters(r: Random, odd: float = 0.05) -> Source:
    def key() -> Any:
        return r.choice(KEYS) if r.random() < 0.9 else r.choice((False, 1.0, 2**70, "\u0000", [None], [[]], "", -0.0))

    def flag() -> Any:
        return r.choice((True, False)) if r.random() > odd else r.choice(("x", 1, 0, None, "true", "FALSE", [], {}))

    def count() -> Any:
        return r.choice((0, 1, 2, 3)) if r.random() > odd else r.choice((-1, "x", "1", 1.5, None, True, [], 2**70, 1e3))

    flags = (
        "descending",
        "inclusive_end",
        "include_docs",
        "conflicts",
        "reduce",
        "group",
        "sorted",
        "update_seq",
        "attachments",
    )
    return some(
        r,
        {
            **dict.fromkeys(("startkey", "endkey", "key", "start_key", "end_key"), key),
            "keys": lambda: [key() for _ in range(r.randint(0, 3))] if r.random() > odd else r.choice((1, None, {}, "x", [[None]])),
            **dict.fromkeys(("startkey_docid", "endkey_docid"), lambda: r.choice(("a", "b", "é", "", "zz"))),
            **dict.fromkeys(flags, flag),
            **dict.fromkeys(("limit", "skip", "group_level"), count),
            "stable": flag, "update": lambda: r.choice(("true", "false", "lazy", True, False, "x")), "stale": lambda: r.choice(("ok", "update_after", "x")),
        },
        4,
    )  # fmt: skip


def as_query(given: Mapping[str, Any]) -> Source:
    quoted = ("startkey", "endkey", "key", "start_key", "end_key")
    return {
        name: json.dumps(value) if name in quoted and isinstance(value, str) else value for name, value in given.items()
    }


def _query(r: Random, path: str) -> Source:
    kind = r.random()
    if kind < 0.6:
        query = as_query(parameters(r))
        if r.random() < 0.05:
            query[r.choice(("startkey", "endkey", "key", "keys"))] = r.choice(("", "x", "1x", "[", '"', "%22"))
        return {"request": {"method": "GET" if r.random() < 0.95 else "HEAD", "path": path, "query": query}}
    if kind < 0.85:
        body = parameters(r) if r.random() < 0.95 else r.choice(([], 1, None, {"queries": []}, {"queries": 1}))
        return {
            "request": {
                "method": "POST",
                "path": path,
                "query": as_query(parameters(r)) if r.random() < 0.3 else {},
                "body": body,
            }
        }
    queries = [parameters(r, 0.02) for _ in range(r.randint(0, 3))]
    if r.random() < 0.05:
        queries.append(r.choice((1, [], None)))
    return {"request": {"method": "POST", "path": f"{path}/queries", "body": {"queries": queries}, "query": as_query(parameters(r)) if r.random() < 0.2 else {}}}  # fmt: skip


def view(world: Any, r: Random) -> Source:
    return _query(r, f"/{DESIGN}/_view/v{r.choice((0, 0, 0, 1, 2, 9))}")


def listing(world: Any, r: Random) -> Source:
    return _query(r, r.choice(("/_all_docs", "/_all_docs", "/_design_docs", "/_local_docs")))


def partition(world: Any, r: Random) -> Source:
    return writes.partition(world, r, parameters, as_query)


class Kind(NamedTuple):
    """The families of a kind, each as often as it is listed, and the parameters that create its database.

    ``quick`` is the number of runs in `make test`.
    """

    families: tuple[Family, ...]
    create: Mapping[str, Any] = {}
    quick: int = 3


_DOCUMENTS = (document, document, several)
KINDS = {
    "validation": Kind((*_DOCUMENTS, *_DOCUMENTS, attachment, attachment, remove, validator, validator)),
    "filters": Kind((*_DOCUMENTS, remove, filters, filters, *(filtered,) * 10)),
    "lists": Kind((*_DOCUMENTS, functions, functions, *(list_function,) * 12)),
    "shows_and_updates": Kind((*_DOCUMENTS, functions, functions, *(show, update) * 6)),
    "writes": Kind(
        (
            writes.put,
            writes.put,
            writes.post,
            writes.bulk,
            writes.bulk,
            writes.copy,
            writes.delete,
            writes.read,
            writes.many,
        )
    ),
    "attachments": Kind(
        (
            writes.with_attachments,
            writes.with_attachments,
            writes.put_attachment,
            writes.put_attachment,
            writes.get_attachment,
            writes.get_attachment,
            writes.multipart,
            writes.read_attachments,
        )
    ),
    "partitions": Kind(
        (writes.partitioned_document, writes.partitioned_document, writes.partitioned_design, *(partition,) * 7),
        {"partitioned": True},
    ),
    "users": Kind(
        (
            writes.user_document,
            writes.user_document,
            writes.session,
            writes.security,
            writes.as_user,
            writes.as_user,
            writes.list_users,
        ),
        quick=1,  # passwords are hashed slowly
    ),
    "views": Kind((*_DOCUMENTS, views, views, *(view,) * 8, *(listing,) * 3)),
}
