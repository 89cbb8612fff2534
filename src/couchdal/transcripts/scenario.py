"""Scenarios of requests and answers: parses their files and replays them on any backend.

Answers are compared as text, without knowledge of CouchDB's rules. ``tests/parity/README.md`` describes the format.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from couchdal.backends.base import BaseBackend
from couchdal.http.json_text import JSON
from couchdal.http.messages import Request, Response
from couchdal.http.urls import quote
from couchdal.transcripts.normal_form import (
    as_array,
    as_object,
    as_text,
    canonical_text,
    contract,
    expand,
    in_order,
    normalize,
)

Credentials = tuple[str, str]

# The server admin of every recording. Requests that contain it are rewritten for a server with another password.
RECORDED_ADMIN: Final[Credentials] = ("admin", "pw")

SHOWN_HEADERS: Final = (
    "content-type",
    "etag",
    "location",
    "allow",
    "www-authenticate",
    "x-couch-id",
    "x-couch-update-newrev",
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One transcript file: its name, the parameters that create its database, and its steps."""

    name: str
    create_query: Mapping[str, JSON]
    steps: tuple[Step, ...]
    document: dict[str, JSON]


@dataclass(frozen=True, slots=True)
class Step:
    """One request, the values to save from its answer, and the recorded answer, if there is one."""

    request: Mapping[str, JSON]
    save: Mapping[str, str]
    wait_ms: int
    ignore: tuple[str, ...]
    unordered: tuple[str, ...]
    #: Headers that are compared as well as ``SHOWN_HEADERS``.
    also: tuple[str, ...]
    response: Mapping[str, JSON] | None
    source: Mapping[str, JSON]

    @classmethod
    def parse(cls, source: Mapping[str, JSON]) -> Step:
        """Return the step that a member of ``steps`` describes. Raise ``TypeError`` for a member of another type."""
        response, wait_ms = source.get("response"), source.get("wait_ms", 0)
        if not isinstance(wait_ms, int):
            raise TypeError(f"expected a number of milliseconds, not {wait_ms!r}")
        return cls(
            request=as_object(source["request"]),
            save={name: as_text(place) for name, place in as_object(source.get("save", {})).items()},
            wait_ms=wait_ms,
            ignore=tuple(map(as_text, as_array(source.get("ignore", [])))),
            unordered=tuple(map(as_text, as_array(source.get("unordered", [])))),
            also=tuple(map(as_text, as_array(source.get("also", [])))),
            response=None if response is None else as_object(response),
            source=source,
        )


@dataclass(frozen=True, slots=True)
class Played:
    """A step that was sent: its answer, and the values of the placeholders after it."""

    step: Step
    request: Request
    answer: dict[str, JSON]
    values: Mapping[str, JSON]

    def expected(self) -> str:
        """Return the recorded answer in normal form, with this run's values for its placeholders."""
        recorded = as_object(expand({"headers": {}, **(self.step.response or {})}, self.values))
        return canonical_text(in_order(normalize(recorded, self.step.ignore), self.step.unordered))

    def actual(self) -> str:
        """Return the answer in normal form."""
        return canonical_text(in_order(self._loosened(normalize(self.answer, self.step.ignore)), self.step.unordered))

    def _loosened(self, shown: dict[str, JSON]) -> dict[str, JSON]:
        """Write ``<etag>`` if the transcript does. Recordings do so for some ETags of revisions too."""
        recorded, headers = (self.step.response or {}).get("headers"), as_object(shown["headers"])
        if (
            isinstance(recorded, dict)
            and recorded.get("etag") == "<etag>"
            and re.fullmatch('"[^"]*"', str(headers.get("etag")))
        ):
            headers["etag"] = "<etag>"
        return shown

    def agrees(self) -> bool:
        """Return whether the answer agrees with the recorded one."""
        return self.expected() == self.actual()

    def recorded(self) -> dict[str, JSON]:
        """Return the answer as a transcript holds it: with placeholders for values that differ between runs."""
        shown = normalize(self.answer, self.step.ignore)
        if not shown["headers"]:
            del shown["headers"]
        return as_object(contract(shown, self.values))


def parse_scenario(text: str) -> Scenario:
    """Parse a transcript, or a scenario whose steps have no answers yet. Raise ``ValueError`` for any other text."""
    decoded: JSON = json.loads(text)
    try:
        document = as_object(decoded)
        steps = tuple(Step.parse(as_object(step)) for step in as_array(document["steps"]))
        return Scenario(as_text(document["name"]), as_object(document.get("create_query", {})), steps, document)
    except (KeyError, TypeError) as problem:
        raise ValueError(f"not a scenario: {problem!r}") from None


