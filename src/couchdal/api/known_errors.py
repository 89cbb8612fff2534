"""The errors that CouchDB was seen to answer, by route: statuses with their error words.

Wrong methods are left out, and so are the internal errors that no client relies on.
"""

from __future__ import annotations

from collections.abc import Mapping

ERRORS: Mapping[str, tuple[str, ...]] = {
    endpoint: tuple(f"{part.split()[0]} {word}" for part in refusals.split(";") for word in part.split()[1:])
    for endpoint, refusals in {
        "/": "401 unauthorized",
        "/_up": "401 unauthorized",
        "/_uuids": "400 bad_request",
        "/_session": "400 bad_request; 401 unauthorized; 403 forbidden; 415 bad_content_type",
        "/_all_dbs": "400 bad_request query_parse_error; 401 unauthorized",
        "/_dbs_info": "400 bad_request query_parse_error",
        "/_active_tasks": "401 unauthorized",
        "/_node/{node}/_stats": "401 unauthorized; 404 not_found; 412 nodedown",
        "/_node/{node}/_prometheus": "401 unauthorized; 404 not_found; 412 nodedown",
        "/_node/{node}/_system": "401 unauthorized; 404 not_found; 412 nodedown",
        "/_node/{node}/_versions": "401 unauthorized; 404 not_found; 412 nodedown",
        "/_node/{node}/_smoosh/status": "401 unauthorized",
        "/_node/{node}/_stats/{path...}": "401 unauthorized",
        "/_replicate": "400 bad_request invalid_replication; 401 unauthorized; 404 not_found; 415 bad_content_type",
        "/_scheduler/jobs": "400 query_parse_error; 401 unauthorized",
        "/_scheduler/jobs/{job}": "401 unauthorized; 404 not_found",
        "/_scheduler/docs": "400 query_parse_error; 401 unauthorized",
        "/_scheduler/docs/{below...}": "400 bad_request query_parse_error; 401 unauthorized; 404 not_found",
        "/_node/{node}/_config": "401 unauthorized; 404 not_found",
        "/_node/{node}/_config/_reload": "401 unauthorized; 404 not_found",
        "/_node/{node}/_config/{section}": "401 unauthorized; 404 not_found",
        "/_node/{node}/_config/{section}/{key}": "400 bad_request; 401 unauthorized; 403 forbidden; 404 not_found",
        "/_db_updates": "400 bad_request; 401 unauthorized; 404 not_found",
        "/_cluster_setup": "400 bad_request; 401 unauthorized; 415 bad_content_type",
        "/_reload_query_servers": "401 unauthorized; 415 bad_content_type",
        "/_membership": "401 unauthorized",
        "/_reshard": "401 unauthorized",
        "/_reshard/state": "400 bad_request; 415 bad_content_type",
        "/_reshard/jobs": "400 bad_request; 401 unauthorized; 404 not_found; 415 bad_content_type",
        "/_reshard/jobs/{job}": "404 not_found",
        "/_reshard/jobs/{job}/state": "400 bad_request; 404 not_found; 415 bad_content_type",
        "/{db}/_shards": "401 unauthorized",
        "/{db}/_shards/{doc_id}": "400 illegal_docid",
        "/{db}/_sync_shards": "401 unauthorized",
        "/{db}": "400 bad_request database_name_too_long doc_validation illegal_database_name illegal_docid; 401"
        " unauthorized; 403 forbidden; 404 not_found; 409 conflict; 412 file_exists; 413 document_too_large; 415"
        " bad_content_type",
        "/{db}/_security": "400 bad_request; 403 forbidden; 413 too_large",
        "/{db}/_revs_limit": "400 bad_request",
        "/{db}/_purge": "400 bad_request; 401 unauthorized; 415 bad_content_type",
        "/{db}/_purged_infos_limit": "400 bad_request; 401 unauthorized",
        "/{db}/_compact": "401 unauthorized; 415 bad_content_type",
        "/{db}/_compact/{name}": "404 not_found",
        "/{db}/_view_cleanup": "401 unauthorized",
        "/{db}/_ensure_full_commit": "415 bad_content_type",
        "/{db}/_bulk_docs": "400 bad_request doc_validation illegal_docid; 401 unauthorized; 404 not_found; 412"
        " missing_stub; 413 attachment_too_large document_too_large; 415 bad_content_type",
        "/{db}/_bulk_get": "400 bad_request; 415 bad_content_type",
        "/{db}/_revs_diff": "400 bad_request; 401 unauthorized; 415 bad_content_type",
        "/{db}/_missing_revs": "400 bad_request; 415 bad_content_type",
        "/{db}/_all_docs": "400 bad_request illegal_docid query_parse_error; 401 unauthorized; 403 forbidden"
        "; 404 not_found; 413 too_large; 415 bad_content_type",
        "/{db}/_all_docs/queries": "400 bad_request query_parse_error; 404 not_found",
        "/{db}/_design_docs": "400 query_parse_error; 404 not_found",
        "/{db}/_local_docs": "400 bad_request query_parse_error",
        "/{db}/_find": "400 bad_arg bad_field bad_request illegal_partition invalid_bookmark invalid_boolean"
        " invalid_field invalid_field_name invalid_fields invalid_index invalid_index_name invalid_key"
        " invalid_non_neg_integer invalid_operator invalid_pos_integer invalid_selector invalid_selector_json"
        " invalid_sort_field invalid_sort_json missing_required_key no_usable_index not_supported query_parse_error"
        " unsupported_mixed_sort; 401 unauthorized; 404 not_found; 413 too_large; 415 bad_content_type",
        "/{db}/_partition/{partition}": "400 illegal_partition",
        "/{db}/_partition/{partition}/_all_docs": "400 bad_request illegal_partition query_parse_error",
        "/{db}/_partition/{partition}/_all_docs/queries": "400 query_parse_error",
        "/{db}/_partition/{partition}/_find": "400 bad_request illegal_partition no_usable_index",
        "/{db}/_partition/{partition}/_index/_design/{design}/{type}/{name}": "404 not_found",
        "/{db}/_partition/{partition}/_design/{name}/_view/{view}": "400 query_parse_error; 404 not_found",
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
        "/{db}/_local/{local}": "400 bad_request doc_validation; 401 unauthorized; 404 not_found; 413"
        " document_too_large",
        "/{db}/_design/{design}": "400 bad_request compilation_error invalid_design_doc; 401 unauthorized;"
        " 403 forbidden; 404 not_found",
        "/{db}/_design/{name}/_view/{view}": "400 bad_request query_parse_error; 404 not_found; 415 bad_content_type",
        "/{db}/_design/{name}/_view/{view}/queries": "400 bad_request query_parse_error; 404 not_found",
        "/{db}/_design/{name}/_list/{function}/{view...}": "400 query_parse_error; 404 not_found; 406 not_acceptable",
        "/{db}/_design/{name}/_info": "404 not_found",
        "/{db}/{doc_id}": "400 bad_request doc_validation illegal_docid; 401 unauthorized; 403 forbidden"
        " partition_overflow; 404 not_found; 409 conflict; 412 missing_stub; 413 attachment_too_large"
        " document_too_large too_large; 415 bad_content_type",
        "/{db}/_design/{design}/{name...}": "404 not_found",
        "/{db}/{doc_id}/{name...}": "400 bad_request; 403 forbidden partition_overflow; 404 not_found; 409 conflict"
        " not_found; 413 attachment_too_large; 415 bad_content_type",
    }.items()
}
