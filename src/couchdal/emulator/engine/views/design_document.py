"""Check a design document before it is stored.

This module does not know databases or requests. Source: ``couch_mrview:validate``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias, cast

from couchdal.api.versions import NEWEST, RANKED_REDUCES, Version
from couchdal.emulator.engine.erlang.integers import parse_integer
from couchdal.errors import BadRequest, CouchError, NotSupported

if TYPE_CHECKING:
    from couchdal.emulator.engine.javascript.runtime import Runtime

_Types: TypeAlias = "tuple[str, ...]"
_Path: TypeAlias = "tuple[tuple[str, _Types], ...]"

# A step with this name matches every member.
_ANY = "*"
_OBJECT: _Types = ("object",)
_STRING: _Types = ("string",)
_CODE: _Types = ("object", "string")

_FIELDS: tuple[_Path, ...] = (
    (("filters", _OBJECT), (_ANY, _CODE)),
    (("language", _STRING),),
    (("lists", _OBJECT), (_ANY, _CODE)),
    (("options", _OBJECT),),
    (("options", _OBJECT), ("include_design", ("boolean",))),
    (("options", _OBJECT), ("local_seq", ("boolean",))),
    (("options", _OBJECT), ("partitioned", ("boolean",))),
    (("rewrites", ("string", "array")),),
    (("shows", _OBJECT), (_ANY, _CODE)),
    (("updates", _OBJECT), (_ANY, _CODE)),
    (("validate_doc_update", _STRING),),
    (("views", _OBJECT), ("lib", _OBJECT)),
)
_VIEWS = (("views", _OBJECT), (_ANY, _OBJECT))

_OLDER_REDUCES = ("_sum", "_count", "_stats", "_approx_count_distinct")
_REDUCES = (*_OLDER_REDUCES, "_first", "_last")
_RANKED = ("_top_", "_bottom_")
_MAX_RANK = 100


def check_design_document(
    body: Mapping[str, object],
    *,
    partitioned: bool = False,
    javascript: Runtime | None = None,
    version: Version = NEWEST,
    compiled: Callable[[int], None] = lambda number: None,
) -> CouchError | None:
    """Return the error for a design document that CouchDB refuses or that the emulator does not support, or None.

    ``compiled`` gets the number of map functions, if they are compiled.
    """
    map_type = _OBJECT if body.get("language") == "query" else _STRING
    for path in (*_FIELDS, (*_VIEWS, ("map", map_type)), (*_VIEWS, ("reduce", _STRING))):
        wrong = _mismatch(body, path)
        if wrong is not None:
            names, types = wrong
            # CouchDB lists the types from the last to the first.
            return _invalid(f"`{'.'.join(names)}` field must have {' or '.join(reversed(types))} type")
    error = _check_views(body, version) or _check_options(body, partitioned)
    return error or _check_functions(body, javascript, compiled)


def _invalid(reason: str) -> CouchError:
    return BadRequest(reason, error="invalid_design_doc")


def _mismatch(value: object, path: _Path) -> tuple[list[str], _Types] | None:
    """Return the path to a value of the wrong type and the types allowed there, or None."""
    if not path or not isinstance(value, Mapping):
        return None
    (step, types), rest = path[0], path[1:]
    names = list(value) if step == _ANY else [step] if step in value else []
    for name in names:
        if not any(_is(value[name], kind) for kind in types):
            return [name], types
        found = _mismatch(value[name], rest)
        if found is not None:
            return [name, *found[0]], found[1]
    return None


def _is(value: object, kind: str) -> bool:
    if kind == "object":
        return isinstance(value, Mapping)
    if kind == "array":
        return isinstance(value, list)
    return isinstance(value, str if kind == "string" else bool)


def _check_views(body: Mapping[str, object], version: Version) -> CouchError | None:
    views = body.get("views")
    if not isinstance(views, Mapping):
        return None
    for name, view in views.items():
        if name != "lib" and "map" not in view:
            return _invalid(f"View `{name}` must contain map function")
    if body.get("language", "javascript") != "javascript":
        return None
    for name, view in views.items():
        reduce = view.get("reduce", "") if name != "lib" else ""
        error = _check_reduce(reduce, version)
        if error is not None:
            return error
    return None


def _check_reduce(reduce: str, version: Version) -> CouchError | None:
    known = _REDUCES if version.has(RANKED_REDUCES) else _OLDER_REDUCES
    if not reduce.startswith("_") or reduce.startswith(known):
        return None
    for prefix in _RANKED if version.has(RANKED_REDUCES) else ():
        if reduce.startswith(prefix):
            return _check_rank(reduce.removeprefix(prefix))
    return _invalid(f"`{reduce}` is not a supported reduce function.")


def _check_rank(text: str) -> CouchError | None:
    rank = parse_integer(text)
    if rank is None:
        return _invalid("invalid rank reducer")
    return None if 1 <= rank <= _MAX_RANK else _invalid(f"rank value must be between 1 and {_MAX_RANK}")


def _check_options(body: Mapping[str, object], partitioned: bool) -> CouchError | None:
    options = body.get("options")
    if isinstance(options, Mapping) and options.get("partitioned") is True and not partitioned:
        return _invalid("partitioned option cannot be true in a non-partitioned database.")
    return None


def _check_functions(
    body: Mapping[str, object], javascript: Runtime | None, compiled: Callable[[int], None]
) -> CouchError | None:
    """Return the error of the first view whose functions do not compile. CouchDB does not compile other functions."""
    from couchdal.emulator.engine.javascript.javascript import QueryServer  # most databases have no design documents
    from couchdal.emulator.engine.javascript.runtime import is_installed
    from couchdal.emulator.engine.views.reduction import is_builtin
    from couchdal.emulator.engine.views.view_definition import is_javascript, view_group

    if not is_installed():
        # Without JavaScript, a stored function would never validate anything.
        validates = "validate_doc_update" in body
        return (
            NotSupported("validate_doc_update needs JavaScript: pip install 'couchdal[views]'") if validates else None
        )
    group = view_group(body)
    try:
        if not is_javascript(group.language) or not group.views:
            return None
    except NotSupported:
        # Without JavaScript, the document is stored without compiling its functions.
        return None
    server = QueryServer({}, javascript)
    compiled(
        sum(
            isinstance(view, Mapping) and "map" in view for view in cast("Mapping[str, object]", body["views"]).values()
        )
    )
    for view in group.views:
        reduces = [("reduce", name, source) for name, source in view.reduces if not is_builtin(source)]
        for kind, name, source in (("map", view.first_name, view.source), *reduces):
            try:
                server.compile(source)
            except BadRequest as error:
                return BadRequest(
                    f"Compilation of the {kind} function in the '{name}' view failed: {error.reason}", error=error.error
                )
            except CouchError as error:
                return error
    return None
