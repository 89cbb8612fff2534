"""The parameters of CouchDB's API: which endpoint has which, in its query and in its body, and what each holds.

The coverage, the OpenAPI description and the request events read these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from couchdal.api.routes import ROUTES, Route

# The parameters of listings and of views. A POST may have them in its body.
_VIEW = (
    *("key", "keys", "start_key", "end_key", "start_key_doc_id", "end_key_doc_id", "limit", "skip", "descending"),
    *("include_docs", "inclusive_end", "update_seq", "conflicts", "attachments", "att_encoding_info"),
)
_REDUCED = (*_VIEW, "reduce", "group", "group_level", "sorted", "stable", "update", "stale", "partition")
_NAMES = ("limit", "skip", "descending", "start_key", "end_key", "key", "inclusive_end")
_READ = (
    *("rev", "open_revs", "revs", "revs_info", "conflicts", "deleted_conflicts", "latest", "local_seq", "meta"),
    *("attachments", "att_encoding_info", "atts_since", "r"),
)
_FIND = (
    *("selector", "fields", "sort", "limit", "skip", "bookmark", "use_index", "execution_stats", "conflicts", "r"),
    *("update", "stable", "stale", "partition", "allow_fallback"),
)
_CHANGES = (
    *("since", "feed", "limit", "filter", "include_docs", "style", "descending", "heartbeat", "timeout", "conflicts"),
    *("attachments", "att_encoding_info", "seq_interval", "last-event-id", "view"),
)
_SETUP = (
    *("action", "username", "password", "password_hash", "bind_address", "port", "node_count", "ensure_dbs_exist"),
    *("host", "cookie"),
)
_REPLICATION = (
    *("source", "target", "continuous", "cancel", "id", "create_target", "create_target_params", "doc_ids", "selector"),
    *("filter", "query_params", "since_seq", "winning_revs_only", "use_checkpoints", "use_bulk_get"),
    *("checkpoint_interval", "connection_timeout", "retries_per_request", "worker_batch_size", "proxy"),
    *("source_proxy", "target_proxy"),
)


class Parameters(NamedTuple):
    """The names of an endpoint's parameters. ``body`` has the members of a JSON body that are parameters."""

    query: tuple[str, ...] = ()
    body: tuple[str, ...] = ()


NONE: Final = Parameters()
_LISTING = Parameters(_VIEW, _VIEW)
_LISTINGS = Parameters((), ("queries", *_VIEW))

#: By the name that the routes have for the endpoint. An endpoint without parameters is missing.
BY_ENDPOINT: Final[Mapping[str, Parameters]] = {
    "server.uuids": Parameters(("count",)),
    "session.read": Parameters(("basic",)),
    "session.log_in": Parameters(("next",)),
    "session.log_out": Parameters(("next",)),
    "databases.list_names": Parameters(_NAMES),
    "databases.list_infos": Parameters(_NAMES),
    "databases.post_infos": Parameters((), ("keys",)),
    "databases.create": Parameters(("q", "n", "partitioned", "placement")),
    "databases.post": Parameters(("batch", "w")),
    "documents.read": Parameters(_READ),
    "documents.write": Parameters(("rev", "new_edits", "batch", "w")),
    "documents.delete": Parameters(("rev", "batch", "w")),
    "documents.copy": Parameters(("rev",)),
    "attachments.read": Parameters(("rev",)),
    "attachments.write": Parameters(("rev", "w")),
    "attachments.delete": Parameters(("rev", "w")),
    "all_docs.documents": _LISTING,
    "all_docs.design_documents": _LISTING,
    "all_docs.local_documents": _LISTING,
    "all_docs.document_queries": _LISTINGS,
    "all_docs.design_document_queries": _LISTINGS,
    "all_docs.local_document_queries": _LISTINGS,
    "views.read": Parameters(_REDUCED, _REDUCED),
    "views.queries": Parameters((), ("queries", *_REDUCED)),
    "design_functions.list_rows": Parameters(_REDUCED, _REDUCED),
    "purge.write": Parameters(("w",)),
    "bulk_docs.write": Parameters(("w",), ("docs", "new_edits")),
    "bulk_get.read": Parameters(("revs", "attachments", "latest"), ("docs",)),
    "find.query": Parameters((), _FIND),
    "find.explain_query": Parameters((), _FIND),
    "index.read": Parameters(("limit", "skip")),
    "index.create": Parameters(("w",), ("index", "ddoc", "name", "type", "partitioned")),
    "index.bulk_delete": Parameters(("w",), ("docids",)),
    "db_updates.read": Parameters(("feed", "since", "limit", "descending", "heartbeat", "timeout")),
    "cluster.state": Parameters(("ensure_dbs_exist",)),
    "cluster.set_up": Parameters((), _SETUP),
    "reshard.write_state": Parameters((), ("state", "reason")),
    "reshard.create_jobs": Parameters((), ("type", "db", "shard", "range", "node")),
    "reshard.write_job_state": Parameters((), ("state", "reason")),
    "replication.run": Parameters((), _REPLICATION),
    "replication.list_jobs": Parameters(("limit", "skip")),
    "replication.read_docs": Parameters((*_NAMES, "states")),
    "changes.read": Parameters(_CHANGES, ("doc_ids", "selector", "fields")),
}
# Local documents have no tree of revisions, and so fewer parameters.
_OF_LOCAL_DOCUMENTS: Mapping[str, Parameters] = {
    "documents.read": Parameters(("rev",)),
    "documents.write": Parameters(("rev", "batch")),
    "documents.delete": Parameters(("rev", "batch")),
    "documents.copy": Parameters(("rev",)),
}


