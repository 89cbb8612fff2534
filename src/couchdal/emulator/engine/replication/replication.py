"""The description of a replication: its two sides and its options. Source: ``couch_replicator_parse``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import iolist
from couchdal.emulator.engine.replication.endpoint import Endpoint, Setting, parse_endpoint, unset
from couchdal.emulator.engine.replication.failures import Malformed, badarg, function_clause
from couchdal.errors import BadRequest, ServerError
from couchdal.http.json_text import JSON
from couchdal.http.urls import unquote_form

_BOOLEANS: Final = ("cancel", "create_target", "winning_revs_only", "continuous", "use_bulk_get")
_NUMBERS: Final = {
    "worker_processes": 4,
    "worker_batch_size": 500,
    "http_connections": 20,
    "connection_timeout": 30_000,
    "retries_per_request": 5,
    "checkpoint_interval": 30_000,
}
_OBJECTS: Final = {
    "create_target_params": "parameter `create_target_params` must be a JSON object",
    "query_params": "parameter `query_params` must be an object",
    "selector": "parameter `selector` must be a JSON object",
}
_SET: Final = ("use_checkpoints", "use_bulk_get")
_IDS: Final = ("_local_id", "replication_id", "id")
# The names of a filter function. A name has no line breaks.
_FILTER = re.compile(r"([^\n]*?)/([^\n]*)")
_SLASH = b"/"
# A number, an atom, or an array of them: an Erlang term, but not an array of pairs.
_NO_OPTIONS = re.compile(r"\s*(?:\w+|\[\s*\w[\w\s,]*\])\s*\Z")


@dataclass(frozen=True, slots=True)
class Replication:
    """A replication. ``source`` and ``target`` are missing only if it cancels another one by its ``id``."""

    source: Endpoint | None
    target: Endpoint | None
    options: Mapping[str, JSON]

    @property
    def id(self) -> str | None:
        """The id of the replication to cancel, if the request names it."""
        return _text(self.options.get("id"))

    @property
    def doc_ids(self) -> list[JSON] | None:
        """The ids of the documents to replicate, sorted; None for all."""
        found = self.options.get("doc_ids")
        return found if isinstance(found, list) else None

    @property
    def filter(self) -> str | None:
        """The name of a filter function, or of a built-in filter."""
        return _text(self.options.get("filter"))

    @property
    def user(self) -> str | None:
        """The name in ``user_ctx``, which a replication document may have."""
        context = self.members("user_ctx") or {}
        return _text(context.get("name"))

    def is_set(self, name: str) -> bool:
        """Return an option that is true or false."""
        return bool(self.options.get(name, name in _SET))

    def number(self, name: str) -> int:
        """Return an option that is a number."""
        found = self.options.get(name)
        return found if isinstance(found, int) else _NUMBERS[name]

    def members(self, name: str) -> dict[str, JSON] | None:
        """Return an option that is an object, or None."""
        found = self.options.get(name)
        return found if isinstance(found, dict) else None

    @property
    def sides(self) -> tuple[Endpoint, Endpoint]:
        """The source and the target."""
        assert self.source is not None
        assert self.target is not None
        return self.source, self.target

    @property
    def extension(self) -> str:
        """The suffix that CouchDB appends to the id of a replication."""
        return "".join(f"+{name}" for name in ("continuous", "create_target") if self.is_set(name))


def parse_replication(
    body: Mapping[str, JSON], setting: Setting = unset, local: Mapping[str, JSON] | None = None
) -> Replication:
    """Return the replication that a body describes. Raise ``CouchError``, in CouchDB's order.

    ``local`` has the source and the target as addresses, if the body names databases of its own server.
    """
    proxies = _proxies(body)
    options = _options(body)
    if options.get("cancel") and "id" in options:
        return Replication(None, None, options)
    sides = {**body, **(local or {})}
    source, target = (
        _side(sides, name, proxy, setting, is_local=name in (local or {}))
        for name, proxy in zip(("source", "target"), proxies, strict=True)
    )
    _check_view(body, options)
    _check_filter(options)
    return Replication(source, target, {**_defaults(setting), **options})


def _side(body: Mapping[str, JSON], name: str, proxy: JSON, setting: Setting, *, is_local: bool) -> Endpoint:
    if name not in body:
        return parse_endpoint(None)
    value = body[name]
    if not isinstance(value, (str, dict)):
        raise function_clause()
    return parse_endpoint(value, is_local=is_local, proxy=proxy, setting=setting)


def _defaults(setting: Setting) -> dict[str, JSON]:
    """Return the options that the configuration gives. CouchDB ignores a value that it cannot read."""
    found: dict[str, JSON] = {}
    for name in (*_NUMBERS, "max_document_id_length"):
        number = parse_integer(setting(name) or "")
        if number is not None:
            found[name] = number
    for name in _SET:
        text = setting(name)
        if text in ("true", "false"):
            found[name] = text == "true"
    return found


def _proxies(body: Mapping[str, JSON]) -> tuple[JSON, JSON]:
    """Return the proxies of the source and the target; an empty text is none. Raise ``BadRequest``."""
    proxy, *sides = (body.get(name, "") for name in ("proxy", "source_proxy", "target_proxy"))
    for name, value in zip(("source_proxy", "target_proxy"), sides, strict=True):
        if proxy != "" and value != "":
            raise BadRequest(f"`proxy` is mutually exclusive with `{name}`")
    return (proxy, proxy) if proxy != "" else (sides[0], sides[1])


def _options(body: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the options by name. Raise ``CouchError`` for the first that is wrong."""
    options: dict[str, JSON] = {}
    for name, value in body.items():
        if name in _IDS:
            # A client that decodes an address may have turned a plus sign into a space. The first id counts.
            options.setdefault("id", _iolist(value, function_clause).replace(b" ", b"+").decode("utf-8", "replace"))
        elif name in _BOOLEANS:
            if type(value) is not bool:
                raise BadRequest(f"parameter `{name}` must be a boolean")
            options[name] = value
        elif name in _OBJECTS:
            if not isinstance(value, dict):
                raise BadRequest(_OBJECTS[name])
            options[name] = value
        elif name in _NUMBERS:
            options[name] = _integer(value)
        elif name == "doc_ids" and value is not None:
            options[name] = _doc_ids(value)
        elif name in ("filter", "since_seq", "user_ctx"):
            options[name] = value
        elif name in ("socket_options", "ibrowse_options"):
            _check_term(value)
        elif name == "use_checkpoints":
            # Only ``false`` changes anything.
            options[name] = value is not False
    if len({"doc_ids", "filter", "selector"} & options.keys()) > 1:
        raise BadRequest("`doc_ids`,`filter`,`selector` are mutually exclusive")
    return options


