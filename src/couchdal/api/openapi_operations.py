"""What each endpoint does, takes and answers, for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from couchdal.api.openapi_schemas import ANY, COUNT, OK, TEXT, Schema, array, by_name, obj, ref

_NAMES = array(TEXT)
_DONE = ref("Done")
_WRITTEN = ref("Written")
_INTEGER: Schema = {"type": "integer", "minimum": 1}
_ROWS: Mapping[int, Schema] = {200: ref("Rows"), 304: ANY}
_VIEW_ROWS: Mapping[int, Schema] = {200: ref("ViewRows")}
_PURGED_LIMIT: Mapping[int, Schema] = {200: {"type": "integer"}}
_ACCEPTED: Mapping[int, Schema] = {202: _DONE}


class Operation(NamedTuple):
    """One method of an endpoint. ``body`` is the schema of a JSON body, which may be missing if it is ``ANY``."""

    purpose: str
    answers: Mapping[int, Schema]
    body: Schema | None = None


#: By method and endpoint. Endpoints that only refuse are missing.
OPERATIONS: Mapping[str, Operation] = {
    "GET server.welcome": Operation("Return the version and the features of the server.", {200: ref("Welcome")}),
    "GET server.up": Operation("Return whether the server is up.", {200: obj({"status": {"const": "ok"}})}),
    "GET server.uuids": Operation("Return new ids.", {200: obj({"uuids": _NAMES})}),
    "GET server.active_tasks": Operation("Return the running tasks.", {200: {"type": "array"}}),
    "GET server.membership": Operation(
        "Return the nodes of the cluster.", {200: obj({"all_nodes": _NAMES, "cluster_nodes": _NAMES})}
    ),
    "POST server.reload_query_servers": Operation("Let query servers read the functions again.", {200: _DONE}, ANY),
    "GET cluster.shards": Operation("Return the shards of a database.", {200: obj({"shards": by_name(_NAMES)})}),
    "GET cluster.document_shard": Operation(
        "Return the shard that holds a document.", {200: obj({"range": TEXT, "nodes": _NAMES})}
    ),
    "POST cluster.sync_shards": Operation("Synchronize the shards of a database.", _ACCEPTED, ANY),
    "GET cluster.state": Operation("Return the state of the cluster's setup.", {200: obj({"state": TEXT})}),
    "POST cluster.set_up": Operation("Set up a node, or finish the cluster.", {201: _DONE}, ref("ClusterSetup")),
    "GET reshard.summary": Operation("Return the number of jobs that split shards.", {200: obj({"total": COUNT})}),
    "GET reshard.read_state": Operation("Return whether jobs that split shards may run.", {200: ref("ReshardState")}),
    "PUT reshard.write_state": Operation(
        "Let jobs that split shards run, or stop them.", {200: _DONE}, ref("ReshardState")
    ),
    "GET reshard.read_jobs": Operation("Return the jobs that split shards.", {200: obj({"total_rows": COUNT})}),
    "POST reshard.create_jobs": Operation("Split shards.", {201: {"type": "array"}}, ref("ReshardJob")),
    "GET reshard.read_job": Operation("Return a job that splits a shard.", {200: obj({"id": TEXT})}),
    "DELETE reshard.delete_job": Operation("Forget a job that splits a shard.", {200: _DONE}),
    "GET reshard.read_job_state": Operation("Return the state of a job.", {200: obj({"state": TEXT})}),
    "PUT reshard.write_job_state": Operation("Run a job, or stop it.", {200: _DONE}, ref("ReshardState")),
    "POST replication.run": Operation(
        "Replicate a database to another one. Each of the two is a name, an address, or an object with a `url`.",
        {200: obj({"ok": OK}), 202: obj({"ok": OK, "_local_id": TEXT})},
        ref("Replication"),
    ),
    "GET replication.list_jobs": Operation("Return the replications that run or wait.", {200: ref("Jobs")}),
    "GET replication.read_job": Operation("Return a replication that runs or waits.", {200: obj({"id": TEXT})}),
    "GET replication.read_docs": Operation("Return the replications that documents define.", {200: {"type": "object"}}),
    "GET db_updates.read": Operation("Return the events of databases, once or as a feed.", {200: ref("Events")}),
    "GET session.read": Operation("Return who is logged in.", {200: ref("Session")}),
    "POST session.log_in": Operation(
        "Log in with a name and a password. The answer sets a cookie.", {200: ref("LoggedIn"), 302: ANY}, ref("Login")
    ),
    "DELETE session.log_out": Operation("Log out. The answer clears the cookie.", {200: _DONE, 302: ANY}),
    "GET databases.list_names": Operation("Return the names of the databases, in order.", {200: _NAMES}),
    "GET databases.list_infos": Operation("Return information about the databases.", {200: ref("Databases")}),
    "POST databases.post_infos": Operation(
        "Return information about the databases in `keys`.", {200: ref("Databases")}, obj({"keys": _NAMES})
    ),
    "GET databases.read": Operation("Return information about a database.", {200: ref("Database")}),
    "PUT databases.create": Operation("Create a database.", {201: _DONE, 202: _DONE}),
    "DELETE databases.delete": Operation("Delete a database.", {200: _DONE, 202: _DONE}),
    "POST databases.post": Operation(
        "Write a document, with the id in its body or a new one.",
        {200: _WRITTEN, 201: _WRITTEN, 202: ref("Accepted")},
        ref("Document"),
    ),
    "POST databases.ensure_full_commit": Operation(
        "Confirm that all writes are committed. Replicators ask for this before they save a checkpoint.",
        {201: obj({"ok": OK, "instance_start_time": TEXT})},
        ANY,
    ),
    "GET node.read_config": Operation("Return the configuration.", {200: by_name(by_name(TEXT))}),
    "GET node.read_section": Operation("Return a section of the configuration.", {200: by_name(TEXT)}),
    "POST node.reload_config": Operation("Forget the values that were not saved.", {200: _DONE}),
    "GET node.read_value": Operation("Return a value of the configuration.", {200: TEXT}),
    "PUT node.write_value": Operation("Set a value, and return the old one.", {200: TEXT}, TEXT),
    "DELETE node.forget_value": Operation("Delete a value, and return it.", {200: TEXT}),
    "GET node.stats": Operation("Return what the server counted.", {200: ANY}),
    "GET node.prometheus": Operation("Return what the server counted, for Prometheus.", {200: TEXT}),
    "GET node.system": Operation("Return figures of the process.", {200: obj({"uptime": COUNT})}),
    "GET node.versions": Operation("Return the versions of the server's components.", {200: by_name(ANY)}),
    "GET node.smoosh_status": Operation("Return the queues of compactions.", {200: obj({"channels": ANY})}),
    "POST node.restart": Operation("Restart the node.", {200: _DONE}, ANY),
    "GET security.read": Operation("Return the security object of a database.", {200: ref("Security")}),
    "PUT security.write": Operation("Replace the security object.", {200: _DONE}, ref("Security")),
    "GET security.read_revs_limit": Operation(
        "Return how many revisions of a document are remembered.", {200: {"type": "integer"}}
    ),
    "PUT security.write_revs_limit": Operation(
        "Set how many revisions of a document are remembered.", {200: _DONE}, _INTEGER
    ),
    "POST purge.write": Operation(
        "Purge revisions of documents.", {201: ref("Purged"), 202: ref("Purged")}, ref("Revisions")
    ),
    "GET purge.read_infos": Operation("Return the purged revisions.", {200: ref("PurgedInfos")}),
    "GET purge.read_infos_limit": Operation("Return how many purges are remembered.", _PURGED_LIMIT),
    "PUT purge.write_infos_limit": Operation("Set how many purges are remembered.", {200: _DONE}, _INTEGER),
    "POST purge.compact_database": Operation("Compact a database.", _ACCEPTED, ANY),
    "POST purge.compact_view": Operation("Compact the views of a design document.", _ACCEPTED, ANY),
    "POST purge.clean_up_views": Operation("Delete the files of views that no longer exist.", _ACCEPTED, ANY),
    "GET partitions.read": Operation("Return the number of documents in a partition.", {200: ref("Partition")}),
    "POST bulk_docs.write": Operation(
        "Write several documents.", {201: ref("BulkOutcome"), 202: ref("BulkOutcome")}, ref("BulkDocs")
    ),
    "POST bulk_get.read": Operation("Return several documents.", {200: ref("BulkGot")}, ref("BulkGet")),
    "POST revs_diff.revs_diff": Operation(
        "Return which revisions the database does not have, and possible ancestors.",
        {200: ref("RevsDiff")},
        ref("Revisions"),
    ),
    "POST revs_diff.missing_revs": Operation(
        "Return which revisions the database does not have.", {200: ref("MissingRevs")}, ref("Revisions")
    ),
    "GET all_docs.documents": Operation("Return the rows of all documents.", _ROWS),
    "POST all_docs.documents": Operation("Return rows of documents, by key if `keys` is given.", _ROWS, ref("Listing")),
    "POST all_docs.document_queries": Operation(
        "Return the rows of several queries.", {200: ref("Results")}, ref("Queries")
    ),
    "GET all_docs.design_documents": Operation("Return the rows of all design documents.", _ROWS),
    "POST all_docs.design_documents": Operation(
        "Return rows of design documents, by key if `keys` is given.", _ROWS, ref("Listing")
    ),
    "POST all_docs.design_document_queries": Operation(
        "Return the rows of several queries for design documents.", {200: ref("Results")}, ref("Queries")
    ),
    "GET all_docs.local_documents": Operation("Return the rows of all local documents.", _ROWS),
    "POST all_docs.local_documents": Operation(
        "Return rows of local documents, by key if `keys` is given.", _ROWS, ref("Listing")
    ),
    "POST all_docs.local_document_queries": Operation(
        "Return the rows of several queries for local documents.", {200: ref("Results")}, ref("Queries")
    ),
    "GET views.read": Operation("Return the rows of a view, reduced if it has a reduce function.", _VIEW_ROWS),
    "POST views.read": Operation("Return the rows of a view, by key if `keys` is given.", _VIEW_ROWS, ref("ViewQuery")),
    "POST views.queries": Operation(
        "Return the rows of several queries of one view.",
        {200: obj({"results": array(ref("ViewRows"))})},
        ref("ViewQueries"),
    ),
    "GET views.info": Operation(
        "Return information about the views of a design document.",
        {200: obj({"name": TEXT, "view_index": {"type": "object"}})},
    ),
    "GET design_functions.list_rows": Operation(
        "Return the rows of a view, as a list function writes them.", {200: ANY}
    ),
    "POST design_functions.list_rows": Operation(
        "Return a view's rows as a list function writes them, by key.", {200: ANY}, ref("ViewQuery")
    ),
    "POST find.query": Operation("Return the documents that a selector matches.", {200: ref("Found")}, ref("Query")),
    "POST find.explain_query": Operation("Return which index a query uses.", {200: ref("Explanation")}, ref("Query")),
    "GET index.read": Operation("Return the Mango indexes.", {200: ref("Indexes")}),
    "POST index.create": Operation("Create a Mango index.", {200: ref("IndexCreated")}, ref("Index")),
    "POST index.bulk_delete": Operation(
        "Delete the indexes of several design documents.", {200: ref("IndexesDeleted")}, ref("DesignDocuments")
    ),
    "DELETE index.delete": Operation("Delete a Mango index.", {200: _DONE}),
    "GET changes.read": Operation("Return the changes.", {200: ref("Changes"), 304: ANY}),
    "POST changes.read": Operation(
        "Return the changes of chosen documents.", {200: ref("Changes"), 304: ANY}, ref("Filter")
    ),
    "GET documents.read": Operation(
        "Return a document: the winning revision, a given one, or several leaves.",
        {200: {"anyOf": [ref("Document"), ref("Leaves")]}, 304: ANY},
    ),
    "PUT documents.write": Operation(
        "Write a document.", {200: _WRITTEN, 201: _WRITTEN, 202: ref("Accepted")}, ref("Document")
    ),
    "DELETE documents.delete": Operation("Delete a document.", {200: _WRITTEN, 202: ref("Accepted")}),
    "GET attachments.read": Operation("Return an attachment, or ranges of it.", {200: ANY, 206: ANY, 304: ANY}),
    "PUT attachments.write": Operation("Write an attachment.", {201: _WRITTEN, 202: _WRITTEN}),
    "DELETE attachments.delete": Operation("Delete an attachment.", {200: _WRITTEN, 202: _WRITTEN}),
}
