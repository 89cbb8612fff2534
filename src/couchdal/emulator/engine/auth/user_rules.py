"""The rules of the users database: which changes of a user's document it refuses, and whom. Source: ``_design/_auth``.

``auth_design`` has the same rules as a JavaScript function, which counts once somebody has changed the document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from couchdal.emulator.engine.auth.security import UserContext, is_db_admin
from couchdal.emulator.engine.auth.users import ID_PREFIX, readable_part
from couchdal.emulator.engine.config.settings import Settings
from couchdal.emulator.engine.documents.document import Document
from couchdal.emulator.engine.revisions.revision_node import Node
from couchdal.errors import CouchError, Forbidden, NotFound, ServerError, thrown


def validate_user_document(
    new: Document,
    old: Node | None,
    *,
    user: UserContext,
    security: Mapping[str, object],
    settings: Settings,
    schemes: tuple[str, ...],
) -> CouchError | None:
    """Return the error for a change that the users database refuses, or None. ``old`` is the preceding revision.

    Users may change their own documents if the security object lets them in. Raise ``CouchError`` if the user may not
    read the preceding revision.
    """
    before = None if old is None else _seen_before(new, old, user, security, settings)
    if new.deleted:
        return _refused_deletion(before, user)
    reason = (
        _refused_form(new)
        or _refused_change(new.body, before)
        or _refused_password(new.body, schemes)
        or (None if is_db_admin(user, security) else _refused_roles(new.body, before, user))
        or _refused_names(new.body)
    )
    if reason:
        return Forbidden(reason)
    # CouchDB's function then calls ``indexOf`` on the name. Only strings and arrays have this method.
    return None if isinstance(new.body["name"], (str, list)) else thrown("TypeError", "{[]}")


def _seen_before(
    new: Document, old: Node, user: UserContext, security: Mapping[str, object], settings: Settings
) -> Mapping[str, object]:
    """Return the preceding revision as the user may read it."""
    try:
        return readable_part(new.doc_id, old.body or {}, user, security, settings)
    except NotFound:
        if new.deleted:
            raise
        # CouchDB expects no such error when it writes.
        raise ServerError("function_clause", error="unknown_error") from None


def _refused_deletion(before: Mapping[str, object] | None, user: UserContext) -> CouchError | None:
    if user.is_admin:
        return None
    if before is None:
        # CouchDB's function reads the name of the preceding revision.
        return thrown("TypeError", "{[]}")
    return None if before.get("name") == user.name else Forbidden("Only admins may delete other user docs.")


def _refused_roles(body: Mapping[str, object], before: Mapping[str, object] | None, user: UserContext) -> str | None:
    """Return the reason why a user who is not an administrator may not write a document, or None."""
    roles = cast("list[str]", body["roles"])
    if before is None:
        return "Only _admin may set roles" if roles else None
    if body["name"] != user.name:
        return "You may only update your own user document."
    return (
        None if sorted(cast("list[str]", before.get("roles") or [])) == sorted(roles) else "Only _admin may edit roles"
    )


def _refused_form(new: Document) -> str | None:
    body = new.body
    roles = body.get("roles")
    if body.get("type") != "user":
        return "doc.type must be user"
    if not _is_truthy(body.get("name")):
        return "doc.name is required"
    if not _is_truthy(roles):
        return "doc.roles must exist"
    if not isinstance(roles, list):
        return "doc.roles must be an array"
    if not all(type(role) is str for role in roles):
        return "doc.roles can only contain strings"
    if new.doc_id != ID_PREFIX + _javascript_text(body["name"]):
        return "Doc ID must be of the form org.couchdb.user:name"
    return None


def _javascript_text(value: object) -> str:
    """Return the string to which JavaScript converts a JSON value."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join("" if item is None else _javascript_text(item) for item in value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return _javascript_number(float(value)) if isinstance(value, (int, float)) else "[object Object]"


def _javascript_number(number: float) -> str:
    """Return the shortest text of a number. Only very large and very small numbers have an exponent."""
    text = repr(number)
    if number == 0 or 1e-6 <= abs(number) < 1e21:
        from decimal import Decimal  # few users have a number as a name

        return format(Decimal(text), "f").removesuffix(".0")
    mantissa, _, exponent = text.partition("e")
    return f"{mantissa}e{int(exponent):+d}"


def _is_truthy(value: object) -> bool:
    """Return True if a value is truthy in JavaScript. Empty objects and arrays are."""
    return isinstance(value, (dict, list)) or bool(value)


def _refused_change(body: Mapping[str, object], old: Mapping[str, object] | None) -> str | None:
    name = body.get("name")
    # In JavaScript, two arrays are never equal.
    if old is not None and (isinstance(name, list) or old.get("name") != name):
        return "Usernames can not be changed."
    return None


def _refused_password(body: Mapping[str, object], schemes: tuple[str, ...]) -> str | None:
    scheme = body.get("password_scheme")
    if body.get("password_sha") and not body.get("salt"):
        return "Users with password_sha must have a salt.See /_utils/script/couch.js for example code."
    if _is_truthy(scheme) and scheme not in schemes:
        return f"Password scheme `{_javascript_text(scheme)}` not supported."
    if scheme == "pbkdf2":
        if type(body.get("iterations")) not in (int, float):
            return "iterations must be a number."
        if type(body.get("derived_key")) is not str:
            return "derived_key must be a string."
    return None


def _refused_names(body: Mapping[str, object]) -> str | None:
    roles, name = body["roles"], body["name"]
    assert isinstance(roles, list)
    if any(role.startswith("_") and role != "_metrics" for role in roles):
        return "No system roles (starting with underscore) in users db."
    if not isinstance(name, (str, list)):
        return None
    if name and name[0] == "_":
        return "Username may not start with underscore."
    if ":" in name:
        return "Character `:` is not allowed in usernames."
    return None
