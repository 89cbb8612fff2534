"""The part of an update between two requests: the caller's function, its result, and the pauses after conflicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy

from couchdal.types import Document

_LONGEST_PAUSE_S = 0.25


def retries(tries: int) -> Iterator[float | None]:
    """Yield the pause after each try, in seconds; ``None`` after the last one.

    The pauses are random, so that competing writers do not meet again and again.
    """
    import random  # slow to import, and few updates meet a conflict

    for attempt in range(tries - 1):
        yield random.uniform(0, min(_LONGEST_PAUSE_S, 0.002 * 2**attempt))
    if tries > 0:
        yield None


def changed_document(
    change: Callable[[Document], Mapping[str, object] | None],
    doc_id: str,
    stored: Document | None,
    default: Mapping[str, object] | None,
) -> Document:
    """Return what ``change`` makes of a document, with the id and the revision of the stored one."""
    given = Document(deepcopy({"_id": doc_id, **(default or {})} if stored is None else stored))
    returned = change(given)
    return _identified(given if returned is None else returned, doc_id, None if stored is None else stored["_rev"])


def chosen_document(
    choose: Callable[[list[Document]], Mapping[str, object]], doc_id: str, leaves: list[Document]
) -> tuple[Document, Document]:
    """Return the document to keep, and the leaf that it continues. Raise ``ValueError`` if it continues none."""
    returned = choose(deepcopy(leaves))
    if not isinstance(returned, Mapping):
        raise TypeError(f"choose must return the document to keep, not {type(returned).__name__}")
    rev = returned.get("_rev", leaves[0]["_rev"])
    base = next((leaf for leaf in leaves if leaf["_rev"] == rev), None)
    if base is None:
        raise ValueError(f"the chosen document has the _rev {rev!r}, which is not a live leaf of {doc_id!r}")
    return _identified(returned, doc_id, base["_rev"]), base


def _identified(doc: Mapping[str, object], doc_id: str, rev: str | None) -> Document:
    if not isinstance(doc, Mapping):
        raise TypeError(f"the changed document must be a mapping, not {type(doc).__name__}")
    if doc.get("_id", doc_id) != doc_id:
        raise ValueError(f"the document {doc_id!r} cannot become {doc['_id']!r}: an id does not change")
    identified = Document({**doc, "_id": doc_id})
    if rev is None:
        identified.pop("_rev", None)
    else:
        identified["_rev"] = rev
    return identified