@dataclass(slots=True)
class Player:
    """Sends a scenario's requests to a new database, and deletes the database afterwards.

    ``pause`` waits for a number of seconds.
    """

    backend: BaseBackend
    database: str
    admin: Credentials = RECORDED_ADMIN
    pause: Callable[[float], object] = time.sleep
    values: dict[str, JSON] = field(default_factory=dict)

    def play(self, scenario: Scenario) -> Iterator[Played]:
        """Send the requests one by one, and yield each with its answer."""
        self.create(scenario.create_query)
        try:
            for step in scenario.steps:
                yield self.send(step)
        finally:
            self.remove()

    def create(self, query: Mapping[str, JSON]) -> None:
        """Create the database. Raise ``CouchError`` if the server refuses."""
        self.values = {"{db}": self.database}
        self._send_as_admin("PUT", f"/{self.database}", _encode_query({"q": "1", **query})).result()

    def send(self, step: Step) -> Played:
        """Send one request, and save the values that the step names."""
        if step.wait_ms:
            self.pause(step.wait_ms / 1000)
        request = self._request(step)
        response = self.backend.exchange(request)
        in_lines = step.response is not None and "lines" in step.response
        answer = show_answer(request, response, in_lines=in_lines, also=step.also)
        for name, place in step.save.items():
            value = _pick(answer, response, place)
            if value is not None:
                self.values["${" + name + "}"] = value
        return Played(step, request, answer, dict(self.values))

    def _request(self, step: Step) -> Request:
        spec = step.request
        path = str(expand(spec["path"], self.values))
        if spec.get("scope") != "server":
            path = f"/{self.database}" + (path[1:] if path == "/" or path.startswith("/?") else path)
        path, _, query = path.partition("?")
        if spec.get("query"):
            more = _encode_query(as_object(expand(spec["query"], self.values)))
            query = f"{query}&{more}" if query else more
        body = self._body(spec)
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        auth = spec.get("auth", {"user": self.admin[0], "password": self.admin[1]})
        if isinstance(auth, dict):
            auth = as_object(expand(auth, self.values))
            headers["authorization"] = basic_credentials(str(auth["user"]), str(auth["password"]))
        for name, value in as_object(spec.get("headers") or {}).items():
            headers.pop(name.lower(), None)
            if value is not None:
                text = str(expand(value, self.values))
                headers[name.lower()] = text.replace(_bare_credentials(RECORDED_ADMIN), _bare_credentials(self.admin))
        return Request(str(spec["method"]), path, query, headers, body or b"")

    def _body(self, spec: Mapping[str, JSON]) -> bytes | None:
        user, password = RECORDED_ADMIN
        if "raw" in spec:
            raw = str(expand(spec["raw"], self.values))
            raw = raw.replace(f"name={user}&password={password}", f"name={user}&password={quote(self.admin[1])}")
            return raw.encode("utf-8", "surrogatepass")
        if "body" not in spec:
            return None
        body = expand(spec["body"], self.values)
        if isinstance(body, dict) and user in (body.get("name"), body.get("username")) and "password" in body:
            body["password"] = self.admin[1] if body["password"] == password else body["password"]
        try:
            return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        except UnicodeEncodeError:  # only an escape can represent a lone surrogate
            return json.dumps(body, separators=(",", ":")).encode()

    def _send_as_admin(self, method: str, path: str, query: str = "") -> Response:
        headers = {"accept": "application/json", "authorization": basic_credentials(*self.admin)}
        return self.backend.exchange(Request(method, path, query, headers))

    def remove(self) -> None:
        """Delete databases whose names start with the scenario's, and users with that name."""
        names = cast("list[str]", self._send_as_admin("GET", "/_all_dbs").value())
        for name in names:
            if name.startswith(self.database):
                self._send_as_admin("DELETE", "/" + quote(name))
        users = self._send_as_admin("GET", "/_users/_all_docs").value()
        rows = users.get("rows", []) if isinstance(users, dict) else []
        for row in cast("list[dict[str, dict[str, str]]]", rows):
            doc_id = str(row["id"])
            if self.database in doc_id:
                self._send_as_admin("DELETE", f"/_users/{quote(doc_id)}", f"rev={row['value']['rev']}")


def basic_credentials(user: str, password: str) -> str:
    """Return the value of an ``Authorization`` header."""
    return "Basic " + _bare_credentials((user, password))


def _bare_credentials(credentials: Credentials) -> str:
    return base64.b64encode(":".join(credentials).encode()).decode()


def _encode_query(query: Mapping[str, JSON]) -> str:
    pairs = ((name, value if isinstance(value, str) else _dumps(value)) for name, value in query.items())
    return "&".join(f"{quote(name)}={quote(value)}" for name, value in pairs)


def _dumps(value: JSON) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def show_answer(
    request: Request, response: Response, *, in_lines: bool = False, also: Sequence[str] = ()
) -> dict[str, JSON]:
    headers = {name.lower(): value for name, value in response.headers.items()}
    answer: dict[str, JSON] = {
        "status": response.status,
        "headers": {name: headers[name] for name in (*SHOWN_HEADERS, *also) if name in headers},
    }
    if "location" in headers:
        as_object(answer["headers"])["location"] = re.sub("^https?://[^/]*", "", headers["location"])
    content = b"" if request.method == "HEAD" else response.content()
    if not content:
        return answer
    text = content.decode("utf-8", "replace")
    value = _parse(text)
    if in_lines or value is _NOT_JSON:
        answer["lines"] = [line if _parse(line) is _NOT_JSON else cast(JSON, _parse(line)) for line in text.split("\n")]
    else:
        answer["body"] = cast(JSON, value)
    return answer


_NOT_JSON: Final = object()


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return _NOT_JSON


def _pick(answer: Mapping[str, JSON], response: Response, place: str) -> JSON:
    """Return the value of ``header:NAME`` or of a dotted path in the body; ``None`` if it is missing."""
    if place.lower().startswith("header:"):
        return {name.lower(): value for name, value in response.headers.items()}.get(place[7:].lower())
    value: JSON = answer.get("body")
    try:
        for part in place.split("."):
            value = value[int(part)] if isinstance(value, list) else as_object(value)[part]
    except (KeyError, TypeError, IndexError, ValueError):
        return None
    return value
