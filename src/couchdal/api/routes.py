"""The table of CouchDB's endpoints: method and path to the function that answers, or the reason why none does.

It names the endpoints, imports each when it is needed, and is imported by the memory backend alone. To add an endpoint,
add its row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import NamedTuple, TypeAlias, cast

from couchdal.emulator.http.call import Call
from couchdal.errors import MethodNotAllowed, NotFound, NotSupported
from couchdal.http.messages import Response
from couchdal.http.urls import split_path

Endpoint: TypeAlias = Callable[[Call], Response]


_NO_ENDPOINTS: Mapping[str, str] = {}


class Route(NamedTuple):
    """One row: a path pattern, its endpoints by method, and CouchDB's wording of the methods that it allows.

    An endpoint is named ``module.function`` of ``emulator.endpoints`` and imported when first asked for: most
    processes need few of them. ``{name}`` stands for one segment, ``{name...}`` for all that follow. A GET endpoint
    answers HEAD as well, one for ``*`` every method that has none of its own. ``unsupported`` is the reason of the 501
    that every method gets, or those in ``allow``. Two columns are for those who stand before a server: ``reading`` has
    the methods beside GET that change no data, and ``withheld`` those that are not for everybody: an administrator's
    work, and functions of design documents.
    """

    pattern: str
    endpoints: Mapping[str, str] = _NO_ENDPOINTS
    allow: str = ""
    unsupported: str = ""
    reading: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


_POST = ("POST",)
_ALL = ("GET", "POST", "PUT", "DELETE")
_ATTACHMENT = {"GET": "attachments.read", "PUT": "attachments.write", "DELETE": "attachments.delete"}

_NO_SEARCH = "there is no full-text search"
_DESIGN_ACTIONS = {
    "_rewrite": "requests are not rewritten",
    "_search": _NO_SEARCH,
    "_search_info": _NO_SEARCH,
    "_search_disk_size": _NO_SEARCH,
    "_nouveau": _NO_SEARCH,
    "_nouveau_info": _NO_SEARCH,
}

# The design documents' endpoints that take queries by POST.
_QUERIES = ("_search", "_nouveau")

_DOCUMENT: Mapping[str, str] = {
    "GET": "documents.read",
    "PUT": "documents.write",
    "DELETE": "documents.delete",
    "COPY": "documents.copy",
    "POST": "documents.post_form",
}
_DOCUMENT_METHODS = "DELETE,GET,HEAD,POST,PUT,COPY"

ROUTES: tuple[Route, ...] = (
    Route("/", {"GET": "server.welcome"}, "GET,HEAD"),
    Route("/_up", {"GET": "server.up"}, "GET,HEAD"),
    Route("/_uuids", {"GET": "server.uuids"}, "GET"),
    Route(
        "/_session",
        {"GET": "session.read", "POST": "session.log_in", "DELETE": "session.log_out"},
        "GET,HEAD,POST,DELETE",
        reading=("POST", "DELETE"),
    ),
    Route("/_all_dbs", {"GET": "databases.list_names"}, "GET,HEAD", withheld=_ALL),
    Route(
        "/_dbs_info",
        {"GET": "databases.list_infos", "POST": "databases.post_infos"},
        "GET,HEAD,POST",
        reading=_POST,
        withheld=_ALL,
    ),
    Route("/_active_tasks", {"GET": "server.active_tasks"}, "GET,HEAD", withheld=_ALL),
    Route("/_membership", {"GET": "server.membership"}, "GET", withheld=_ALL),
    Route("/_replicate", unsupported="replications are not run; replicate with a client instead"),
    Route("/_scheduler", unsupported="replications are not run"),
    Route("/_db_updates", unsupported="there is no feed of databases"),
    Route("/_node", unsupported="there are neither nodes nor a configuration to change"),
    Route("/_cluster_setup", unsupported="there is no cluster to set up"),
    Route("/_reshard", unsupported="databases have no shards"),
    Route("/_reload_query_servers", unsupported="there are no query servers"),
    Route("/_search_analyze", unsupported=_NO_SEARCH),
    Route("/_nouveau_analyze", unsupported=_NO_SEARCH),
    Route("/_utils", unsupported="there is no web interface"),
    Route("/favicon.ico", unsupported="there is no web interface"),
    Route(
        "/{db}",
        {"GET": "databases.read", "PUT": "databases.create", "DELETE": "databases.delete", "POST": "databases.post"},
        "DELETE,GET,HEAD,POST",
        withheld=("PUT", "DELETE"),
    ),
    Route("/{db}/_security", {"GET": "security.read", "PUT": "security.write"}, "PUT,GET", withheld=_ALL),
    Route(
        "/{db}/_revs_limit",
        {"GET": "security.read_revs_limit", "PUT": "security.write_revs_limit"},
        "PUT,GET",
        withheld=("PUT",),
    ),
    Route("/{db}/_purge", {"POST": "purge.write"}, "POST", withheld=_ALL),
    Route("/{db}/_purged_infos", {"GET": "purge.read_infos"}, "GET", withheld=_ALL),
    Route(
        "/{db}/_purged_infos_limit",
        {"GET": "purge.read_infos_limit", "PUT": "purge.write_infos_limit"},
        "GET,PUT",
        withheld=("PUT",),
    ),
    Route("/{db}/_compact", {"POST": "purge.compact_database"}, "POST", withheld=_ALL),
    Route("/{db}/_compact/{name}", {"POST": "purge.compact_view"}, "POST", withheld=_ALL),
    Route("/{db}/_compact/{name}/{rest...}", {"POST": "purge.compact_view"}, "POST", withheld=_ALL),
    Route("/{db}/_view_cleanup", {"POST": "purge.clean_up_views"}, "POST", withheld=_ALL),
    Route("/{db}/_view_cleanup/{rest...}", {"POST": "purge.clean_up_views"}, "POST", withheld=_ALL),
    Route("/{db}/_ensure_full_commit", {"POST": "databases.ensure_full_commit"}, "POST", reading=_POST),
    Route("/{db}/_partition", {"*": "databases.no_partition"}),
    Route(
        "/{db}/_partition/{partition}", {"GET": "databases.partition_info", "POST": "databases.post_partition"}, "GET"
    ),
    Route("/{db}/_partition/{partition}/{rest...}", {"*": "databases.in_partition"}),
    Route("/{db}/_temp_view", {"*": "server.temporary_view"}),
    Route("/{db}/_temp_view/{rest...}", {"*": "server.temporary_view"}),
    Route("/{db}/_shards", allow="GET", unsupported="databases have no shards"),
    Route("/{db}/_shards/{doc_id}", allow="GET", unsupported="databases have no shards"),
    Route("/{db}/_sync_shards", allow="POST", unsupported="databases have no shards"),
    Route(
        "/{db}/_design/{name}/_view/{view}",
        {"GET": "views.read", "POST": "views.read"},
        "GET,POST,HEAD",
        reading=_POST,
        withheld=_ALL,
    ),
    Route("/{db}/_design/{name}/_view/{view}/queries", {"POST": "views.queries"}, "POST", reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_view", {"*": "views.refuse"}),
    Route("/{db}/_design/{name}/_view/{rest...}", {"*": "views.refuse"}),
    *(
        Route(
            f"/{{db}}/_design/{{name}}/{action}/{{function}}{more}",
            {"*": endpoint},
            reading=_POST * (action == "_show"),
            withheld=_ALL,
        )
        for action, endpoint in (("_show", "design_functions.show"), ("_update", "design_functions.update"))
        for more in ("", "/{doc...}")
    ),
    Route("/{db}/_design/{name}/_list/{function}", {"*": "design_functions.list_rows"}, withheld=_ALL),
    Route(
        "/{db}/_design/{name}/_list/{function}/{view...}",
        {"GET": "design_functions.list_rows", "POST": "design_functions.list_rows"},
        "GET,POST,HEAD",
        reading=_POST,
        withheld=_ALL,
    ),
    Route("/{db}/_design/{name}/_info", {"GET": "views.info"}, "GET", withheld=_ALL),
    *(
        Route(f"/{{db}}/_design/{{name}}/{action}{more}", unsupported=reason, reading=_POST * (action in _QUERIES))
        for action, reason in _DESIGN_ACTIONS.items()
        for more in ("", "/{rest...}")
    ),
    Route("/{db}/_search_cleanup", unsupported=_NO_SEARCH),
    Route("/{db}/_nouveau_cleanup", unsupported=_NO_SEARCH),
    Route("/{db}/_bulk_docs", {"POST": "bulk_docs.write"}, "POST"),
    Route("/{db}/_bulk_get", {"POST": "bulk_get.read"}, "POST", reading=_POST),
    Route("/{db}/_revs_diff", {"POST": "revs_diff.revs_diff"}, "POST", reading=_POST),
    Route("/{db}/_missing_revs", {"POST": "revs_diff.missing_revs"}, "POST", reading=_POST),
    *(
        route
        for name, endpoint, queries in (
            ("all", "all_docs.documents", "all_docs.document_queries"),
            ("design", "all_docs.design_documents", "all_docs.design_document_queries"),
            ("local", "all_docs.local_documents", "all_docs.local_document_queries"),
        )
        for route in (
            Route(f"/{{db}}/_{name}_docs", {"GET": endpoint, "POST": endpoint}, "GET,HEAD,POST", reading=_POST),
            Route(f"/{{db}}/_{name}_docs/queries", {"POST": queries}, "POST", reading=_POST),
        )
    ),
    Route("/{db}/_find", {"POST": "find.query"}, "POST", reading=_POST),
    Route("/{db}/_find/{rest...}", {"POST": "find.query"}, "POST", reading=_POST),
    Route("/{db}/_explain", {"POST": "find.explain_query"}, "POST", reading=_POST),
    Route("/{db}/_explain/{rest...}", {"POST": "find.explain_query"}, "POST", reading=_POST),
    Route("/{db}/_index", {"GET": "index.read", "POST": "index.create"}, "GET,POST"),
    Route("/{db}/_index/_bulk_delete", {"POST": "index.bulk_delete"}, "POST"),
    Route("/{db}/_index/_design/{design}/{type}/{name}", {"DELETE": "index.delete"}, "DELETE"),
    Route("/{db}/_index/{design}/{type}/{name}", {"DELETE": "index.delete"}, "DELETE"),
    Route("/{db}/_index/{rest...}", {"*": "index.not_found"}),
    Route("/{db}/_changes", {"GET": "changes.read", "POST": "changes.read"}, "GET,POST,HEAD", reading=_POST),
    Route(
        "/{db}/_changes/{rest...}",
        {"GET": "changes.read", "POST": "changes.read", "*": "changes.refuse"},
        reading=_POST,
    ),
    Route("/{db}/_local", {"*": "local_documents.refuse_nameless"}),
    Route("/{db}/_local%2F", {"*": "local_documents.refuse_nameless"}),
    Route("/{db}/_local/{local}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/_local/{local}/{rest...}", {"*": "local_documents.refuse_attachments"}),
    Route("/{db}/_design/{design}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/{doc_id}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/_design/{design}/{name...}", _ATTACHMENT, "DELETE,GET,HEAD,PUT"),
    Route("/{db}/{doc_id}/{name...}", _ATTACHMENT, "DELETE,GET,HEAD,PUT"),
)

# What is answered within a partition, with its methods: one row has them all.
IN_PARTITION: Mapping[str, tuple[str, ...]] = {
    "/{db}/_partition/{partition}/_all_docs": ("GET", "POST"),
    "/{db}/_partition/{partition}/_find": ("POST",),
    "/{db}/_partition/{partition}/_explain": ("POST",),
    "/{db}/_partition/{partition}/_index": ("GET", "POST"),
}


class Pattern:
    """A pattern taken apart: which segments are fixed, and which have names."""

    __slots__ = ("fixed", "named", "open_ended", "size")

    def __init__(self, pattern: str) -> None:
        segments = split_path(pattern)
        self.size = len(segments)
        self.open_ended = bool(segments) and segments[-1].endswith("...}")
        self.fixed = [(place, text) for place, text in enumerate(segments) if not text.startswith("{")]
        self.named = [(place, text.strip("{.}")) for place, text in enumerate(segments) if text.startswith("{")]

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the values of the pattern's names, or None where the path is another's."""
        if len(segments) < self.size if self.open_ended else len(segments) != self.size:
            return None
        for place, text in self.fixed:
            if segments[place] != text:
                return None
        args = {name: segments[place] for place, name in self.named}
        if self.open_ended:
            args[self.named[-1][1]] = "/".join(segments[self.size - 1 :])
        return args


