"""What a replication is asked to do: its two sides and its options. Source: ``couch_replicator_parse``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import TupleTerm, pretty_term
from couchdal.emulator.engine.replication.endpoint import Endpoint, parse_endpoint
from couchdal.errors import BadRequest, CouchError, NotSupported, ServerError
from couchdal.http.json_text import JSON
from couchdal.http.urls import unquote_form

#: Makes the endpoint of a name that is not an address, for a replication that may name its own server's databases.
Localize: TypeAlias = Callable[[JSON], Endpoint]

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
        """What CouchDB appends to the id of a replication."""
        return "".join(f"+{name}" for name in ("continuous", "create_target") if self.is_set(name))


def parse_replication(body: Mapping[str, JSON], localize: Localize | None = None) -> Replication:
    """Return the replication that a body describes. Raise ``CouchError``, in CouchDB's order.

    ``localize`` is for bodies that may name databases of their own server.
    """
    has_proxy = _check_proxies(body)
    options = _options(body)
    if options.get("cancel") and "id" in options:
        return Replication(None, None, options)
    source, target = (_side(body, name, localize) for name in ("source", "target"))
    for name in ("proxy", "source_proxy", "target_proxy"):
        if not isinstance(body.get(name, ""), str):
            raise ServerError("Invalid proxy url", error="error")
    if has_proxy:
        raise NotSupported("replications through a proxy")
    _check_filter(options)
    return Replication(source, target, options)


def _side(body: Mapping[str, JSON], name: str, localize: Localize | None) -> Endpoint:
    if name not in body:
        return parse_endpoint(None)
    value = body[name]
    if localize is None and not isinstance(value, (str, dict)):
        raise ServerError("function_clause")
    address = value.get("url", value) if isinstance(value, dict) else value
    if localize is None or isinstance(address, dict):
        return parse_endpoint(value)
    if isinstance(address, str) and address.startswith(("http://", "https://")):
        return parse_endpoint(value)
    return localize(address)


def _check_proxies(body: Mapping[str, JSON]) -> bool:
    """Return whether a proxy is named. Raise ``BadRequest``."""
    proxy, *sides = (body.get(name, "") for name in ("proxy", "source_proxy", "target_proxy"))
    for name, value in zip(("source_proxy", "target_proxy"), sides, strict=True):
        if proxy != "" and value != "":
            raise BadRequest(f"`proxy` is mutually exclusive with `{name}`")
    return any(value != "" for value in (proxy, *sides))


def _options(body: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return the options by name. Raise ``CouchError`` for the first that is wrong."""
    options: dict[str, JSON] = {}
    for name, value in body.items():
        if name in _IDS:
            if not isinstance(value, str):
                raise ServerError("function_clause")
            # A client that decodes an address may have turned a plus sign into a space.
            options["id"] = value.replace(" ", "+")
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
        elif name == "use_checkpoints":
            # Only ``false`` changes anything.
            options[name] = value is not False
    if len({"doc_ids", "filter", "selector"} & options.keys()) > 1:
        raise BadRequest("`doc_ids`,`filter`,`selector` are mutually exclusive")
    return options


def _integer(value: JSON) -> int:
    number = parse_integer(value) if isinstance(value, str) else value
    if type(number) is not int:
        raise ServerError("badarg")
    return number


def _doc_ids(value: JSON) -> list[JSON]:
    if not isinstance(value, list):
        raise BadRequest("parameter `doc_ids` must be an array")
    texts = [item for item in value if isinstance(item, str)]
    if len(texts) < len(value):
        raise ServerError("function_clause")
    # Older replicators expected them percent-encoded.
    return [*sorted({unquote_form(text) for text in texts}, key=lambda text: text.encode())]


def _text(value: JSON) -> str | None:
    return value if isinstance(value, str) else None


def _check_filter(options: Mapping[str, JSON]) -> None:
    if "filter" not in options:
        return
    name = options["filter"]
    if not isinstance(name, str):
        raise ServerError("badarg")
    params = options.get("query_params", {})
    if name == "_view":
        view = params.get("view") if isinstance(params, dict) else None
        if not isinstance(view, str):
            raise ServerError("badarg")
        if view.count("/") != 1:
            raise BadRequest("Invalid `view` parameter.")
    elif not name.startswith("_") and "/" not in name:
        raise ServerError("Invalid filter. Must match `ddocname/filtername`.", error="error")


def term_failure(*term: object, word: str = "error") -> CouchError:
    """Return the error whose reason is an Erlang tuple."""
    return failed(word, pretty_term(TupleTerm(term)))


def failed(word: str, reason: str, *, status: int = 500) -> CouchError:
    """Return the error of a replication that could not begin or go on. CouchDB traces none of them."""
    error = ServerError(reason, status=status, error=word)
    error.is_traced = False
    return error
