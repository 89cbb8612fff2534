"""Sort keys of the system's ICU library, through ``ctypes``. CouchDB sorts strings with the same library."""

from __future__ import annotations

import ctypes.util
import glob
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple


class Collator(NamedTuple):
    """A collation: its name, its version as ICU numbers it, and a function that returns sort keys."""

    name: str
    version: str
    sort_key: Callable[[str], bytes]


_UTF16 = f"utf-16-{sys.byteorder[:1]}e"
_FOLDERS = (
    "/usr/lib/*-linux-*",
    "/usr/lib64",
    "/usr/lib",
    "/lib/*-linux-*",
    "/opt/homebrew/opt/icu4c*/lib",
    "/usr/local/lib",
)


def find_icu() -> Collator | None:
    """Return the collator of the system's ICU, or None without ICU."""
    for name in _candidates():
        if name:
            try:
                library = ctypes.CDLL(name)
            except OSError:
                continue
            made = _bind(library, name)
            if made is not None:
                return made
    return None


def _candidates() -> Iterator[str | None]:
    """Yield the names under which ICU may be installed."""
    for folder in _FOLDERS:
        yield from sorted(glob.glob(f"{folder}/libicui18n.so*"), reverse=True)
    # These start processes that search, so they come last.
    yield ctypes.util.find_library("icui18n")
    yield ctypes.util.find_library("icucore")
    yield "icu.dll"
    yield "libicucore.dylib"


def _bind(library: Any, path: str) -> Collator | None:
    """Return the collator of an ICU library. The names of its functions can end with its version."""
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

    numbers = (ctypes.c_uint8 * 4)()
    getattr(library, f"ucol_getVersion{suffix}")(collator, numbers)
    shown = re.sub(r"(\.0)+$", "", ".".join(map(str, numbers)))
    return Collator(f"ICU{suffix.replace('_', ' ')}", shown, sort_key)
