"""Answers about Mango that differ in older versions of CouchDB. ``api.versions`` has the table of all differences."""

from __future__ import annotations

from typing import cast

from couchdal.api.versions import ALLOW_FALLBACK, BEGINS_WITH, COVERING_INDEXES, EXPLAIN_DETAILS, Version
from couchdal.emulator.engine.mango.selector import invalid_operator
from couchdal.errors import BadRequest
from couchdal.http.json_text import JSON

# The arguments of these operators are values, in which an operator's name means nothing.
_VALUES = ("$eq", "$ne", "$lt", "$lte", "$gt", "$gte", "$in", "$nin", "$all")


def check_selector(version: Version, selector: JSON) -> None:
    """Raise ``BadRequest`` for an operator that the version does not have."""
    if version.has(BEGINS_WITH):
        return
    waiting: list[JSON] = [selector]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if "$beginsWith" in one:
                raise invalid_operator("$beginsWith")
            waiting += (member for name, member in one.items() if name not in _VALUES)


def check_query(version: Version, body: dict[str, JSON]) -> None:
    """Raise ``BadRequest`` for the body of ``_find`` or ``_explain`` that the version refuses."""
    if "allow_fallback" in body and not version.has(ALLOW_FALLBACK):
        raise BadRequest("Invalid key allow_fallback for this request.", error="invalid_key")
    check_selector(version, body.get("selector"))


def explained(version: Version, answer: dict[str, JSON]) -> dict[str, JSON]:
    """Return the answer of ``_explain`` as a version gives it."""
    if version.has(EXPLAIN_DETAILS):
        return answer
    details = ("index_candidates", "selector_hints", "covering")
    shown = {name: value for name, value in answer.items() if name not in details}
    options = dict(cast("dict[str, JSON]", shown["opts"]))
    del options["allow_fallback"]
    # The text of the number, as Erlang's list of characters.
    options["r"] = [ord(character) for character in str(options["r"])]
    if options["fields"] == []:
        options["fields"] = shown["fields"] = "all_fields"
    index = cast("dict[str, JSON]", shown["index"])
    if index.get("type") == "special":
        shown["partitioned"] = "undefined"
    view = shown.get("mrargs")
    if isinstance(view, dict):
        shown["mrargs"] = {**view, "include_docs": True}
    return {**shown, "opts": options}


def counted(version: Version, answer: dict[str, object]) -> dict[str, object]:
    """Return the answer of ``_find`` with the version's own statistics: it counts documents, but not keys."""
    stats = answer.get("execution_stats")
    if version.has(COVERING_INDEXES) or not isinstance(stats, dict):
        return answer
    documents = stats["total_docs_examined"] or stats["total_keys_examined"]
    if stats["total_quorum_docs_examined"]:
        documents = stats["total_docs_examined"]
    answer["execution_stats"] = {**stats, "total_keys_examined": 0, "total_docs_examined": documents}
    return answer
