"""The bodies of requests and answers as JSON Schema, for the OpenAPI description."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from couchdal.api.parameters import BY_ENDPOINT, COUNTS, FLAGS, VALUES, WORDS
from couchdal.http.json_text import JSON

Schema: TypeAlias = "dict[str, JSON]"

ANY: Schema = {}
TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
REV: Schema = {"type": "string", "pattern": "^[0-9]+-.+$"}
OK: Schema = {"const": True}


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def array(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def by_name(values: Schema) -> Schema:
    """Return the schema of an object whose members may have any names."""
    return {"type": "object", "additionalProperties": values}


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """Return the schema of an object with required, optional and other members."""
    properties: dict[str, JSON] = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def parameter(name: str) -> Schema:
    """Return the schema of a parameter."""
    if name in FLAGS:
        return FLAG
    if name in COUNTS:
        return COUNT
    if name in VALUES:
        return ANY
    return {**TEXT, "enum": list(WORDS[name])} if name in WORDS else TEXT


def _members(
    endpoint: str, *, required: tuple[str, ...] = (), without: tuple[str, ...] = (), **schemas: Schema
) -> Schema:
    """Return the schema of a body whose members are an endpoint's parameters, ``without`` some of them.

    ``schemas`` replaces the schemas of some parameters.
    """
    names = [name for name in BY_ENDPOINT[endpoint].body if name not in without]
    members = {name: schemas.get(name) or parameter(name) for name in names}
    return {"type": "object", "required": list(required), "properties": dict(members)}


_DOCUMENT = obj({}, {"_id": TEXT, "_rev": TEXT, "_deleted": FLAG, "_attachments": by_name({"type": "object"})})
_QUERY = _members(
    "find.query",
    required=("selector",),
    selector={"type": "object"},
    fields=array(TEXT),
    sort=array({"anyOf": [TEXT, by_name({"enum": ["asc", "desc"]})]}),
    bookmark={"type": ["string", "null"]},
    use_index={"anyOf": [TEXT, array(TEXT)]},
    r={"type": "integer", "minimum": 1},
    update=FLAG,
)
_INDEX = _members(
    "index.create",
    required=("index",),
    index=obj({"fields": array({"anyOf": [TEXT, by_name(TEXT)]})}, {"partial_filter_selector": {"type": "object"}}),
)
_ROW = obj(
    {"key": ANY},
    {"id": TEXT, "value": {"type": ["object", "null"]}, "doc": {"type": ["object", "null"]}, "error": TEXT},
)
# CouchDB refuses these beside ``keys``.
_RANGE = ("key", "start_key", "end_key")
_LISTING = _members("all_docs.documents", without=_RANGE, keys={"type": "array"})
_VIEW_QUERY = _members("views.read", without=_RANGE, keys={"type": "array"})
_USER = obj({"name": {"type": ["string", "null"]}, "roles": array(TEXT)})

#: The schemas below ``components/schemas``, by name.
SCHEMAS: Mapping[str, Schema] = {
    "Error": obj({"error": TEXT}, {"reason": {"type": ["string", "null"]}, "ref": {"type": "integer"}}),
    "Welcome": obj({"couchdb": {"const": "Welcome"}, "version": TEXT}, {"features": array(TEXT)}),
    "Session": obj({"ok": OK, "userCtx": _USER, "info": obj({"authentication_handlers": array(TEXT)})}),
    "Login": obj({"name": TEXT, "password": TEXT}),
    "LoggedIn": obj({"ok": OK, "name": {"type": ["string", "null"]}, "roles": array(TEXT)}),
    "Done": obj({"ok": OK}),
    "Document": _DOCUMENT,
    "Leaves": array({"oneOf": [obj({"ok": _DOCUMENT}), obj({"missing": TEXT})]}),
    "Written": obj({"ok": OK, "id": TEXT, "rev": REV}),
    "Accepted": obj({"ok": OK, "id": TEXT}, {"rev": REV}),
    "Database": obj(
        {"db_name": TEXT, "doc_count": COUNT, "doc_del_count": COUNT, "update_seq": TEXT, "instance_start_time": TEXT},
        {"props": {"type": "object"}, "sizes": by_name(COUNT), "purge_seq": TEXT, "cluster": by_name(COUNT)},
    ),
    "Databases": array(obj({"key": ANY}, {"info": ref("Database"), "error": TEXT})),
    "Partition": obj({"db_name": TEXT, "partition": TEXT, "doc_count": COUNT, "doc_del_count": COUNT}),
    "Security": by_name(ANY),
    "Listing": _LISTING,
    "Rows": obj(
        {"rows": array(_ROW)}, {"total_rows": {"type": ["integer", "null"]}, "offset": {"type": ["integer", "null"]}}
    ),
    "ViewQuery": _VIEW_QUERY,
    "ViewQueries": obj({"queries": array(_VIEW_QUERY)}),
    "ViewRows": obj(
        {"rows": array(obj({"key": ANY}, {"id": TEXT, "doc": {"type": ["object", "null"]}, "error": TEXT}))},
        {"total_rows": COUNT, "offset": COUNT, "update_seq": TEXT},
    ),
    "Queries": obj({"queries": array(ref("Listing"))}),
    "Results": obj({"results": array(ref("Rows"))}),
    "BulkDocs": _members("bulk_docs.write", required=("docs",), docs=array(_DOCUMENT)),
    "BulkOutcome": array(obj({"id": TEXT}, {"ok": OK, "rev": TEXT, "error": TEXT, "reason": TEXT})),
    "BulkGet": _members("bulk_get.read", required=("docs",), docs=array(obj({"id": TEXT}, {"rev": REV}))),
    "BulkGot": obj({"results": array(obj({"id": ANY, "docs": {"type": "array"}}))}),
    "Revisions": by_name(array(REV)),
    "RevsDiff": by_name(obj({"missing": array(TEXT)}, {"possible_ancestors": array(REV)})),
    "MissingRevs": obj({"missing_revs": by_name(array(TEXT))}),
    "Purged": obj({"purge_seq": {"type": "null"}, "purged": by_name(array(REV))}),
    "PurgedInfos": obj({"purged_infos": array(obj({"id": TEXT, "revs": array(REV)}))}),
    "Query": _QUERY,
    "Found": obj({"docs": array(by_name(ANY)), "bookmark": TEXT}, {"warning": TEXT, "execution_stats": by_name(ANY)}),
    "Explanation": obj(
        {
            "dbname": TEXT,
            "index": {"type": ["object", "null"]},
            "selector": {"type": "object"},
            "fields": ANY,
            "limit": COUNT,
        }
    ),
    "Index": _INDEX,
    "IndexCreated": obj({"result": {"enum": ["created", "exists"]}, "id": TEXT, "name": TEXT}),
    "Indexes": obj(
        {"total_rows": COUNT, "indexes": array(obj({"name": TEXT, "type": TEXT, "def": {"type": "object"}}))}
    ),
    "DesignDocuments": _members("index.bulk_delete", required=("docids",), docids=array(TEXT)),
    "IndexesDeleted": obj(
        {"success": array(obj({"id": TEXT, "ok": OK})), "fail": array(obj({"id": ANY, "error": ANY}))}
    ),
    "ClusterSetup": _members("cluster.set_up", required=("action",), ensure_dbs_exist=array(TEXT)),
    "ReshardState": obj({"state": {"enum": ["running", "stopped"]}}, {"reason": ANY}),
    "ReshardJob": _members("reshard.create_jobs", required=("type",)),
    "Events": obj({"results": array(obj({"db_name": TEXT, "type": TEXT, "seq": TEXT})), "last_seq": TEXT}),
    "Replication": _members("replication.run", required=("source", "target")),
    "Jobs": obj({"total_rows": COUNT, "offset": COUNT, "jobs": array(obj({"id": TEXT}))}),
    "Filter": _members("changes.read", doc_ids=array(TEXT), selector={"type": "object"}, fields=array(TEXT)),
    "Changes": obj({"results": array(by_name(ANY)), "last_seq": TEXT, "pending": COUNT}),
}
