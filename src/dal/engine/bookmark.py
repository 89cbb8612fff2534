"""Bookmarks: where the next page of a query begins, as text that clients hand back without reading it.

CouchDB packs Erlang terms; what is inside is nobody's business, so this is JSON.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode

from dal.errors import BadRequest, CouchError


def pack_bookmark(doc_id: str, key: object) -> str:
    """Return the bookmark of the last row that was shown: its document and its key."""
    return urlsafe_b64encode(json.dumps([doc_id, key]).encode()).decode().rstrip("=")


def unpack_bookmark(bookmark: str) -> tuple[str, object]:
    """Return the document and the key of a row; raises ``CouchError`` (``invalid_bookmark``)."""
    try:
        text = urlsafe_b64decode(bookmark + "=" * (-len(bookmark) % 4))
        doc_id, key = json.loads(text)
    except (ValueError, TypeError):
        raise invalid_bookmark(bookmark) from None
    if type(doc_id) is not str:
        raise invalid_bookmark(bookmark)
    return doc_id, key


def invalid_bookmark(bookmark: str) -> CouchError:
    shown = json.dumps(bookmark, ensure_ascii=False)
    return BadRequest(f"Invalid bookmark value: {shown}", error="invalid_bookmark")
