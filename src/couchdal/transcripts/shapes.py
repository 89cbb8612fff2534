"""Shapes: the requests of a test as a scenario without the test's data.

Strings and numbers of documents, selectors and keys are replaced (``pseudonyms.py``). Field names, parameters,
operators and design documents do not change. Revisions, sequences, bookmarks and generated ids become references to the
answers that they came from.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from couchdal.api.routes import find_route
from couchdal.errors import CouchError
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response, is_feed
from couchdal.http.urls import parse_query, quote, split_path, unquote
from couchdal.transcripts.pseudonyms import USER, Pseudonyms
from couchdal.transcripts.replayable import NotRecorded, check_replayable, local_sides

# Members of answers that later requests refer to.
_REFERRED = frozenset(("rev", "_rev", "seq", "last_seq", "update_seq", "bookmark"))
_GENERATED = re.compile("[0-9a-f]{32}")
# Parameters and members that hold keys or ids.
_JSON_KEYS = frozenset(("key", "keys", "startkey", "start_key", "endkey", "end_key"))
_ID_KEYS = frozenset(("startkey_docid", "start_key_doc_id", "endkey_docid", "end_key_doc_id"))
_KEPT_OPERANDS = frozenset(("$regex", "$type", "$mod", "$size", "$exists"))
_SENT_HEADERS = frozenset(("accept", "content-type", "if-match", "if-none-match", "range"))
_IDS_IN_PATHS = frozenset(("{doc_id}", "{local}", "{partition}", "{doc...}"))
_ATTACHMENT_ROUTES = frozenset(("/{db}/{doc_id}/{name...}", "/{db}/_design/{design}/{name...}"))
_MOST_RAW = 10_000
_NO_DATABASE = "Database does not exist."
# How long a replayed feed waits for changes.
_FEED_MS = "100"


class Exchange(NamedTuple):
    """A request of a test, and the values of its answer that are needed later.

    ``referable`` has the values that later requests may refer to, with their dotted paths. ``lacks_database`` is true
    for CouchDB's 404 about a database.
    """

    request: Request
    referable: tuple[tuple[str, str], ...]
    lacks_database: bool

    @classmethod
    def of(cls, request: Request, response: Response) -> Exchange:
        """Copy the needed values of an answer, because its receiver may change it later. A stream is not read."""
        value = None if response.stream is not None else response.value()
        lacks = response.status == 404 and isinstance(value, dict) and value.get("reason") == _NO_DATABASE
        return cls(request, tuple(_referable(value)), lacks)


def scenario_of(name: str, exchanges: Sequence[Exchange], database: str) -> dict[str, JSON]:
    """Return the requests of a test as a scenario, without its data. ``database`` is the default one."""
    names = Pseudonyms()
    databases = {database: "{db}"}
    _steps(exchanges, names, databases)
    names.finish()
    steps: list[JSON] = [*_steps(exchanges, names, databases)]
    return {"name": name, "steps": steps}


def _steps(exchanges: Sequence[Exchange], names: Pseudonyms, databases: dict[str, str]) -> list[dict[str, JSON]]:
    """Return the steps of a scenario. ``databases`` has the names of databases, and gets new ones."""
    writer = _Writer(names, databases)
    names.references = {}
    steps: list[dict[str, JSON]] = []
    places: dict[str, tuple[int, str]] = {}
    for exchange in exchanges:
        created = writer.creation(exchange)
        if created is not None:
            steps.append({"request": created})
        step: dict[str, JSON] = {"request": writer.request(exchange.request)}
        text = json.dumps(step)
        for reference, (origin, place) in places.items():
            if reference in text:
                saved = steps[origin].setdefault("save", {})
                assert isinstance(saved, dict)
                saved[reference[2:-1]] = place
        steps.append(step)
        for value, place in exchange.referable:
            if value in names.references:
                continue
            reference = f"${{v{len(places) + 1}}}"
            places[reference] = (len(steps) - 1, place)
            names.references[value] = reference
    return steps


def _referable(value: JSON, place: str = "", name: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of an answer that later requests may refer to, with their dotted paths."""
    if isinstance(value, dict):
        for member, inner in value.items():
            if "." not in member:
                yield from _referable(inner, f"{place}.{member}" if place else member, member)
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _referable(item, f"{place}.{at}" if place else str(at), name)
    elif isinstance(value, str) and value != "nil" and (name in _REFERRED or _is_generated(name, value)):
        yield value, place


def _is_generated(name: str, value: str) -> bool:
    return name in ("id", "uuids") and _GENERATED.fullmatch(value) is not None


