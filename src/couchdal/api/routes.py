"""CouchDB's API as a table: for each path and method, the name of the endpoint that answers it.

The table is data and imports no endpoint. To add an endpoint, add its route.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from couchdal.api.versions import PURGED_INFOS, SMOOSH_STATUS, Switch
from couchdal.errors import CouchError, NotFound
from couchdal.http.urls import split_path

_NO_ENDPOINTS: Mapping[str, str] = {}


class Route(NamedTuple):
    """One entry of the table: a path pattern and the endpoints of its methods.

    In a pattern, ``{name}`` matches one segment, and ``{name...}`` matches all that follow. An endpoint is named
    ``module.function``, below ``couchdal.emulator.endpoints``. The endpoint for ``*`` answers every method that has no
    other. ``allow`` is CouchDB's wording of the allowed methods. ``unsupported`` is the reason of a 501, for the
    methods in ``allow`` or, if ``allow`` is empty, for all methods.

    Two fields are for proxies. ``reading`` lists the methods other than GET that change no data. ``withheld`` lists the
    methods that only administrators need, or that run functions of design documents. ``since`` is set if older versions
    do not have the route: the switch of the version that introduced it.
    """

    pattern: str
    endpoints: Mapping[str, str] = _NO_ENDPOINTS
    allow: str = ""
    unsupported: str = ""
    reading: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()
    since: Switch | None = None

    def endpoint(self, method: str) -> str | None:
        """Return the name of the endpoint for a method: HEAD is answered as GET, or the endpoint for ``*`` answers."""
        return self.endpoints.get("GET" if method == "HEAD" else method) or self.endpoints.get("*")

    @property
    def is_listed(self) -> bool:
        """Whether descriptions of the API list the route. They omit routes that only refuse or that ignore the rest."""
        return bool(self.methods) and not self.unsupported and "{rest...}" not in self.pattern

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that the route names. HEAD is not among them: it is answered as GET."""
        return tuple(method for method in self.endpoints if method != "*")


_POST = ("POST",)
_PUT = ("PUT",)
_ALL = ("GET", "POST", "PUT", "DELETE")

_NO_SEARCH = "there is no full-text search"

_DOCUMENT = {
    "GET": "documents.read",
    "PUT": "documents.write",
    "DELETE": "documents.delete",
    "COPY": "documents.copy",
    "POST": "documents.post_form",
}
_DOCUMENT_METHODS = "DELETE,GET,HEAD,POST,PUT,COPY"
_ATTACHMENT = {"GET": "attachments.read", "PUT": "attachments.write", "DELETE": "attachments.delete"}
_ATTACHMENT_METHODS = "DELETE,GET,HEAD,PUT"
_SECURITY = {"GET": "security.read", "PUT": "security.write"}
_REVS_LIMIT = {"GET": "security.read_revs_limit", "PUT": "security.write_revs_limit"}
_PURGED_INFOS_LIMIT = {"GET": "purge.read_infos_limit", "PUT": "purge.write_infos_limit"}
_ALL_DOCS = {"GET": "all_docs.documents", "POST": "all_docs.documents"}
_DESIGN_DOCS = {"GET": "all_docs.design_documents", "POST": "all_docs.design_documents"}
_LOCAL_DOCS = {"GET": "all_docs.local_documents", "POST": "all_docs.local_documents"}
_INDEX = {"GET": "index.read", "POST": "index.create"}
_VIEW = {"GET": "views.read", "POST": "views.read"}
_LIST = dict.fromkeys(("GET", "POST", "*"), "design_functions.list_rows")
_SHOW = {"*": "design_functions.show"}
_UPDATE = {"*": "design_functions.update"}
_CONFIG = {"GET": "node.read_value", "PUT": "node.write_value", "DELETE": "node.forget_value"}
_RESHARD_STATE = {"GET": "reshard.read_state", "PUT": "reshard.write_state"}
_RESHARD_JOB = {"GET": "reshard.read_job", "DELETE": "reshard.delete_job"}
_RESHARD_JOB_STATE = {"GET": "reshard.read_job_state", "PUT": "reshard.write_job_state"}
_CHANGES = {"GET": "changes.read", "POST": "changes.read"}

