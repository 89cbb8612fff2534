"""Random design documents, and requests that run their functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, TypeAlias

Source: TypeAlias = dict[str, Any]

MAPS = (
    "function(doc) { emit(doc.n, doc.s); }",
    "function(doc) { emit(doc._id, doc.n); }",
    "function(doc) { emit([doc.n, doc.s], 1); }",
    "function(doc) { for (var name in doc) emit(name, doc[name]); }",
    "(doc) => { emit(typeof doc.n, Object.keys(doc).length) }",
    "function(doc) { emit(doc.n.length, null); emit('x', {_id: 'a'}); }",
    "function(doc) { emit(doc.n); emit(doc.n); emit(doc.n, 'b'); emit(doc.n, 0); }",
    "function(doc) { if (doc.s) emit(doc.s, {_id: doc.n, x: doc.s}); }",
    "function(doc) { emit(['a', 'b', doc.n], doc.n); emit(['a', doc.s], 2); emit('a', 1.5); }",
    "function(doc) { doc.n = 7; emit(doc.n, [1, 2]); };",
    "function(doc) { emit(doc._attachments ? Object.keys(doc._attachments) : null, sum([1, 2, 3])); }",
    "function(doc) { emit(toJSON(doc.n), isArray(doc.n)); log('x'); }",
    "function(doc) { emit(require('views/lib/m').f(doc), 3); }",
    "function(doc) { throw 'x'; }",
    "function(doc) { emit(undefined, undefined); emit(NaN, Infinity); emit(-0, 1e21); emit(2e-7, [undefined, NaN]); }",
    "function(doc) { emit(new Date(0), {a: undefined, b: null}); emit(/x/, function() {}); emit(Symbol.iterator, 1); }",
    "function(doc) { emit(new Map([[1, 2]]), new Set([1])); emit([,1], {toJSON: () => 'j'}); emit('\\ud800', 1); }",
    "function(doc) { emit(doc._id.toUpperCase(), doc.s && doc.s.normalize && doc.s.normalize('NFD')); }",
    "function(doc) { emit(String(doc.n), [doc.n, doc._conflicts, doc._revisions, doc._local_seq]); }",
    "function(doc) { emit([[doc.n]], doc._deleted_conflicts); emit({z: 1, a: {b: doc.n}}, parseInt(doc._rev)); }",
    "function(doc) { emit(9007199254740993, 0.1 + 0.2); emit(123456789012345680000, 1e300 * 10); }",
    "function(doc) { emit(typeof this, typeof Promise + typeof Uint8Array + typeof ''.localeCompare); }",
)  # fmt: skip
# The engine words syntax errors in its own way.
BROKEN = ("1", "", "'function() {}'")
REDUCES = (
    "_count", "_sum", "_stats", "_approx_count_distinct", "_first", "_last", "_top_2", "_bottom_1",
    "function(keys, values, rereduce) { return rereduce ? sum(values) : values.length; }",
    "function(keys, values, rereduce) { return keys && keys.length; }",
    "function(keys, values) { throw({a: 1}); }",
    "function(keys, values) { }", "function(keys, values) { return [NaN, undefined, -0, {a: undefined}]; }",
    "function(keys, values) { return {length: values.length, first: typeof values[0]}; }",
    "function(keys, values, rereduce) { return rereduce ? values.length : 'x'; }",
    "(keys, values) => Math.max(0, ...values.map(Number).filter(isFinite))",
    "function(keys, values) { return values.every(isArray); }", "function(keys, values) { throw(null); }",
    "_nothing", "_top_", "_top_0",
)  # fmt: skip
FILTERS = (
    "function(doc, req) { return doc.n; }",
    "function(doc, req) { return req.query.x == 'y' || !!doc.s; }",
    "function(doc, req) { return doc._deleted; }",
    "function(doc) { return doc._revisions.ids.length > 1; }",
    "function(doc, req) { return req.userCtx.name == 'admin' && req.method == 'GET'; }",
    "function(doc, req) { return doc.n === 0 ? '' : doc.n === 1 ? null : [false]; }",
    "function(doc, req) { if (doc.n === 1) throw({forbidden: 'x'}); return NaN; }",
    "function(doc, req) { return 'n' in doc && req.query.style !== 'all_docs' && !doc._attachments; }",
    "function(doc, req) { return req.path.length + Object.keys(req.form).length + req.peer.length; }",
)
VALIDATIONS = (
    "function(doc, old, user, sec) { if (doc.n === 1) throw({forbidden: 'one'}); }",
    "function(doc, old) { if (old && old.n === true) throw({unauthorized: 'true'}); }",
    "function(doc) { if (doc.s === 'a') throw('a'); if (doc.s === '') throw({other: 'x'}); }",
    "function(doc, old) { if (doc._deleted && old._revisions.start > 2) throw({forbidden: toJSON(old._revisions)}); }",
    "function(doc) { if (doc.n === 0) doc.x.y; if (doc.n === -1) throw new Error('x'); if (doc.n === 255) throw 1; }",
    "function(doc) { if (doc.n === 256) throw({forbidden: toJSON(doc)}); }",
    "function(doc) { if (doc.n === 1) throw({forbidden: 1}); if (doc.n === 0) throw({unauthorized: {a: 1}}); }",
    "function(doc) { if (doc.n === 1) throw({forbidden: null}); if (doc.n === 0) throw({forbidden: ['x']}); }",
    "function(doc) { if (doc.n === 1) throw null; if (doc.n === 0) throw undefined; if (doc.n === -1) throw []; }",
    "function(doc) { if (doc.n === 1) throw({forbidden: 'a', unauthorized: 'b'}); if (doc.n === 0) throw({}); }",
    "function(doc, old, user, sec) { if (doc.s === 'a') throw({forbidden: toJSON([old && old._rev, user, sec])}); }",
    "function(doc) { if (doc.n === 1) return 'x'; if (doc.n === 0) return {forbidden: 'x'}; return false; }",
)
SHOWS = (
    "function(doc, req) { return doc ? toJSON(doc) : 'none ' + req.id; }",
    "function(doc, req) { return {code: 201, headers: {'Content-Type': 'text/css'}, body: req.query.q || 'x'}; }",
    "function(doc) { return {json: doc}; }",
    "function(doc) { return doc.n.x.y; }",
    "function(doc, req) { return toJSON([req.method, req.path.slice(1), req.query, req.form, req.userCtx.roles]); }",
    "function() { }",
    "function() { return {base64: 'aGk='}; }",
    "function(doc) { start({headers: {'x': 'y'}}); send('a'); return 'b'; }",
    "function(doc) { return [1]; }",
    "function(doc) { return {body: 1}; }",
    "function(doc) { return {body: ['a', 98, ['é']]}; }",
    "function(doc) { return {json: null, body: 'x'}; }",
    "function(doc) { return {base64: 'eA==x'}; }",
    "function(doc) { return {headers: {x: [97], y: 1.5, z: null}, body: 'é'}; }",
    "() => ({headers: 'x'})",
    "function(doc) { return {stop: true, body: 'x'}; }",
    "function(doc) { return {a: [1, {b: null}]}; }",
    "function(doc) { send('a'); return {json: {b: 1}}; }",
    "function(doc) { send('a'); send(1); }",
    "function(doc) { throw(['error', 'not_found', 'x']); }",
    "function(doc) { throw({error: 'e', reason: 'r'}); }",
    "function(doc) { throw(['fatal', 'f', 'r']); }",
    "function(doc) { throw({forbidden: 'x'}); }",
    "function(doc, req) { return toJSON([req.id, req.raw_path, req.requested_path, req.cookie, req.secObj]); }",
    "function(doc, req) { return toJSON(Object.keys(req)) + toJSON(req.info.db_name.length) + typeof req.uuid; }",
)
UPDATES = (
    "function(doc, req) { if (!doc) return [{_id: req.id || 'u', n: 1}, 'new']; doc.n = 5; return [doc, 'old']; }",
    "function(doc, req) { return [null, 'nothing ' + req.body]; }",
    "function(doc, req) { return [{_id: 'u', _rev: '1-x'}, {json: {a: 1}}]; }",
    "function(doc, req) { return [doc, {code: 418, body: 'tea'}]; }",
    "function() { }",
    "function(doc, req) { return [doc, {body: 1}]; }",
    "function(doc, req) { return [{}, ['x']]; }",
    "function(doc, req) { return [{_id: ''}, 'x']; }",
    "function(doc, req) { return ['a', 'x']; }",
    "function(doc, req) { return [{_id: req.id || 'u', _deleted: true, _rev: doc && doc._rev}, 'gone']; }",
    "function(doc, req) { return [{_foo: 1}, 'x']; }",
    "function(doc, req) { return [{_id: 1}, 'x']; }",
    "function(doc, req) { return [null, {json: [req.method, req.body, req.headers['Content-Type']]}]; }",
    "function(doc, req) { return [1, 2, 3]; }",
    "function(doc, req) { return [[], {}]; }",
    "() => 'x'",
    "() => [1]",
    "function(doc, req) { throw({forbidden: 'x'}); }",
    "function(doc, req) { throw(['error', 'a', 'b']); }",
)
LISTS = (
    "function(head, req) { var row; send(toJSON(head)); while (row = getRow()) send(toJSON(row)); return 'end'; }",
    "function(head, req) { start({code: 203, headers: {'Content-Type': 'text/csv'}}); return 'x'; }",
    "function(head, req) { send('a'); }",
    "function(head, req) { return req.query.x || 'none'; }",
    "function(head, req) { getRow(); throw(['error', 'not_found', 'x']); }",
    "function(head, req) { start({code: 203, headers: {x: 'y'}}); getRow(); throw({error: 'e', reason: 'r'}); }",
    "function(head, req) { var row = getRow(); send('a'); if (getRow() && row.id == 'a') throw('x'); return 'b'; }",
    "function(head, req) { while (getRow()) {} start({code: 404}); return toJSON(head); }",
    "function(head, req) { var row; while (row = getRow()) send(toJSON(row.doc || row.id)); return toJSON(getRow()); }",
    "function(head, req) { throw(['fatal', 'a', 'b']); }",
    "function(head, req) { start({json: 1}); return 'x'; }",
)
NAMES = ("d", "e", "é/x")
KEYS: tuple[Any, ...] = (
    None,
    True,
    0,
    1,
    255,
    "a",
    "b",
    "é",
    "x",
    "n",
    [],
    ["a"],
    ["a", "b"],
    ["a", {}],
    {},
    {"b": 1},
    "_id",
)


def some(r: Random, choices: Mapping[str, Callable[[], Any]], at_most: int = 3) -> Source:
    names = r.sample(sorted(choices), k=min(len(choices), r.randint(0, at_most)))
    return {name: choices[name]() for name in names}


def _view(r: Random, odd: float) -> Any:
    if r.random() < odd:
        return r.choice(({}, {"map": 1}, 1, {"map": MAPS[0], "reduce": 1}, {"map": r.choice(BROKEN)}))
    view: Source = {"map": r.choice(MAPS)}
    if r.random() < 0.6:
        view["reduce"] = r.choice(REDUCES[:-3] if r.random() > odd else REDUCES)
    if r.random() < 0.1:
        view["options"] = {"collation": "raw"}
    return view


def design_document(world: Any, r: Random) -> Source:
    """Write or delete a design document with functions of all kinds."""
    doc_id = f"_design/{r.choice(NAMES)}"
    path = f"/_design/{doc_id.removeprefix('_design/').replace('/', '%2F').replace('é', '%C3%A9')}"
    if r.random() < 0.1:
        return {"request": {"method": "DELETE", "path": path, "query": {"rev": str(world.rev(r, doc_id))}}}
    named = lambda functions: {f"f{n}": r.choice(functions) for n in range(r.randint(1, 3))}  # noqa: E731 - shorter so
    body: Source = {"views": {f"v{n}": _view(r, 0.03) for n in range(r.randint(1, 3))}}
    body["views"]["lib"] = {"m": "exports.f = function(doc) { return doc.n; };"}
    body |= some(
        r,
        {
            "filters": lambda: named(FILTERS),
            "shows": lambda: named(SHOWS),
            "updates": lambda: named(UPDATES),
            "lists": lambda: named(LISTS),
            "options": lambda: r.choice(({"local_seq": True}, {"include_design": True}, {})),
            "language": lambda: r.choice(("javascript", "javascript", "cobol")),
        },
        5,
    )
    if r.random() < 0.15:
        body["validate_doc_update"] = r.choice(VALIDATIONS)
    if world.revs.get(doc_id):
        body["_rev"] = world.rev(r, doc_id, odd=0.02)
    return {"request": {"method": "PUT", "path": path, "body": body}}


def _parameters(r: Random, *, odd: float = 0.04) -> Source:
    key = lambda: r.choice(KEYS)  # noqa: E731 - shorter so
    flag = lambda: r.choice((True, False)) if r.random() > odd else r.choice(("x", 1, None))  # noqa: E731 - as above
    count = lambda: r.choice((0, 1, 2, 3)) if r.random() > odd else r.choice((-1, "x", 1.5, None))  # noqa: E731
    return some(
        r,
        {
            **dict.fromkeys(("startkey", "endkey", "key"), key),
            "keys": lambda: [key() for _ in range(r.randint(0, 3))],
            **dict.fromkeys(("startkey_docid", "endkey_docid"), lambda: r.choice(("a", "b", "é", ""))),
            **dict.fromkeys(
                ("descending", "inclusive_end", "include_docs", "conflicts", "reduce", "group", "sorted"),
                flag,
            ),
            **dict.fromkeys(("limit", "skip", "group_level"), count),
        },
        4,
    )


def _as_query(parameters: Source) -> Source:
    # A text key needs quotes: the query string holds JSON.
    return {
        name: f'"{value}"' if name in ("startkey", "endkey", "key") and isinstance(value, str) else value
        for name, value in parameters.items()
    }


def _design_path(r: Random) -> str:
    return f"/_design/{r.choice(NAMES).replace('/', '%2F').replace('é', '%C3%A9')}"


def view(world: Any, r: Random) -> Source:
    """Query a view with GET, POST or several queries."""
    path = f"{_design_path(r)}/_view/v{r.choice((0, 0, 0, 1, 2, 9))}"
    kind = r.random()
    if kind < 0.6:
        return {"request": {"method": "GET", "path": path, "query": _as_query(_parameters(r))}}
    if kind < 0.85:
        request = {
            "method": "POST",
            "path": path,
            "query": _as_query(some(r, {"limit": lambda: 2, "group": lambda: True}, 1)),
        }
        return {"request": {**request, "body": _parameters(r)}}
    queries = [_parameters(r, odd=0.01) for _ in range(r.randint(0, 3))]
    return {"request": {"method": "POST", "path": f"{path}/queries", "body": {"queries": queries}}}


def filtered_changes(world: Any, r: Random) -> Source:
    """Read the changes that a filter function accepts."""
    name = r.choice(NAMES[:2])
    query: Source = r.choice(
        ({"filter": f"{name}/f0"}, {"filter": f"{name}/f1"}, {"filter": "_view", "view": f"{name}/v0"})
    )
    query = query | some(
        r,
        {
            "x": lambda: "y",
            "style": lambda: "all_docs",
            "limit": lambda: r.choice((0, 1, 2)),
            **dict.fromkeys(("include_docs", "conflicts", "descending"), lambda: True),
        },
    )
    return {"request": {"method": "GET", "path": "/_changes", "query": query}, "ignore": ["body.reason", "body.error"]}


def function(world: Any, r: Random) -> Source:
    """Call a show, list or update function."""
    kind = r.choice(("_show", "_update", "_list"))
    rest = (
        r.choice(("", "/a", "/b", "/none")) if kind != "_list" else r.choice(("/v0", "/d/v0", "/v9", "", "/_all_docs"))
    )
    method = r.choice(("GET", "POST", "PUT")) if kind == "_update" else "GET"
    request: Source = {"method": method, "path": f"{_design_path(r)}/{kind}/f{r.choice((0, 0, 1, 9))}{rest}"}
    request["query"] = some(r, {"q": lambda: "z", "x": lambda: "y", "limit": lambda: 1})
    if method != "GET" and r.random() < 0.6:
        request["raw"] = r.choice(("", "text", "a=b&c=d"))
        request["headers"] = {"Content-Type": r.choice(("text/plain", "application/x-www-form-urlencoded"))}
    # The engine words a stack trace in its own way.
    return {"request": request, "ignore": ["body.reason"]}


FUNCTION_FAMILIES = {one.__name__: one for one in (design_document, view, filtered_changes, function)}
