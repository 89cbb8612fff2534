"""Hypothesis strategies: documents, selectors, edit histories with conflicts, and a state machine of a database.

They need the extra ``couchdal[hypothesis]``. Documents and selectors share their field names, so that queries find
documents.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from couchdal.backends.memory import MemoryBackend
from couchdal.client import CouchDAL
from couchdal.errors import Conflict, NotFound
from couchdal.http.json_text import JSON

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

FIELDS = ("a", "b", "c")
# JavaScript and CouchDB agree on these integers.
_LARGEST = 2**53 - 1
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_SCALARS: SearchStrategy[JSON] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-_LARGEST, _LARGEST),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    _TEXT,
)


def doc_ids() -> SearchStrategy[str]:
    """Ids of ordinary documents."""
    return st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
        lambda doc_id: not doc_id.startswith("_")
    )


def json_values(max_leaves: int = 5) -> SearchStrategy[JSON]:
    """Values of JSON that CouchDB stores and returns unchanged."""
    return st.recursive(
        _SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3),
        max_leaves=max_leaves,
    )


def documents(
    fields: Sequence[str] = FIELDS, values: SearchStrategy[JSON] | None = None
) -> SearchStrategy[dict[str, JSON]]:
    """Documents with an ``_id`` and any of the fields."""
    each = json_values() if values is None else values
    members = st.dictionaries(st.sampled_from(list(fields)), each)
    return st.builds(lambda doc_id, body: {"_id": doc_id, **body}, doc_ids(), members)


def selectors(
    fields: Sequence[str] = FIELDS, values: SearchStrategy[JSON] | None = None
) -> SearchStrategy[dict[str, JSON]]:
    """Valid selectors on the fields, combined with ``$and``, ``$or``, ``$nor`` and ``$not``."""
    each = _SCALARS if values is None else values
    compared = st.one_of(
        *(st.builds(lambda value, name=name: {name: value}, each) for name in ("$eq", "$ne", "$lt", "$lte", "$gt")),
        st.builds(lambda value: {"$exists": value}, st.booleans()),
        st.builds(lambda chosen: {"$in": chosen}, st.lists(each, max_size=3)),
        st.builds(lambda chosen: {"$nin": chosen}, st.lists(each, max_size=3)),
        st.builds(
            lambda kind: {"$type": kind}, st.sampled_from(["null", "boolean", "number", "string", "array", "object"])
        ),
        st.builds(lambda size: {"$size": size}, st.integers(0, 3)),
        st.builds(lambda value: {"$elemMatch": {"$eq": value}}, each),
    )
    conditions: SearchStrategy[JSON] = st.one_of(each, compared)
    leaves: SearchStrategy[dict[str, JSON]] = st.dictionaries(
        st.sampled_from(list(fields)), conditions, min_size=1, max_size=2
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            *(
                st.builds(lambda several, name=name: {name: several}, st.lists(inner, min_size=1, max_size=3))
                for name in ("$and", "$or", "$nor")
            ),
            st.builds(lambda one: {"$not": one}, inner),
        ),
        max_leaves=4,
    )


@st.composite
def edit_histories(
    draw: st.DrawFn,
    doc_id: str | None = None,
    *,
    max_edits: int = 8,
    bodies: SearchStrategy[dict[str, JSON]] | None = None,
) -> list[dict[str, JSON]]:
    """Draw edits of one document, as several replicas may make them, with conflicts and deletions.

    Store them with ``bulk_docs(edits, new_edits=False)``, in any order: CouchDB makes one tree of them.
    """
    named = draw(doc_ids()) if doc_id is None else doc_id
    members = st.dictionaries(st.sampled_from(list(FIELDS)), json_values()) if bodies is None else bodies
    # The history of each edit, the newest id first.
    paths: list[list[str]] = []
    edits: list[dict[str, JSON]] = []
    for number in range(draw(st.integers(1, max_edits))):
        parent = draw(st.integers(-1, len(paths) - 1))
        path = [f"{number:032x}", *(paths[parent] if parent >= 0 else [])]
        paths.append(path)
        ids: list[JSON] = [*path]
        edit: dict[str, JSON] = {
            **draw(members),
            "_id": named,
            "_rev": f"{len(path)}-{path[0]}",
            "_revisions": {"start": len(path), "ids": ids},
        }
        edits.append({**edit, "_deleted": True} if draw(st.integers(0, 4)) == 0 else edit)
    return edits


class DatabaseMachine(RuleBasedStateMachine):
    """A state machine that writes a database and compares it with a dictionary after each step.

    Extend it with rules and invariants for your own code: ``dal`` is the handle, ``model`` the documents by id.
    Override ``open_database`` to run it on another server. Run it with ``DatabaseMachine.TestCase``.
    """

    stored: Bundle[Any] = Bundle("stored")

    def __init__(self) -> None:
        super().__init__()
        self.dal: CouchDAL = self.open_database()
        self.model: dict[str, dict[str, JSON]] = {}

    def open_database(self) -> CouchDAL:
        """Return a handle on a new, empty database."""
        name = f"machine-{uuid.uuid4().hex[:12]}"
        handle = CouchDAL(MemoryBackend(), database=name)
        handle.create_database()
        return handle

    def teardown(self) -> None:
        """Delete the database."""
        self.dal.delete_database()
        self.dal.close()

    @initialize()
    def begin(self) -> None:
        """Check that the database is empty."""
        assert self.dal.count({}) == 0

    @rule(target=stored, doc=documents())
    def create(self, doc: dict[str, JSON]) -> str:
        """Create a document. One that exists is a conflict."""
        doc_id = str(doc["_id"])
        try:
            rev = self.dal.put_document(doc_id, doc)["rev"]
        except Conflict:
            assert doc_id in self.model
        else:
            assert doc_id not in self.model
            self.model[doc_id] = {**doc, "_rev": rev}
        return doc_id

    @rule(doc_id=stored, doc=documents())
    def update(self, doc_id: str, doc: dict[str, JSON]) -> None:
        """Update a document."""
        if doc_id in self.model:
            new = {**doc, "_id": doc_id, "_rev": self.model[doc_id]["_rev"]}
            self.model[doc_id] = {**new, "_rev": self.dal.put_document(doc_id, new)["rev"]}

    @rule(doc_id=consumes(stored))
    def delete(self, doc_id: str) -> None:
        """Delete a document. One that is deleted already is missing."""
        if doc_id in self.model:
            self.dal.delete_document(doc_id, str(self.model.pop(doc_id)["_rev"]))
        try:
            self.dal.get_document(doc_id)
        except NotFound:
            return
        raise AssertionError(f"{doc_id!r} is still there")

    @invariant()
    def database_has_the_documents_of_the_model(self) -> None:
        """Compare all documents with the model."""
        rows = self.dal.iter_all_docs(include_docs=True)
        assert {row["id"]: row.get("doc") for row in rows} == self.model