def parameters_of(route: Route, method: str) -> Parameters:
    """Return the parameters of one method of a route. Only a POST or a PUT has some in its body."""
    table = _OF_LOCAL_DOCUMENTS if route.pattern == "/{db}/_local/{local}" else BY_ENDPOINT
    found = table.get(route.endpoint(method) or "", NONE)
    return found if method in ("POST", "PUT") else found._replace(body=())


def parameter_names(route: Route) -> tuple[str, ...]:
    """Return the names of the parameters of all methods of a route."""
    found = (parameters_of(route, method) for method in route.endpoints)
    return tuple(dict.fromkeys(name for parameters in found for names in parameters for name in names))


#: Parameters that CouchDB takes under two names.
ALIASES: Final[Mapping[str, str]] = {
    "startkey": "start_key",
    "endkey": "end_key",
    "startkey_docid": "start_key_doc_id",
    "endkey_docid": "end_key_doc_id",
}

#: Parameters that are ``true`` or ``false``.
FLAGS: Final = frozenset(
    (
        *("descending", "include_docs", "inclusive_end", "update_seq", "conflicts", "attachments"),
        *("att_encoding_info", "revs", "revs_info", "deleted_conflicts", "latest", "local_seq", "meta", "new_edits"),
        *("partitioned", "basic", "reduce", "group", "sorted", "stable", "execution_stats", "allow_fallback"),
    )
)
#: Parameters that are numbers.
COUNTS: Final = frozenset(
    ("group_level", "limit", "skip", "count", "node_count", "q", "n", "r", "w", "heartbeat", "timeout", "seq_interval")
)
#: Parameters that are JSON values, in a query as JSON text.
VALUES: Final = frozenset(("key", "keys", "start_key", "end_key", "doc_ids", "atts_since"))
#: Parameters with a fixed choice of values. All others are text.
WORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "feed": ("normal", "longpoll", "continuous", "eventsource"),
    "style": ("main_only", "all_docs"),
    "batch": ("ok",),
    "type": ("json",),
    "stale": ("ok", "update_after"),
    "update": ("true", "false", "lazy"),
}

#: The operators of selectors.
OPERATORS: Final = (
    *("$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$exists", "$type", "$size", "$mod", "$regex"),
    *("$beginsWith", "$and", "$or", "$nor", "$not", "$all", "$elemMatch", "$allMatch", "$keyMapMatch"),
)


def takes_selector(route: Route) -> bool:
    """Return whether a body may hold a selector: as itself, or as the partial filter of an index."""
    return any(not {"selector", "index"}.isdisjoint(parameters_of(route, method).body) for method in route.endpoints)


#: The names of the parameters by pattern, for the routes that answer.
PARAMETERS: Final[Mapping[str, tuple[str, ...]]] = {
    route.pattern: parameter_names(route) for route in ROUTES if route.is_listed and parameter_names(route)
}
