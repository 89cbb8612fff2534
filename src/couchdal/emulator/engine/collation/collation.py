"""CouchDB's order of JSON values: null, false, true, numbers, strings, arrays, objects.

Strings compare by the Unicode collation of CLDR root. The first comparison chooses the collator: the system's ICU if
there is one, otherwise a bundled table. Source: ``couch_ejson_compare``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from couchdal.emulator.engine.collation.icu import Collator

Key: TypeAlias = "tuple[Any, ...]"

_NULL, _FALSE, _TRUE = (0,), (1,), (2,)
_NUMBER, _STRING, _ARRAY, _OBJECT = 3, 4, 5, 6
_KEYS_LIMIT = 65536
_LONGEST_KEPT = 512

_keys: dict[str, bytes] = {}


def compare_strings(a: str, b: str) -> int:
    """Return -1, 0 or 1. Different strings can be equal, for example a composed and a decomposed letter."""
    if a == b:
        return 0
    first, second = string_key(a), string_key(b)
    return (first > second) - (first < second)


def string_key(text: str) -> bytes:
    """Return bytes that compare as the strings do in the collation."""
    key = _keys.get(text)
    if key is None:
        key = _collator().sort_key(text)
        if len(_keys) >= _KEYS_LIMIT:
            _keys.clear()
        if len(text) <= _LONGEST_KEPT:
            _keys[text] = key
    return key


def compare_json(a: object, b: object) -> int:
    """Return -1, 0 or 1 for two JSON values."""
    first, second = json_key(a), json_key(b)
    return (first > second) - (first < second)


def json_key(value: object) -> Key:
    """Return a sort key for a JSON value. Keys are equal if CouchDB considers the values equal.

    Numbers compare exactly, by value. Arrays compare item by item. Objects compare member by member in their own order,
    name before value.
    """
    if type(value) is str:
        return (_STRING, string_key(value))
    kind = type(value)
    if kind is int or kind is float:
        return (_NUMBER, value)
    if value is None:
        return _NULL
    if kind is bool:
        return _TRUE if value else _FALSE
    if type(value) is list:
        return (_ARRAY, [json_key(item) for item in value])
    assert isinstance(value, dict)
    return (_OBJECT, [(string_key(name), json_key(member)) for name, member in value.items()])


def collator_name() -> str:
    """Return the name and version of the collation in use."""
    return _collator().name


def collator_version() -> str:
    """Return the version of the collation in use, as ICU numbers it."""
    return _collator().version


_kept: Collator | None = None


def _collator() -> Collator:
    global _kept
    if _kept is None:
        # Both modules are slow to import, and most processes do not compare strings.
        from couchdal.emulator.engine.collation.icu import find_icu

        _kept = find_icu()
        if _kept is None:
            from couchdal.emulator.engine.collation.root_collation import load_collator

            _kept = load_collator()
    return _kept
