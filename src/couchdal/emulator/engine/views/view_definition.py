"""The views of a design document: what each is made from, and which of them share their rows.

It knows nothing of databases and runs no function. Source: ``couch_mrview_util:ddoc_to_mrst``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import md5
from typing import Any, NamedTuple, cast

from couchdal.emulator.engine.erlang.term_order import Term, term_key
from couchdal.errors import NotFound
from couchdal.http.json_text import encode_json

#: The language of functions, and that of a design document which names none.
JAVASCRIPT = "javascript"
#: That of the design documents which define Mango's indexes: their views are made from columns.
MANGO = "query"


class MapView(NamedTuple):
    """One map function with its options, and the names under which a design document has it.

    ``source`` is text, or the definition of one of Mango's indexes. ``reduces`` are the names that have a reduce
    function as well, the last one first.
    """

    source: Any
    options: Mapping[str, object]
    names: tuple[str, ...]
    reduces: tuple[tuple[str, str], ...]

    @property
    def is_raw(self) -> bool:
        """Whether keys sort as Erlang's terms, and not by collation."""
        return self.options.get("collation") == "raw"

    @property
    def first_name(self) -> str:
        """The name that errors call it by."""
        return self.names[0] if self.names else self.reduces[0][0]

    def reduce_of(self, name: str) -> str | None:
        """Return the source of a name's reduce function."""
        return next((source for own, source in self.reduces if own == name), None)


class ViewGroup(NamedTuple):
    """All views of a design document. What they find is kept by ``signature``: whoever has the same ones shares it."""

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
        """Whether each partition has rows of its own: the default in a partitioned database."""
        return of_database and self.options.get("partitioned", True) is True

    def find(self, name: str) -> tuple[int, MapView]:
        """Return a view and its place; raises ``NotFound("missing_named_view")``."""
        for place, view in enumerate(self.views):
            if name in view.names or view.reduce_of(name) is not None:
                return place, view
        raise NotFound("missing_named_view")


def view_group(body: Mapping[str, object]) -> ViewGroup:
    """Return the views of a design document that was stored, and so is well-formed."""
    language = cast(str, body.get("language", JAVASCRIPT))
    options = cast("Mapping[str, object]", body.get("options", {}))
    views = cast("Mapping[str, Mapping[str, object]]", body.get("views", {}))
    lib = views.get("lib", {})
    found = tuple(_distinct(views))
    text = encode_json([language, options, lib, found])
    return ViewGroup(language, lib, found, options, md5(text, usedforsecurity=False).hexdigest())


def _distinct(views: Mapping[str, Mapping[str, object]]) -> Iterator[MapView]:
    """Yield the views by their sources: those with the same one are one view of several names."""
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