def _index(routes: Sequence[Route]) -> dict[str, list[tuple[Pattern, Route]]]:
    """Group patterns below a database by the segment that tells most: the second."""
    patterns: dict[str, list[tuple[Pattern, Route]]] = {}
    for route in routes:
        if route.pattern.startswith("/{db}"):
            patterns.setdefault(_key(split_path(route.pattern)), []).append((Pattern(route.pattern), route))
    return patterns


def _key(segments: Sequence[str]) -> str:
    if len(segments) == 1:
        return "/{db}"
    return "/{db}/" + segments[1] if segments[1].startswith("_") else "/{db}/{doc_id}"


_INDEX = _index(ROUTES)
# To find an endpoint of its own, the server looks at the first segment only: "/_session/x" is "/_session".
_SERVER = {route.pattern[1:]: route for route in ROUTES if not route.pattern.startswith("/{db}")}


def find_route(segments: Sequence[str]) -> tuple[Route, dict[str, str]]:
    """Return the row for a path and the values of its pattern's names; raises ``NotFound``."""
    own = _SERVER.get(segments[0] if segments else "")
    if own is not None:
        return own, {}
    for patterns in (_INDEX.get(_key(segments)), _INDEX["/{db}/{doc_id}"]):
        for pattern, route in patterns or ():
            args = pattern.match(segments)
            if args is not None:
                return route, args
    raise NotFound("missing")


def find_endpoint(route: Route, method: str) -> Endpoint:
    """Return the function that answers a method; raises ``MethodNotAllowed`` or ``NotSupported``."""
    if route.unsupported and (not route.allow or ("GET" if method == "HEAD" else method) in route.allow.split(",")):
        raise NotSupported(f"{method} {route.pattern}: {route.unsupported}")
    found = route.endpoints.get("GET" if method == "HEAD" else method) or route.endpoints.get("*")
    if found is None:
        raise MethodNotAllowed(f"Only {route.allow} allowed", headers={"allow": route.allow})
    return load_endpoint(found)


@cache
def load_endpoint(name: str) -> Endpoint:
    """Return the function that a row names, importing its module."""
    module, _, function = name.partition(".")
    return cast(Endpoint, getattr(import_module(f"couchdal.emulator.endpoints.{module}"), function))