class _Writer:
    """Writes requests without their data."""

    def __init__(self, names: Pseudonyms, databases: dict[str, str]) -> None:
        self._names = names
        self._databases = databases
        # The percent-encoded names that the test has used.
        self._met: set[str] = set()

    def creation(self, exchange: Exchange) -> dict[str, JSON] | None:
        """Return the request that creates the database of an exchange, if the test found it already there."""
        request = exchange.request
        name = request.path.strip("/").partition("/")[0]
        if name in self._met or not name or name.startswith("_"):
            return None
        self._met.add(name)
        database = self._database(unquote(name))
        by_test = exchange.lacks_database or (request.method == "PUT" and request.path.strip("/") == name)
        if database == "{db}" or by_test:
            return None
        return {"method": "PUT", "scope": "server", "path": f"/{database}"}

    def request(self, request: Request) -> dict[str, JSON]:
        """Return a request as a step has it. Raise ``NotRecorded``."""
        try:
            segments = split_path(request.path)
            route, _ = find_route(segments)
            pairs = parse_query(request.query)
        except CouchError:
            raise NotRecorded(f"{request.method} {request.path} has no route") from None
        check_replayable(request, segments, route)
        written: dict[str, JSON] = {
            "method": request.method,
            "scope": "server",
            "path": self._path(segments, route.pattern),
        }
        query = {name: self._parameter(name, value) for name, value in pairs}
        if is_feed(request):
            query["timeout"] = _FEED_MS
            query.pop("heartbeat", None)
        if query:
            written["query"] = query
        written |= self._body(request, route.pattern, users=segments[:1] == ["_users"])
        headers = {name: self._header(name, text) for name, text in request.headers.items() if name in _SENT_HEADERS}
        if "destination" in request.headers:
            headers["destination"] = self._destination(request.headers["destination"])
        for name, usual in (("accept", "application/json"), ("content-type", "application/json")):
            if headers.get(name) == usual:
                del headers[name]
        if headers:
            written["headers"] = headers
        credentials = _credentials(request)
        if credentials is not None:
            self._names.text(USER + credentials[0])
            written["auth"] = {
                "user": self._names.text(credentials[0]),
                "password": self._names.text(credentials[1]),
            }
        return written

    def _database(self, name: str) -> str:
        if name.startswith("_"):
            return name
        return self._databases.setdefault(name, f"{{db}}-{len(self._databases) + 1}")

    def _path(self, segments: Sequence[str], pattern: str) -> str:
        parts = pattern[1:].split("/")
        attachment = pattern in _ATTACHMENT_ROUTES
        written = []
        for at, segment in enumerate(segments):
            part = parts[min(at, len(parts) - 1)]
            if part == "{db}":
                written.append(self._database(segment))
            elif part in _IDS_IN_PATHS or (attachment and part == "{name...}"):
                written.append(_quoted(self._names.text(segment)))
            else:
                written.append(quote(segment))
        return "/" + "/".join(written)

    def _parameter(self, name: str, value: str) -> JSON:
        if name in _ID_KEYS:
            return self._names.text(value)
        try:
            decoded = json.loads(value)
        except ValueError:
            return self._names.references.get(value, value)
        if name in _JSON_KEYS:
            return json.dumps(self._data(decoded), ensure_ascii=False)
        if name in ("open_revs", "atts_since", "doc_ids") and isinstance(decoded, list):
            return json.dumps([self._names.text(item) if isinstance(item, str) else item for item in decoded])
        return value

    def _header(self, name: str, text: str) -> JSON:
        if name in ("if-match", "if-none-match"):
            inner = text.strip('"')
            return text.replace(inner, self._names.references.get(inner, inner))
        return text

    def _destination(self, text: str) -> JSON:
        path, mark, query = text.partition("?")
        name, equals, rev = query.partition("=")
        return _quoted(self._names.text(path)) + mark + name + equals + self._names.references.get(rev, rev)

    def _body(self, request: Request, pattern: str, *, users: bool) -> dict[str, JSON]:
        content = request.content()
        if not content:
            return {}
        kind = request.headers.get("content-type", "")
        if "multipart" in kind or "form" in kind:
            raise NotRecorded(f"{request.method} {request.path} has a body of type {kind.partition(';')[0]}")
        value = request.value()
        if value is None and content.strip() != b"null":
            return {"raw": "x" * min(len(content), _MOST_RAW)}
        return {"body": self._value(value, pattern, users=users)}

    def _value(self, value: JSON, pattern: str, *, users: bool) -> JSON:
        last = pattern.rpartition("/")[2]
        if not isinstance(value, dict):
            return self._data(value)
        if pattern in ("/{db}", "/{db}/{doc_id}", "/{db}/_local/{local}", "/{db}/_partition/{partition}"):
            return self._document(value, users=users)
        if last == "{design}":
            return self._revised(value)
        if last in ("_revs_diff", "_missing_revs", "_purge"):
            return {self._names.text(doc_id): self._known(revs) for doc_id, revs in value.items()}
        if last == "_index":
            index = value.get("index")
            return {**value, "index": self._members(index)} if isinstance(index, dict) else value
        if pattern == "/_replicate":
            sides = {side: self._database(name) for side, name in local_sides(value).items()}
            return {**{name: self._data(member) for name, member in value.items() if name not in sides}, **sides}
        if last == "_dbs_info" and isinstance(keys := value.get("keys"), list):
            return {**value, "keys": [self._database(key) if isinstance(key, str) else key for key in keys]}
        if last == "_bulk_docs":
            return {name: self._bulk(name, member, users=users) for name, member in value.items()}
        if last in ("_find", "_explain", "_changes", "_all_docs", "_bulk_get", "queries") or "_view/" in pattern:
            return self._members(value)
        return self._data(value)

    def _bulk(self, name: str, member: JSON, *, users: bool) -> JSON:
        if name != "docs" or not isinstance(member, list):
            return member
        return [self._document(doc, users=users) if isinstance(doc, dict) else doc for doc in member]

    def _members(self, value: Mapping[str, JSON]) -> JSON:
        """Return the body of a query: its selectors, keys and ids without data, the rest as it is."""
        written: dict[str, JSON] = {}
        for name, member in value.items():
            if name in ("selector", "partial_filter_selector"):
                written[name] = self._selector(member)
            elif name in _JSON_KEYS or name in _ID_KEYS or name == "doc_ids":
                written[name] = self._data(member)
            elif name in ("docs", "queries") and isinstance(member, list):
                written[name] = [self._members(item) if isinstance(item, dict) else item for item in member]
            elif name == "id" and isinstance(member, str):
                written[name] = self._names.text(member)
            else:
                written[name] = self._known(member)
        return written

    def _selector(self, value: JSON) -> JSON:
        if isinstance(value, dict):
            return {
                name: operand if name in _KEPT_OPERANDS else self._selector(operand) for name, operand in value.items()
            }
        return [self._selector(item) for item in value] if isinstance(value, list) else self._data(value)

    def _document(self, value: Mapping[str, JSON], *, users: bool) -> JSON:
        doc_id = value.get("_id")
        if isinstance(doc_id, str) and doc_id.startswith("_design/"):
            return self._revised(value)
        return {name: self._member(name, member, users=users) for name, member in value.items()}

    def _member(self, name: str, member: JSON, *, users: bool) -> JSON:
        if name == "_id" and isinstance(member, str):
            return self._names.text(member)
        if name == "_attachments" and isinstance(member, dict):
            return {self._names.text(one): self._attachment(info) for one, info in member.items()}
        if name.startswith("_") or (users and name in ("type", "roles")):
            return self._known(member)
        return self._data(member)

    def _attachment(self, info: JSON) -> JSON:
        if not isinstance(info, dict) or not isinstance(info.get("data"), str):
            return info
        size = len(str(info["data"])) * 3 // 4
        return {**info, "data": base64.b64encode(b"x" * min(size, _MOST_RAW)).decode()}

    def _revised(self, value: Mapping[str, JSON]) -> JSON:
        return {name: self._known(member) for name, member in value.items()}

    def _known(self, value: JSON) -> JSON:
        """Return a value with references to earlier answers, and everything else as it is."""
        if isinstance(value, str):
            return self._names.references.get(value, value)
        return [self._known(item) for item in value] if isinstance(value, list) else value

    def _data(self, value: JSON) -> JSON:
        if isinstance(value, dict):
            return {name: self._data(member) for name, member in value.items()}
        if isinstance(value, list):
            return [self._data(item) for item in value]
        if isinstance(value, bool) or value is None:
            return value
        return self._names.leaf(value)


def _quoted(text: str) -> str:
    """Percent-encode an id, but not the placeholders in it."""
    return "".join(
        part if part.startswith(("${", "{db}")) else quote(part) if part else ""
        for part in re.split(r"(\$\{\w+\}|\{db\})", text)
    )


def _credentials(request: Request) -> tuple[str, str] | None:
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise NotRecorded("credentials that cannot be decoded") from None
    return user, password
