"""What there is to be met: the endpoints and their methods, parameters, operators and errors.

Endpoints and methods are those of the routing table; parameters and errors are CouchDB's, by endpoint.
"""

from __future__ import annotations

from collections.abc import Mapping

from couchdal.api.routes import IN_PARTITION, ROUTES

_VIEW = (
    "key", "keys", "start_key", "end_key", "start_key_doc_id", "end_key_doc_id", "limit", "skip", "descending",
    "include_docs", "inclusive_end", "update_seq", "conflicts", "attachments", "att_encoding_info",
)  # fmt: skip
_REDUCED = (*_VIEW, "reduce", "group", "group_level", "sorted", "stable", "update", "stale", "partition")
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
    "/{db}/_design/{name}/_view/{view}": _REDUCED,
    "/{db}/_design/{name}/_view/{view}/queries": ("queries", *_REDUCED),
    "/{db}/_design/{name}/_list/{function}/{view...}": _REDUCED,
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

# What CouchDB was seen to refuse, by endpoint: statuses with their error words. Not here: a wrong method, and the
# internal errors that it means but nobody would count on.
ERRORS: Mapping[str, tuple[str, ...]] = {
    endpoint: tuple(f"{part.split()[0]} {word}" for part in refusals.split(";") for word in part.split()[1:])
    for endpoint, refusals in {
        "/": "401 unauthorized",
        "/_up": "401 unauthorized",
        "/_uuids": "400 bad_request",
        "/_session": "400 bad_request; 401 unauthorized; 403 forbidden; 415 bad_content_type",
        "/_all_dbs": "400 bad_request query_parse_error; 401 unauthorized",
        "/_dbs_info": "400 bad_request",
        "/_active_tasks": "401 unauthorized",
        "/{db}": "400 bad_request database_name_too_long doc_validation illegal_database_name illegal_docid;"
        " 401 unauthorized; 403 forbidden; 404 not_found; 409 conflict; 412 file_exists; 415 bad_content_type",
        "/{db}/_security": "400 bad_request",
        "/{db}/_revs_limit": "400 bad_request",
        "/{db}/_purge": "400 bad_request; 401 unauthorized; 415 bad_content_type",
        "/{db}/_purged_infos_limit": "400 bad_request; 401 unauthorized",
        "/{db}/_compact": "401 unauthorized; 415 bad_content_type",
        "/{db}/_compact/{name}": "404 not_found",
        "/{db}/_view_cleanup": "401 unauthorized",
        "/{db}/_ensure_full_commit": "415 bad_content_type",
        "/{db}/_bulk_docs": "400 bad_request doc_validation illegal_docid; 401 unauthorized; 404 not_found;"
        " 412 missing_stub; 415 bad_content_type",
        "/{db}/_bulk_get": "400 bad_request; 415 bad_content_type",
        "/{db}/_revs_diff": "400 bad_request; 401 unauthorized; 415 bad_content_type",
        "/{db}/_missing_revs": "400 bad_request; 415 bad_content_type",
        "/{db}/_all_docs": "400 bad_request query_parse_error; 401 unauthorized; 403 forbidden; 404 not_found;"
        " 415 bad_content_type",
        "/{db}/_all_docs/queries": "400 bad_request query_parse_error; 404 not_found",
        "/{db}/_design_docs": "404 not_found",
        "/{db}/_local_docs": "400 bad_request query_parse_error",
        "/{db}/_find": "400 bad_arg bad_field bad_request illegal_partition invalid_bookmark invalid_boolean"
        " invalid_field invalid_field_name invalid_fields invalid_index invalid_index_name invalid_key"
        " invalid_non_neg_integer invalid_operator invalid_pos_integer invalid_selector invalid_selector_json"
        " invalid_sort_field invalid_sort_json missing_required_key no_usable_index not_supported query_parse_error"
        " unsupported_mixed_sort; 401 unauthorized; 404 not_found; 415 bad_content_type",
        "/{db}/_explain": "400 bad_request invalid_index invalid_index_name invalid_key invalid_non_neg_integer"
        " invalid_operator invalid_selector_json missing_required_key; 404 not_found; 415 bad_content_type",
        "/{db}/_index": "400 bad_arg bad_request invalid_ddoc_lang invalid_empty_string invalid_index invalid_key"
        " invalid_operator invalid_partitioned_option invalid_pos_integer invalid_selector invalid_selector_json"
        " invalid_sort_field invalid_sort_json invalid_string missing_required_key unsupported_mixed_sort;"
        " 401 unauthorized; 404 not_found; 415 bad_content_type",
        "/{db}/_index/_bulk_delete": "400 bad_request invalid_bulk_docs invalid_index_name invalid_key"
        " invalid_pos_integer missing_required_key; 404 invalid_index; 415 bad_content_type",
        "/{db}/_index/{design}/{type}/{name}": "404 not_found",
        "/{db}/_changes": "400 bad_request; 401 unauthorized; 404 not_found; 415 bad_content_type",
        "/{db}/_local/{local}": "400 bad_request doc_validation; 401 unauthorized; 404 not_found",
        "/{db}/_design/{design}": "400 bad_request compilation_error invalid_design_doc; 401 unauthorized;"
        " 403 forbidden; 404 not_found",
        "/{db}/_design/{name}/_view/{view}": "400 bad_request query_parse_error; 404 not_found; 415 bad_content_type",
        "/{db}/_design/{name}/_view/{view}/queries": "400 bad_request query_parse_error; 404 not_found",
        "/{db}/_design/{name}/_list/{function}/{view...}": "404 not_found",
        "/{db}/_design/{name}/_info": "404 not_found",
        "/{db}/{doc_id}": "400 bad_request doc_validation illegal_docid; 401 unauthorized; 403 forbidden;"
        " 404 not_found; 409 conflict; 412 missing_stub",
        "/{db}/_design/{design}/{name...}": "404 not_found",
        "/{db}/{doc_id}/{name...}": "400 bad_request; 404 not_found; 409 conflict not_found",
    }.items()
}

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
