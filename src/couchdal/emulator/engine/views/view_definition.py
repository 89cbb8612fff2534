"""The views of a design document: their sources and options, and the views that share rows.

This module does not know databases, and does not run functions. Source: ``couch_mrview_util:ddoc_to_mrst``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any, NamedTuple, cast

from couchdal.emulator.engine.erlang.term_order import Term, term_key
from couchdal.errors import NotFound, NotSupported
from couchdal.http.json_text import encode_json

#: The language of functions, and the default of a design document.
JAVASCRIPT = "javascript"
#: The language of design documents that define Mango indexes.
MANGO = "query"


class MapView(NamedTuple):
    """One map function with its options and the names of its views.

    ``source`` is a string, or the definition of a Mango index. ``reduces`` contains the views with a reduce function as
    pairs of name and source, the last one first. ``names`` contains the others.
    """

    source: Any
    options: Mapping[str, object]
    names: tuple[str, ...]
    reduces: tuple[tuple[str, str], ...]

    @property
    def is_raw(self) -> bool:
        """True if keys sort by Erlang's order of terms instead of by collation."""
        return self.options.get("collation") == "raw"

    @property
    def first_name(self) -> str:
        """The name that CouchDB uses in errors."""
        return self.names[0] if self.names else self.reduces[0][0]

    def reduce_of(self, name: str) -> str | None:
        """Return the source of a view's reduce function, or None."""
        return next((source for own, source in self.reduces if own == name), None)


class ViewGroup(NamedTuple):
    """All views of a design document. Design documents with the same ``signature`` share one index."""

    language: str
    lib: object
    views: tuple[MapView, ...]
    options: Mapping[str, object]
    signature: str

    @property
    def includes_design(self) -> bool:
        return self.options.get("include_design") is True

    @property
    def includes_seq(self) -> bool:
        return self.options.get("local_seq") is True

    def is_partitioned(self, of_database: bool) -> bool:
        """Return True if each partition has its own rows. This is the default in a partitioned database."""
        return of_database and self.options.get("partitioned", True) is True

    def find(self, name: str) -> tuple[int, MapView]:
        """Return a view and its position in the group. Raise ``NotFound("missing_named_view")``."""
        for place, view in enumerate(self.views):
            if name in view.names or view.reduce_of(name) is not None:
                return place, view
        raise NotFound("missing_named_view")


def is_javascript(language: object) -> bool:
    """Return whether a design document is written in JavaScript. CouchDB ignores the case of the language.

    Raise ``NotSupported`` for CoffeeScript, which CouchDB runs, too.
    """
    name = language.lower() if isinstance(language, str) else ""
    if name == "coffeescript":
        raise NotSupported("the emulator does not run CoffeeScript; compile it to JavaScript")
    return name == JAVASCRIPT


def view_group(body: Mapping[str, object]) -> ViewGroup:
    """Return the views of a stored, and therefore well-formed, design document."""
    language = cast(str, body.get("language", JAVASCRIPT))
    options = cast("Mapping[str, object]", body.get("options", {}))
    views = cast("Mapping[str, Mapping[str, object]]", body.get("views", {}))
    lib = views.get("lib", {})
    found = tuple(_distinct(views))
    text = encode_json([language, options, lib, found])
    return ViewGroup(language, lib, found, options, md5(text, usedforsecurity=False).hexdigest())


def _distinct(views: Mapping[str, Mapping[str, object]]) -> Iterator[MapView]:
    """Yield the views in the order of their sources. Views with the same source and options become one."""
    known: dict[bytes, tuple[Term, MapView]] = {}
    for name, view in views.items():
        if name == "lib":
            continue
        source = view["map"]
        options = cast("Mapping[str, object]", view.get("options", {}))
        key = encode_json([source, options])
        order, one = known.get(key) or (term_key([source, options]), MapView(source, options, (), ()))
        reduce = view.get("reduce")
        if isinstance(reduce, str):
            one = one._replace(reduces=((name, reduce), *one.reduces))
        else:
            one = one._replace(names=(name, *one.names))
        known[key] = (order, one)
    for _, one in sorted(known.values(), key=lambda entry: entry[0]):
        yield one
