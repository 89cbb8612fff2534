"""The parameters of listings and views, from the query string, a POST body, or a member of ``queries``.

Sources: ``couch_mrview_http:parse_param``, ``couch_mrview_util:validate_args``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from couchdal.api.versions import NEWEST, TEXT_KEYS, WIDE_LIMITS, Version
from couchdal.emulator.engine.config.settings import MAX_LIMIT, Settings, checked_limit
from couchdal.emulator.engine.documents.partition import validate_partition
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.emulator.engine.erlang.term_text import pretty_term
from couchdal.errors import QueryParseError, ServerError
from couchdal.http.json_text import decode_request, is_same
from couchdal.http.messages import ABSENT

INCOMPATIBLE_KEYS: Final = "`keys` is incompatible with `key`, `start_key` and `end_key`"
_TRUE = ("true", True)
_FALSE = ("false", False)


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """The rows that a request asks for. A missing key is ``ABSENT``, which differs from the key ``null``."""

    keys: object = ABSENT
    start_key: object = ABSENT
    end_key: object = ABSENT
    start_key_docid: str | None = None
    end_key_docid: str | None = None
    limit: int = MAX_LIMIT
    skip: int = 0
    descending: bool = False
    inclusive_end: bool = True
    include_docs: bool = False
    conflicts: bool | None = None
    attachments: bool = False
    att_encoding_info: bool = False
    update_seq: bool = False
    reduce: bool | None = None
    group: bool | None = None
    group_level: int | None = None
    stable: bool = False
    update: bool | str = True
    sorted: bool = True
    partition: str | None = None

    @property
    def groups_by_key(self) -> bool:
        """Whether each key is its own group. ``group_level`` takes precedence over ``group``."""
        return self.group is True and self.group_level is None


def parse_parameters(query: ViewQuery, parameters: Iterable[tuple[str, object]], *, decoded: bool) -> ViewQuery:
    """Return a query with parameters applied in order. The last of a name counts, and unknown names are ignored.

    With ``decoded``, values are JSON values, as in a body. Without it, they are JSON texts. Raise ``BadRequest`` or
    ``QueryParseError``.
    """
    for name, value in parameters:
        parse = _PARAMETERS.get(name)
        if parse is not None:
            query = replace(query, **parse(value, decoded))
    return query


_Changes: TypeAlias = "dict[str, Any]"


def _json(value: object, decoded: bool) -> object:
    return value if decoded else decode_request(str(value).encode("utf-8", "surrogateescape"))


def _key(*names: str) -> Callable[[object, bool], _Changes]:
    return lambda value, decoded: dict.fromkeys(names, _json(value, decoded))


def _keys(value: object, decoded: bool) -> _Changes:
    keys = _json(value, decoded)
    if type(keys) is list and len(keys) == 1:
        # A list with one key is the same as that key.
        return {"start_key": keys[0], "end_key": keys[0]}
    return {"keys": keys}


def _text(name: str) -> Callable[[object, bool], _Changes]:
    return lambda value, decoded: {name: str(value)}


def _refused(reason: str, value: object, decoded: bool) -> QueryParseError:
    # In Erlang, a value from a query string is a list of bytes.
    shown = value if decoded or not isinstance(value, str) else list(value.encode("utf-8", "surrogateescape"))
    return QueryParseError(f"{reason}: {pretty_term(shown, len(reason) + 3)}")


def _boolean(name: str) -> Callable[[object, bool], _Changes]:
    def parse(value: object, decoded: bool) -> _Changes:
        text = value.lower() if isinstance(value, str) else value
        if text in ("true", "false") or type(text) is bool:
            return {name: text in _TRUE}
        if value is None or type(value) in (dict, float):
            # Erlang cannot convert these to lower case.
            raise ServerError("function_clause", error="unknown_error")
        raise _refused("Invalid boolean parameter", value, decoded and not isinstance(value, str))

    return parse


def _natural(name: str) -> Callable[[object, bool], _Changes]:
    def parse(value: object, decoded: bool) -> _Changes:
        number = value
        if not decoded and isinstance(value, str):
            number = parse_integer(value)
        if type(number) is not int:
            raise _refused("Invalid value for integer", value, decoded)
        if number < 0:
            raise _refused("Invalid value for positive integer", value, decoded)
        return {name: number}

    return parse


def _stale(value: object, decoded: bool) -> _Changes:
    if value in ("ok", "update_after"):
        return {"stable": True, "update": False if value == "ok" else "lazy"}
    raise QueryParseError("Invalid value for `stale`.")


def _choice(name: str, *others: str) -> Callable[[object, bool], _Changes]:
    def parse(value: object, decoded: bool) -> _Changes:
        if value in others:
            return {name: value}
        if not isinstance(value, (str, bool)) or value not in _TRUE + _FALSE:
            raise QueryParseError(f"Invalid value for `{name}`.")
        return {name: value in _TRUE}

    return parse


def _partition(value: object, decoded: bool) -> _Changes:
    validate_partition(str(value))
    return {"partition": str(value)}


_PARAMETERS: Final[Mapping[str, Callable[[object, bool], _Changes]]] = {
    "reduce": _boolean("reduce"),
    "key": _key("start_key", "end_key"),
    "keys": _keys,
    "startkey": _key("start_key"),
    "start_key": _key("start_key"),
    "startkey_docid": _text("start_key_docid"),
    "start_key_doc_id": _text("start_key_docid"),
    "endkey": _key("end_key"),
    "end_key": _key("end_key"),
    "endkey_docid": _text("end_key_docid"),
    "end_key_doc_id": _text("end_key_docid"),
    "limit": _natural("limit"),
    "stale": _stale,
    "stable": _choice("stable"),
    "update": _choice("update", "lazy"),
    "descending": _boolean("descending"),
    "skip": _natural("skip"),
    "group": _boolean("group"),
    "group_level": _natural("group_level"),
    "inclusive_end": _boolean("inclusive_end"),
    "include_docs": _boolean("include_docs"),
    "attachments": _boolean("attachments"),
    "att_encoding_info": _boolean("att_encoding_info"),
    "update_seq": _boolean("update_seq"),
    "conflicts": _boolean("conflicts"),
    "sorted": _boolean("sorted"),
    "partition": _partition,
}


def parse_queries(shared: ViewQuery, values: Iterable[object]) -> Iterator[ViewQuery]:
    """Yield the queries in the body of a request, with the parameters that they share.

    Raise ``QueryParseError``, or ``ServerError`` for one that is not an object, on which CouchDB crashes.
    """
    shared = replace(shared, keys=ABSENT, group=None, group_level=None)
    for value in values:
        if not isinstance(value, dict):
            raise ServerError("function_clause", error="unknown_error")
        yield parse_parameters(shared, value.items(), decoded=True)


def validate_listing(query: ViewQuery, settings: Settings | None, *, partitioned: bool) -> ViewQuery:
    """Return a query of documents with its limit. Raise ``QueryParseError`` for parameters that it may not have.

    Without ``settings``, nothing limits it.
    """
    _validate_map(query)
    if query.partition is not None and not partitioned:
        raise QueryParseError("`partition` parameter is not supported on this db")
    if settings is None:
        return query
    if settings.version is not NEWEST:
        query = _of_older_version(query, settings.version)
    if settings.version.has(WIDE_LIMITS):
        query = _limited(query, settings.query_limit if query.partition is None else settings.partition_query_limit)
    if query.limit < 0 and query.keys is not ABSENT:
        raise ServerError("function_clause", error="unknown_error")
    return query


def validate_view(query: ViewQuery, settings: Settings, *, reduces: bool, partitioned: bool) -> ViewQuery:
    """Return a query of a view with its limit. Raise ``QueryParseError`` for parameters that it may not have."""
    query = _limited(query, settings.partition_query_limit if partitioned else settings.query_limit)
    if query.limit < 0:
        raise QueryParseError("`limit` must be a positive integer.")
    if reduces:
        _validate_reduce(query)
    else:
        _validate_map(query)
    if partitioned and query.partition is None:
        raise QueryParseError("`partition` parameter is mandatory for queries to this view.")
    if not partitioned and query.partition is not None:
        raise QueryParseError("`partition` parameter is not supported in this design doc")
    return query


def _of_older_version(query: ViewQuery, version: Version) -> ViewQuery:
    """Return a query of documents without the keys that a version ignores."""
    if version.has(TEXT_KEYS):
        return query
    start, end = (key if isinstance(key, str) else ABSENT for key in (query.start_key, query.end_key))
    return replace(query, start_key=start, end_key=end)


def _limited(query: ViewQuery, most: float) -> ViewQuery:
    """Return a query with the configured limit if it has none. Raise ``QueryParseError`` if its limit is higher."""
    most = checked_limit(most)
    if query.limit == MAX_LIMIT and most < MAX_LIMIT:
        query = replace(query, limit=most)
    if query.limit > most:
        raise QueryParseError(f"Limit is too large, must not exceed {most}")
    return query


def _validate_map(query: ViewQuery) -> None:
    _validate_group(query)
    if query.reduce:
        raise QueryParseError("Reduce is invalid for map-only views.")
    _validate_keys(query)
    if query.groups_by_key or query.group_level:
        raise QueryParseError("Invalid use of grouping on a map view.")


def _validate_reduce(query: ViewQuery) -> None:
    _validate_group(query)
    if not query.groups_by_key and type(query.keys) is list:
        raise QueryParseError("Multi-key fetches for reduce views must use `group=true`")
    _validate_keys(query)
    if query.include_docs:
        raise QueryParseError("`include_docs` is invalid for reduce")
    if query.conflicts is not None:
        raise QueryParseError("`conflicts` is invalid for reduce views.")


def _validate_group(query: ViewQuery) -> None:
    if query.group is False and query.group_level:
        raise QueryParseError("Can't specify group=false and group_level>0 at the same time")


def _validate_keys(query: ViewQuery) -> None:
    if query.keys is ABSENT:
        return
    if type(query.keys) is not list:
        raise QueryParseError("`keys` must be an array of strings.")
    bounds = (query.start_key, query.end_key)
    single = len(query.keys) == 1 and ABSENT not in bounds and all(is_same(one, query.keys[0]) for one in bounds)
    if query.keys and not single and bounds != (ABSENT, ABSENT):
        raise QueryParseError(INCOMPATIBLE_KEYS)
