"""What there is to be met: the endpoints and their methods, parameters, operators and errors.

Endpoints and methods are those of the routing table; parameters and errors are CouchDB's, by endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

from dal.routing import IN_PARTITION, ROUTES

_VIEW = (
    "key", "keys", "start_key", "end_key", "start_key_doc_id", "end_key_doc_id", "limit", "skip", "descending",
    "include_docs", "inclusive_end", "update_seq", "conflicts", "attachments", "att_encoding_info",
)  # fmt: skip
_READ = (
    "rev", "open_revs", "revs", "revs_info", "conflicts", "deleted_conflicts", "latest", "local_seq", "meta",
    "attachments", "att_encoding_info", "atts_since", "r",
)  # fmt: skip
_WRITE = ("rev", "new_edits", "batch", "w")
_QUERY = (
    "selector", "fields", "sort", "limit", "skip", "bookmark", "use_index", "execution_stats", "conflicts", "r",
    "update", "stable", "stale", "partition", "allow_fallback",
)  # fmt: skip

_NAMES = ("limit", "skip", "descending", "start_key", "end_key", "key", "inclusive_end")
_INDEX = ("index", "ddoc", "name", "type", "partitioned", "w", "limit", "skip")

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "/_all_dbs": _NAMES,
    "/_dbs_info": (*_NAMES, "keys"),
    "/_session": ("basic", "next"),
    "/_uuids": ("count",),
    "/{db}": ("q", "n", "partitioned", "placement", "batch", "w"),
    "/{db}/{doc_id}": tuple(dict.fromkeys(_READ + _WRITE)),
    "/{db}/_design/{design}": tuple(dict.fromkeys(_READ + _WRITE)),
    "/{db}/_local/{local}": ("rev", "batch"),
    "/{db}/{doc_id}/{name...}": ("rev", "w"),
    "/{db}/_design/{design}/{name...}": ("rev", "w"),
    "/{db}/_all_docs": _VIEW,
    "/{db}/_design_docs": _VIEW,
    "/{db}/_local_docs": _VIEW,
    **{f"/{{db}}/_{name}_docs/queries": ("queries", *_VIEW) for name in ("all", "design", "local")},
    "/{db}/_purge": ("w",),
    "/{db}/_bulk_docs": ("docs", "new_edits", "w"),
    "/{db}/_bulk_get": ("docs", "revs", "attachments", "latest"),
    "/{db}/_find": _QUERY,
    "/{db}/_explain": _QUERY,
    "/{db}/_index": _INDEX,
    "/{db}/_index/_bulk_delete": ("docids", "w"),
    **dict(zip(IN_PARTITION, (_VIEW, _QUERY, _QUERY, _INDEX), strict=True)),
    "/{db}/_changes": (
        "since", "feed", "limit", "filter", "doc_ids", "selector", "include_docs", "style", "descending", "heartbeat",
        "timeout", "conflicts", "attachments", "att_encoding_info", "seq_interval", "last-event-id", "view", "fields",
    ),
}  # fmt: skip

# The errors that a program should expect of an endpoint, as CouchDB was seen to give them: there are rarer ones.
_BODY = ("400 bad_request", "415 bad_content_type")
_LISTING = ("400 bad_request", "400 query_parse_error", "404 not_found")
ERRORS: Mapping[str, tuple[str, ...]] = {
    "/_session": ("400 bad_request", "401 unauthorized"),
    "/{db}": ("400 illegal_database_name", "404 not_found", "412 file_exists"),
    "/{db}/_purge": _BODY,
    "/{db}/_bulk_docs": (*_BODY, "400 doc_validation"),
    "/{db}/_bulk_get": _BODY,
    "/{db}/_revs_diff": _BODY,
    "/{db}/_all_docs": _LISTING,
    "/{db}/_find": (
        "400 bad_request", "400 invalid_bookmark", "400 invalid_operator", "400 invalid_selector_json",
        "400 missing_required_key", "400 no_usable_index", "404 not_found",
    ),
    "/{db}/_index": ("400 bad_request", "400 invalid_index", "400 missing_required_key"),
    "/{db}/_index/{design}/{type}/{name}": ("404 not_found",),
    "/{db}/_changes": ("400 bad_request", "404 not_found"),
    "/{db}/_local/{local}": ("400 bad_request", "404 not_found"),
    "/{db}/_design/{design}": ("400 bad_request", "404 not_found"),
    "/{db}/{doc_id}": (
        "400 bad_request", "400 doc_validation", "400 illegal_docid", "404 not_found", "409 conflict",
        "412 missing_stub",
    ),
    "/{db}/{doc_id}/{name...}": ("400 bad_request", "404 not_found", "409 conflict"),
}  # fmt: skip

# The names that CouchDB takes for the same parameter.
ALIASES: Mapping[str, str] = {
    "startkey": "start_key",
    "endkey": "end_key",
    "startkey_docid": "start_key_doc_id",
    "endkey_docid": "end_key_doc_id",
}

OPERATORS = (
    "$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$exists", "$type", "$size", "$mod", "$regex",
    "$beginsWith", "$and", "$or", "$nor", "$not", "$all", "$elemMatch", "$allMatch", "$keyMapMatch",
)  # fmt: skip
# Where a selector may stand.
OPERATOR_ENDPOINTS = ("/{db}/_find", "/{db}/_explain", "/{db}/_index", "/{db}/_changes", *list(IN_PARTITION)[1:])


def endpoints() -> dict[str, tuple[str, ...]]:
    """Return the endpoints that are answered, with their methods; of those that only refuse, none."""
    routed = {
        route.pattern: tuple(method for method in route.endpoints if method != "*")
        for route in ROUTES
        if not route.unsupported and set(route.endpoints) - {"*"} and "{rest...}" not in route.pattern
    }
    return routed | dict(IN_PARTITION)
