"""CouchDB's order of JSON values: null, false, true, numbers, strings, arrays, objects.

Strings compare by the Unicode collation of CLDR root, as ICU gives it. The library of the system is used through
``ctypes``, loaded when the first string needs it. Source: ``couch_ejson_compare``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TypeAlias, cast

Key: TypeAlias = "tuple[Any, ...]"

_NULL, _FALSE, _TRUE = (0,), (1,), (2,)
_NUMBER, _STRING, _ARRAY, _OBJECT = 3, 4, 5, 6
_UTF16 = f"utf-16-{sys.byteorder[:1]}e"
_FOLDERS = (
    "/usr/lib/*-linux-*",
    "/usr/lib64",
    "/usr/lib",
    "/lib/*-linux-*",
    "/opt/homebrew/opt/icu4c*/lib",
    "/usr/local/lib",
)
_KEYS_LIMIT = 65536

_keys: dict[str, bytes] = {}


def compare_strings(a: str, b: str) -> int:
    """Return -1, 0 or 1. Different strings can be equal: composed and decomposed letters, ignorable characters."""
    if a == b:
        return 0
    first, second = string_key(a), string_key(b)
    return (first > second) - (first < second)


def string_key(text: str) -> bytes:
    """Return bytes that compare as the strings do under collation."""
    key = _keys.get(text)
    if key is None:
        key = _collator()(text)
        if len(_keys) >= _KEYS_LIMIT:
            _keys.clear()
        _keys[text] = key
    return key


def compare_json(a: object, b: object) -> int:
    """Return -1, 0 or 1 for two JSON values."""
    first, second = json_key(a), json_key(b)
    return (first > second) - (first < second)


def json_key(value: object) -> Key:
    """Return a key by which JSON values sort as CouchDB sorts them; keys are equal where it finds values equal.

    Numbers compare by value, exactly; arrays item by item; objects member by member in the order in which they were
    written, name before value.
    """
    kind = type(value)
    if kind is str:
        return (_STRING, string_key(cast(str, value)))
    if kind is int or kind is float:
        return (_NUMBER, value)
    if value is None:
        return _NULL
    if kind is bool:
        return _TRUE if value else _FALSE
    if kind is list:
        return (_ARRAY, [json_key(item) for item in cast("list[object]", value)])
    members = cast("dict[str, object]", value).items()
    return (_OBJECT, [(string_key(name), json_key(member)) for name, member in members])


def collator_name() -> str:
    """Return which collation is in use, with its version."""
    _collator()
    return _name


_sort_key: Callable[[str], bytes] | None = None
_name = ""


def _collator() -> Callable[[str], bytes]:
    global _sort_key, _name
    if _sort_key is None:
        _name, _sort_key = _find_icu() or ("code points (no ICU library found)", lambda text: text.encode())
    return _sort_key


def _find_icu() -> tuple[str, Callable[[str], bytes]] | None:
    # What follows is slow to import, and most processes compare no strings.
    import ctypes.util
    import glob

    names = [ctypes.util.find_library("icui18n"), ctypes.util.find_library("icucore"), "icu.dll", "libicucore.dylib"]
    found = [path for folder in _FOLDERS for path in sorted(glob.glob(f"{folder}/libicui18n.so*"), reverse=True)]
    for name in [*found, *names]:
        if name:
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            made = _bind(library, name)
            if made is not None:
                return made
    return None


def _bind(library: Any, path: str) -> tuple[str, Callable[[str], bytes]] | None:
    """Return the sort-key function of an ICU library, whose functions carry its version in their names."""
    import ctypes
    import re

    version = re.search(r"(\d+)(?:\.\d+)*$", path)
    for suffix in ("", *([f"_{version.group(1)}"] if version else []), *(f"_{number}" for number in range(90, 48, -1))):
        if hasattr(library, f"ucol_open{suffix}"):
            break
    else:
        return None
    open_collator = getattr(library, f"ucol_open{suffix}")
    open_collator.restype = ctypes.c_void_p
    status = ctypes.c_int(0)
    collator = ctypes.c_void_p(open_collator(b"", ctypes.byref(status)))
    if status.value > 0 or not collator.value:
        return None
    get_key = getattr(library, f"ucol_getSortKey{suffix}")
    get_key.restype = ctypes.c_int32
    get_key.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int32, ctypes.c_char_p, ctypes.c_int32)

    def sort_key(text: str) -> bytes:
        units = text.encode(_UTF16, "surrogatepass")
        size = 8 * len(units) + 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            needed: int = get_key(collator, units, len(units) // 2, buffer, size)
            if needed <= size:
                return buffer.raw[: needed - 1]
            size = needed

    return f"ICU{suffix.replace('_', ' ')}", sort_key