def _check_term(value: JSON) -> None:
    """Check the text of an Erlang term that has options of sockets. They have no effect here."""
    if not isinstance(value, (str, list)) or (isinstance(value, list) and value):
        raise badarg()
    if isinstance(value, str) and _NO_OPTIONS.match(value):
        raise function_clause()


def _integer(value: JSON) -> int:
    if type(value) is int:
        return value
    if isinstance(value, list):
        # Erlang's texts are arrays of bytes.
        number = parse_integer(_iolist(value, badarg).decode("latin-1"))
    elif isinstance(value, str):
        number = parse_integer(value)
    else:
        raise function_clause()
    if number is None:
        raise badarg()
    return number


def _doc_ids(value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise BadRequest("parameter `doc_ids` must be an array")
    texts = [item if isinstance(item, str) else _bytes(item).decode("utf-8", "replace") for item in value]
    # Older replicators expected them percent-encoded.
    return [*sorted({unquote_form(text) for text in texts}, key=lambda text: text.encode())]


def _bytes(value: JSON) -> bytes:
    """Return the bytes of a text that is an array of them. Raise a failure for other values."""
    if not isinstance(value, list):
        raise function_clause()
    if any(isinstance(item, str) for item in value):
        raise badarg()
    return _iolist(value, badarg)


def _iolist(value: JSON, failure: Callable[[], Malformed]) -> bytes:
    """Return the bytes of a text or of an array of texts. Raise a failure for other values."""
    try:
        return iolist(value)
    except ValueError:
        raise (badarg if isinstance(value, list) else failure)() from None


def _text(value: JSON) -> str | None:
    return value if isinstance(value, str) else None


def _check_view(body: Mapping[str, JSON], options: Mapping[str, JSON]) -> None:
    if body.get("filter") != "_view":
        return
    params = options.get("query_params", {})
    view = params.get("view") if isinstance(params, dict) else None
    if _iolist(view, badarg).count(_SLASH) != 1:
        raise BadRequest("Invalid `view` parameter.")


def _check_filter(options: Mapping[str, JSON]) -> None:
    if "filter" not in options:
        return
    name = options["filter"]
    if isinstance(name, str) and name.startswith("_"):
        return
    if filter_names(_iolist(name, badarg).decode("utf-8", "replace")) is None:
        raise ServerError("Invalid filter. Must match `ddocname/filtername`.", error="error")


def filter_names(text: str) -> tuple[str, str] | None:
    """Return the names of a design document and of its filter function, or None."""
    found = _FILTER.search(text)
    return None if found is None else (found[1], found[2])