_SERVER_ROUTES = (
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
    Route("/_membership/{rest...}", {"*": "cluster.fail"}),
    Route("/_db_updates", {"GET": "db_updates.read"}, "GET", withheld=_ALL),
    Route("/_replicate", {"POST": "replication.run", "*": "replication.refuse"}, "POST", withheld=_ALL),
    Route("/_scheduler/jobs", {"GET": "replication.list_jobs"}, "GET,HEAD", withheld=_ALL),
    Route("/_scheduler/jobs/{job}", {"GET": "replication.read_job"}, "GET,HEAD", withheld=_ALL),
    Route("/_scheduler/docs", {"GET": "replication.read_docs"}, "GET,HEAD", withheld=_ALL),
    Route("/_scheduler/docs/{below...}", {"GET": "replication.read_docs"}, "GET,HEAD", withheld=_ALL),
    Route("/_scheduler", {"*": "replication.fail"}, withheld=_ALL),
    Route("/_scheduler/{rest...}", {"*": "replication.fail"}, withheld=_ALL),
    Route("/_node", {"*": "node.refuse_nameless"}),
    Route("/_node/{node}", {"*": "node.read_name"}, withheld=_ALL),
    Route("/_node/{node}/_config", {"GET": "node.read_config"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_config/_reload", {"POST": "node.reload_config"}, "POST", withheld=_ALL),
    Route("/_node/{node}/_config/{section}", {"GET": "node.read_section"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_config/{section}/{key}", _CONFIG, "GET,PUT,DELETE", withheld=_ALL),
    Route("/_node/{node}/_config/{section}/{key}/{rest...}", {"*": "node.not_found"}),
    Route("/_node/{node}/_stats", {"GET": "node.stats"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_stats/{path...}", {"GET": "node.stats", "*": "reshard.fail"}, withheld=_ALL),
    Route("/_node/{node}/_prometheus", {"GET": "node.prometheus"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_system", {"GET": "node.system"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_versions", {"GET": "node.versions"}, "GET", withheld=_ALL),
    Route("/_node/{node}/_smoosh/status", {"GET": "node.smoosh_status"}, "GET", withheld=_ALL, since=SMOOSH_STATUS),
    Route("/_node/{node}/_restart", {"POST": "node.restart"}, "POST", withheld=_ALL),
    Route("/_node/{node}/{rest...}", unsupported="shards are not databases of their own"),
    Route("/_cluster_setup", {"GET": "cluster.state", "POST": "cluster.set_up"}, "GET,POST", withheld=_ALL),
    Route("/_reshard", {"GET": "reshard.summary"}, "GET,HEAD", withheld=_ALL),
    Route("/_reshard/state", _RESHARD_STATE, "GET,HEAD,PUT", withheld=_ALL),
    Route("/_reshard/state/{rest...}", {"*": "reshard.not_found"}),
    Route(
        "/_reshard/jobs", {"GET": "reshard.read_jobs", "POST": "reshard.create_jobs"}, "GET,HEAD,POST", withheld=_ALL
    ),
    Route("/_reshard/{name}", {"*": "reshard.not_found"}),
    Route("/_reshard/jobs/{job}", _RESHARD_JOB, "GET,HEAD,DELETE", withheld=_ALL),
    Route("/_reshard/jobs/{job}/state", _RESHARD_JOB_STATE, "GET,HEAD,PUT", withheld=_ALL),
    Route("/_reshard/{rest...}", {"*": "reshard.fail"}),
    Route("/_reload_query_servers", {"POST": "server.reload_query_servers"}, "POST", withheld=_ALL),
    Route("/_search_analyze", unsupported=_NO_SEARCH),
    Route("/_nouveau_analyze", unsupported=_NO_SEARCH),
    Route("/_utils", {"*": "server.interface"}),
    Route("/favicon.ico", {"*": "server.icon"}, withheld=_ALL),
)

# A database, its settings, and operations on all of it.
_DATABASE_ROUTES = (
    Route(
        "/{db}",
        {"GET": "databases.read", "PUT": "databases.create", "DELETE": "databases.delete", "POST": "databases.post"},
        "DELETE,GET,HEAD,POST",
        withheld=("PUT", "DELETE"),
    ),
    Route("/{db}/_security", _SECURITY, "PUT,GET", withheld=_ALL),
    Route("/{db}/_revs_limit", _REVS_LIMIT, "PUT,GET", withheld=_PUT),
    Route("/{db}/_purge", {"POST": "purge.write"}, "POST", withheld=_ALL),
    Route("/{db}/_purged_infos", {"GET": "purge.read_infos"}, "GET", withheld=_ALL, since=PURGED_INFOS),
    Route("/{db}/_purged_infos_limit", _PURGED_INFOS_LIMIT, "GET,PUT", withheld=_PUT),
    Route("/{db}/_compact", {"POST": "purge.compact_database"}, "POST", withheld=_ALL),
    Route("/{db}/_compact/{name}", {"POST": "purge.compact_view"}, "POST", withheld=_ALL),
    Route("/{db}/_compact/{name}/{rest...}", {"POST": "purge.compact_view"}, "POST", withheld=_ALL),
    Route("/{db}/_view_cleanup", {"POST": "purge.clean_up_views"}, "POST", withheld=_ALL),
    Route("/{db}/_view_cleanup/{rest...}", {"POST": "purge.clean_up_views"}, "POST", withheld=_ALL),
    Route("/{db}/_ensure_full_commit", {"POST": "databases.ensure_full_commit"}, "POST", reading=_POST),
    Route("/{db}/_temp_view", {"*": "server.temporary_view"}),
    Route("/{db}/_temp_view/{rest...}", {"*": "server.temporary_view"}),
    Route("/{db}/_shards", {"GET": "cluster.shards"}, "GET", withheld=_ALL),
    Route("/{db}/_shards/{doc_id}", {"GET": "cluster.document_shard"}, "GET", withheld=_ALL),
    Route("/{db}/_shards/{rest...}", {"*": "cluster.fail"}),
    Route("/{db}/_sync_shards", {"POST": "cluster.sync_shards"}, "POST", withheld=_ALL),
    Route("/{db}/_search_cleanup", unsupported=_NO_SEARCH),
    Route("/{db}/_nouveau_cleanup", unsupported=_NO_SEARCH),
    Route("/{db}/_bulk_docs", {"POST": "bulk_docs.write"}, "POST"),
    Route("/{db}/_bulk_get", {"POST": "bulk_get.read"}, "POST", reading=_POST),
    Route("/{db}/_revs_diff", {"POST": "revs_diff.revs_diff"}, "POST", reading=_POST),
    Route("/{db}/_missing_revs", {"POST": "revs_diff.missing_revs"}, "POST", reading=_POST),
)

# Routes that also exist within a partition. Source: chttpd_db:handle_partition_req.
_QUERY_ROUTES = (
    Route("/{db}/_all_docs", _ALL_DOCS, "GET,HEAD,POST", reading=_POST),
    Route("/{db}/_all_docs/queries", {"POST": "all_docs.document_queries"}, "POST", reading=_POST),
    Route("/{db}/_find", {"POST": "find.query"}, "POST", reading=_POST),
    Route("/{db}/_find/{rest...}", {"POST": "find.query"}, "POST", reading=_POST),
    Route("/{db}/_explain", {"POST": "find.explain_query"}, "POST", reading=_POST),
    Route("/{db}/_explain/{rest...}", {"POST": "find.explain_query"}, "POST", reading=_POST),
    Route("/{db}/_index", _INDEX, "GET,POST"),
    Route("/{db}/_index/_bulk_delete", {"POST": "index.bulk_delete"}, "POST"),
    Route("/{db}/_index/_design/{design}/{type}/{name}", {"DELETE": "index.delete"}, "DELETE"),
    Route("/{db}/_index/{design}/{type}/{name}", {"DELETE": "index.delete"}, "DELETE"),
    Route("/{db}/_index/{rest...}", {"*": "index.not_found"}),
    Route("/{db}/_design/{name}/_view/{view}", _VIEW, "GET,POST,HEAD", reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_view/{view}/queries", {"POST": "views.queries"}, "POST", reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_view", {"*": "views.refuse"}),
    Route("/{db}/_design/{name}/_view/{rest...}", {"*": "views.refuse"}),
    Route("/{db}/_design/{name}/_show", {"*": "design_functions.refuse_show"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_update", {"*": "design_functions.refuse_update"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_list", {"*": "design_functions.refuse_list"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_show/{function}", _SHOW, reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_show/{function}/{doc...}", _SHOW, reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_update/{function}", _UPDATE, withheld=_ALL),
    Route("/{db}/_design/{name}/_update/{function}/{doc...}", _UPDATE, withheld=_ALL),
    Route("/{db}/_design/{name}/_list/{function}", {"*": "design_functions.refuse_list"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_list/{function}/{view...}", _LIST, "GET,POST,HEAD", reading=_POST, withheld=_ALL),
    Route("/{db}/_design/{name}/_info", {"GET": "views.info"}, "GET", withheld=_ALL),
    Route("/{db}/_design/{name}/_rewrite", {"*": "rewrite.answer"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_rewrite/{path...}", {"*": "rewrite.answer"}, withheld=_ALL),
    Route("/{db}/_design/{name}/_search", unsupported=_NO_SEARCH, reading=_POST),
    Route("/{db}/_design/{name}/_search/{rest...}", unsupported=_NO_SEARCH, reading=_POST),
    Route("/{db}/_design/{name}/_search_info", unsupported=_NO_SEARCH),
    Route("/{db}/_design/{name}/_search_info/{rest...}", unsupported=_NO_SEARCH),
    Route("/{db}/_design/{name}/_search_disk_size", unsupported=_NO_SEARCH),
    Route("/{db}/_design/{name}/_search_disk_size/{rest...}", unsupported=_NO_SEARCH),
    Route("/{db}/_design/{name}/_nouveau", unsupported=_NO_SEARCH, reading=_POST),
    Route("/{db}/_design/{name}/_nouveau/{rest...}", unsupported=_NO_SEARCH, reading=_POST),
    Route("/{db}/_design/{name}/_nouveau_info", unsupported=_NO_SEARCH),
    Route("/{db}/_design/{name}/_nouveau_info/{rest...}", unsupported=_NO_SEARCH),
)

PARTITION = "/{db}/_partition/{partition}"


def _in_partition(route: Route) -> Route:
    return route._replace(pattern=route.pattern.replace("/{db}", PARTITION))


_PARTITION_ROUTES = (
    Route("/{db}/_partition", {"*": "partitions.refuse_nameless"}),
    Route(PARTITION, {"GET": "partitions.read", "POST": "partitions.post"}, "GET"),
    *map(_in_partition, _QUERY_ROUTES),
    Route(PARTITION + "/_all_docs/{rest...}", {"*": "partitions.attachment"}),
    Route(PARTITION + "/{rest...}", {"*": "partitions.not_found"}),
)

_DOCUMENT_ROUTES = (
    Route("/{db}/_design_docs", _DESIGN_DOCS, "GET,HEAD,POST", reading=_POST),
    Route("/{db}/_design_docs/queries", {"POST": "all_docs.design_document_queries"}, "POST", reading=_POST),
    Route("/{db}/_local_docs", _LOCAL_DOCS, "GET,HEAD,POST", reading=_POST),
    Route("/{db}/_local_docs/queries", {"POST": "all_docs.local_document_queries"}, "POST", reading=_POST),
    Route("/{db}/_changes", _CHANGES, "GET,POST,HEAD", reading=_POST),
    Route("/{db}/_changes/{rest...}", {**_CHANGES, "*": "changes.refuse"}, reading=_POST),
    Route("/{db}/_local", {"*": "documents.refuse_local_id"}),
    Route("/{db}/_local%2F", {"*": "documents.refuse_local_id"}),
    Route("/{db}/_local/{local}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/_local/{local}/{rest...}", {"*": "documents.refuse_local_attachment"}),
    Route("/{db}/_design/{design}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/{doc_id}", _DOCUMENT, _DOCUMENT_METHODS),
    Route("/{db}/_design/{design}/{name...}", _ATTACHMENT, _ATTACHMENT_METHODS),
    Route("/{db}/{doc_id}/{name...}", _ATTACHMENT, _ATTACHMENT_METHODS),
)

#: The first route that matches a path answers it.
ROUTES: tuple[Route, ...] = (
    *_SERVER_ROUTES,
    *_DATABASE_ROUTES,
    *_QUERY_ROUTES,
    *_PARTITION_ROUTES,
    *_DOCUMENT_ROUTES,
)


class Pattern:
    """A pattern, parsed once."""

    __slots__ = ("fixed", "named", "open_ended", "size")

    def __init__(self, pattern: str) -> None:
        segments = split_path(pattern)
        self.size: int = len(segments)
        self.open_ended: bool = bool(segments) and segments[-1].endswith("...}")
        self.fixed: list[tuple[int, str]] = []
        self.named: list[tuple[int, str]] = []
        for place, text in enumerate(segments):
            if text[0] == "{":
                self.named.append((place, text.strip("{.}")))
            else:
                self.fixed.append((place, text))

    def match(self, segments: Sequence[str]) -> dict[str, str] | None:
        """Return the values of the pattern's names, or ``None`` if the path does not match."""
        if len(segments) < self.size if self.open_ended else len(segments) != self.size:
            return None
        for place, text in self.fixed:
            if segments[place] != text:
                return None
        # A loop, because a comprehension is one more call.
        args = {}
        for place, name in self.named:
            args[name] = segments[place]
        if self.open_ended:
            args[name] = "/".join(segments[place:])
        return args


def _by_second_segment(routes: Sequence[Route]) -> dict[str, list[tuple[Pattern, Route]]]:
    """Return the routes that may match a path with a second segment; those of ``""`` may match any other path."""
    candidates: dict[str, list[tuple[Pattern, Route]]] = {"": []}
    for route in routes:
        pattern = Pattern(route.pattern)
        place, second = pattern.fixed[0] if pattern.fixed else (0, "")
        if place != 1:
            for each in candidates.values():
                each.append((pattern, route))
        else:
            # The routes before this one that match any second segment come first.
            candidates.setdefault(second, candidates[""].copy()).append((pattern, route))
    return candidates


_DATABASE = _DATABASE_ROUTES[0]
_CANDIDATES = _by_second_segment([route for route in ROUTES if route.pattern.startswith("/{db}/")])
_OTHERS = _CANDIDATES[""]
# CouchDB chooses its own endpoints by the first segment: "/_session/x" is "/_session". Some then look at the others.
_SERVER = {route.pattern[1:]: route for route in _SERVER_ROUTES if "/" not in route.pattern[1:]}
_BELOW = {
    first: [(Pattern(route.pattern), route) for route in _SERVER_ROUTES if route.pattern.startswith(f"/{first}/")]
    for first in _SERVER
}


def find_route(segments: Sequence[str]) -> tuple[Route, dict[str, str]]:
    """Return the route of a path and the values of its pattern's names. Raise ``NotFound``."""
    route = _SERVER.get(segments[0] if segments else "")
    if route is not None:
        for pattern, below in _BELOW[segments[0]] if len(segments) > 1 else ():
            args = pattern.match(segments)
            if args is not None:
                return below, args
        return route, {}
    if len(segments) == 1:
        return _DATABASE, {"db": segments[0]}
    for pattern, found in _CANDIDATES.get(segments[1], _OTHERS):
        args = pattern.match(segments)
        if args is not None:
            return found, args
    raise NotFound("missing")


def endpoint_of(path: str) -> str | None:
    """Return the pattern of the route of a percent-encoded path, such as ``/{db}/_find``; ``None`` without a route."""
    try:
        return find_route(split_path(path))[0].pattern
    except CouchError:
        return None
